"""Prediction: every source, the same detections as validation, tracking, and refused input."""

import cv2
import numpy as np
import pytest
import torch
from conftest import command, run
from PIL import Image
from ultralytics import YOLO

from yolospine_ultra.engine.validator import SpineValidator

SIZE = 96


@pytest.fixture(scope="module")
def weights(tiny, tmp_path_factory):
    """A checkpoint trained just long enough to find something."""
    out = tmp_path_factory.mktemp("predict")
    model = YOLO("yolospine-n.yaml")
    model.train(
        data=str(tiny), epochs=40, imgsz=SIZE, batch=2, device="cpu", amp=False, plots=False, project=str(out),
        lr0=2e-3, mosaic=0.0, val=False, save=False, warmup_epochs=1,
    )  # fmt: skip
    return model.trainer.last


@pytest.fixture(scope="module")
def images(tiny):
    return sorted((tiny.parent / "images" / "val").glob("*.png"))


def boxes(results):
    return [r.boxes.data for r in results]


OPTIONS = {"imgsz": SIZE, "conf": 0.01, "verbose": False}


def test_sources_agree(weights, images, tmp_path):
    model = YOLO(weights)
    reference = boxes(model.predict(images[0], **OPTIONS))[0]
    array = cv2.imread(str(images[0]))
    listing = tmp_path / "list.txt"
    listing.write_text(f"{images[0]}\n")
    for source in (str(images[0]), array, Image.fromarray(array[..., ::-1]), [array], str(listing)):
        torch.testing.assert_close(boxes(model.predict(source, **OPTIONS))[0], reference)
    tensor = torch.from_numpy(array[..., ::-1].copy()).permute(2, 0, 1)[None].float() / 255
    torch.testing.assert_close(boxes(model.predict(tensor, **OPTIONS))[0], reference)
    assert len(reference)


def test_folder_glob_video_and_stream(weights, images, tmp_path):
    model = YOLO(weights)
    assert len(list(model.predict(images[0].parent, stream=True, **OPTIONS))) == len(images)
    assert len(model.predict(f"{images[0].parent}/*.png", **OPTIONS)) == len(images)
    video = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (SIZE, SIZE))
    for f in images:
        video.write(cv2.imread(str(f)))
    video.release()
    assert len(model.predict(tmp_path / "v.avi", **OPTIONS)) == len(images)


@pytest.mark.parametrize("suppression", ["gaussian", "linear", "hard"])
def test_validation_and_prediction_give_the_same_detections(weights, tiny, images, suppression, tmp_path):
    """Also for an image that is not square and much smaller than its neighbours in the batch."""
    import shutil

    shutil.copytree(tiny.parent, tmp_path / "set")
    odd = cv2.resize(cv2.imread(str(images[0])), (90, 40))
    cv2.imwrite(str(tmp_path / "set" / "images" / "val" / "odd.png"), odd)
    (tmp_path / "set" / "labels" / "val" / "odd.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    data = tmp_path / "set" / "mine.yaml"
    data.write_text(tiny.read_text().replace(str(tiny.parent), str(tmp_path / "set")))

    seen = {}

    class Recorder(SpineValidator):
        def update_metrics(self, preds, batch):
            for i, p in enumerate(preds):
                scaled = self.scale_preds(p, self._prepare_batch(i, batch))
                seen[batch["im_file"][i].split("/")[-1]] = torch.cat(
                    (scaled["bboxes"], p["conf"][:, None], p["cls"][:, None]), 1
                )
            super().update_metrics(preds, batch)

    options = OPTIONS | {"suppression": suppression, "conf": 0.001}  # little is found in the odd one
    model = YOLO(weights)
    model.val(validator=Recorder, data=str(data), plots=False, batch=4, **options)
    for result in YOLO(weights).predict(tmp_path / "set" / "images" / "val", batch=3, **options):
        expected = seen[result.path.split("/")[-1]]
        assert len(result.boxes) == len(expected) > 0
        torch.testing.assert_close(result.boxes.conf.cpu(), expected[:, 4].cpu(), atol=1e-4, rtol=0)
        # the host rounds the padding of the two in different places: up to half a pixel of the input; and of two scores
        # that are equal but for rounding either may come first
        apart = (result.boxes.data.cpu()[:, None] - expected.cpu()).abs()
        same = (apart[..., :4].amax(2) <= 0.51) & (apart[..., 4] <= 1e-4) & (apart[..., 5] == 0)
        assert same.any(0).all() and same.any(1).all()


def test_an_image_alone_and_among_others(weights, images):
    model = YOLO(weights)
    alone = boxes(model.predict(images[0], **OPTIONS))[0]
    other = np.zeros((200, 50, 3), np.uint8)
    together = boxes(model.predict([cv2.imread(str(images[0])), other], batch=2, **OPTIONS))[0]
    torch.testing.assert_close(alone, together, atol=1e-3, rtol=1e-3)


def test_suppression_off_by_an_argument(weights, images):
    counts = {
        s: sum(len(r.boxes) for r in YOLO(weights).predict(images, suppression=s, soft_sigma=5.0, iou=0.3, **OPTIONS))
        for s in ("gaussian", "hard")
    }
    assert counts["gaussian"] > counts["hard"] > 0


def test_classes_and_max_det(weights, images):
    assert len(YOLO(weights).predict(images[0], **OPTIONS)[0].boxes.cls.unique()) > 1
    found = YOLO(weights).predict(images[0], classes=[1], max_det=2, **OPTIONS)[0].boxes
    assert len(found) == 2 and set(found.cls.tolist()) == {1.0}
    one = YOLO(weights).predict(images[0], classes=1, max_det=2, **OPTIONS)[0].boxes
    assert torch.equal(one.data, found.data)


def test_stock_visualisation_of_features(weights, images, tmp_path):
    YOLO(weights).predict(images[0], visualize=True, project=str(tmp_path), name="seen", **OPTIONS)
    assert any((tmp_path / "seen").rglob("*.png")) or any((tmp_path / "seen").rglob("*.jpg"))


@pytest.mark.parametrize("tracker", ["bytetrack.yaml", "botsort.yaml", "tracktrack.yaml"])
def test_track(weights, images, tracker, tmp_path):
    from ultralytics.utils import ROOT, YAML

    config = YAML.load(ROOT / "cfg" / "trackers" / tracker)
    wanted = {"with_reid": True, "model": "auto", "gmc_method": "none"}  # appearance from our own features
    wanted |= {"track_high_thresh": 0.01, "track_low_thresh": 0.005, "new_track_thresh": 0.01, "fuse_score": False}
    config.update({k: v for k, v in wanted.items() if k in config})
    YAML.save(tmp_path / "tracker.yaml", config)
    frames = [cv2.imread(str(images[0]))] * 3
    model = YOLO(weights)
    results = [model.track(f, persist=True, tracker=str(tmp_path / "tracker.yaml"), **OPTIONS)[0] for f in frames]
    assert results[0].boxes.id is not None
    assert set(results[0].boxes.id.tolist()) & set(results[-1].boxes.id.tolist())  # one frame thrice: tracks go on


def test_stock_predict_command_saves_pictures(weights, images, tmp_path):
    words = [f"model={weights}", f"source={images[0]}", "imgsz=96", "conf=0.01", f"project={tmp_path}", "name=out"]
    done = run([command("yolo"), "predict", *words, "save_txt=True", "soft_sigma=0.3"], tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "out" / images[0].with_suffix(".jpg").name).is_file()
    assert (tmp_path / "out" / "labels" / images[0].with_suffix(".txt").name).is_file()
