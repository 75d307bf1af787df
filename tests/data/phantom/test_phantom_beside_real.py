"""The picture of phantom slices beside real ones."""

import sys

import cv2
import numpy as np
import pytest
from conftest import REPO, run

SCRIPT = REPO / "scripts" / "phantom_beside_real.py"


def slices(folder, patients, grey):
    (folder / "images" / "train").mkdir(parents=True)
    for k in range(patients):
        for kind in ("t1", "t2"):
            image = np.full((40, 30), grey if kind == "t2" else 255, np.uint8)
            cv2.imwrite(str(folder / "images" / "train" / f"p{k}_{kind}.png"), image)
    return folder


def picture(tmp_path, phantom, real, *words):
    out = tmp_path / "out.png"
    return run([sys.executable, str(SCRIPT), str(phantom), str(real), "--out", str(out), *words], tmp_path), out


def test_slices_of_the_wanted_kind_stand_in_two_groups(tmp_path):
    made, out = picture(tmp_path, slices(tmp_path / "a", 6, 90), slices(tmp_path / "b", 6, 200), "--count", "6")
    assert made.returncode == 0, made.stderr
    pixels = cv2.imread(str(out), cv2.IMREAD_GRAYSCALE)
    upper, lower = np.array_split(pixels, 2)
    assert 90 in upper and (upper == 200).mean() < 0.01  # a few pixels of the title may have any grey
    assert (lower == 200).mean() > 0.2 and (lower == 90).mean() < 0.01


@pytest.mark.parametrize(
    ("count", "message"), [("7", "of 6 patients; expected at least 7"), ("0", "--count 0: expected")]
)
def test_too_few_patients_are_named(tmp_path, count, message):
    made, out = picture(tmp_path, slices(tmp_path / "a", 6, 90), slices(tmp_path / "b", 6, 200), "--count", count)
    assert made.returncode == 2 and message in made.stderr and not out.exists()
