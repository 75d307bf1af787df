"""RF-DETR's adapter: what needs no package, and end to end where it is installed (an environment of its own)."""

from importlib.util import find_spec

import pytest
import yaml
from family_cells import make_cell

from yolospine_ultra.benchmark.families.rfdetr_family import FAMILY, ROWS, make_model, train_arguments, write_data_set
from yolospine_ultra.benchmark.family import Budget, ModelEntry
from yolospine_ultra.benchmark.zoo import common_recipe

installed = all(find_spec(p) for p in FAMILY.packages)
needs_rfdetr = pytest.mark.skipif(not installed, reason="needs the extra [rfdetr], in an environment of its own")
SMALL = ModelEntry(
    "small",
    "rfdetr",
    {"variant": "RFDETRNano", "arguments": {"group_detr": 1, "num_queries": 30, "num_select": 30, "dec_layers": 1}},
)


def test_data_set_has_every_readable_image_and_no_evaluated_one(tmp_path):
    data = make_cell(tmp_path / "data", images=5, size=64)
    (tmp_path / "data" / "labels" / "train" / "4.txt").write_bytes(b"\xff\xfe\x00")
    root = write_data_set(data, tmp_path / "set")
    content = yaml.safe_load((root / "data.yaml").read_text())
    assert content["names"] == ["class0", "class1", "class2"]
    train = sorted((root / "train" / "images").iterdir())
    assert [f.resolve() for f in train] == [f.resolve() for f in data.train[:4]]  # the fifth cannot be read
    labels = [len((root / "train" / "labels" / f"{f.stem}.txt").read_text().splitlines()) for f in train]
    assert labels[:2] == [0, 0] and all(labels[2:])
    (valid,) = (root / "valid" / "images").iterdir()
    assert valid.resolve() in {f.resolve() for f in data.train}
    assert (root / "valid" / "labels" / "000000.txt").read_text()


def test_arguments_follow_the_recipe():
    budget = Budget(8, 384, 4, "cpu", 7, workers=2)
    got = train_arguments(common_recipe(4, "cpu") | {"lr0": 1e-4}, budget)
    assert (got["epochs"], got["batch_size"], got["seed"], got["num_workers"]) == (8, 4, 7, 2)
    assert (got["lr"], got["weight_decay"], got["warmup_epochs"]) == (1e-4, 0.01, 2)
    assert got["lr_scheduler"] == "cosine" and got["lr_scheduler_kwargs"] == {"min_factor": 0.01}
    assert got["aug_config"] == {} and got["scale_jitter"] is True  # no flips
    assert train_arguments({"fliplr": 0.5, "scale": 0}, budget)["aug_config"] is None
    with pytest.raises(ValueError, match=r"fliplr is 0\.3"):
        train_arguments({"fliplr": 0.3}, budget)


@pytest.mark.skipif(installed, reason="it is installed")
def test_missing_package_is_named_with_its_extra(tmp_path):
    with pytest.raises(ImportError, match=r"yolospine_ultra\[rfdetr\]"):
        FAMILY.load(SMALL, None, make_cell(tmp_path), Budget(1, 128, 1, "cpu", 0))


@needs_rfdetr
@pytest.mark.slow
def test_trains_loads_and_detects(tmp_path):
    data = make_cell(tmp_path / "data", size=96)
    budget = Budget(1, 128, 3, "cpu", 0, recipe=common_recipe(3, "cpu"))
    weights = FAMILY.train(SMALL, data, budget, tmp_path)
    for f, file in zip(FAMILY.load(SMALL, weights, data, budget).detect(data.val), data.val, strict=True):
        width, height = (100, 60) if file.name == "black.png" else (96, 96)
        assert f.name == file.name
        assert ((f.boxes >= 0) & (f.boxes <= [width, height, width, height])).all()
        assert ((f.scores > 0.001) & (f.scores <= 1)).all() and (f.classes < 3).all()
    assert not list(tmp_path.rglob("*.ckpt")) and not list(tmp_path.rglob("*.pth"))


@needs_rfdetr
def test_a_size_that_the_model_cannot_take(tmp_path):
    with pytest.raises(ValueError, match=r"imgsz is 100.*multiples of 32"):
        make_model(ROWS[0], make_cell(tmp_path), Budget(1, 100, 1, "cpu", 0), amp=False)
