"""What the torch families share: data, recipe, schedule, loop, weights and the way back to pixels of the file."""

import csv

import cv2
import numpy as np
import pytest
import torch
from family_cells import make_cell
from torch import nn

from yolospine_ultra.benchmark.families.data import CellImages, loader, read_input, unpack
from yolospine_ultra.benchmark.families.network import DetectionNetwork, Found, one_device, to_findings
from yolospine_ultra.benchmark.families.torch_family import TorchFamily
from yolospine_ultra.benchmark.families.training import Recipe, parameter_groups, read_recipe, repeatable, schedule
from yolospine_ultra.benchmark.family import Budget, ModelEntry
from yolospine_ultra.benchmark.zoo import common_recipe

STILL = dict.fromkeys(("mosaic", "scale", "translate", "hsv_h", "hsv_s", "hsv_v", "fliplr"), 0.0)
ENTRY = ModelEntry("dot", "dot", {})


class Dot(DetectionNetwork):
    """The smallest network: a mean colour, with dropout to show that randomness is seeded."""

    def __init__(self, channels, spoil=False):
        super().__init__()
        self.layers = nn.Sequential(nn.Dropout(0.5), nn.Linear(channels, 4), nn.BatchNorm1d(4))
        self.spoil = spoil

    def forward(self, images):
        return self.layers(images.mean((2, 3)))

    def loss(self, images, targets):
        wanted = torch.stack([t.boxes.mean(0) if len(t.boxes) else t.boxes.new_zeros(4) for t in targets])
        error = (self(images) - wanted / images.shape[-1]).square().mean()
        return {"error": error / 0 if self.spoil else error}

    def found(self, output):
        return [Found(np.array([[1, 2, 9, 8], [0, 0, 4, 4]]), np.array([1, 0]), np.array([0.2, 0.7])) for _ in output]


class DotFamily(TorchFamily):
    def build(self, entry, data, budget):
        return Dot(data.channels, **entry.build)


FAMILY = DotFamily()


def state(file):
    return torch.load(file, weights_only=True)["state"]


@pytest.mark.parametrize("channels", [1, 3])
def test_training_images_without_augmentation_are_those_of_the_files(tmp_path, channels):
    data = make_cell(tmp_path, size=96, channels=channels)
    images = CellImages(data, Budget(1, 96, 2, "cpu", 0), STILL)
    batch = next(iter(loader(images, Budget(1, 96, 4, "cpu", 0))))
    pictures, targets = unpack(batch, torch.device("cpu"))
    assert pictures.shape == (4, channels, 96, 96)
    for picture, target, file in zip(pictures, targets, batch["im_file"], strict=True):
        pixels = cv2.imread(file, cv2.IMREAD_GRAYSCALE)
        assert (picture[0] * 255).round().byte().numpy().tolist() == pixels.tolist()
        label = next((tmp_path / "labels" / "train").glob(f"{file[-5]}.txt"), None)
        rows = np.loadtxt(label, ndmin=2) if label and label.read_text() else np.zeros((0, 5))
        centres = (target.boxes[:, :2] + target.boxes[:, 2:]) / 2 / 96
        assert target.classes.tolist() == rows[:, 0].tolist()
        np.testing.assert_allclose(centres, rows[:, 1:3], atol=1e-4)


def test_boxes_follow_the_augmentation(tmp_path):
    """Scaled, moved and flipped, a bright rectangle still fills its box."""
    data = make_cell(tmp_path, size=96, images=4)
    moved = STILL | {"scale": 0.3, "translate": 0.2, "fliplr": 0.5}
    with repeatable(Budget(1, 96, 4, "cpu", 3)):
        images = CellImages(data, Budget(1, 96, 4, "cpu", 3), moved)
        for _ in range(3):
            for batch in loader(images, Budget(1, 96, 4, "cpu", 3)):
                pictures, targets = unpack(batch, torch.device("cpu"))
                for picture, target in zip(pictures, targets, strict=True):
                    for x1, y1, x2, y2 in target.boxes.round().int().tolist():
                        inside = picture[0, y1 + 2 : y2 - 2, x1 + 2 : x2 - 2]
                        assert not inside.numel() or inside.median() > 0.35


def test_images_without_readable_labels_are_left_out_not_taken_as_negatives(tmp_path):
    data = make_cell(tmp_path, size=64)
    (tmp_path / "labels" / "train" / "2.txt").write_bytes(b"\xff\xfe\x00")
    images = CellImages(data, Budget(1, 64, 2, "cpu", 0), STILL)
    assert [f[-5] for f in images.im_files] == ["0", "1", "3"]
    for label in (tmp_path / "labels" / "train").glob("*.txt"):
        label.write_bytes(b"\xff\xfe\x00")
    (tmp_path / "labels" / "train" / "0.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="readable labels"):
        CellImages(data, Budget(1, 64, 2, "cpu", 0), STILL)


def test_no_cache_beside_the_data(tmp_path):
    data = make_cell(tmp_path / "data", size=64)
    before = sorted((tmp_path / "data").rglob("*"))
    (tmp_path / "out").mkdir()
    FAMILY.train(ENTRY, data, Budget(1, 64, 2, "cpu", 0), tmp_path / "out")
    assert sorted((tmp_path / "data").rglob("*")) == before
    assert sorted(f.name for f in (tmp_path / "out").iterdir()) == ["last.pt", "results.csv"]


@pytest.mark.parametrize("shape", [(40, 80), (90, 30), (64, 64), (33, 70)])
def test_boxes_come_back_to_the_file(tmp_path, shape):
    """A pixel that is marked in the file, found in the input, comes back to where it was."""
    height, width = shape
    image = np.zeros(shape, np.uint8)
    image[height // 4 : height // 2, width // 3 : width // 2] = 255
    cv2.imwrite(str(tmp_path / "x.png"), image)
    inputs, outer = read_input(tmp_path / "x.png", 128, 3)
    assert inputs.shape == (1, 3, 128, 128) and outer == shape
    y, x = torch.where(inputs[0, 0] > 0.6)
    box = np.array([[x.min(), y.min(), x.max() + 1, y.max() + 1]], float)
    (got,) = to_findings("x", Found(box, np.array([0]), np.array([0.5])), (128, 128), outer).boxes
    np.testing.assert_allclose(got, [width // 3, height // 4, width // 2, height // 2], atol=1)


def test_findings_are_clipped_sorted_and_limited():
    boxes = np.array([[-5, -5, 20, 20], [90, 40, 130, 60], [200, 0, 300, 9], [1, 1, 2, 2]], float)
    found = Found(boxes, np.array([0, 1, 2, 0]), np.array([0.3, 0.9, 0.8, 0.001]))
    got = to_findings("x", found, (50, 100), (50, 100))
    assert got.boxes.tolist() == [[90, 40, 100, 50], [0, 0, 20, 20]]  # one lies outside, one scores too little
    assert got.classes.tolist() == [1, 0]
    many = Found(np.tile([[0.0, 0, 9, 9]], (400, 1)), np.zeros(400, int), np.linspace(0.01, 1, 400))
    got = to_findings("x", many, (50, 100), (50, 100))
    assert len(got) == 300 and got.scores[0] == 1 and (np.diff(got.scores) <= 0).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_input_is_red_first_in_its_channels(tmp_path, channels):
    image = np.zeros((64, 64, 3), np.uint8)
    image[..., 2] = 200  # OpenCV writes blue first
    cv2.imwrite(str(tmp_path / "x.png"), image)
    inputs, _ = read_input(tmp_path / "x.png", 64, channels)
    red = [200 / 255, 0, 0] if channels == 3 else [200 * 0.299 / 255]
    assert inputs.mean((0, 2, 3)).tolist() == pytest.approx(red, abs=0.01)


def test_a_file_that_is_no_image(tmp_path):
    (tmp_path / "x.png").write_text("no image")
    with pytest.raises(ValueError, match="cannot be read as an image"):
        read_input(tmp_path / "x.png", 64, 3)


def test_recipe_takes_what_it_knows_and_refuses_what_nobody_knows():
    recipe = read_recipe(common_recipe(8, "cpu"))
    assert (recipe.lr0, recipe.weight_decay, recipe.cos_lr, recipe.amp) == (1e-3, 0.01, True, False)
    assert recipe.augmentation["mosaic"] == 1.0 and recipe.augmentation["fliplr"] == 0.0
    with pytest.raises(ValueError, match="learning_rate"):
        read_recipe({"learning_rate": 1})
    with pytest.raises(ValueError, match="SGD"):
        read_recipe({"optimizer": "SGD"})


def test_schedule_rises_then_falls_to_lrf():
    for cos in (True, False):
        recipe = Recipe(lrf=0.1, cos_lr=cos)
        rates = [schedule(i, 100, 10, recipe) for i in range(101)]
        assert rates[0] == pytest.approx(1 / 11) and rates[10] == pytest.approx(1) and rates[100] == pytest.approx(0.1)
        assert rates[55] == pytest.approx(0.55)  # half way down
        assert np.all(np.diff(rates[:11]) > 0) and np.all(np.diff(rates[10:]) < 0)


def test_norms_and_biases_do_not_decay():
    network = Dot(3)
    decayed, free = parameter_groups(network, 0.1)
    assert [p.shape for p in decayed["params"]] == [(4, 3)] and decayed["weight_decay"] == 0.1
    assert len(free["params"]) == 3 and free["weight_decay"] == 0


def test_same_seed_same_weights_other_seed_other_weights(tmp_path):
    data = make_cell(tmp_path / "data", size=64)
    found = []
    for run, seed in enumerate((5, 5, 6)):
        (tmp_path / str(run)).mkdir()
        torch.rand(run + 1)  # whatever was drawn before must not matter
        np.random.rand(run)
        found.append(state(FAMILY.train(ENTRY, data, Budget(2, 64, 2, "cpu", seed), tmp_path / str(run))))
    assert all(torch.equal(found[0][k], found[1][k]) for k in found[0])
    assert not torch.equal(found[0]["layers.1.weight"], found[2]["layers.1.weight"])
    assert not torch.are_deterministic_algorithms_enabled()  # left as it was


def test_workers_load_the_same_images_each_time(tmp_path):
    data = make_cell(tmp_path / "data", size=64)
    found = []
    for run in range(2):
        (tmp_path / str(run)).mkdir()
        found.append(state(FAMILY.train(ENTRY, data, Budget(1, 64, 2, "cpu", 1, workers=1), tmp_path / str(run))))
    assert all(torch.equal(found[0][k], found[1][k]) for k in found[0])


def test_training_learns_and_keeps_a_table(tmp_path):
    data = make_cell(tmp_path / "data", size=64)
    budget = Budget(12, 64, 2, "cpu", 0, recipe={"lr0": 0.05, "close_mosaic": 4})
    FAMILY.train(ENTRY, data, budget, tmp_path)
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    assert [int(r["epoch"]) for r in rows] == list(range(1, 13))
    assert float(rows[-1]["error"]) < 0.5 * float(rows[0]["error"])
    assert np.all(np.diff([float(r["time"]) for r in rows]) > 0)


def test_mosaic_ends_when_the_host_would_end_it(tmp_path, monkeypatch):
    data, ended = make_cell(tmp_path / "data", size=64), []
    monkeypatch.setattr(CellImages, "plain", lambda self: ended.append(True))
    for epochs, expected in ((2, 0), (3, 1), (4, 1)):  # the host leaves mosaic on where a training is shorter
        ended.clear()
        FAMILY.train(ENTRY, data, Budget(epochs, 64, 4, "cpu", 0, recipe={"close_mosaic": 3}), tmp_path)
        assert len(ended) == expected


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path):
    data = make_cell(tmp_path / "data", size=64)
    with pytest.raises(FloatingPointError, match=r"epoch 1.*lr0"):
        FAMILY.train(ModelEntry("dot", "dot", {"spoil": True}), data, Budget(1, 64, 2, "cpu", 0), tmp_path)
    assert not (tmp_path / "last.pt").exists()


def test_weights_of_another_cell_or_of_nobody_are_refused(tmp_path):
    data = make_cell(tmp_path / "data", size=64)
    budget = Budget(1, 64, 4, "cpu", 0)
    weights = FAMILY.train(ENTRY, data, budget, tmp_path)
    detector = FAMILY.load(ENTRY, weights, data, budget)
    assert [f.scores.tolist() for f in detector.detect(data.val[:1])] == [[0.7, 0.2]]
    assert all(torch.equal(v, state(weights)[k]) for k, v in detector.module.state_dict().items())
    with pytest.raises(ValueError, match="imgsz"):
        FAMILY.load(ENTRY, weights, data, Budget(1, 96, 4, "cpu", 0))
    weights.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="cannot be read as weights"):
        FAMILY.load(ENTRY, weights, data, budget)


def test_devices():
    assert one_device("cpu") == torch.device("cpu") and one_device("1") == torch.device("cuda", 1)
    with pytest.raises(ValueError, match="one device"):
        one_device("0,1")
