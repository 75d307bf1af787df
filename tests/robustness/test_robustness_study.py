"""The study with a threshold for a detector: what it asks of detectors, what it keeps, and what it takes up again."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import write_dataset

from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.evaluate.images import read_folder, read_image, read_labelled
from yolospine_ultra.robustness.degrade import Condition, conditions, degrade
from yolospine_ultra.robustness.measure import image_quality
from yolospine_ultra.robustness.study import CLEAN, Cells, Settings, cell_key, run_study

SOME = conditions(["contrast", "gaussian"])
SETTINGS = Settings(resamples=20)


class Threshold:
    """Finds bright rectangles; the brighter, the higher the class. Counts what it is asked."""

    def __init__(self, fail_at=None):
        self.calls, self.seen, self.fail_at = [], [], fail_at

    def detect(self, images):
        if self.fail_at is not None and len(self.calls) >= self.fail_at:
            raise KeyboardInterrupt
        self.calls.append([Path(f) for f in images])
        pixels = [cv2.imread(str(f), cv2.IMREAD_GRAYSCALE) for f in images]
        self.seen += pixels
        return [self.find(f.name, p) for f, p in zip(map(Path, images), pixels, strict=True)]

    def find(self, name, pixels):
        count, _, stats, _ = cv2.connectedComponentsWithStats((pixels > 85).astype(np.uint8))
        rows = [(x, y, x + w, y + h) for x, y, w, h, area in stats[1:count] if area > 40]
        classes = [int(pixels[int((r[1] + r[3]) / 2), int((r[0] + r[2]) / 2)] > 115) for r in rows]
        return ImageFindings(name, np.array(rows, float).reshape(-1, 4), classes, np.full(len(rows), 0.9))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return read_labelled(write_dataset(tmp_path_factory.mktemp("set"), images=6), "val")


def run(images, detectors, folder=None, chosen=SOME, settings=SETTINGS):
    cells = Cells({m: cell_key(images, settings, m) for m in detectors}, folder)
    run_study(images, detectors, chosen, settings, cells)
    return cells


def test_clean_images_are_inferred_once_and_every_condition_once(images):
    detector = Threshold()
    cells = run(images, {"a": detector})
    assert len(images) == 3 and len(detector.seen) == 3 * (1 + len(SOME))
    for i, condition in enumerate([None, *SOME]):
        for file, seen in zip(images.files, detector.seen[3 * i : 3 * i + 3], strict=True):
            grey = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
            assert np.array_equal(seen, grey if condition is None else degrade(grey, condition, SETTINGS.seed))
    assert cells.get("a", CLEAN)["detections"] > 0 and cells.get("a", CLEAN)["map50_95"] > 0


def test_cells_hold_what_was_measured(images):
    cell = run(images, {"a": Threshold()}).get("a", "gaussian-4")
    pairs = [(read_image(f), degrade(read_image(f), Condition("gaussian", 4))) for f in images.files]
    quality = np.array([image_quality(*p) for p in pairs])
    assert (cell["psnr_db"], cell["ssim"]) == pytest.approx(tuple(quality.mean(0)))
    assert cell["drop"] > 0 and cell["retention"] < 1 and cell["classes"].keys() == set(images.classes)
    low, high = cell["drop_interval"]
    assert low <= high
    assert json.loads(json.dumps(cell, allow_nan=False)) == cell


def test_scores_below_conf_count_for_map_only(images):
    strict = run(images, {"a": Threshold()}, settings=Settings(conf=0.95, resamples=2))
    assert strict.get("a", CLEAN)["detections"] == 0 and strict.get("a", CLEAN)["map50_95"] > 0
    assert strict.get("a", "contrast-1")["retention"] is None


def test_interruption_loses_nothing_that_is_finished(images, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(images, {"a": Threshold(fail_at=3)}, tmp_path)
    kept = sorted(f.stem for f in (tmp_path / "cells" / "a").iterdir())
    assert kept == ["clean", "contrast-1", "contrast-2"]
    again = Threshold()
    cells = run(images, {"a": again}, tmp_path)
    assert len(again.calls) == 1 + len(SOME) - 2
    assert cells.get("a", "gaussian-2") == run(images, {"a": Threshold()}).get("a", "gaussian-2")
    nothing = Threshold(fail_at=0)
    assert run(images, {"a": nothing}, tmp_path).get("a", "gaussian-2") == cells.get("a", "gaussian-2")


def test_cells_of_other_settings_weights_or_images_are_not_taken(images, tmp_path):
    run(images, {"a": Threshold()}, tmp_path, SOME[:1])
    for settings in (Settings(seed=1, resamples=20), Settings(conf=0.3, resamples=20)):
        again = Threshold()
        run(images, {"a": again}, tmp_path, SOME[:1], settings)
        assert len(again.calls) == 2
    other = Cells({"a": cell_key(images, SETTINGS, "other weights")}, tmp_path)
    assert other.get("a", CLEAN) is None
    (tmp_path / "cells" / "a" / "clean.json").write_text("{ damaged")
    assert Cells({"a": cell_key(images, SETTINGS, "a")}, tmp_path).get("a", CLEAN) is None


def test_a_second_model_costs_only_itself(images, tmp_path):
    run(images, {"a": Threshold()}, tmp_path)
    first, second = Threshold(), Threshold()
    cells = run(images, {"a": first, "b": second}, tmp_path)
    assert not first.calls and len(second.calls) == 1 + len(SOME)
    assert cells.get("a", "contrast-3") == cells.get("b", "contrast-3")


def test_a_call_has_images_of_one_size(tmp_path):
    for i, size in enumerate([(40, 60), (60, 40), (40, 60)]):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.random.default_rng(i).integers(0, 255, size, dtype=np.uint8))
    images, detector = read_folder(tmp_path), Threshold()
    cells = run(images, {"a": detector}, chosen=SOME[:1])
    assert [len(c) for c in detector.calls] == [2, 1, 2, 1]
    assert "map50_95" not in cells.get("a", CLEAN) and "drop" not in cells.get("a", "contrast-1")
    assert cells.get("a", "contrast-1")["ssim"] < 1


def test_images_that_cannot_be_read_are_named_and_left_out(tmp_path):
    good = np.random.default_rng(0).integers(0, 255, (40, 60), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "good.png"), good)
    cut = cv2.imencode(".png", good)[1].tobytes()[:-900]
    (tmp_path / "cut.png").write_bytes(cut)
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "notes.txt").write_text("no image either")
    problems = []
    images = read_folder(tmp_path, problems.append)
    assert images.names == ["good.png"]
    assert sorted((p.file, p.kind) for p in problems) == [("cut.png", "unreadable"), ("text.jpg", "unreadable")]
    (tmp_path / "good.png").unlink()
    with pytest.raises(ValueError, match="none of 2 images"):
        read_folder(tmp_path, problems.append)


@pytest.mark.parametrize(("folder", "message"), [("nowhere", "not a folder"), ("empty", "no images")])
def test_folders_without_images_are_refused(tmp_path, folder, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=message):
        read_folder(tmp_path / folder)


def test_labels_are_part_of_the_fingerprint(tmp_path):
    file = write_dataset(tmp_path, images=4)
    before = read_labelled(file, "val")
    assert before.patients == ["0", "1"] and before.fingerprint == read_labelled(file, "val").fingerprint
    (tmp_path / "labels/val/0.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    assert read_labelled(file, "val").fingerprint != before.fingerprint
