"""Training through the stock command and beside it: end to end, resumed, distributed, and with bad input."""

import csv
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from conftest import REPO, SMALL, SPIDER, command, run, write_dataset
from ultralytics import YOLO
from ultralytics.cfg import get_cfg
from ultralytics.utils import DEFAULT_CFG

from yolospine_ultra.engine import facade
from yolospine_ultra.engine.trainer import SpineTrainer


def arguments(**kwargs):
    """Command line words of `SMALL` and more."""
    return [f"{k}={v}" for k, v in (SMALL | kwargs).items()]


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    """Folder of a two-epoch training by the stock `yolo` command, and what it printed."""
    out = tmp_path_factory.mktemp("stock")
    words = arguments(model="yolospine-n.yaml", data=tiny, epochs=2, project=out, name="run", plots=True)
    done = run([command("yolo"), "train", *words], out)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return out / "run", done.stdout + done.stderr


def test_stock_command_trains_our_model(trained):
    folder, text = trained
    assert (folder / "weights" / "best.pt").is_file() and (folder / "results.png").is_file()
    header = next(csv.reader((folder / "results.csv").read_text().splitlines()))
    assert {"train/obj_loss", "train/mldr_cls_loss", "val/mldr_box_loss", "metrics/mAP50-95(B)"} <= set(header)
    assert "WARNING" not in text.replace("Box and segment", "")
    assert not list((folder / "weights").glob("*.part"))


def test_checkpoint_works_in_plain_ultralytics(trained, tiny, tmp_path):
    image = next((tiny.parent / "images" / "val").glob("*.png"))
    code = (
        "from ultralytics import YOLO; m = YOLO({w!r}); r = m.predict({i!r}, conf=0.0001, imgsz=64, verbose=False); "
        "print(type(m).__name__, r[0].boxes.data.shape[1], m.val(imgsz=64, save_json=True, plots=False).box.map >= 0)"
    )
    done = run(code.format(w=str(trained[0] / "weights" / "best.pt"), i=str(image)), tmp_path)
    assert done.stdout.strip().splitlines()[-1] == "YOLOspine 6 True", done.stderr


def test_safe_load(trained, tmp_path):
    code = f"from ultralytics import YOLO; print(type(YOLO({str(trained[0] / 'weights' / 'last.pt')!r})).__name__)"
    done = run(code, tmp_path, ULTRALYTICS_SAFE_LOAD="1")
    assert done.stdout.strip().endswith("YOLOspine"), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["freeze=5"],
        ["cls_pw=1.0"],
        ["single_cls=True"],
        ["suppression=hard"],
        ["suppression=linear", "multi_scale=0.5"],
        ["optimizer=SGD", "backbone_lr=0.5"],
    ],
    ids=" ".join,
)
def test_what_the_host_offers_for_training(words, tiny, tmp_path):
    base = arguments(model="yolospine-n.yaml", data=tiny, epochs=1, project=tmp_path, name="run")
    done = run([command("yolo"), "train", *base, *words], tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_yolospine_command_with_autoload_off(tiny, tmp_path):
    words = arguments(model="yolospine-nomldr-n.yaml", data=tiny, epochs=1, project=tmp_path, name="run")
    done = run([command("yolospine"), "train", *words], tmp_path, YOLOSPINE_AUTOLOAD="0")
    assert done.returncode == 0 and (tmp_path / "run" / "weights" / "best.pt").is_file(), done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("yaml", sorted(p.name for p in (REPO / "cfg" / "models").glob("*.yaml")))
def test_every_variant_trains(yaml, tiny, tmp_path):
    name = yaml.replace(".yaml", "-n.yaml")
    results = YOLO(name).train(data=str(tiny), epochs=1, project=str(tmp_path), **SMALL)
    assert results.box.map >= 0


@pytest.mark.slow
def test_one_channel(tmp_path):
    data = write_dataset(tmp_path / "grey", channels=1)
    model = YOLO("yolospine-n.yaml")
    model.train(data=str(data), epochs=1, project=str(tmp_path), **SMALL)
    assert model.model.model[0].conv.in_channels == 1
    assert model.predict(next((data.parent / "images" / "val").glob("*.png")), verbose=False, imgsz=64)


@pytest.mark.slow
def test_pretrained_with_other_classes_transfers_what_fits(trained, tmp_path):
    data = write_dataset(tmp_path / "five", classes=5)
    weights = trained[0] / "weights" / "best.pt"
    words = arguments(model="yolospine-n.yaml", pretrained=weights, data=data, epochs=1, project=tmp_path, name="run")
    done = run([command("yolo"), "train", *words], tmp_path)
    assert done.returncode == 0 and "Transferred" in done.stdout, done.stderr[-2000:]
    assert YOLO(tmp_path / "run" / "weights" / "best.pt").model.model[-1].nc == 5


def test_checkpoint_of_another_class_count_is_validated_on_its_own_data_only(trained, tmp_path):
    data = write_dataset(tmp_path / "five", classes=5)
    with pytest.raises(ValueError, match=r"3 classes.*5"):
        YOLO(trained[0] / "weights" / "best.pt").val(data=str(data), imgsz=64, plots=False)


@pytest.mark.slow
def test_classes_of_other_names_are_said_to_be_compared_by_number(trained, tiny, tmp_path, caplog):
    """As many classes in another order would be scored without a word."""
    model = YOLO(trained[0] / "weights" / "best.pt")
    model.val(data=str(tiny), imgsz=64, plots=False)
    assert "compared by their numbers" not in caplog.text
    other = yaml.safe_load(tiny.read_text())
    other["path"] = str(tiny.parent)
    other["names"] = dict(enumerate(["c", "b", "a"]))
    (tmp_path / "turned.yaml").write_text(yaml.safe_dump(other))
    model.val(data=str(tmp_path / "turned.yaml"), imgsz=64, plots=False)
    assert "they are compared by their numbers" in caplog.text


def test_killed_training_resumes_from_its_last_epoch_and_keeps_its_best(tiny, tmp_path):
    words = arguments(model="yolospine-n.yaml", data=tiny, epochs=40, project=tmp_path, name="run")
    weights, table = tmp_path / "run" / "weights", tmp_path / "run" / "results.csv"
    process = subprocess.Popen([command("yolo"), "train", *words], cwd=tmp_path, stdout=subprocess.DEVNULL)
    deadline = time.time() + 240
    while time.time() < deadline and not (table.is_file() and len(table.read_text().splitlines()) > 3):
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    torch.load(weights / "last.pt", weights_only=False), torch.load(weights / "best.pt", weights_only=False)
    done_before = torch.load(weights / "last.pt", weights_only=False)["epoch"] + 1
    assert done_before >= 2  # the host writes the table before the checkpoint

    code = (
        "from ultralytics import YOLO; import sys; m = YOLO(sys.argv[1]);\n"
        "def stop(t):\n    if t.epoch >= int(sys.argv[2]) + 1: t.stop = True\n"
        "m.add_callback('on_train_epoch_end', stop); m.train(resume=True); print('START', m.trainer.start_epoch)"
    )
    done = run([sys.executable, "-c", code, str(weights / "last.pt"), str(done_before)], tmp_path)
    assert f"START {done_before}" in done.stdout, done.stderr[-2000:]
    assert (weights / "best.pt").is_file()


def test_checkpoints_are_replaced_in_one_step(tmp_path, monkeypatch):
    from yolospine_ultra.data import atomic

    target = atomic.AtomicPath(tmp_path) / "best.pt"
    assert isinstance(target, atomic.AtomicPath)
    target.write_bytes(b"old and whole")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic.os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        target.write_bytes(b"new, cut off")
    assert target.read_bytes() == b"old and whole" and len(list(tmp_path.iterdir())) == 1


def test_processes_may_write_the_same_file(tmp_path):
    """As those of a sweep, or of a distributed training, which all write the YAML of `data_root`."""
    code = (
        f"import sys; from yolospine_ultra.data.atomic import AtomicPath\nfor _ in range(200):\n"
        f"    AtomicPath({str(tmp_path / 'data.yaml')!r}).write_bytes(b'whole' * 999)"
    )
    each = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(3)]
    errors = [p.communicate()[1] for p in each]
    assert [p.returncode for p in each] == [0] * 3, errors
    assert (tmp_path / "data.yaml").read_bytes() == b"whole" * 999 and len(list(tmp_path.iterdir())) == 1


def test_trainer_survives_being_sent_to_another_process(tiny, tmp_path):
    """What the host's launcher of distributed trainings does: cloudpickle, a fresh process, and a step there."""
    import cloudpickle

    model = YOLO("yolospine-n.yaml")
    args = SMALL | {
        "data": str(tiny),
        "epochs": 1,
        "project": str(tmp_path),
        "name": "sent",
        "model": "yolospine-n.yaml",
    }
    trainer = SpineTrainer(overrides=args | {"mode": "train", "task": "detect"})
    state = {"trainer": type(trainer), "args": vars(trainer.args), "model": model.model}
    state["callbacks"] = trainer.callbacks
    torch.save(state, tmp_path / "state.pt", pickle_module=cloudpickle)
    code = (
        "from ultralytics.utils import DEFAULT_CFG_DICT\nfrom ultralytics.utils.patches import torch_load\n"
        f"s = torch_load({str(tmp_path / 'state.pt')!r}, map_location='cpu')\n"
        "cfg = DEFAULT_CFG_DICT.copy(); cfg.update(save_dir='')\n"
        "t = s['trainer'](cfg=cfg, overrides=s['args'], _callbacks=s['callbacks'])\n"
        "t.model = s['model']; t.train(); print('STEPPED', type(t.model).__name__, t.best.is_file())"
    )
    done = run(code, tmp_path)
    assert "STEPPED PluginDetectionModel True" in done.stdout, done.stderr[-3000:]


def test_backbone_has_its_own_learning_rate(tiny, tmp_path):
    model = YOLO("yolospine-n.yaml")
    seen = {}

    def look(t):
        n = len(t.model.yaml["backbone"])
        backbone = {id(p) for layer in t.model.model[:n] for p in layer.parameters()}
        for g in t.optimizer.param_groups:
            where = {id(p) in backbone for p in g["params"]}
            assert len(where) <= 1
            for inside in where:
                seen.setdefault(inside, set()).add(g["initial_lr"])
        total = sum(len(g["params"]) for g in t.optimizer.param_groups)
        assert total == len(list(t.model.parameters()))

    model.add_callback("on_train_start", look)
    model.train(data=str(tiny), epochs=1, project=str(tmp_path), lr0=0.002, backbone_lr=0.5, **SMALL)
    assert seen == {True: {0.001}, False: {0.002}}


def test_a_distillation_cut_off_goes_on_as_our_model(tmp_path):
    from ultralytics.nn.distill_model import DistillationModel

    student, teacher = (YOLO("yolospine-n.yaml").model for _ in range(2))
    student.args = teacher.args = get_cfg(DEFAULT_CFG, {"imgsz": 64})
    model = DistillationModel(teacher_model=teacher, student_model=student)
    model.teacher_model, model.task = None, "detect"  # as the host saves it
    content = {"epoch": 0, "model": None, "ema": model.half(), "train_args": {"imgsz": 64}, "optimizer": {}}
    torch.save(content, tmp_path / "last.pt")
    assert type(YOLO(tmp_path / "last.pt")) is facade.YOLOspine


@pytest.mark.parametrize("row", ["7", "7.0"])
def test_class_beyond_the_dataset(row, tmp_path):
    data = write_dataset(tmp_path / "bad")
    label = next((tmp_path / "bad" / "labels" / "train").glob("*.txt"))
    label.write_text(f"{row} 0.5 0.5 0.2 0.2\n")
    with pytest.raises(ValueError, match=rf"1 label files .* 3 classes, 0 to 2: .*{label.name} has class 7"):
        YOLO("yolospine-n.yaml").train(data=str(data), project=str(tmp_path), epochs=1, **SMALL)


@pytest.mark.parametrize("yaml", ["yolospine-n.yaml", "yolospine-noorder-n.yaml"])
def test_what_the_dataset_declares_of_its_classes_is_in_the_checkpoint(yaml, tmp_path):
    data = write_dataset(tmp_path / "set")
    for label in (tmp_path / "set" / "labels" / "train").glob("*.txt"):  # by level
        rows = sorted({r.split(" ", 1)[1] for r in label.read_text().splitlines()}, key=lambda r: float(r.split()[1]))
        label.write_text("".join(f"{c} {r}\n" for c, r in zip((0, 1, 2), rows, strict=True)))
    data.write_text(data.read_text() + "normal: class0\nsame_finding:\n  - [class1, class2]\n")
    model = YOLO(yaml)
    model.train(data=str(data), project=str(tmp_path), epochs=1, **SMALL)
    relations = YOLO(str(model.trainer.last)).model.model[-1].relations
    shares = relations.float().shares(torch.tensor([[0.0, 2], [1, 1], [2, 0]]))
    divided = yaml == "yolospine-n.yaml"  # without counts nothing can be divided
    assert shares[:, 2].round().tolist() == ([0, 0, 1] if divided else [1, 1, 1])
    assert relations.together[1].tolist() == ([0, 1, 1] if divided else [0, 1, 0])
    assert relations.normal.tolist() == [1, 0, 0]


def test_relations_of_unknown_classes(tmp_path):
    data = write_dataset(tmp_path / "set")
    data.write_text(data.read_text() + "same_finding: [[class1, bulge]]\n")
    with pytest.raises(ValueError, match=r"same_finding.*data.yaml names \['bulge'\], which are no classes"):
        YOLO("yolospine-n.yaml").train(data=str(data), project=str(tmp_path), epochs=1, **SMALL)


@pytest.mark.slow
def test_classes_do_not_matter_where_all_are_one(tmp_path):
    """Nor what is declared of them; beside an image that cannot be read, which the host drops with its label."""
    data = write_dataset(tmp_path / "one")
    data.write_text(data.read_text() + "normal: class0\nsame_finding: [[class1, class2]]\n")
    broken = sorted((tmp_path / "one" / "images" / "train").glob("*.png"))[0]
    broken.write_bytes(b"no image")
    (tmp_path / "one" / "labels" / "train" / f"{broken.stem}.txt").write_text("2 0.5 0.5 0.2 0.2\n")
    model = YOLO("yolospine-n.yaml")
    model.train(data=str(data), project=str(tmp_path), epochs=1, single_cls=True, **SMALL)
    head = model.model.model[-1]
    assert head.nc == 1 and head.relations.normal.tolist() == [0]


def test_empty_and_unreadable_datasets(tmp_path):
    data = write_dataset(tmp_path / "empty")
    for f in (tmp_path / "empty" / "images" / "train").glob("*.png"):
        f.unlink()
    with pytest.raises((FileNotFoundError, RuntimeError), match=r"(?i)no images found|error loading data"):
        YOLO("yolospine-n.yaml").train(data=str(data), project=str(tmp_path), epochs=1, **SMALL)
    with pytest.raises((FileNotFoundError, RuntimeError), match=r"nowhere\.yaml"):
        YOLO("yolospine-n.yaml").train(data="nowhere.yaml", project=str(tmp_path), epochs=1, **SMALL)


def test_corrupt_checkpoint(tmp_path):
    (tmp_path / "best.pt").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(TypeError, match=r"best\.pt is not a loadable checkpoint"):
        YOLO(tmp_path / "best.pt")


def test_data_root_replaces_the_path(tiny, tmp_path):
    (tmp_path / "moved.yaml").write_text(tiny.read_text().replace(f"path: {tiny.parent}", "path: not-here"))
    model = YOLO("yolospine-n.yaml")
    model.train(data=str(tmp_path / "moved.yaml"), data_root=str(tiny.parent), epochs=1, project=str(tmp_path), **SMALL)
    assert model.val(imgsz=64, plots=False).box.map >= 0  # the checkpoint remembers where
    with pytest.raises(FileNotFoundError, match=r"data_root=.*gone is not a folder"):
        model.train(data=str(tiny), data_root=str(tmp_path / "gone"), epochs=1, **SMALL)


@pytest.mark.slow
def test_stage_two_improves_the_predictions(real_weights):
    from yolospine_ultra.nn.dde import DDEDetect

    options = {"imgsz": 160, "plots": False, "verbose": False}
    both = YOLO(real_weights).val(**options).box
    alone = YOLO(real_weights)
    alone.model.model[-1].infer = DDEDetect.infer.__get__(alone.model.model[-1])  # the output of DDE
    first = alone.val(**options).box
    assert both.map50 > first.map50 and both.map > first.map


@pytest.mark.slow
def test_four_images_are_learnt_by_heart(tmp_path):
    if not SPIDER.is_dir():
        pytest.skip(f"needs the real images, expected at {SPIDER}")
    import shutil

    stems = sorted(p.stem for p in (SPIDER / "images" / "train").glob("*_t2.png"))[:4]
    for split in ("train", "val"):
        for kind, suffix in (("images", ".png"), ("labels", ".txt")):
            folder = tmp_path / kind / split
            folder.mkdir(parents=True)
            for stem in stems:
                shutil.copy(SPIDER / kind / "train" / f"{stem}{suffix}", folder)
    classes = "[DDD, IVDn, SS, SP, LDB, TDB]"
    (tmp_path / "four.yaml").write_text(f"path: {tmp_path}\ntrain: images/train\nval: images/val\nnames: {classes}\n")
    changes = ("mosaic", "translate", "scale", "hsv_v", "fliplr", "degrees", "mri_augment", "class_centric")
    off = dict.fromkeys((*changes, "warmup_epochs", "weight_decay"), 0.0)
    model = YOLO("yolospine-n.yaml")
    model.train(
        data=str(tmp_path / "four.yaml"), epochs=80, project=str(tmp_path), lr0=2e-3, val=False, save=False,
        **(SMALL | {"imgsz": 256} | off),
    )  # fmt: skip
    assert model.val(imgsz=256, plots=False, data=str(tmp_path / "four.yaml")).box.map50 >= 0.95
