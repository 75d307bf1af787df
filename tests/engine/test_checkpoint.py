"""The trained model that comes along, on the slice beside it."""

import re
from pathlib import Path

import numpy as np
import torch
from conftest import REPO
from ultralytics import YOLO
from ultralytics.utils.ops import xywhn2xyxy

from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.evaluate.matching import match_by_class

FOLDER = REPO / "results" / "checkpoint"


def test_it_finds_the_labels_of_its_example_but_one_at_most():
    model = YOLO(FOLDER / "yolospine-n-lumbar.pt")
    (result,) = model.predict(FOLDER / "example.png", conf=0.5, device="cpu", verbose=False)
    height, width = result.orig_shape
    labels = np.loadtxt(FOLDER / "example.txt")
    truth = ImageFindings("example", xywhn2xyxy(labels[:, 1:], width, height), labels[:, 0].astype(int))
    found = result.boxes.cpu().numpy()
    partner = match_by_class(truth, ImageFindings("example", found.xyxy, found.cls.astype(int), found.conf))
    assert len(truth) == 11 and (partner >= 0).sum() >= 10
    assert len(found) <= len(truth) + 2


def test_it_says_nothing_of_the_machine_it_was_trained_on():
    content = torch.load(FOLDER / "yolospine-n-lumbar.pt", weights_only=False)
    said = [*content["train_args"].values(), content["model"].yaml["yaml_file"], *vars(content["model"]).values()]
    assert [x for x in said if isinstance(x, (str, Path)) and re.search(r"[/\\]", str(x))] == []
