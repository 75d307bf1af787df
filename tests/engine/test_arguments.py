"""Training arguments: the recipe under what the user gives, and values that mean nothing."""

import pytest
from conftest import SMALL
from ultralytics import YOLO

from yolospine_ultra.autoload.arguments import ARGUMENTS
from yolospine_ultra.engine.arguments import RECIPE, with_recipe
from yolospine_ultra.engine.trainer import SpineTrainer


def test_recipe_is_the_papers_and_the_users_arguments_win(tmp_path):
    plain = with_recipe({}, {})
    assert (plain["optimizer"], plain["lr0"], plain["weight_decay"]) == ("AdamW", 1e-4, 1e-2)
    assert (plain["epochs"], plain["batch"], plain["imgsz"], plain["nbs"]) == (200, 32, 384, 32)
    assert 0 < plain["degrees"] <= 3 and plain["mri_augment"] > 0 and plain["class_centric"] > 0
    assert (
        "mri_augment" not in with_recipe({}, {"mri_augment": 0.0}) and with_recipe({"degrees": 0}, {})["degrees"] == 0
    )
    assert ARGUMENTS["backbone_lr"] == 1.0  # the paper's 5e-5 is for fine-tuning a trained backbone
    assert with_recipe({"lr0": 0.01, "batch": 8}, {}) | RECIPE == with_recipe({"batch": 8}, {}) | RECIPE
    assert with_recipe({"lr0": 0.01, "batch": 8}, {})["lr0"] == 0.01
    assert with_recipe({"batch": 8}, {})["nbs"] == 8
    assert "imgsz" not in with_recipe({}, {"imgsz": 256})  # what a checkpoint remembers
    (tmp_path / "mine.yaml").write_text("lr0: 0.03\n")
    assert "lr0" not in with_recipe({"cfg": str(tmp_path / "mine.yaml")}, {})
    # the host forgets what a checkpoint remembers where a file is given
    mixed = with_recipe({"cfg": str(tmp_path / "mine.yaml")}, {"imgsz": 64, "lr0": 0.5, "task": "detect"})
    assert mixed["imgsz"] == 64 and not mixed.keys() & {"lr0", "task"}
    (tmp_path / "empty.yaml").write_text("")
    assert with_recipe({"cfg": str(tmp_path / "empty.yaml")}, {"imgsz": 64})["imgsz"] == 64


def given_to_the_trainer(model, **words):
    """Arguments that `train` hands to a trainer."""
    seen = {}

    def trainer(overrides, _callbacks):
        seen.update(overrides)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        model.train(trainer=trainer, data="coco8.yaml", **words)
    return seen


def test_recipe_where_nothing_can_be_resumed(tmp_path):
    for resume in (False, True):  # the host begins a new training
        seen = given_to_the_trainer(YOLO("yolospine-n.yaml"), resume=resume)
        assert seen["lr0"] == RECIPE["lr0"] and seen["nbs"] == RECIPE["batch"] and not seen["resume"]
    started = YOLO("yolospine-n.yaml")
    started.ckpt, started.ckpt_path = {"epoch": 3, "optimizer": {}}, str(tmp_path / "last.pt")
    assert not given_to_the_trainer(started, resume=True).keys() & {"lr0", "nbs"}
    assert not given_to_the_trainer(YOLO("yolospine-n.yaml"), resume="runs/last.pt").keys() & {"lr0", "nbs"}


def test_a_step_an_automatic_batch(tiny, tmp_path):
    words = {"data": str(tiny), "model": "yolospine-n.yaml", "device": "cpu", "project": str(tmp_path), "batch": -1}
    for nbs in ({}, {"nbs": 64}):
        trainer = SpineTrainer(overrides={**words, **nbs})
        trainer.model = trainer.get_model("yolospine-n.yaml", verbose=False)
        trainer.amp, trainer.stride = False, 32
        batch = trainer.auto_batch()
        assert batch > 0 and trainer.args.nbs == nbs.get("nbs", batch)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"suppression": "fuzzy"}, "suppression=fuzzy is unknown; expected one of gaussian, linear, hard"),
        ({"soft_sigma": 0}, "soft_sigma=0 is not usable; expected a number greater than 0"),
        ({"backbone_lr": True}, "backbone_lr=True is not usable"),
    ],
)
def test_arguments_that_mean_nothing(words, message, tiny, tmp_path):
    with pytest.raises(ValueError, match=message):
        YOLO("yolospine-n.yaml").train(data=str(tiny), project=str(tmp_path), epochs=1, **SMALL, **words)
