"""The converter of the Mendeley set, on folders made in its format with the published counts."""

import csv
import json
import os
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from conftest import REPO, run
from PIL import ExifTags, Image

from yolospine_ultra.data.labels import read_label_folder
from yolospine_ultra.data.public import prepare_mendeley, prepare_rsna, prepare_spider
from yolospine_ultra.data.public.classes import DISORDERS, ORDERS, class_index, disc_level
from yolospine_ultra.data.public.mendeley import PUBLISHED_IMAGES, PUBLISHED_LABELS, PUBLISHED_TOTAL
from yolospine_ultra.data.public.report import Report
from yolospine_ultra.data.public.staging import Box, staging

SCRIPT = str(REPO / "scripts" / "prepare_dataset.py")


def png(seed, size=24):
    rough = np.random.default_rng(seed).random((12, 12)).astype(np.float32)
    return cv2.imencode(".png", (cv2.resize(rough, (size, size)) * 255).astype(np.uint8))[1].tobytes()


def name_of(k, total):
    """T2 files of patients 1, 2, ..., then the T1 files of the same patients, in the names of the download."""
    half = total // 2
    return f"{k:04d}_T2_TSE_SAG_384_0002_{k + 1:04d}_008_R" if k < half else f"T1_{k - half + 1:04d}_S8 "


def write_download(root, images, labels, order="readme", layout="images/train", seed=0):
    """A download with these numbers of images and labels by split, its class indices in `order`."""
    theirs = {ours: index for index, ours in ORDERS[order].items()}
    rng = np.random.default_rng(seed)
    total = sum(images.values())
    names = [name_of(k, total) for k in rng.permutation(total)]
    for split, count in images.items():
        first, second = ("images", split) if layout == "images/train" else (split, "images")
        folder = root / first / second
        label_folder = root / (f"labels/{split}" if layout == "images/train" else f"{split}/labels")
        folder.mkdir(parents=True)
        label_folder.mkdir(parents=True)
        classes = [c for c, n in enumerate(labels[split].values()) for _ in range(n)]
        rows = [[] for _ in range(count)]
        for k, c in enumerate(rng.permutation(classes)):
            x, y = 0.1 + 0.8 * ((k // count) % 8) / 8, 0.1 + 0.8 * (k // count // 8 % 8) / 8
            rows[k % count].append(f"{theirs[int(c)]} {x:.6f} {y:.6f} 0.120000 0.060000")
        for k in range(count):
            name = names.pop()
            (folder / f"{name}.png").write_bytes(png([seed, len(names)]))
            (label_folder / f"{name}.txt").write_text("\n".join(rows[k]) + "\n")
    return root


SMALL = {"train": 12, "val": 4, "test": 2}
SMALL_LABELS = {s: {c: max(1, n // 60) for c, n in row.items()} for s, row in PUBLISHED_LABELS.items()}


def test_published_tables_agree_with_each_other():
    assert dict(zip(DISORDERS, (633, 4131, 1921, 122, 2033, 151), strict=True)) == PUBLISHED_TOTAL
    assert sum(PUBLISHED_TOTAL.values()) == 8991 and sum(PUBLISHED_IMAGES.values()) == 1038


@pytest.mark.slow
def test_a_full_download_deviates_in_nothing_and_its_order_is_recognised(tmp_path):
    source = write_download(tmp_path / "in", PUBLISHED_IMAGES, PUBLISHED_LABELS, order="config")
    report = prepare_mendeley(source, tmp_path / "out", seed=1)
    assert report.facts["class_order"] == "config" and not report.deviations and not report.problems
    assert len(report.comparisons) == 3 + 18 + 1 + 6
    assert sum(report.images.values()) == 1038
    for split, share in {"train": 0.7, "val": 0.2, "test": 0.1}.items():
        assert report.images[split] / 1038 == pytest.approx(share, abs=0.02)
        for name, total in PUBLISHED_TOTAL.items():
            assert report.labels[split][name] / total == pytest.approx(share, abs=0.05)
    assert not report.leaks and len(report.source_leaks) > 100  # T1 and T2 of a patient in two of the source's splits
    found = read_label_folder(tmp_path / "out/images/train", tmp_path / "out/labels/train", 6)
    assert not found.problems and len(found.rows) == report.images["train"]
    ids = np.concatenate([r[:, 0] for r in found.rows.values()]).astype(int)
    assert {DISORDERS[k]: n for k, n in enumerate(np.bincount(ids, minlength=6).tolist())} == report.labels["train"]


def test_published_splits_are_kept_with_their_leaks_named(tmp_path):
    source = write_download(tmp_path / "in", SMALL, SMALL_LABELS)
    report = prepare_mendeley(source, tmp_path / "out", split="published")
    assert report.images == SMALL and report.labels == SMALL_LABELS
    assert report.leaks == report.source_leaks and "LEAKS in the splits as written" in report.text()


@pytest.mark.parametrize("order", ["readme", "config"])
def test_images_and_boxes_are_those_of_the_source(tmp_path, order):
    source = write_download(tmp_path / "in", SMALL, SMALL_LABELS, order, layout="train/images")
    report = prepare_mendeley(source, tmp_path / "out")
    assert report.facts["class_order"] == order
    rows = list(csv.DictReader((tmp_path / "out" / "images.csv").open()))
    assert len(rows) == 18
    for row in rows:
        old = source / row["source"]
        new = tmp_path / "out" / "images" / row["split"] / row["image"]
        assert new.read_bytes() == old.read_bytes() and " " not in new.name
        before = (source / row["source_split"] / "labels" / f"{old.stem}.txt").read_text().splitlines()
        after = (tmp_path / "out" / "labels" / row["split"] / f"{new.stem}.txt").read_text().splitlines()
        for a, b in zip(before, after, strict=True):
            assert ORDERS[order][int(a.split()[0])] == int(b.split()[0])
            np.testing.assert_allclose([float(v) for v in a.split()[1:]], [float(v) for v in b.split()[1:]], atol=1e-9)
    patients = {row["image"]: row["patient"] for row in rows}
    assert all(p.isdecimal() and len(p) == 4 for p in patients.values())
    assert {row["sequence"] for row in rows} == {"t1", "t2"}


def test_a_photograph_turned_by_exif_has_its_boxes_where_the_host_sees_them(tmp_path):
    source = write_download(tmp_path / "in", SMALL, SMALL_LABELS)
    turned = next((source / "images" / "train").glob("*.png"))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # the stored rows are columns
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 40), np.uint8)).save(turned, exif=exif)
    prepare_mendeley(source, tmp_path / "out")
    (row,) = [r for r in csv.DictReader((tmp_path / "out" / "images.csv").open()) if r["source"].endswith(turned.name)]
    seen = cv2.imread(str(tmp_path / "out" / "images" / row["split"] / row["image"]))
    assert (int(row["height"]), int(row["width"])) == seen.shape[:2] == (40, 24)


@pytest.mark.parametrize("suffix", [".bmp", ".tif"])
def test_colours_of_other_formats_stay(tmp_path, suffix):
    """They are written anew, as PNG."""
    source = write_download(tmp_path / "in", SMALL, SMALL_LABELS)
    old = next((source / "images" / "train").glob("*.png"))
    pixels = np.random.default_rng(0).integers(0, 255, (24, 40, 3), np.uint8)
    Image.fromarray(pixels).save(old.with_suffix(suffix))
    old.unlink()
    prepare_mendeley(source, tmp_path / "out")
    (row,) = [r for r in csv.DictReader((tmp_path / "out" / "images.csv").open()) if r["source"].endswith(suffix)]
    new = tmp_path / "out" / "images" / row["split"] / row["image"]
    assert new.suffix == ".png"
    np.testing.assert_array_equal(np.asarray(Image.open(new)), pixels)


def test_the_same_seed_gives_the_same_folder(tmp_path):
    source = write_download(tmp_path / "in", SMALL, SMALL_LABELS)
    trees = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        prepare_mendeley(source, tmp_path / name, seed=seed)
        files = sorted(f for f in (tmp_path / name).rglob("*") if f.is_file() and f.name != "report.json")
        trees.append({str(f.relative_to(tmp_path / name)): f.read_bytes() for f in files})
    assert trees[0] == trees[1] != trees[2]


def test_everything_wrong_is_named_and_the_rest_goes_on(tmp_path):
    source = write_download(tmp_path / "in", SMALL, SMALL_LABELS)
    images = sorted((source / "images" / "train").iterdir())
    labels = [source / "labels" / "train" / f"{i.stem}.txt" for i in images]
    before = {f: f.read_bytes() for f in source.rglob("*") if f.is_file()}
    cut = images[0].read_bytes()[: len(images[0].read_bytes()) // 2]
    changes = {
        images[0]: cut,
        images[1]: b"",
        labels[2]: b"\xff\xfe\x00",
        labels[3]: labels[3].read_bytes() + b"1 nan 0.5 0.1 0.1\n9 0.5 0.5 0.1 0.1\n",
        images[4]: images[5].read_bytes(),
        source / "images" / "train" / "Thumbs.db": b"x",
        images[6]: cv2.imencode(".png", np.arange(600, dtype=np.uint16).reshape(20, 30) * 90)[1].tobytes(),
    }
    for file, content in changes.items():
        file.write_bytes(content)
    labels[7].unlink()
    report = prepare_mendeley(source, tmp_path / "out", class_order="readme")
    named = {(p.file.replace(f"{source}/", ""), p.kind) for p in report.problems}
    short = [str(i.relative_to(source)) for i in images]
    assert named >= {
        (short[0], "unreadable"), (short[1], "unreadable"), (f"labels/train/{images[2].stem}.txt", "unreadable"),
        (f"labels/train/{images[3].stem}.txt", "nan"), (short[3], "class"), ("images/train/Thumbs.db", "extra"),
        (short[6], "depth"), (short[7], "missing"),
    }  # fmt: skip
    assert [k for _, k in named].count("look-alike") == 1
    assert sum(report.images.values()) == 18 - 5 and not report.leaks
    assert any(c.what == "images in train" and c.found == 7 for c in report.deviations)
    unchanged = {f: before[f] if f not in changes else changes[f] for f in before if f != labels[7]}
    assert {f: f.read_bytes() for f in unchanged} == unchanged


def test_undecided_orders_are_said(tmp_path):
    labels = {s: dict.fromkeys(DISORDERS, 3) for s in SMALL}
    source = write_download(tmp_path / "in", SMALL, labels)
    report = prepare_mendeley(source, tmp_path / "a")
    assert report.facts["class_order"] == "readme" and "ASSUMED" in report.notes[0]
    (source / "data.yaml").write_text("names: [DDD, LDB, Normal_IVD, SS, TDB, Spondylolisthesis]\n")
    report = prepare_mendeley(source, tmp_path / "b")
    assert report.facts["class_order"] == "config" and "names in the download's YAML" in report.notes[0]
    report = prepare_mendeley(source, tmp_path / "c", class_order="readme")
    assert report.facts["class_order"] == "readme" and "as asked for" in report.notes[0]


def test_counts_win_against_a_yaml_that_contradicts_them(tmp_path):
    source = write_download(tmp_path / "in", SMALL, SMALL_LABELS, "readme")
    (source / "data.yaml").write_text("names: {0: DDD, 1: LDB, 2: Normal_IVD, 3: SS, 4: TDB, 5: Spondylolisthesis}\n")
    report = prepare_mendeley(source, tmp_path / "out")
    assert report.facts["class_order"] == "readme" and "against the names" in report.notes[0]


def test_a_flat_folder_with_unknown_names(tmp_path):
    for kind in ("images", "labels"):
        (tmp_path / "in" / "data" / kind).mkdir(parents=True)
    for k in range(10):
        (tmp_path / "in" / "data" / "images" / f"scan{k}.png").write_bytes(png(k))
        (tmp_path / "in" / "data" / "labels" / f"scan{k}.txt").write_text("1 0.5 0.5 0.2 0.1\n")
    odd = b"caf\xe9"  # Latin-1; no UTF-8
    for kind, file in (("images", "scan0.png"), ("labels", "scan0.txt")):
        folder = os.fsencode(tmp_path / "in" / "data" / kind)
        os.rename(os.path.join(folder, file.encode()), os.path.join(folder, odd + file[-4:].encode()))
    report = prepare_mendeley(tmp_path / "in", tmp_path / "out")
    assert report.unknown_patients == 10 and "The patients of 10 images are unknown" in report.text()
    assert any("10 image names do not tell a patient" in n for n in report.notes)
    with pytest.raises(ValueError, match="no splits of its own"):
        prepare_mendeley(tmp_path / "in", tmp_path / "out2", split="published")
    assert not (tmp_path / "out2").exists()


def test_the_host_takes_the_folder(tmp_path):
    from ultralytics.data.utils import check_det_dataset

    prepare_mendeley(write_download(tmp_path / "in", SMALL, SMALL_LABELS), tmp_path / "out")
    for file in (tmp_path / "out").glob("*.*"):  # nor may it tell where it was made
        assert str(tmp_path) not in file.read_text(encoding="utf-8"), file.name
    (tmp_path / "out").rename(tmp_path / "moved")
    data = check_det_dataset(str(tmp_path / "moved" / "dataset.yaml"), autodownload=False)
    assert data["names"] == dict(enumerate(DISORDERS))
    assert data["val"] == str(tmp_path / "moved" / "images" / "val")


def test_command(tmp_path):
    source = write_download(tmp_path / "in", SMALL, SMALL_LABELS)
    done = run([sys.executable, SCRIPT, "mendeley", str(source), "--out", "out", "--json"], tmp_path)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed == json.loads((tmp_path / "out" / "report.json").read_text())
    assert sum(printed["images"].values()) == 18 and "images: published 1038, found 18 (-1020)" in printed["deviations"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nowhere"], "nowhere is not a folder"),
        (["empty"], "has no images/train"),
        (["in", "--shares", "0.5", "0.2", "0.1"], "together 1"),
        (["in", "--out", "empty/x", "--class-order", "pfirrmann"], "no image that can be used"),
    ],
)
def test_command_refuses_in_one_sentence_and_leaves_nothing(tmp_path, monkeypatch, capsys, args, said):
    write_download(tmp_path / "in", SMALL, SMALL_LABELS)
    for label in (tmp_path / "in" / "labels").rglob("*.txt") if "pfirrmann" in args else ():
        label.unlink()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [SCRIPT, "mendeley", "--out", "out", *args])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(SCRIPT, run_name="__main__")
    err = capsys.readouterr().err
    assert end.value.code == 2 and said in err and err.startswith("error: ") and err.count("\n") == 1
    assert {f.name for f in tmp_path.iterdir()} == {"in", "empty"} and not list((tmp_path / "empty").iterdir())


@pytest.mark.parametrize("prepare", [prepare_mendeley, prepare_rsna, prepare_spider])
@pytest.mark.parametrize(("words", "said"), [({"shares": {"train": 0.5}}, "together 1"), ({"seed": -1}, "seed=-1")])
def test_shares_are_refused_before_any_work(prepare, words, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        prepare(tmp_path / "nowhere", tmp_path / "out", **words)


def stage_of(tmp_path, splits, **images):
    """Report of a dataset of these names, a box each."""
    report = Report("toy", "in", "out")
    with staging(tmp_path / "out", DISORDERS, report) as stage:
        for k, (name, box, split) in enumerate(images.values()):
            image = np.random.default_rng(k).integers(0, 255, (96, 96), np.uint8)
            stage.add(name, image, [Box(0, box)], f"p{k}", f"{name}.dcm", source_split=split)
        stage.finish([splits[k % len(splits)] for k in range(len(stage.images))], splits, "toy")
    return report


def test_boxes_outside_are_named_and_names_that_become_one_stay_apart(tmp_path):
    inside = (10, 10, 20, 20)
    report = stage_of(
        tmp_path, ("train", "test"), a=("患者一", inside, "train"), b=("患者二", (500, 500, 520, 520), "train"),
        c=("x", (50, 50, 300, 60), "train"), d=("x", inside, "val"), e=("y", (0, 0, 96.01, 96), "val"),
    )  # fmt: skip
    assert [(p.file, p.kind) for p in report.problems] == [
        ("患者二.dcm", "outside"), ("x.dcm", "overhang"), ("x.dcm", "same-name")
    ]  # fmt: skip
    assert sum(report.images.values()) == 4 and report.source_leaks == [
        "image in train and val: two files are called x"
    ]
    content = yaml.safe_load((tmp_path / "out" / "dataset.yaml").read_text())
    assert content["val"] == "images/test"  # not what is trained on


def test_an_existing_folder_is_never_overwritten(tmp_path):
    source = write_download(tmp_path / "in", SMALL, SMALL_LABELS)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("precious")
    with pytest.raises(FileExistsError, match="not an empty folder"):
        prepare_mendeley(source, tmp_path / "out")
    assert (tmp_path / "out" / "mine").read_text() == "precious"
    assert {f.name for f in tmp_path.iterdir()} == {"in", "out"}


def test_class_names_and_levels():
    for spellings in (
        ("DDD", "IVDn", "SS", "SP", "LDB", "TDB"),
        ("DDD", "Normal_IVD", "SS", "Spondylolisthesis", "LDB", "TDB"),
        ("Degenerative Disc Disease (DDD)", "Normal IVD", "Spinal Stenosis (SS)", "Spondylolisthesis",
         "Lumbar Disc Bulge (LDB)", "Thoracic Disc Bulge (TDB)"),
        ("ddd", "IVDₙ", "spinal stenosis", "sp", "lumbar-disc-bulge", "tdb"),
    ):  # fmt: skip
        assert [class_index(s) for s in spellings] == list(range(6))
    assert class_index("kidney") is None
    assert [disc_level(k) for k in (1, 5, 6, 9, 18)] == ["L5/S1", "L1/L2", "T12/L1", "T9/T10", "C7/T1"]
    with pytest.raises(ValueError, match="disc 0"):
        disc_level(0)


@pytest.mark.parametrize("name", ["mendeley-lumbar", "rsna-2024", "spider", "pfirrmann"])
def test_every_dataset_yaml_has_the_same_first_classes(name, tmp_path):
    from yolospine_ultra.data.checks import resolve_data

    content = yaml.safe_load(Path(resolve_data(name, tmp_path)).read_text())
    assert content["path"] == str(tmp_path) and tuple(content["names"].values())[:6] == DISORDERS
    assert {content[s] for s in ("train", "val", "test")} == {"images/train", "images/val", "images/test"}
