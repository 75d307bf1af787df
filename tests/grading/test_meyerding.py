"""Meyerding's grade: end plates by hand, the phantom's own grade, and slips a forest can tell apart."""

import json

import numpy as np
import pytest
from graded_sets import phantom_set, slip_set
from hypothesis import given
from hypothesis import strategies as st

from yolospine_ultra.grading.kinds import GRADINGS, beside_meyerding, evaluate_study, fit_study
from yolospine_ultra.grading.meyerding import (
    EndPlates,
    geometric_grade,
    read_end_plates,
    slip_boxes,
    slip_fraction,
)


@pytest.fixture
def phantom():
    return phantom_set()


@pytest.fixture
def slips():
    return slip_set()


def plates(slip, turn=0.0, length=40.0):
    """Plates of a body that slipped to the front by `slip` of the plate, turned by `turn` degrees."""
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    rotate = np.array([[c, s], [-s, c]])
    below = np.array([[0, 10], [length / 2, 12], [length, 10]]) @ rotate
    above = np.array([[-slip * length, 0], [(1 - slip) * length, 0]]) @ rotate
    return EndPlates(above, below)


def test_hand_made_slips():
    assert slip_fraction(plates(0.3)) == pytest.approx(0.3)
    assert [geometric_grade(plates(f)) for f in (-0.2, 0.0, 0.1, 0.24, 0.26, 0.6, 0.8, 1.4)] == [0, 0, 1, 1, 2, 3, 4, 4]
    with pytest.raises(ValueError, match="two different points"):
        slip_fraction(EndPlates(np.zeros((2, 2)), np.ones((2, 2))))
    with pytest.raises(ValueError, match="two different points"):
        slip_fraction(EndPlates(np.zeros((1, 2)), np.eye(2)))


@given(st.floats(0, 1), st.floats(-60, 60), st.floats(5, 200))
def test_turn_and_size_do_not_matter(slip, turn, length):
    assert slip_fraction(plates(slip, turn, length)) == pytest.approx(slip, abs=1e-9)


def test_end_plates_are_read_from_coco(tmp_path):
    (tmp_path / "images/val").mkdir(parents=True)
    (tmp_path / "images/val/a.png").write_bytes(b"")
    data = tmp_path / "d.yaml"
    data.write_text(f"path: {tmp_path}\nval: images/val\nnames: [DDD, IVDn, SS, SP]\n")
    assert read_end_plates(data, "val") is None
    slip = {"image_id": 1, "category_id": 4, "level": "L4/L5", "meyerding": 2}
    upper, lower = [-10, 0, 30, 0, 30, -20, -10, -20], [0, 5, 40, 5, 40, 30, 0, 30]
    content = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [slip | {"segmentation": [upper, lower]}]}
    content["annotations"].append({"image_id": 1, "category_id": 1, "meyerding": 0, "segmentation": [upper]})
    (tmp_path / "instances_val.json").write_text(json.dumps(content))
    found = read_end_plates(data, "val")
    assert list(found) == [("a.png", "L4/L5")]
    assert slip_fraction(found["a.png", "L4/L5"]) == pytest.approx(0.25)
    assert list(read_end_plates(data, "all")) == list(found)
    (tmp_path / "instances_val.json").write_text("{}")
    with pytest.raises(ValueError, match="no COCO file of the spine phantom"):
        read_end_plates(data, "val")


def test_phantoms_grade_is_the_geometric_one(phantom):
    boxes = slip_boxes("spine-phantom.yaml", "all", phantom)
    known = read_end_plates("spine-phantom.yaml", "all", phantom)
    beside = beside_meyerding(boxes, known)
    assert beside["geometric, true end plates"]["trials"] == len(boxes) > 0
    assert beside["geometric, true end plates"]["value"] > 0.8
    assert beside["paper, on its own images"]["hits"] == 31
    assert "geometric, true end plates" not in beside_meyerding(boxes, None)


def test_forest_tells_slips_apart_on_patients_it_has_not_seen(slips):
    grading = GRADINGS["meyerding"]
    boxes = grading.read(slips, "train", None, print)
    assert len(boxes) == 24 and set(boxes.grades) == {1, 2}
    model, report, found = fit_study(grading, boxes, ("hog",), 0.5, folds=4, trees=30)
    assert report["accuracy"]["value"] > 0.9 and found.shape == (24, 2)
    assert "4-fold cross-validation by patient, hog" in report["how"] and report["notes"] == []
    held_out, _ = evaluate_study(grading, model, grading.read(slips, "val", None, print), 0.5)
    assert held_out["accuracy"]["value"] > 0.9
    few = fit_study(grading, boxes.take(np.arange(16)), ("hog",), 0.5, folds=5, trees=5)[1]
    assert few["notes"][0] == "grade I has 4 of 5 patients needed for as many folds."
