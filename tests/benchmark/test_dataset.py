"""Whose images are trained on and evaluated: patients, folds, fingerprint, and the view a cell gets."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import write_dataset
from ultralytics.data.utils import img2label_paths

from yolospine_ultra.benchmark.dataset import BenchmarkData, make_view, read_data, read_truth
from yolospine_ultra.evaluate.findings import read_dataset


@pytest.fixture
def named(tmp_path):
    """A dataset of 8 training and 4 validation images, two images a patient, p0 to p5."""
    file = write_dataset(tmp_path / "set", images=8)
    for split, first in (("train", 0), ("val", 4)):
        for i in range(8 if split == "train" else 4):
            for kind, end in (("images", "png"), ("labels", "txt")):
                folder = tmp_path / "set" / kind / split
                (folder / f"{i}.{end}").rename(folder / f"p{first + i // 2}_{i % 2}.{end}")
    return file


def annotate(file, fold=True, skip=()):
    """Write annotations.csv; patients are called A to F, folds are 0, 1, 2 by patient."""
    lines = ["image,patient,fold" if fold else "image,patient"]
    for k in range(6):
        for i in range(2):
            if (k, i) not in skip:
                lines += [f"p{k}_{i}.png,{'ABCDEF'[k]}" + (f",{k % 3}" if fold else "")] * 2
    (file.parent / "annotations.csv").write_text("\n".join(lines) + "\n")


def test_train_and_val_with_patients_from_the_names(named):
    data = read_data(str(named))
    train, val = data.split(None)
    assert [x.name for x in val] == [f"val/p{k}_{i}.png" for k in (4, 5) for i in (0, 1)]
    assert {x.patient for x in train} == {"p0", "p1", "p2", "p3"} and data.folds is None
    assert BenchmarkData.from_json(data.to_json()) == data


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_made_folds_never_divide_a_patient(named, folds):
    data = read_data(str(named), folds=folds)
    seen = []
    for fold in range(folds):
        train, val = data.split(fold)
        assert not {x.patient for x in train} & {x.patient for x in val}
        assert len(train) + len(val) == 12
        seen += [x.name for x in val]
    assert len(seen) == len(set(seen)) == 12


def test_folds_and_patients_of_the_annotations(named):
    annotate(named, skip={(3, 1)})  # an image without findings has no row
    data = read_data(str(named), folds=3)
    assert {(x.patient, x.fold) for x in data.images} == {(p, k % 3) for k, p in enumerate("ABCDEF")}
    assert {x.fold for x in read_data(str(named)).images} == {None}
    assert {x.fold for x in read_data(str(named), folds=2).images} == {0, 1}  # another number: made by patient


def test_sealed_val_is_in_no_fold(named):
    sealed = read_data(str(named), folds=2, seal_val=True)
    assert {x.patient for x in sealed.images} == {"p0", "p1", "p2", "p3"} == {x.patient for x in sealed.evaluated()}
    assert sealed.fingerprint() != read_data(str(named), folds=2).fingerprint()
    with pytest.raises(ValueError, match="--seal-val needs --folds"):
        read_data(str(named), seal_val=True)


def test_a_patient_in_both_splits_is_refused(named):
    with pytest.raises(ValueError, match=r"1 patients have images in train and in val.*--patient"):
        read_data(str(named), patient="^(p)")
    assert len({x.patient for x in read_data(str(named), patient="(.*)").images}) == 12


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,patient,fold\np0_0.png,A,x\n", "expected a whole number"),
        ("image,patient,fold\np0_0.png,A,0\np0_0.png,B,0\n", "two patients or folds"),
        ("image,patient,fold\nother.png,A,0\n", "lists none of the images, such as train/p0_0.png"),
    ],
)
def test_bad_annotations(named, text, message):
    (named.parent / "annotations.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_data(str(named), folds=3)


@pytest.mark.parametrize("form", ["images/{}/{}.png", "{}/{}.png", "{1}"])
def test_annotations_by_path_or_stem(named, form):
    rows = [(s, f.stem) for s in ("train", "val") for f in sorted((named.parent / "images" / s).glob("*.png"))]
    lines = [f"{form.format(*row)},P{i // 3}" for i, row in enumerate(rows)]
    (named.parent / "annotations.csv").write_text("\n".join(["image,patient", *lines]) + "\n")
    with pytest.raises(ValueError, match="1 patients have images in train and in val, such as 'P2'"):
        read_data(str(named))


def test_images_of_one_name_are_told_apart(named):
    for split in ("train", "val"):
        for kind, end in (("images", "png"), ("labels", "txt")):
            (sorted((named.parent / kind / split).glob(f"*.{end}"))[0]).rename(named.parent / kind / split / f"x.{end}")
    file = named.parent / "annotations.csv"
    file.write_text("image,patient\ntrain/x.png,A\nval/x.png,B\n")
    who = {x.name: x.patient for x in read_data(str(named), patient="(.*)").images}
    assert (who["train/x.png"], who["val/x.png"]) == ("A", "B")
    file.write_text("image,patient\nx.png,A\n")
    with pytest.raises(ValueError, match=r"x\.png may be train/x\.png and val/x\.png"):
        read_data(str(named))


def test_labels_where_every_split_has_a_folder_of_images(named, tmp_path):
    """As Roboflow writes datasets: train/images, valid/images."""
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (named.parent / split).mkdir(exist_ok=True)
            (named.parent / kind / split).rename(named.parent / split / kind)
    text = named.read_text().replace("images/train", "train/images").replace("images/val", "val/images")
    named.write_text(text)
    data = read_data(str(named))
    assert all(len(x) for x in read_truth(data, tmp_path / "truth"))
    cell = make_view(data, None, tmp_path / "view")
    assert all(Path(f).is_file() for f in img2label_paths([str(f) for f in (*cell.train, *cell.val)]))


def test_no_class_is_called_as_the_mean(named):
    named.write_text(named.read_text().replace("class1", "all"))
    with pytest.raises(ValueError, match="a class called 'all'"):
        read_data(str(named))


def test_folds_that_cannot_be_made(named):
    for folds in (1, 7):
        with pytest.raises(ValueError, match="expected 2 to 6"):
            read_data(str(named), folds=folds)
    annotate(named)
    text = (named.parent / "annotations.csv").read_text().replace("p0_1.png,A,0", "p0_1.png,A,1")
    (named.parent / "annotations.csv").write_text(text)
    with pytest.raises(ValueError, match=r"annotations\.csv gives patient A 2 folds"):
        read_data(str(named), folds=3)


def test_an_image_in_both_splits_and_no_data(named, tmp_path):
    text = named.read_text()
    named.write_text(text.replace("val: images/val", "val: images/train"))
    with pytest.raises(ValueError, match="are in train and in val"):
        read_data(str(named))
    with pytest.raises(FileNotFoundError):
        read_data(str(tmp_path / "none.yaml"))
    named.write_text("names: [a]\n")
    with pytest.raises(ValueError, match="cannot be used"):
        read_data(str(named))


def test_the_fingerprint_is_that_of_the_content_not_of_the_place(named, tmp_path):
    print_ = read_data(str(named)).fingerprint()
    copy = tmp_path / "copy"
    shutil.copytree(named.parent, copy)
    assert read_data(str(named), root=str(copy)).fingerprint() == print_
    label = copy / "labels" / "train" / "p0_0.txt"
    label.write_text(label.read_text() + "0 0.5 0.5 0.1 0.1\n")
    assert read_data(str(named), root=str(copy)).fingerprint() != print_
    assert read_data(str(named), folds=3).fingerprint() != print_


def test_what_a_dataset_declares_of_its_classes_reaches_every_cell(named, tmp_path):
    plain = read_data(str(named))
    named.write_text(named.read_text() + "normal: class0\nsame_finding: [[class1, class2]]\n")
    data = read_data(str(named))
    assert BenchmarkData.from_json(json.loads(json.dumps(data.to_json()))) == data
    assert data.fingerprint() != plain.fingerprint()
    cell = make_view(data, None, tmp_path / "cell")
    written = yaml.safe_load(cell.yaml.read_text())
    assert (written["normal"], written["same_finding"]) == ("class0", [["class1", "class2"]])


def test_a_view_holds_exactly_the_cell_and_leaves_the_data_alone(named, tmp_path):
    annotate(named)
    data = read_data(str(named), folds=3)
    before = sorted(p for p in named.parent.rglob("*"))
    cell = make_view(data, 1, tmp_path / "view")
    train, val = data.split(1)
    assert [f.name for f in cell.val] == [x.name.rpartition("/")[2] for x in val]
    assert len(cell.train) == len(train) == 8
    assert cell.val[0].read_bytes() == (named.parent / "images" / val[0].name).read_bytes()
    found, names = read_dataset(cell.yaml, "val")
    assert len(found) == 4 and sum(map(len, found)) > 0 and names == ["class0", "class1", "class2"]
    (cell.yaml.parent / "labels" / "train.cache").write_text("a cache of the host")
    assert sorted(p for p in named.parent.rglob("*")) == before


def test_ground_truth_of_all_folds_and_of_val(named, tmp_path):
    annotate(named)
    every = read_truth(read_data(str(named), folds=3), tmp_path / "t")
    val = read_truth(read_data(str(named)), tmp_path / "t")
    assert len(every) == 12 and [x.name for x in val] == [f"val/p{k}_{i}.png" for k in (4, 5) for i in (0, 1)]
    by_name = {x.name: x for x in every}
    assert all((by_name[x.name].boxes == x.boxes).all() for x in val)
    assert not (tmp_path / "t").exists()


def test_an_image_that_cannot_be_read_is_refused(named, tmp_path):
    (named.parent / "images" / "val" / "p4_0.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"1 evaluated images cannot be used, such as p4_0\.png"):
        read_truth(read_data(str(named)), tmp_path / "t")
