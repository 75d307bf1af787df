"""Class-centric augmentation against the paper's formula, by hand and as properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolospine_ultra.data.augment.class_centric import (
    EPS,
    class_table,
    class_weights,
    extra_counts,
    extra_indices,
    instance_counts,
)

PAPER = np.array([633, 4131, 1921, 122, 2033, 151])  # instances of the paper's classes


def test_by_hand():
    # shares 1/2, 1/4, 1/4 give w = 2, 4, 4 over 10
    assert class_weights([4, 2, 2]) == pytest.approx([0.2, 0.4, 0.4], rel=1e-4)
    assert extra_counts([4, 2, 2], 10).tolist() == [2, 4, 4]
    assert extra_counts([4, 0, 2], 9).tolist() == [3, 0, 6]  # the absent class's share goes to the others
    assert extra_counts([0, 0], 5).tolist() == [0, 0]


def test_the_papers_formula_on_its_counts():
    f = PAPER / PAPER.sum()
    w = 1 / (f + EPS)
    assert class_weights(PAPER) == pytest.approx(w / w.sum())
    assert extra_counts(PAPER, 500).tolist() == [45, 7, 15, 232, 14, 187]


def test_images_of_the_rare_class_are_shown_again():
    # image 0: class 0 three times; image 1: classes 0 and 1; image 2: no instance
    classes = [np.zeros((3, 1)), np.array([[0.0], [1.0]]), np.zeros((0, 1))]
    extra = extra_indices(classes, 2, 5, seed=0)  # shares 4/5 and 1/5: one sample for class 0, four for class 1
    assert len(extra) == 5 and extra[1:] == [1, 1, 1, 1] and extra[0] in (0, 1)
    assert instance_counts([classes[i] for i in extra[1:]], 2).tolist() == [4, 4]


images = st.lists(st.lists(st.integers(0, 4), max_size=6), min_size=1, max_size=25)


@given(images, st.integers(0, 60), st.integers(0, 5))
@settings(max_examples=150, deadline=None)
def test_properties(content, total, seed):
    classes = [np.array(c, float).reshape(-1, 1) for c in content]
    counts = instance_counts(classes, 5)
    extra = extra_indices(classes, 5, total, seed)
    assert extra == extra_indices(classes, 5, total, seed)
    assert len(extra) == (total if counts.any() else 0)
    quota = extra_counts(counts, total)
    assert (quota[counts == 0] == 0).all()
    assert np.abs(quota - class_weights(counts) * total).max() < 1
    assert all(quota[a] >= quota[b] for a in range(5) for b in range(5) if 0 < counts[a] < counts[b])
    start = 0
    for c, n in enumerate(quota):
        part = extra[start : start + n]
        start += n
        assert all(c in content[i] for i in part)
        holders = [i for i, found in enumerate(content) if c in found]
        shown = [part.count(i) for i in holders]
        assert not part or max(shown) - min(shown) <= 1  # goes round the class's images


def test_table():
    classes = [np.array([0, 0, 0]), np.array([0, 1])]
    extra = extra_indices(classes, 3, 5, seed=0)
    table = class_table(classes, extra, {0: "DDD", 1: "spondylolisthesis", 2: "SS"}).splitlines()
    assert table[0].split() == ["class", "instances", "share", "w_c", "A_c", "instances", "after", "share"]
    rows = [row.split() for row in table[1:4]]
    after = instance_counts([*classes, *(classes[i] for i in extra)], 3)
    assert rows[0] == ["DDD", "4", "80.0%", "0.200", "1", str(after[0]), f"{after[0] / after.sum():.1%}"]
    assert rows[1][:5] == ["spondylolisthesis", "1", "20.0%", "0.800", "4"]
    assert rows[2] == ["SS", "0", "0.0%", "0.000", "0", "0", "0.0%"]
    assert table[4] == "images: 2 + 5 extra = 7 samples an epoch"
