"""Tests of the spine phantom: determinism, labels that agree with the anatomy, a usable dataset folder."""

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ultralytics.utils import YAML

from yolospine_ultra.data import phantom_dataset
from yolospine_ultra.data.phantom import (
    CLASS_NAMES,
    DDD,
    IVDN,
    LDB,
    SP,
    SS,
    TDB,
    classes_of,
    generate_slice,
    meyerding_grade,
    read_findings,
    sample_patient,
)
from yolospine_ultra.data.phantom_anatomy import build_anatomy
from yolospine_ultra.data.phantom_canvas import Frame
from yolospine_ultra.data.phantom_dataset import plan_patients, split_patients, write_dataset
from yolospine_ultra.data.phantom_patient import LEVELS, STENOSIS_FRACTION, THORACIC_LEVELS

CFG = Path(__file__).parents[2] / "cfg" / "datasets" / "spine-phantom.yaml"


def patients(count, start=0):
    return [sample_patient(np.random.default_rng(start + k)) for k in range(count)]


def findings_of(patient, offset=0.0):
    anatomy = build_anatomy(patient, offset)
    return anatomy, read_findings(anatomy, Frame.of(anatomy, 384))


def folder_bytes(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantom") / "a"
    return out, write_dataset(out, images=12, seed=3, size=192, workers=1, progress=False)


def test_same_seed_gives_the_same_bytes_for_any_number_of_workers(dataset, tmp_path):
    write_dataset(tmp_path / "b", images=12, seed=3, size=192, workers=2, progress=False)
    assert folder_bytes(dataset[0]) == folder_bytes(tmp_path / "b")


def test_other_seed_gives_other_images(dataset, tmp_path):
    write_dataset(tmp_path / "c", images=3, seed=4, size=192, workers=2, progress=False)
    first = set(folder_bytes(dataset[0]).values())
    assert not [n for n, b in folder_bytes(tmp_path / "c").items() if n.endswith(".png") and b in first]


def test_labels_parse_as_yolo_and_lie_inside_the_image(dataset):
    out, made = dataset
    images = sorted(out.glob("images/*/*.png"))
    assert len(images) == 12 == sum(made["images"].values())
    counted = Counter()
    for image in images:
        assert cv2.imread(str(image), cv2.IMREAD_UNCHANGED).shape == (192, 192)
        label = out / "labels" / image.parent.name / f"{image.stem}.txt"
        for line in label.read_text().splitlines():
            c, x, y, w, h = line.split()
            counted[CLASS_NAMES[int(c)]] += 1
            x, y, w, h = map(float, (x, y, w, h))
            assert w > 0 and h > 0
            assert x - w / 2 >= -1e-6 and y - h / 2 >= -1e-6 and x + w / 2 <= 1 + 1e-6 and y + h / 2 <= 1 + 1e-6
    assert counted == Counter(made["labels"])


def test_annotations_name_every_box_and_no_patient_is_in_both_splits(dataset):
    out, made = dataset
    rows = list(csv.DictReader((out / "annotations.csv").open()))
    assert Counter(r["class"] for r in rows) == Counter(made["labels"])
    assert all((out / "images" / r["split"] / r["image"]).is_file() for r in rows)
    by_split = {s: {r["patient"] for r in rows if r["split"] == s} for s in ("train", "val")}
    assert by_split["train"] and by_split["val"] and not by_split["train"] & by_split["val"]


@pytest.mark.parametrize("images", [2, 3, 50, 301])
def test_split_moves_whole_patients_and_fills_both_splits(images):
    plans = plan_patients(images, 1)
    split = split_patients(plans, 0.2, 1)
    assert sum(len(p.shots) for p in plans) == images
    assert set(split.values()) == {"train", "val"}
    if images >= 50:
        share = sum(len(p.shots) for p in plans if split[p.number] == "val") / images
        assert 0.15 < share < 0.25


def test_all_six_classes_occur_in_the_validation_part_of_the_default_dataset():
    plans = plan_patients(400, 0)
    split = split_patients(plans, 0.2, 0)
    for part in ("train", "val"):
        seen = {f.class_id for p in plans if split[p.number] == part for f in findings_of(p.patient)[1]}
        assert seen == set(range(6))


def test_class_shares_are_near_the_aim():
    plans = plan_patients(300, 5)
    counted = Counter(f.class_id for p in plans for s in p.shots for f in findings_of(p.patient, s.offset_mm)[1])
    aim = {DDD: 633, IVDN: 4131, SS: 1921, SP: 122, LDB: 2033, TDB: 151}
    total = sum(counted.values())
    for class_id, count in aim.items():
        assert 0.4 < (counted[class_id] / total) / (count / sum(aim.values())) < 2.5


def test_a_normal_disc_carries_no_other_disc_label():
    for patient in patients(60):
        for state in patient.discs:
            classes = classes_of(state)
            disc_classes = {DDD, LDB, TDB} & set(classes)
            assert (IVDN in classes) != bool(disc_classes)
            assert (TDB in classes) <= (state.level in THORACIC_LEVELS)
            assert (LDB in classes) <= (state.level not in THORACIC_LEVELS)


def test_slip_is_measured_on_the_anatomy():
    slipped = 0
    for patient in patients(80):
        anatomy, findings = findings_of(patient)
        for finding in findings:
            assert (finding.slip_mm > 0) == (finding.class_id == SP) == (finding.meyerding > 0)
            if finding.class_id == SP:
                slipped += 1
                upper, lower = (anatomy.body(n) for n in finding.level.split("/"))
                axis = lower.upper[-1] - lower.upper[0]
                fraction = (lower.upper[-1] - upper.lower[-1]) @ axis / (axis @ axis)
                # The backs of the two plates differ a little in the healthy spine too.
                assert fraction == pytest.approx(finding.slip_mm / np.linalg.norm(axis), abs=0.12)
    assert slipped


@pytest.mark.parametrize(("slip", "grade"), [(0, 0), (1, 1), (9.9, 1), (10, 2), (19.9, 2), (20, 3), (30, 4), (50, 4)])
def test_meyerding_grade_counts_quarters_of_the_end_plate(slip, grade):
    assert meyerding_grade(slip, 40.0) == grade


def test_meyerding_grade_refuses_nonsense():
    for slip, plate in ((-1, 40), (1, 0)):
        with pytest.raises(ValueError, match="end-plate"):
            meyerding_grade(slip, plate)


def test_stenosis_is_seen_where_it_is_labelled_and_only_there():
    for patient in patients(60):
        canal = build_anatomy(patient).canal
        for level in LEVELS[:-1]:
            stenosed = patient.disc(level).stenosed
            measured = canal.narrowing(level)
            assert measured > STENOSIS_FRACTION if stenosed else measured < STENOSIS_FRACTION + 0.07, (level, measured)


def test_bulge_box_reaches_further_back_than_the_disc_box():
    checked = 0
    for patient in patients(120):
        boxes = {(f.level, f.class_id): f.box for f in findings_of(patient)[1]}
        for (level, class_id), box in boxes.items():
            if class_id == LDB and (level, DDD) in boxes:
                checked += 1
                plain = boxes[level, DDD]
                assert box[2] >= plain[2] and box[0] == pytest.approx(plain[0])
                # Below a slip, and on the steep L5/S1, a rim of the lower body may lie further back still.
                assert box[2] > plain[2] or (level, SP) in boxes or level == "L5/S1"
    assert checked


def test_fluid_is_bright_on_t2_and_dark_on_t1():
    for patient in patients(3):
        patient = replace(patient, conus_mm=-10.0)
        anatomy = build_anatomy(patient)
        canal, i = anatomy.canal, (anatomy.canal.at["L2/L3"] + anatomy.canal.at["L3/L4"]) // 2
        spot = canal.edge(0.75 * canal.front + 0.25 * canal.back, i, i + 1)
        x, y = Frame.of(anatomy, 384).to_px(spot)[0].astype(int)
        t1, t2 = (
            generate_slice(patient, s, 0.0, 384, np.random.default_rng(0)).image[y - 1 : y + 2, x - 1 : x + 2].mean()
            for s in ("t1", "t2")
        )
        assert t2 > 2 * t1


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sequence=st.sampled_from(["t1", "t2"]),
    offset=st.floats(-8, 8),
    size=st.sampled_from([64, 131, 256]),
)
def test_any_slice_is_a_usable_picture(seed, sequence, offset, size):
    made = generate_slice(
        sample_patient(np.random.default_rng(seed)), sequence, offset, size, np.random.default_rng(seed)
    )
    assert made.image.dtype == np.uint8 and made.image.shape == (size, size)
    assert 8 < made.image.mean() < 200 and made.image.std() > 15
    assert (made.image == 255).mean() < 0.4
    assert len(made.findings) >= 4
    for finding in made.findings:
        x1, y1, x2, y2 = finding.box
        assert 0 <= x1 < x2 <= size and 0 <= y1 < y2 <= size
        assert 1 <= finding.pfirrmann <= 5


def test_findings_do_not_depend_on_the_acquisition():
    patient = patients(1)[0]
    first, second = (generate_slice(patient, "t2", 0.0, 128, np.random.default_rng(k)) for k in (1, 2))
    assert first.findings == second.findings and (first.image != second.image).any()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"sequence": "flair"}, "flair"), ({"size": 10}, "64 to 1024"), ({"slice_offset_mm": 20.0}, "-8 to 8")],
)
def test_slice_refuses_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        generate_slice(patients(1)[0], **kwargs)


def test_dataset_refuses_a_folder_with_something_in_it(tmp_path):
    (tmp_path / "keep.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not an empty folder"):
        write_dataset(tmp_path, images=2, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["keep.txt"]


@pytest.mark.parametrize("kwargs", [{"images": 1}, {"size": 8}, {"workers": 0}, {"val_fraction": 1.0}])
def test_dataset_refuses_bad_arguments(tmp_path, kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        write_dataset(tmp_path / "x", progress=False, **kwargs)
    assert not list(tmp_path.iterdir())


def test_a_failed_run_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(phantom_dataset, "generate_slice", fail)
    with pytest.raises(OSError, match="disk full"):
        write_dataset(tmp_path / "x", images=4, progress=False)
    assert not list(tmp_path.iterdir())


def test_yaml_makes_the_dataset_when_the_host_executes_it(tmp_path, monkeypatch):
    cfg = YAML.load(CFG)
    assert list(cfg["names"].values()) == list(CLASS_NAMES)
    calls = []
    monkeypatch.setattr(phantom_dataset, "write_dataset", lambda *a, **k: calls.append((a, k)))
    cfg["path"] = tmp_path / "spine-phantom"
    exec(cfg["download"], {"yaml": cfg})
    assert calls == [((tmp_path / "spine-phantom",), {"images": 300, "seed": 0})]
