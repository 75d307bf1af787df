"""Pfirrmann's grade: what is measured of a disc, which boxes are read, and the real images."""

import csv

import numpy as np
import pytest
from graded_sets import phantom_set

from yolospine_ultra.grading.boxes import read_boxes
from yolospine_ultra.grading.kinds import GRADINGS, fit_study
from yolospine_ultra.grading.pfirrmann import disc_boxes, disc_features
from yolospine_ultra.grading.signal import NAMES, signal_features


@pytest.fixture
def phantom():
    return phantom_set()


def t2_plane(nuclei=(180, 60), height=200):
    """Discs between bright bodies (100), dark end plates, CSF (220) behind; and their boxes."""
    plane = np.full((height, 160), 100, np.uint8)
    plane[:, 90:110] = 220
    boxes = []
    for k, nucleus in enumerate(nuclei):
        y = 50 + 80 * k
        plane[y - 10 : y + 10, 30:90] = 20
        plane[y - 7 : y + 7, 34:86] = nucleus
        boxes.append([28, y - 13, 92, y + 13])
    return plane, np.array(boxes, dtype=float)


def column(features, name):
    return features[:, NAMES.index(name)]


def test_bright_and_black_disc():
    plane, boxes = t2_plane()
    found = signal_features(plane, boxes)
    assert found.shape == (2, len(NAMES))
    np.testing.assert_allclose(column(found, "nucleus_csf"), [180 / 220, 60 / 220], atol=0.01)
    np.testing.assert_allclose(column(found, "nucleus_near_csf"), column(found, "nucleus_csf"))
    np.testing.assert_allclose(column(found, "nucleus_bone"), [1.8, 0.6], atol=0.01)
    np.testing.assert_allclose(column(found, "nucleus_best"), [1, 60 / 180], atol=0.01)
    np.testing.assert_allclose(column(found, "nucleus_plate_csf"), [160 / 220, 40 / 220], atol=0.01)
    np.testing.assert_allclose(column(found, "bone_csf"), 100 / 220, atol=0.01)
    np.testing.assert_allclose(column(found, "aspect"), 26 / 64)
    np.testing.assert_allclose(column(found, "relative_height"), 1)
    assert column(found, "spread_csf").tolist() == column(found, "contrast").tolist() == [0, 0]
    assert column(found, "dark_share")[1] >= column(found, "dark_share")[0] > 0


def test_windowing_does_not_matter_and_the_edge_is_no_trouble():
    plane, boxes = t2_plane((160, 80))
    np.testing.assert_allclose(signal_features(plane // 2, boxes), signal_features(plane, boxes), atol=0.02)
    outside = np.array([[140.0, 190, 230, 240], [-50, -30, -10, -5], [5, 5, 5, 5]])
    for odd in (plane, np.zeros_like(plane)):
        assert np.isfinite(signal_features(odd, outside)).all()
    assert signal_features(plane, np.zeros((0, 4))).shape == (0, len(NAMES))


def test_discs_of_the_phantom_are_read_once_and_on_t2_alone(phantom):
    problems = []
    boxes = disc_boxes("spine-phantom.yaml", "all", phantom, problems.append)
    assert problems == []
    with (phantom / "annotations.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["sequence"] != "t1" and r["class"] not in ("SS", "SP")]
    true = {(r["image"], r["level"]): int(r["pfirrmann"]) for r in rows}
    read = {(f.name, v): g for f, v, g in zip(boxes.files, boxes.levels, boxes.grades, strict=True)}
    assert read == true and len(boxes) == len(true)
    assert "t1" in read_boxes("spine-phantom.yaml", "all", None, phantom).sequences


def test_features_stand_in_the_order_of_the_boxes(phantom):
    boxes = disc_boxes("spine-phantom.yaml", "val", phantom)
    features = disc_features(boxes.files, boxes.boxes)
    assert features["hog"].shape == (len(boxes), 8100) and features["signal"].shape == (len(boxes), len(NAMES))
    mixed = np.random.default_rng(0).permutation(len(boxes))
    again = disc_features(boxes.files[mixed], boxes.boxes[mixed])
    for kind in features:
        np.testing.assert_array_equal(again[kind], features[kind][mixed])
    assert set(disc_features(boxes.files[:2], boxes.boxes[:2], ("signal",))) == {"signal"}
    with pytest.raises(ValueError, match="features colour"):
        disc_features(boxes.files, boxes.boxes, ("colour",))


def test_signal_grades_the_phantom(phantom):
    grading = GRADINGS["pfirrmann"]
    boxes = disc_boxes("spine-phantom.yaml", "all", phantom)
    _, report, _ = fit_study(grading, boxes, ("signal",), grading.minimum, folds=3, trees=40)
    assert report["kappa"]["value"] > 0.5
    assert report["accuracy"]["value"] > report["majority"]["value"]


def test_real_images(spider):
    """SPIDER's T2 discs: one box a disc, the README's patients, and far better than chance by signal alone."""
    boxes = disc_boxes("spider-lumbar.yaml", "train", spider)
    assert len(boxes) == 647 and not any(s == "t1" for s in boxes.sequences)
    val = disc_boxes("spider-lumbar.yaml", "val", spider)
    assert not set(val.patients) & set(boxes.patients)
    grading = GRADINGS["pfirrmann"]
    _, report, _ = fit_study(grading, boxes, ("signal",), grading.minimum, folds=3, trees=40)
    assert report["kappa"]["value"] > 0.6
