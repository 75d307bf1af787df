"""Readers' CSV files: what each row means, and what is refused or left out with a word."""

import numpy as np
import pytest
from rating_cases import image

from yolospine_ultra.evaluate.validation.reader_files import read_readings, read_seconds

IMAGES = [image(name=n) for n in ("val/1_a.png", "val/1_b.png", "val/2_a.png")]
NAMES = ["x", "y"]
HEAD = "reader,image,class,x1,y1,x2,y2\n"


@pytest.fixture
def readings(tmp_path):
    """A function from the text of a CSV to its readings and what was wrong with it."""

    def read(text, **kwargs):
        file = tmp_path / "readers.csv"
        file.write_text(text, encoding="utf-8")
        problems = []
        return read_readings(file, IMAGES, NAMES, problems.append, **kwargs), [str(p) for p in problems]

    return read


def test_boxes_classes_and_images_without_findings(readings):
    (one, two), problems = readings(
        "\ufeff" + HEAD + "R1,1_a.png,y,0,0,10,10\nR1,1_a.png,x,0,0,10,10\nR1,val/1_b.png,,,,,\n\nR2,2_a,x,,,,\n"
    )
    assert not problems and (one.reader, two.reader) == ("R1", "R2")
    assert one.read.tolist() == [True, True, False] and two.read.tolist() == [False, False, True]
    assert one.present.tolist() == [[True, True], [False, False], [False, False]]
    assert two.boxes is None and two.present.tolist() == [[False] * 2, [False] * 2, [True, False]]
    assert [x.name for x in one.boxes] == [x.name for x in IMAGES] and [len(x) for x in one.boxes] == [2, 0, 0]
    assert one.boxes[0].classes.tolist() == [0, 1] and (one.boxes[0].scores == 1).all()
    assert one.boxes[0].boxes.tolist() == [[0, 0, 10, 10]] * 2


def test_columns_in_any_order_without_boxes(readings):
    (one,), problems = readings("class,grade,image,reader\n x ,3,1_a.png, R1 \n,,2_a.png,R1\n")
    assert not problems and one.boxes is None and one.read.tolist() == [True, False, True]


def test_the_order_of_rows_does_not_matter(readings):
    rows = ["R1,1_a.png,x,0,0,10,10\n", "R1,1_a.png,x,0,2,10,12\n", "R1,1_a.png,y,0,1,10,11\n", "R1,2_a.png,,,,,\n"]
    first, second = readings(HEAD + "".join(rows))[0][0], readings(HEAD + "".join(rows[::-1]))[0][0]
    np.testing.assert_array_equal(first.boxes[0].boxes, second.boxes[0].boxes)
    np.testing.assert_array_equal(first.boxes[0].classes, second.boxes[0].classes)
    assert (first.read == second.read).all()


def test_read_all_takes_images_without_a_row_as_normal(readings):
    (one,), _ = readings(HEAD + "R1,1_a.png,x,0,0,10,10\n", read_all=True)
    assert one.read.all() and one.present.sum() == 1


def test_what_does_not_fit_the_data_is_left_out_with_a_word(readings):
    (one, two), problems = readings(
        HEAD + "R1,1_a.png,x,0,0,9,9\nR1,1_a.png,x,0,0,9,9\nR1,1_b.png,Z,0,0,9,9\nR2,9.png,x,0,0,9,9\n", ungraded=["Z"]
    )
    assert one.read.tolist() == [True, True, False] and len(one.boxes[0]) == 1  # an ungraded class, but it was read
    assert not two.read.any()
    for problem, word in zip(problems, ("counted once", "Z is not graded here", "no image '9.png'"), strict=True):
        assert word in problem


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reader,image\nR1,1_a.png\n", "no column class; it has reader, image"),
        ("reader,image,class,x1,y1\nR1,1_a.png,x,0,0\n", "only x1, y1; expected all"),
        (HEAD + ",1_a.png,x,0,0,9,9\n", "line 2: reader ''"),
        (HEAD + "model,1_a.png,x,0,0,9,9\n", "reader 'model'"),
        (HEAD + "R1,1_a.png,x,0,0,0,9\n", "line 2: box 0, 0, 0, 9 in val/1_a.png, expected x1 < x2"),
        (HEAD + "R1,1_a.png,x,0,0,nine,9\n", "expected x1 < x2"),
        (HEAD + "R1,1_a.png,x,0,0,9,\n", "expected x1 < x2"),
        (HEAD + "R1,1_a.png,,0,0,9,9\n", "line 2: a box without a class"),
        (HEAD + "R1,1_a.png,X,0,0,9,9\n", "line 2: class 'X', expected one of x, y"),  # not a finding that was missed
        (HEAD + "R1,1_a.png,x,0,0,9,9\nR1,1_b.png,x,,,,\n", "R1 has a box in line 2 and none in line 3"),
        (HEAD + "R1,1_a.png,x,0,0,9,9\nR1,1_a.png,,,,,\n", "line 3: no finding of R1 in val/1_a.png, but other rows"),
        (HEAD, "no row for these images"),
        ("", "no column reader, image, class; it has none"),
        (HEAD + "R1,9.png,x,0,0,9,9\n", "no row for these images"),
    ],
)
def test_files_that_cannot_be_read_are_refused(readings, text, message):
    with pytest.raises(ValueError, match=message):
        readings(text)


def test_names_that_fit_several_images_and_files_that_are_none(tmp_path):
    twice = [image(name="a/1.png"), image(name="b/1.png")]
    file = tmp_path / "r.csv"
    file.write_text("reader,image,class\nR1,1.png,x\n")
    with pytest.raises(ValueError, match=r"'1.png' may be a/1.png and b/1.png"):
        read_readings(file, twice, NAMES)
    file.write_text("reader,image,class\nR1,b/1.png,x\n")
    assert read_readings(file, twice, NAMES)[0].read.tolist() == [False, True]
    with pytest.raises(FileNotFoundError, match="not a file"):
        read_readings(tmp_path / "none.csv", twice, NAMES)
    file.write_bytes(b"reader,image,class\n\xff\xfe")
    with pytest.raises(ValueError, match="UTF-8"):
        read_readings(file, twice, NAMES)


def test_seconds(tmp_path):
    assert read_seconds("0.48", IMAGES)["model"]["mean"] == 0.48
    file, problems = tmp_path / "s.csv", []
    file.write_text("image,seconds\n1_a.png,1\n1_b.png,2\n2_a.png,6\n9.png,1\n")
    made = read_seconds(str(file), IMAGES, problems.append)
    assert made == {"model": {"scans": 3, "mean": 3, "median": 2, "min": 1, "max": 6}} and len(problems) == 1
    file.write_text("reader,image,seconds\nmodel,1_a.png,1\nR1,1_a.png,90\nR1,1_b.png,80\n")
    made = read_seconds(str(file), IMAGES)
    assert (made["model"]["scans"], made["R1"]["scans"], made["R1"]["mean"]) == (1, 2, 85)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,seconds\n1_a.png,0\n", "'0' seconds, expected a number above 0"),
        ("image,seconds\n1_a.png,quick\n", "'quick' seconds"),
        ("image,seconds\n1_a.png,1\n1_a.png,1\n", "line 3: 1_a.png is timed twice"),
        ("image\n1_a.png\n", "no column seconds"),
        ("image,seconds\n9.png,1\n", "no row for these images"),
    ],
)
def test_seconds_that_are_none_are_refused(tmp_path, text, message):
    file = tmp_path / "s.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_seconds(str(file), IMAGES, [].append)
    for source in ("-1", "inf", "nan", "0"):
        with pytest.raises(ValueError, match="above 0"):
            read_seconds(source, IMAGES)
    with pytest.raises(FileNotFoundError):
        read_seconds("quick", IMAGES)
