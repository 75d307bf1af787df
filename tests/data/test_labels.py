import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolospine_ultra.data.labels import Problem, count_problems, read_label_folder, read_labels

GOOD = "1 0.5 0.5 0.2 0.1\n"


def kinds(problems):
    return [(p.kind, p.line) for p in problems]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("0 1.2 0.5 0.1 0.1", "outside"),
        ("0 0.5 -0.01 0.1 0.1", "outside"),
        ("0 nan 0.5 0.1 0.1", "nan"),
        ("0 0.5 inf 0.1 0.1", "nan"),
        ("7 0.5 0.5 0.1 0.1", "class"),
        ("-1 0.5 0.5 0.1 0.1", "class"),
        ("0.5 0.5 0.5 0.1 0.1", "class"),
        ("0 0.5 0.5 0 0.1", "empty-box"),
        ("0 0.5 0.5 0.1", "format"),
        ("0 0.5 0.5 0.1 0.1 0.9", "format"),
        ("DDD 0.5 0.5 0.1 0.1", "format"),
        ("1 0.5 0.5 0.2 0.1", "duplicate"),
        ("1 0.5000004 0.5 0.2 0.1", "duplicate"),
    ],
)
def test_a_bad_row_is_named_with_its_line_and_the_rest_stays(tmp_path, line, kind):
    file = tmp_path / "a.txt"
    file.write_text(GOOD + line + "\n2 0.3 0.3 0.1 0.1\n")
    rows, problems = read_labels(file, 6)
    assert kinds(problems) == [(kind, 2)]
    assert str(problems[0]).startswith(f"{file}:2: {kind}: ")
    np.testing.assert_array_equal(rows, [[1, 0.5, 0.5, 0.2, 0.1], [2, 0.3, 0.3, 0.1, 0.1]])


def test_two_classes_on_one_box_are_two_labels(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text(GOOD + GOOD.replace("1", "4", 1))
    rows, problems = read_labels(file, 6)
    assert rows[:, 0].tolist() == [1, 4] and not problems


def test_an_overhanging_box_is_clipped_and_named_and_rounding_is_neither(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("0 0.05 0.5 0.2 0.1\n0 0.1 0.3 0.2000005 0.1\n")
    rows, problems = read_labels(file, 6)
    assert kinds(problems) == [("overhang", 1)]
    np.testing.assert_allclose(rows[0], [0, 0.075, 0.5, 0.15, 0.1], atol=1e-12)
    assert rows[1, 3] == 0.2000005


def test_values_a_hair_outside_are_clipped_as_the_host_takes_them(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("0 0.5 0.5 1.0004 0.2\n0 1.0004 0.5 0.2 0.1\n0 0.5 0.5 1.1 0.2\n")
    rows, problems = read_labels(file, 6)
    assert kinds(problems) == [("overhang", 2), ("outside", 3)]
    assert rows[0].tolist() == pytest.approx([0, 0.5, 0.5, 1.0, 0.2])


def test_a_polygon_becomes_its_box(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("3 0.2 0.2 0.4 0.3 0.3 0.6\n")
    rows, problems = read_labels(file, 6)
    np.testing.assert_allclose(rows, [[3, 0.3, 0.4, 0.2, 0.4]])
    assert not problems


def test_scores_are_read_where_they_are_asked_for(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("3 0.2 0.2 0.1 0.1 0.75\n3 0.2 0.2 0.1 0.1\n")
    rows, problems = read_labels(file, 6, scores=True)
    assert rows.tolist() == [[3, 0.2, 0.2, 0.1, 0.1, 0.75]] and kinds(problems) == [("format", 2)]


@pytest.mark.parametrize("content", [b"\xff\xfe\x00\x01", None, b"0" * (5 << 20)])
def test_a_file_that_cannot_be_read_has_unknown_labels(tmp_path, content):
    file = tmp_path / "a.txt"
    file.mkdir() if content is None else file.write_bytes(content)
    rows, problems = read_labels(file, 6)
    assert rows is None and kinds(problems) == [("unreadable", None)]


def test_a_folder_names_missing_and_extra_files(tmp_path):
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    labels.mkdir()
    for name in ("a.png", "b.png", "notes.doc", "c.png", "c.jpg"):
        (images / name).write_bytes(b"")
    for name, text in {"a.txt": GOOD, "c.txt": "", "z.txt": GOOD, "classes.txt": "DDD", "labels.cache": ""}.items():
        (labels / name).write_text(text)
    found = read_label_folder(images, labels, 6)
    assert {f.name: None if r is None else len(r) for f, r in found.rows.items()} == {
        "a.png": 1, "b.png": 0, "c.png": 0, "c.jpg": 0,
    }  # fmt: skip
    named = {(p.file, p.kind) for p in found.problems}
    assert named == {
        ("images/notes.doc", "extra"), ("images/b.png", "missing"), ("images/c.png", "same-stem"),
        ("labels/z.txt", "extra"), ("labels/labels.cache", "extra"),
    }  # fmt: skip
    assert count_problems(found.problems) == {"extra": 3, "missing": 1, "same-stem": 1}


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="labels is not a folder"):
        read_label_folder(tmp_path, tmp_path / "labels", 6)


@given(st.binary(max_size=200))
@settings(max_examples=150, deadline=None)
def test_no_content_makes_it_fail_and_what_it_keeps_is_sound(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("labels") / "a.txt"
    file.write_bytes(content)
    rows, problems = read_labels(file, 6)
    assert all(isinstance(p, Problem) for p in problems)
    assert rows is None or _sound(rows)


@given(st.lists(st.lists(st.floats(-0.2, 1.2) | st.sampled_from([0.0, 1.0]), min_size=4, max_size=4), max_size=6))
@settings(max_examples=100, deadline=None)
def test_every_row_is_kept_or_named(tmp_path_factory, boxes):
    file = tmp_path_factory.mktemp("labels") / "a.txt"
    file.write_text("".join(f"{k % 6} " + " ".join(map(repr, box)) + "\n" for k, box in enumerate(boxes)))
    rows, problems = read_labels(file, 6)
    left_out = [p for p in problems if p.kind != "overhang"]
    assert len(rows) + len(left_out) == len(boxes) and _sound(rows)


def _sound(rows):
    """Whether labels are what the host takes."""
    low, high = rows[:, 1:3] - rows[:, 3:5] / 2, rows[:, 1:3] + rows[:, 3:5] / 2
    finite = np.isfinite(rows).all() and (rows[:, 3:] > 0).all()
    return finite and (low >= -2e-6).all() and (high <= 1 + 2e-6).all() and set(rows[:, 0]) <= set(range(6))
