"""What a dataset declares about its classes, and what its labels say about levels."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from yolospine_ultra.data.relations import Relations, fit_relations, read_relations
from yolospine_ultra.nn.relations import ClassRelations

NAMES = {0: "DDD", 1: "LDB", 2: "TDB"}


def column(classes, twice=()):
    """An image with discs one above the other, the last one lowest, of these classes; some with a second label."""
    boxes = [[0.5, (i + 0.5) / len(classes), 0.2, 0.6 / len(classes)] for i in range(len(classes))]
    cls = [*classes, *(c for c, _ in twice)]
    return {"cls": np.array(cls)[:, None], "bboxes": np.array(boxes + [boxes[i] for _, i in twice])}


def fit(labels, groups=((1, 2),), normal=None):
    return fit_relations(labels, Relations(normal, [list(g) for g in groups]), 3)


def split(labels, groups=((1, 2),)):
    r = ClassRelations(3)
    r.declare(fit(labels, groups))
    return r


def test_level_that_divides_the_classes_is_found():
    shares = split([column([2, 2, 1, 1, 1])] * 20).shares(torch.tensor([[0.0, 4], [1, 3], [2, 2], [4, 0]]))
    assert shares[:, 2].tolist() == pytest.approx([1, 1, 0, 0], abs=0.15)
    assert shares[:, 0].tolist() == [1.0] * 4


def test_images_cut_at_the_top_teach_to_count_from_below():
    labels = [column([2, 2, 1, 1, 1][cut:]) for cut in range(4)] * 10
    shares = split(labels).shares(torch.tensor([[0.0, 2], [0, 3], [0, 4]]))
    assert shares[:, 2].round().tolist() == [0, 1, 1]


def test_two_labels_of_one_disc_are_one_object():
    alone = fit([column([2, 1, 1])] * 9)
    again = fit([column([2, 1, 1], twice=[(0, 1), (0, 2)])] * 9)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(alone[:4], again[:4], strict=True))  # all but `shared`


def test_three_levels():
    s = split([column([0, 0, 2, 2, 1, 1])] * 30, [[0, 1, 2]])
    shares = s.shares(torch.tensor([[0.0, 5], [2.5, 2.5], [5, 0]]))
    assert shares.argmax(1).tolist() == [0, 2, 1] and shares.sum(1).tolist() == pytest.approx([1] * 3)


@pytest.mark.parametrize("labels", [[], [column([1, 1])], [{"cls": np.zeros((0, 1)), "bboxes": np.zeros((0, 4))}]])
def test_a_class_without_boxes_stays_by_itself(labels):
    assert torch.equal(fit(labels).together, torch.eye(3))


def test_the_normal_class():
    assert fit([column([0, 1])], (), 0).normal.tolist() == [1, 0, 0] and fit([column([0])], ()).normal.tolist() == [
        0,
        0,
        0,
    ]
    assert fit([column([1, 2])], (), 0).normal.tolist() == [0, 0, 0]  # never seen


def test_which_labels_share_a_box():
    labels = [column([0, 1, 1], twice=[(1, 0)])] * 3 + [column([0, 2])] * 3  # half of the boxes of 0 are also of 1
    shared = fit(labels, ()).shared
    half, third = (binomtest(3, n).proportion_ci(method="wilson").low for n in (6, 9))
    assert shared.flatten().tolist() == pytest.approx([0, half, 0, third, 0, 0, 0, 0, 0])
    many = fit(labels * 99, ()).shared
    assert 0.45 < many[0, 1] < 0.5 and (many >= shared).all()  # more of the same proves more
    group = fit(labels).shared  # 1 and 2 are taught as one: all boxes of either are the other's
    assert (group[1, 2], group[1, 0], group[0, 1]) == (group[2, 1], group[2, 0], group[0, 2])
    assert group[1, 2] == pytest.approx(binomtest(12, 12).proportion_ci(method="wilson").low)
    near = {"cls": np.array([[0], [1]]), "bboxes": np.array([[0.5, 0.5, 0.2, 0.1], [0.5, 0.55, 0.2, 0.1]])}  # IoU 1/3
    assert (fit([near] * 9, ()).shared == 0).all() and (fit([], ()).shared == 0).all()


def test_stage_two_is_credible_by_the_boxes_it_was_taught_with():
    labels = [column([0, 1, 1], twice=[(1, 0)])] * 3  # 12 boxes
    assert fit(labels, ()).credibility.item() == pytest.approx(12 / 1012) and fit([], ()).credibility == 0
    assert fit(labels * 250, ((1, 2),), 0).credibility == 0.75


def test_an_image_that_is_shown_again_proves_nothing_more():
    labels = [column([2, 1, 1], twice=[(0, 2)]) | {"im_file": f"{i}.png"} for i in range(4)]
    once, again = fit(labels, normal=0), fit([*labels, *labels[:1] * 30], normal=0)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


def test_relations_by_name():
    declared = {"normal": "DDD", "same_finding": [["TDB", "LDB"]]}
    assert read_relations({"names": NAMES} | declared) == Relations(0, [[2, 1]])
    assert read_relations({"names": NAMES}) == Relations(None, [])
    assert read_relations({"names": NAMES, "same_finding": None, "normal": None}) == Relations(None, [])


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"same_finding": "LDB"}, "must be a list of groups"),
        ({"same_finding": [["LDB"]]}, "two class names or more"),
        ({"same_finding": [["LDB", "XYZ"]]}, "names \\['XYZ'\\], which are no classes; the classes are"),
        ({"same_finding": [["LDB", "TDB"], ["TDB", "DDD"]]}, "names \\['TDB'\\] more than once"),
        ({"same_finding": [["LDB", ["TDB"]]]}, "which are no classes"),
        ({"same_finding": [["LDB", "TDB"]], "normal": "TDB"}, "names the normal class, 'TDB'"),
        ({"normal": "healthy"}, "`normal` in x.yaml is 'healthy', which is no class"),
        ({"normal": ["DDD"]}, "which is no class"),
    ],
)
def test_declarations_that_mean_nothing(declared, message):
    with pytest.raises(ValueError, match=message):
        read_relations({"names": NAMES, "yaml_file": "x.yaml"} | declared)
