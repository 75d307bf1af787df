"""Reading graded boxes, and their pixels."""

import cv2
import numpy as np
import pytest

from yolospine_ultra.grading.boxes import read_boxes
from yolospine_ultra.grading.crops import crop, cut, plane_height, read_plane


@pytest.fixture
def small(tmp_path):
    """A function that writes a set of two images with this table; returns its YAML."""

    def make(text):
        for kind in ("images", "labels"):
            (tmp_path / kind / "val").mkdir(parents=True)
        for name in ("a.png", "b.png"):
            cv2.imwrite(str(tmp_path / "images/val" / name), np.full((40, 60), 90, np.uint8))
        (tmp_path / "annotations.csv").write_text(text)
        (tmp_path / "data.yaml").write_text(f"path: {tmp_path}\nval: images/val\nnames: [DDD, LDB]\n")
        return tmp_path / "data.yaml"

    return make


def test_both_layouts_are_read(small):
    data = small(
        "image,patient,level,x,y,w,h,pfirrmann,classes\n"
        "b.png,7,L4/L5,1,2,10,20,4,DDD|LDB\na.png,8,L5/S1,0,0,5,5,2,DDD\na.png,8,L4/L5,0,9,5,5,,DDD\n"
        "elsewhere.png,9,L5/S1,0,0,5,5,2,DDD\n"
    )
    boxes = read_boxes(data, "val", "pfirrmann")
    assert boxes.boxes.tolist() == [[1, 2, 11, 22], [0, 0, 5, 5]]
    assert (boxes.grades.tolist(), boxes.patients.tolist()) == ([4, 2], ["7", "8"])
    assert boxes.classes.tolist() == [("DDD", "LDB"), ("DDD",)]
    assert [f.name for f in boxes.files] == ["b.png", "a.png"] and boxes.sequences.tolist() == ["", ""]
    every = read_boxes(data, "val", None)
    assert len(every) == 3 and every.grades.tolist() == [0, 0, 0]
    assert [rows.tolist() for rows in every.by_image()] == [[0], [1, 2]]
    assert every.take(np.array([2])).levels.tolist() == ["L4/L5"]


def test_images_of_one_name_are_told_apart_by_their_split_or_refused(small, tmp_path):
    data = small(
        "image,patient,class,x1,y1,x2,y2,pfirrmann,split\na.png,7,DDD,0,0,5,5,3,train\na.png,8,DDD,0,0,6,6,2,val\n"
    )
    assert read_boxes(data, "val", "pfirrmann").patients.tolist() == ["8"]
    (tmp_path / "images/val/more").mkdir()
    cv2.imwrite(str(tmp_path / "images/val/more/a.png"), np.zeros((40, 60), np.uint8))
    with pytest.raises(ValueError, match=r"several images are called a\.png"):
        read_boxes(data, "val", "pfirrmann")


def test_bad_rows_are_named_and_left_out(small):
    data = small(
        "image,patient,class,x1,y1,x2,y2,pfirrmann\n"
        "a.png,8,DDD,0,0,5,5,2\na.png,8,DDD,0,0,5,5,6\na.png,8,DDD,0,0,5,5,two\n"
        "a.png,8,DDD,5,0,5,5,2\na.png,8,DDD,0,0,nan,5,2\na.png,8,DDD,0,0,x,5,2\n"
    )
    problems = []
    assert len(read_boxes(data, "val", "pfirrmann", report=problems.append)) == 1
    assert [p.line for p in problems] == [3, 4, 5, 6, 7]
    assert "pfirrmann '6', expected 1 to 5" in str(problems[0]) and "size above 0" in str(problems[2])
    assert "expected numbers in the columns x1, y1, x2, y2" in str(problems[4])


def test_table_without_what_is_needed(small, tmp_path):
    data = small("image,patient,class,x1,y1,x2,y2,meyerding\na.png,8,SP,0,0,5,5,0\n")
    with pytest.raises(ValueError, match="no column pfirrmann"):
        read_boxes(data, "val", "pfirrmann")
    with pytest.raises(ValueError, match="no box with meyerding 1 to 5 in split 'val'"):
        read_boxes(data, "val", "meyerding")
    (tmp_path / "annotations.csv").unlink()
    with pytest.raises(FileNotFoundError, match="a row a box with the column pfirrmann"):
        read_boxes(data, "val", "pfirrmann")


def test_crops_are_the_boxs_pixels(tmp_path):
    plane = np.zeros((50, 80), np.uint8)
    plane[10:20, 30:60] = 200
    assert cut(plane, 30, 10, 60, 20).min() == 200 and cut(plane, 30, 10, 60, 20).shape == (10, 30)
    assert cut(plane, -9, -9, 3, 2).shape == (2, 3)
    assert cut(plane, 90, 90, 99, 99).shape == (1, 1)  # beside the image: the nearest pixel
    assert crop(plane, np.array([30.0, 10, 60, 20])).tolist() == [[200] * 128] * 128
    half = crop(plane, np.array([30.0, 10, 60, 30]), 64)
    assert half.shape == (64, 64) and half[:28].min() == 200 and half[36:].max() == 0
    file = tmp_path / "a.png"
    cv2.imwrite(str(file), plane)
    np.testing.assert_array_equal(read_plane(file), plane)
    assert plane_height(file) == 50
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"a\.png"):
        read_plane(file)
