"""The rows of the benchmark, what `--models` may be, and the plan that follows."""

import pytest
import toy

from yolospine_ultra.benchmark.family import Budget, ModelEntry, settings
from yolospine_ultra.benchmark.plan import make_plan
from yolospine_ultra.benchmark.zoo import FAMILIES, common_recipe, family_of, missing, rows, select
from yolospine_ultra.engine.arguments import RECIPE


def test_every_row_of_the_paper_has_its_detectors():
    papers = {e.paper for e in rows().values()}
    assert papers >= {
        *("YOLOv8m", "YOLOv9m", "YOLOv10m", "YOLOv11m", "YOLOv12m", "YOLOv26m", "YOLOv8m-Seg", "YOLOv11m-Seg"),
        *("UNet++", "SwinUNet", "TransUNet", "RT-DETR-L", "RT-DETR-X", "YOLOspine"),
    }
    for stem in ("yolov8", "yolov10", "yolo11", "yolo12", "yolo26", "yolospine-"):
        assert {f"{stem}{s}" for s in "nsmlx"} <= rows().keys()
    assert {e.family for e in rows().values()} == FAMILIES.keys()


def test_every_model_file_is_there_at_its_scale():
    from ultralytics.nn.tasks import yaml_model_load

    for entry in rows().values():
        if "yaml" in entry.build:
            model = yaml_model_load(entry.build["yaml"])
            assert model["head"] and (len(model.get("scales", "-")) < 2 or model["scale"] == entry.scale), entry.name


def test_select_takes_names_patterns_files_and_objects(tmp_path):
    assert [e.name for e in select(["yolo11n", "yolov8?", "yolo11n"])] == ["yolo11n", *(f"yolov8{s}" for s in "nsmlx")]
    file = tmp_path / "my_net.yaml"
    file.write_text("nc: 1\n")
    (mine,) = select([str(file)])
    assert (mine.name, mine.family, mine.build["yaml"]) == ("my-net", "ultralytics", str(file))
    assert select(["toy:GOOD"]) == [toy.GOOD] and family_of(toy.GOOD) is toy.FAMILY


def test_a_model_file_of_another_content_is_another_model(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("nc: 1\n")
    (before,) = select([str(file)])
    assert select([str(file)]) == [before]
    file.write_text("nc: 2\n")
    assert select([str(file)]) != [before]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("yolo11q", "did you mean yolo11"),
        ("zzz*", "unknown"),
        ("toy:NOTHING", "cannot be imported"),
        ("toy:FAMILY", "no ModelEntry"),
    ],
)
def test_names_that_mean_nothing(name, message):
    with pytest.raises(ValueError, match=message):
        select([name])


def test_a_missing_package_names_the_line_that_installs_it():
    assert missing(toy.ABSENT) == "absent needs a_package_that_is_not_there: pip install 'yolospine_ultra[bench]'"
    assert missing(toy.GOOD) == ""


def test_detectron2_is_not_said_to_come_from_pypi(monkeypatch):
    monkeypatch.setattr("yolospine_ultra.benchmark.zoo.find_spec", lambda name: None)
    assert missing(rows()["detectron2-cascade-r50"]) == (
        "detectron2-cascade-r50 needs detectron2: see https://detectron2.readthedocs.io, PyPI has none"
    )


def test_a_models_own_recipe_stands_over_the_common_one():
    budget = Budget(1, 64, 4, "cpu", 0, recipe=common_recipe(4, "cpu"))
    made = settings(ModelEntry("x", "y", {}, recipe={"lr0": 5.0}), budget)
    assert made["lr0"] == 5 and made["nbs"] == 4 and made["amp"] is False
    assert common_recipe(4, "0")["amp"] is True


def test_no_default_of_our_trainer_reaches_a_sweep_unseen():
    """What the common recipe leaves open, ours would take from the paper's recipe, the others from the host."""
    said = common_recipe(4, "cpu").keys() | {"epochs", "batch", "imgsz"}
    for name in ("yolospine-n", "yolospine-noa2-m"):
        assert RECIPE.keys() <= said | rows()[name].recipe.keys()
    assert {k: common_recipe(4, "cpu")[k] for k in ("mri_augment", "class_centric", "degrees")} == {
        "mri_augment": 0, "class_centric": 0, "degrees": 0
    }  # fmt: skip


def test_the_plan_is_balanced_and_shares_trainings():
    jobs = make_plan([toy.GOOD, toy.BAD, toy.STRICT], [3, 5], 2)
    assert [(j.models, j.seed, j.fold) for j in jobs[:4]] == [
        (("good", "good-strict"), 3, 0),
        (("bad",), 3, 0),
        (("good", "good-strict"), 3, 1),
        (("bad",), 3, 1),
    ]
    assert jobs[0].cells == ("good_seed3_fold0", "good-strict_seed3_fold0")
    assert [j.seed for j in jobs] == [3] * 4 + [5] * 4
    assert make_plan([toy.BAD], [0], None)[0].name == "bad_seed0"
