"""The training dataset: artefacts and extra samples through the host's loaders, and through the stock command."""

import random

import cv2
import numpy as np
import pytest
import torch
import yaml
from conftest import command, run, write_dataset
from ultralytics import YOLO
from ultralytics.cfg import get_cfg
from ultralytics.data import YOLODataset, build_dataloader
from ultralytics.data.utils import check_det_dataset
from ultralytics.utils import DEFAULT_CFG

from yolospine_ultra.data.augment.class_centric import extra_indices, instance_counts
from yolospine_ultra.data.dataset import RandomBrightness, SpineDataset, build_dataset
from yolospine_ultra.data.scan_dataset import ScanDataset
from yolospine_ultra.engine.arguments import check_arguments
from yolospine_ultra.engine.trainer import SpineTrainer


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight images of three classes; class 2 in one image only."""
    file = write_dataset(tmp_path_factory.mktemp("rare"), images=8, classes=2)
    labels = sorted((file.parent / "labels" / "train").glob("*.txt"))
    labels[3].write_text(labels[3].read_text() + "2 0.5 0.5 0.3 0.2\n")
    labels[5].write_text("")
    file.write_text(file.read_text() + "  2: rare\n")
    return check_det_dataset(str(file))


def made(data, mode="train", **arguments):
    args = get_cfg(DEFAULT_CFG, {"imgsz": 96, "mode": "train", **arguments})
    return build_dataset(args, data[mode], 4, data, 32, mode)


def test_artefacts_change_images_and_never_boxes(data):
    plain, changed = made(data), made(data, mri_augment=1.0)
    random.seed(0), np.random.seed(0)
    differ = 0
    for i in range(len(plain)):
        a, b = plain.get_image_and_label(i), changed.get_image_and_label(i)
        kept = changed.load_image(i)[0]
        assert np.array_equal(a["instances"].bboxes, b["instances"].bboxes) and np.array_equal(a["cls"], b["cls"])
        assert a["img"].shape == b["img"].shape and b["img"].dtype == np.uint8
        assert np.array_equal(kept, a["img"])  # the host's buffer holds the image as it was read
        differ += not np.array_equal(a["img"], b["img"])
    assert differ > len(plain) / 2  # the weakest blurs leave an image of 96 px as it is


def test_off_without_the_arguments_and_in_validation(data):
    plain = made(data)
    host = YOLODataset(img_path=data["train"], imgsz=96, data=data, hyp=get_cfg(DEFAULT_CFG), augment=True)
    assert len(plain) == len(host)
    for i in range(len(plain)):
        random.seed(i), np.random.seed(i)
        ours = plain.get_image_and_label(i)["img"]
        assert np.array_equal(ours, host.get_image_and_label(i)["img"])
    val = made(data, "val", mri_augment=1.0, class_centric=1.0, rect=True)
    assert type(val) is ScanDataset and len(val) == 4 and not val.rect
    same = [val[0]["img"] for _ in range(3)]
    assert torch.equal(same[0], same[1]) and torch.equal(same[0], same[2])


def test_artefacts_stay_on_when_the_mosaic_is_closed(data):
    dataset = made(data, mri_augment=1.0, hsv_v=0.0, fliplr=0.0, scale=0.0, translate=0.0)
    dataset.close_mosaic(get_cfg(DEFAULT_CFG, {"hsv_v": 0.0, "fliplr": 0.0, "scale": 0.0, "translate": 0.0}))
    random.seed(0), np.random.seed(0)
    assert len({dataset[0]["img"].numpy().tobytes() for _ in range(8)}) > 3


@pytest.mark.parametrize(
    "words",
    [{}, {"mosaic": 0.0}, {"cache": "ram"}, {"cache": "disk"}, {"rect": True}, {"mixup": 1.0, "cutmix": 1.0}],
    ids=str,
)
def test_an_epoch_has_the_extra_samples_whatever_the_host_does(words, data):
    dataset = made(data, class_centric=1.5, mri_augment=0.5, **words)
    assert len(dataset) == len(dataset.labels) == dataset.ni == 8 + 12
    labels = dict(zip(dataset.im_files, dataset.labels, strict=True))
    for file, label in zip(dataset.im_files, dataset.labels, strict=True):
        assert label["im_file"] == file and np.array_equal(label["cls"], labels[file]["cls"])
    rare = [file for file in dataset.im_files if (labels[file]["cls"] == 2).any()]
    assert len(set(rare)) == 1 and len(rare) > 8
    loader = build_dataloader(dataset, batch=4, workers=0, shuffle=not dataset.rect, rank=-1)
    seen = [file for batch in loader for file in batch["im_file"]]
    assert sorted(seen) == sorted(dataset.im_files)


def test_extra_samples_follow_from_labels_and_seed(data):
    plain = made(data)
    classes = [label["cls"] for label in plain.labels]
    expected = [plain.im_files[i] for i in extra_indices(classes, 3, 8, seed=3)]
    first, again = made(data, class_centric=1.0, seed=3), made(data, class_centric=1.0, seed=3)
    assert first.im_files[:8] == plain.im_files and first.im_files[8:] == expected
    assert again.im_files == first.im_files  # in each process of a distributed training, and after a resume
    parts = [list(torch.utils.data.DistributedSampler(first, num_replicas=2, rank=r, seed=0)) for r in (0, 1)]
    assert sorted(parts[0] + parts[1]) == list(range(16))


def test_class_filter_and_single_class(data):
    filtered = made(data, class_centric=1.0, classes=[0, 1])
    assert instance_counts([x["cls"] for x in filtered.labels], 3)[2] == 0 and len(filtered) == 16
    single = made(data, class_centric=0.5, single_cls=True)
    assert len(single) == 12
    assert all(len(x["cls"]) for x in single.labels[8:])  # never the image without an instance


def test_workers_repeat_themselves_and_differ_from_each_other(data):
    def epoch():
        random.seed(0), np.random.seed(0), torch.manual_seed(0)
        dataset = made(data, mri_augment=1.0, class_centric=0.5)
        return [batch["img"] for batch in build_dataloader(dataset, batch=2, workers=2, rank=-1)]

    first, second = epoch(), epoch()
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    flat = made(data, mri_augment=1.0, mosaic=0.0)
    flat.im_files, flat.labels = [flat.im_files[0]] * 8, [flat.labels[0]] * 8
    images = torch.cat([batch["img"] for batch in build_dataloader(flat, batch=2, workers=2, rank=-1)])
    assert len({image.numpy().tobytes() for image in images}) == 8


def test_one_channel_gets_the_brightness_that_the_host_gives_to_three(tmp_path):
    file = write_dataset(tmp_path, images=2, channels=1)
    dataset = made(check_det_dataset(str(file)), mri_augment=1.0)
    names = [type(t).__name__ for t in dataset.transforms.transforms]
    assert names[-2:] == ["RandomBrightness", "Format"] and dataset[0]["img"].shape == (1, 96, 96)
    np.random.seed(0)
    image = np.full((4, 4, 1), 200, np.uint8)
    values = [RandomBrightness(0.4)({"img": image})["img"][0, 0, 0] for _ in range(200)]
    assert min(values) >= 119 and max(values) == 255 and np.std(values) > 20 and (image == 200).all()
    off = made(check_det_dataset(str(file)), hsv_v=0.0)
    assert "RandomBrightness" not in [type(t).__name__ for t in off.transforms.transforms]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"mri_augment": 1.5}, r"mri_augment=1\.5 is not usable; expected a number from 0 to 1\."),
        ({"mri_augment": "much"}, "mri_augment=much is not usable"),
        ({"mri_augment": True}, "mri_augment=True is not usable"),
        ({"class_centric": -0.1}, r"class_centric=-0\.1 is not usable; expected a number from 0 to 10\."),
        ({"class_centric": float("nan")}, "class_centric=nan is not usable"),
    ],
)
def test_values_that_mean_nothing(words, message):
    with pytest.raises(ValueError, match=message):
        check_arguments(get_cfg(DEFAULT_CFG, words))


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    """Folder of a two-epoch training with both arguments by the stock command, and what it printed."""
    out = tmp_path_factory.mktemp("augmented")
    words = f"model=yolospine-n.yaml data={tiny} epochs=2 imgsz=64 batch=4 device=cpu amp=False plots=False".split()
    words += ["mri_augment=0.5", "class_centric=0.5", f"project={out}", "name=run"]
    done = run([command("yolo"), "train", *words], out)
    assert done.returncode == 0, done.stderr[-3000:]
    return out / "run", done.stdout


def test_stock_command_trains_with_both(trained):
    folder, text = trained
    assert "class-centric augmentation, class_centric=0.5" in text
    assert "images: 6 + 3 extra = 9 samples an epoch" in text and "Using 9 train, 3 val images" in text
    args = yaml.safe_load((folder / "args.yaml").read_text())
    assert (args["mri_augment"], args["class_centric"]) == (0.5, 0.5)


@pytest.mark.slow
def test_resumed_training_has_the_same_samples(tiny, tmp_path):
    class Cut(Exception):
        pass

    def cut(trainer):
        raise Cut

    overrides = {
        "model": "yolospine-n.yaml", "data": str(tiny), "imgsz": 64, "batch": 4, "device": "cpu", "amp": False,
        "plots": False, "val": False, "epochs": 3, "project": str(tmp_path), "mri_augment": 0.5, "class_centric": 0.5,
    }  # fmt: skip
    first = SpineTrainer(overrides=overrides)
    first.add_callback("on_model_save", cut)
    with pytest.raises(Cut):
        first.train()
    seen = []
    model = YOLO(first.last)
    model.add_callback("on_train_start", lambda t: seen.append((t.start_epoch, t.train_loader.dataset.im_files)))
    model.add_callback("on_train_epoch_end", lambda t: setattr(t, "stop", True))
    model.train(resume=True)
    assert seen == [(1, first.train_loader.dataset.im_files)] and len(seen[0][1]) == 9


def test_scans_are_augmented_too(tmp_path):
    """A 16-bit image goes the way of every other."""
    file = write_dataset(tmp_path, images=2)
    for image in (tmp_path / "images" / "train").glob("*.png"):
        cv2.imwrite(str(image), cv2.imread(str(image), 0).astype(np.uint16) * 100)
    dataset = made(check_det_dataset(str(file)), mri_augment=1.0, mosaic=0.0, hsv_v=0.0)
    assert isinstance(dataset, SpineDataset) and dataset.scan_files
    image = dataset[0]["img"]
    assert image.dtype == torch.uint8 and torch.equal(image[0], image[2])
