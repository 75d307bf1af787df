"""The converter of SPIDER, on volumes, masks and tables made in its formats."""

import csv
import json
import sys
import zlib

import cv2
import numpy as np
import pytest
from conftest import REPO, run
from ultralytics.utils import YAML

from yolospine_ultra.data.public import prepare_spider
from yolospine_ultra.data.public.classes import DISORDERS, PFIRRMANN
from yolospine_ultra.data.public.spider import Grades, classes_of, read_gradings
from yolospine_ultra.data.relations import KEYS

sitk = pytest.importorskip("SimpleITK", reason="makes the volumes")

SCRIPT = str(REPO / "scripts" / "prepare_dataset.py")
HEADER = "Patient,IVD label,Modic,UP endplate,LOW endplate,Spondylolisthesis,Disc herniation,Disc narrowing,Disc bulging,Pfirrman grade"  # fmt: skip # noqa: E501
WIDE, DEEP, TALL = 9, 80, 120  # voxels from right to left, front to back, feet to head
SPACING = (4.0, 0.5, 0.5)
DISCS = 7


def disc_place(k):
    """Disc k from below: rows (feet to head) and columns (front to back) of its voxels, both ends included."""
    return (6 + 16 * (k - 1), 6 + 16 * (k - 1) + 5), (20 + k, 44 + k)


def mask_array(middle=5):
    """Mask (x, y, z) with discs, bodies between them and a canal, all centred on plane `middle`."""
    mask = np.zeros((WIDE, DEEP, TALL), np.int16)
    inside = slice(middle - 2, middle + 3)
    for k in range(1, DISCS + 1):
        (z0, z1), (y0, y1) = disc_place(k)
        mask[inside, y0 : y1 + 1, z0 : z1 + 1] = 200 + k
        mask[inside, y0 : y1 + 1, z1 + 2 : z1 + 10] = k
    mask[inside, 60:70, 4:116] = 100
    return mask


def write_series(root, name, mask=None, spacing=SPACING, orientation="LPS", seed=None):
    """Volume and mask of one series; the volume shows its mask on smooth blobs of its own."""
    mask = mask_array() if mask is None else mask
    rng = np.random.default_rng(zlib.crc32(name.encode()) if seed is None else seed)
    rough = rng.random((12, 10)).astype(np.float32)
    blobs = cv2.resize(rough, (TALL, DEEP), interpolation=cv2.INTER_CUBIC)
    volume = 400 * blobs[None] + 40 * (mask > 0) + 5 * np.arange(WIDE)[:, None, None]
    for folder, array, kind in (("images", volume, sitk.sitkFloat32), ("masks", mask, sitk.sitkInt16)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        image = sitk.Cast(sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0))), kind)
        image.SetSpacing(spacing)
        image.SetOrigin((-20.0, -30.0, 12.0))
        sitk.WriteImage(sitk.DICOMOrient(image, orientation), str(root / folder / f"{name}.mha"), useCompression=True)


def grade_row(patient, disc, pfirrmann=2, narrowing=0, bulging=0, herniation=0, slip=0, modic=0):
    return f"{patient},{disc},{modic},0,0,{slip},{herniation},{narrowing},{bulging},{pfirrmann}"


def write_gradings(root, rows):
    (root / "radiological_gradings.csv").write_text("\n".join([HEADER, *rows]) + "\n")


def write_release(root, patients=8):
    for p in range(1, patients + 1):
        write_series(root, f"{p}_t2")
        write_series(root, f"{p}_t1", seed=p)
    write_gradings(
        root, [grade_row(p, k, 1 + (p + k) % 5) for p in range(1, patients + 1) for k in range(1, DISCS + 1)]
    )
    subsets = [
        f"{p}_{s},{'validation' if p % 4 == 0 else 'training'}" for p in range(1, patients + 1) for s in ("t1", "t2")
    ]
    (root / "overview.csv").write_text("\n".join(["new_file_name,subset", *subsets]) + "\n")
    return root


def annotations(folder):
    return list(csv.DictReader((folder / "annotations.csv").open()))


def box_of(row):
    return [float(row[c]) for c in ("x1", "y1", "x2", "y2")]


def test_classes_follow_from_gradings():
    grade = {"pfirrmann": 2, "narrowing": 0, "bulging": 0, "herniation": 0, "spondylolisthesis": 0}
    names = lambda disc, **change: [DISORDERS[c] for c in classes_of(Grades(**grade | change), disc)]  # noqa: E731
    assert names(1) == names(1, pfirrmann=3) == ["IVDn"]
    assert names(1, pfirrmann=4) == names(3, narrowing=1) == ["DDD"]
    assert names(5, bulging=1) == names(5, herniation=1) == ["LDB"]
    assert names(6, bulging=1) == names(9, herniation=1) == ["TDB"]
    assert names(1, pfirrmann=5, bulging=1, spondylolisthesis=1) == ["DDD", "SP", "LDB"]


def test_classes_are_those_of_the_real_set(spider):
    rows = list(csv.DictReader((spider / "annotations.csv").open()))
    fields = ("pfirrmann", "narrowing", "bulging", "herniation", "spondylolisthesis")
    for row in rows:
        found = classes_of(Grades(**{f: int(row[f]) for f in fields}), int(row["ivd_label"]))
        assert {DISORDERS[c] for c in found} == set(row["classes"].split("|")), row
    assert len(rows) == 1190


def test_real_gradings_are_read(spider):
    file = spider.parent / "spider-unlabelled" / "gradings.csv"
    if not file.is_file():
        pytest.skip(f"needs {file}")
    problems = []
    found = read_gradings(file, problems)
    rows = list(csv.DictReader(file.open()))
    assert sum(map(len, found.values())) + len(problems) == len(rows) and len(problems) < 5
    assert found["1"][1] == Grades(pfirrmann=3, narrowing=1, bulging=1, herniation=0, spondylolisthesis=0)


@pytest.mark.parametrize("orientation", ["LPS", "PIR"])
def test_picture_and_boxes_by_hand(tmp_path, orientation):
    root = tmp_path / "in"
    write_series(root, "7_t2", orientation=orientation, seed=3)
    write_series(root, "8_t2")
    write_gradings(root, [grade_row(p, k, pfirrmann=4 if k == 1 else 2, bulging=int(k in (1, 6)))
                          for p in (7, 8) for k in range(1, DISCS + 1)])  # fmt: skip
    report = prepare_spider(root, tmp_path / "out", shares={"train": 0.5, "val": 0.5})
    assert not report.problems
    rows = [r for r in annotations(tmp_path / "out") if r["image"] == "7_t2.png"]
    assert [(r["level"], r["class"]) for r in rows] == [
        ("L5/S1", "DDD"), ("L5/S1", "LDB"), ("L4/L5", "IVDn"), ("L3/L4", "IVDn"), ("L2/L3", "IVDn"), ("L1/L2", "IVDn"),
        ("T12/L1", "TDB"), ("T11/T12", "IVDn"),
    ]  # fmt: skip
    for row in rows:
        (z0, z1), (y0, y1) = disc_place(int(row["ivd_label"]))
        wanted = [y0 - 6, TALL - 1 - z1 - 6, y1 + 1 + 6, min(TALL - z0 + 6, TALL)]
        np.testing.assert_allclose(box_of(row), wanted, atol=1e-3)
    assert (rows[0]["pfirrmann"], rows[0]["bulging"], rows[0]["patient"], rows[0]["series"]) == ("4", "1", "7", "7_t2")
    split = rows[0]["split"]
    image = cv2.imread(str(tmp_path / "out" / "images" / split / "7_t2.png"), 0)
    assert image.shape == (TALL, DEEP)
    volume = sitk.GetArrayFromImage(sitk.DICOMOrient(sitk.ReadImage(str(root / "images" / "7_t2.mha")), "LPS"))
    plane = volume[::-1, :, 5].astype(float)  # the middle of the canal, not of the stack
    assert np.corrcoef(image.ravel(), plane.clip(*np.percentile(plane, (0.5, 99.5))).ravel())[0, 1] > 0.9999
    lines = (tmp_path / "out" / "labels" / split / "7_t2.txt").read_text().splitlines()
    first = [float(v) for v in lines[0].split()]
    x1, y1, x2, y2 = box_of(rows[0])
    np.testing.assert_allclose(
        first, [0, (x1 + x2) / 2 / DEEP, (y1 + y2) / 2 / TALL, (x2 - x1) / DEEP, (y2 - y1) / TALL]
    )


def test_pixels_become_square(tmp_path):
    root = tmp_path / "in"
    write_series(root, "7_t2", spacing=(4.0, 0.625, 0.5))
    write_gradings(root, [grade_row(7, k) for k in range(1, DISCS + 1)])
    prepare_spider(root, tmp_path / "out", shares={"train": 1.0})
    row = next(r for r in annotations(tmp_path / "out") if r["level"] == "L4/L5")
    assert (row["width"], row["height"]) == (str(round(DEEP * 1.25)), str(TALL))
    (z0, z1), (y0, y1) = disc_place(2)
    wanted = [y0 * 1.25 - 6, TALL - 1 - z1 - 6, (y1 + 1) * 1.25 + 6, TALL - z0 + 6]
    np.testing.assert_allclose(box_of(row), wanted, atol=1e-3)
    assert next(csv.DictReader((tmp_path / "out" / "images.csv").open()))["mm_per_px"] == "0.50000"


def test_a_release_with_both_kinds_of_split(tmp_path):
    root = write_release(tmp_path / "in")
    report = prepare_spider(root, tmp_path / "a")
    assert sum(report.images.values()) == 16 and not report.leaks and not report.problems
    assert report.labels["train"]["SS"] == 0 and any("SS is not graded" in n for n in report.notes)
    deviations = {c.what: (c.published, c.found) for c in report.deviations}
    assert deviations == {
        "series": (447, 16), "patients": (218, 8), "series of t1": (196, 8), "series of t2": (210, 8),
        "series of t2_SPACE": (41, 0), "patients in overview.csv for training": (179, 6),
        "patients in overview.csv for validation": (39, 2),
    }  # fmt: skip
    report = prepare_spider(root, tmp_path / "b", split="published", sequences=("t2",))
    assert report.images == {"train": 6, "val": 2} and not (tmp_path / "b" / "images" / "test").exists()
    written, shipped = (
        YAML.load(f) for f in (tmp_path / "b" / "dataset.yaml", REPO / "cfg" / "datasets" / "spider.yaml")
    )
    assert all(written[k] == shipped[k] for k in ("names", *KEYS))  # prepared data is trained as the shipped YAML's


def test_thirteen_classes(tmp_path):
    root = write_release(tmp_path / "in", patients=2)
    report = prepare_spider(root, tmp_path / "out", classes="pfirrmann", sequences=("t2",))
    total = {name: sum(row[name] for row in report.labels.values()) for name in PFIRRMANN}
    assert (total["VB"], total["IVD"], total["SC"], total["Sacrum"]) == (2 * DISCS, 2 * DISCS, 2, 0)
    rows = annotations(tmp_path / "out")
    assert {r["level"] for r in rows if r["class"] == "VB"} == {"L5", "L4", "L3", "L2", "L1", "T12", "T11"}
    published = (REPO / "cfg" / "datasets" / "pfirrmann.yaml").read_text()
    assert all(f"{k}: {name}" in published for k, name in enumerate(PFIRRMANN))


def test_everything_wrong_is_named_and_the_rest_goes_on(tmp_path):
    root = write_release(tmp_path / "in", patients=7)
    for sequence in ("t1", "t2"):
        (root / "masks" / f"1_{sequence}.mha").unlink()
    whole = (root / "images" / "2_t2.mha").read_bytes()
    (root / "images" / "2_t2.mha").write_bytes(whole[: len(whole) // 2])
    (root / "masks" / "2_t1.mha").write_bytes(b"no volume")
    small = mask_array()[:, :, :-2]
    write_series(root / "other", "3_t2", mask=mask_array())
    image = sitk.GetImageFromArray(np.ascontiguousarray(small.transpose(2, 1, 0)))
    image.SetSpacing(SPACING)
    sitk.WriteImage(image, str(root / "masks" / "3_t2.mha"))
    no_canal = mask_array()
    no_canal[no_canal == 100] = 0
    write_series(root, "4_t2", mask=no_canal)
    (root / "images" / "readme.txt").write_text("x")
    rows = (root / "radiological_gradings.csv").read_text().splitlines()
    rows = [r for r in rows if not r.startswith(("5,", "6,3,"))]
    rows += [grade_row(7, 1, pfirrmann=9), grade_row(7, 2), "7,0,0,0,0,0,0,0,0,2", "7,8", "x,1,0,0,0,0,0,0,0,2"]
    (root / "radiological_gradings.csv").write_text("\n".join(rows) + "\n")
    before = {f: f.read_bytes() for f in root.rglob("*") if f.is_file()}
    report = prepare_spider(root, tmp_path / "out")
    named = sorted((p.file, p.kind) for p in report.problems)
    table = "radiological_gradings.csv"
    assert named == sorted([
        ("images/1_t1.mha", "missing"), ("images/1_t2.mha", "missing"), ("images/2_t1.mha", "unreadable"),
        ("images/2_t2.mha", "unreadable"), ("images/3_t2.mha", "unreadable"), ("images/4_t2.mha", "no-canal"),
        ("images/5_t1.mha", "missing-row"), ("images/5_t2.mha", "missing-row"), ("images/6_t1.mha", "missing-row"),
        ("images/6_t2.mha", "missing-row"), ("images/readme.txt", "extra"), (table, "grade"), (table, "grade"),
        (table, "grade"), (table, "duplicate"), (table, "row"),
    ])  # fmt: skip
    assert str(tmp_path) not in json.dumps([str(p) for p in report.problems])
    names = {r["image"] for r in annotations(tmp_path / "out")}
    assert names == {"3_t1.png", "4_t1.png", "4_t2.png", "6_t1.png", "6_t2.png", "7_t1.png", "7_t2.png"}
    assert {r["level"] for r in annotations(tmp_path / "out") if r["image"] == "6_t2.png"} == {
        "L5/S1", "L4/L5", "L2/L3", "L1/L2", "T12/L1", "T11/T12",
    }  # fmt: skip
    assert {f: f.read_bytes() for f in before} == before


@pytest.mark.slow
def test_command(tmp_path):
    write_release(tmp_path / "in", patients=3)
    done = run([sys.executable, SCRIPT, "spider", "in", "--out", "out", "--sequences", "t2"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "DEVIATES  series: published 447, found 6 (-441)" in done.stdout and "Leak check: no patient" in done.stdout


@pytest.mark.parametrize("missing", ["radiological_gradings.csv", "masks", "overview.csv"])
def test_a_release_without_its_parts_is_refused(tmp_path, missing):
    root = write_release(tmp_path / "in", patients=2)
    (root / missing).rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError, match=missing):
        prepare_spider(root, tmp_path / "out", split="published")
    assert {f.name for f in tmp_path.iterdir()} == {"in", "away"}


def test_a_table_without_a_column_is_refused(tmp_path):
    root = write_release(tmp_path / "in", patients=2)
    text = (root / "radiological_gradings.csv").read_text()
    (root / "radiological_gradings.csv").write_text(text.replace("Disc bulging", "Bulge"))
    with pytest.raises(ValueError, match="no column Disc bulging"):
        prepare_spider(root, tmp_path / "out")
