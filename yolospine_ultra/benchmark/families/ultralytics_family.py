"""YOLO detectors of Ultralytics, and this package's own, which are Ultralytics models too.

Stock models run through the installed plugin unchanged. All train with the same arguments (`Budget.recipe`) and predict
with the host's own `predict`, because that is what a user gets. It keeps the best class of an anchor point, where the
host's `val` keeps every class above the threshold: nobody gets what `val` measures, but papers report it, and where one
site has two labels it is more. Rows that end in ``-multilabel`` predict as `val` does, and rows ``-told`` get what the
dataset declares about its classes on top of that (`benchmark.told`). YOLOv10 and YOLO26 have an end-to-end head besides
the one that needs suppression; the host predicts with suppression unless told otherwise, hence the rows ``-nmsfree``.
These rows share the training of the row without the ending.

Training never sees the evaluated images: the host insists on validating the last epoch and `best.pt`, and is given one
training image for it. The weights are those after the last epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from torch import Tensor, nn
from ultralytics.models.yolo.detect import DetectionPredictor
from ultralytics.utils import DEFAULT_CFG
from ultralytics.utils.nms import non_max_suppression

from yolospine_ultra.benchmark.family import MAX_FINDINGS, MIN_SCORE, Budget, CellData, ModelEntry, settings
from yolospine_ultra.benchmark.told import relations_of, tell
from yolospine_ultra.data.relations import KEYS
from yolospine_ultra.engine.arguments import RECIPE
from yolospine_ultra.evaluate.findings import ImageFindings
from yolospine_ultra.nn.relations import ClassRelations


class MultiLabelPredictor(DetectionPredictor):
    """The host's predictor with the suppression of its validator: every class of an anchor point is a candidate."""

    def postprocess(self, preds: Any, img: Tensor, orig_imgs: list[np.ndarray], **kwargs: Any) -> list:
        """Results of a batch."""
        a = self.args
        found = non_max_suppression(preds, a.conf, a.iou, multi_label=True, max_det=a.max_det)
        return self.construct_results(found, img, orig_imgs, **kwargs)


class UltralyticsDetector:
    """A facade of the host, from files to findings.

    Args:
        facade: the host's object.
        arguments: of its `predict`.
        relations: what its findings are told of the classes, None for nothing.
    """

    def __init__(self, facade: Any, arguments: dict[str, Any], relations: ClassRelations | None = None) -> None:
        self.facade, self.arguments, self.relations = facade, arguments, relations

    @property
    def module(self) -> nn.Module:
        """The network as it was trained, not fused."""
        return self.facade.model

    def detect(self, images: Sequence[Path]) -> list[ImageFindings]:
        """See `benchmark.family.Detector`."""
        results = self.facade.predict([str(f) for f in images], verbose=False, stream=True, **self.arguments)
        by_file = {r.path: _findings(r) for r in results}  # the host sorts its sources
        found = [by_file[str(f)] for f in images]
        return found if self.relations is None else [tell(x, self.relations, DEFAULT_CFG.iou) for x in found]


def _findings(result: Any) -> ImageFindings:
    """Findings of a result of the host, best first."""
    table = result.boxes.data.cpu().double().numpy()  # x1 y1 x2 y2 score class
    table = table[(table[:, 4] > MIN_SCORE) & (table[:, 2:4] >= table[:, :2]).all(1)]
    table = table[np.argsort(-table[:, 4], kind="stable")][:MAX_FINDINGS]
    return ImageFindings(Path(result.path).name, table[:, :4], table[:, 5].astype(np.int64), table[:, 4])


class UltralyticsFamily:
    """Models of the facade `YOLO`.

    `build` has `yaml`, the name of a model file of the host or of this package, and may have `declared`: False for a
    model that is not told what the dataset declares of its classes.
    """

    extra = ""
    packages: tuple[str, ...] = ()
    begins_with_weights = True

    def facade(self, source: str) -> Any:
        """The host's object for a model file or weights."""
        from ultralytics import YOLO

        return YOLO(source)

    def training_data(self, data: CellData, folder: Path) -> tuple[list[Path], Path]:
        """Images to train on, and the folder that the host's dataset YAML is written to."""
        return list(data.train), folder

    def train(self, entry: ModelEntry, data: CellData, budget: Budget, folder: Path) -> Path:
        """See `benchmark.family.Family`.

        Raises:
            RuntimeError: the host halved the batch because memory was short, and so trained something else.
        """
        model = self.facade(entry.build["yaml"])
        model.train(
            **{**settings(entry, budget), "data": str(self._write_yaml(entry, data, folder))},
            epochs=budget.epochs,
            imgsz=budget.imgsz,
            batch=budget.batch,
            device=budget.device,
            seed=budget.seed,
            workers=budget.workers,
            project=str(folder),
            name="train",
            exist_ok=True,
            pretrained=str(budget.init) if budget.init else False,  # what fits: a last layer of other classes does not
            val=False,
            plots=False,
            patience=0,
        )
        if model.trainer.args.batch != budget.batch:
            raise RuntimeError(
                f"Memory was short and Ultralytics went on with batch={model.trainer.args.batch} in place of "
                f"{budget.batch}, which is no fair comparison; give the whole sweep a smaller --batch."
            )
        return Path(model.trainer.last)

    def _write_yaml(self, entry: ModelEntry, data: CellData, folder: Path) -> Path:
        """The dataset YAML of a training, with a training image for the host to validate on."""
        images, place = self.training_data(data, folder)
        for part, files in (("train", images), ("val", images[:1])):
            (place / f"{part}.txt").write_text("".join(f"{f}\n" for f in files), encoding="utf-8")
        content = yaml.safe_load(data.yaml.read_text(encoding="utf-8"))  # with what it says about its classes
        content |= {"path": str(place), "train": "train.txt", "val": "val.txt"}
        if not entry.build.get("declared", True):
            content = {k: v for k, v in content.items() if k not in KEYS}
        file = place / "training.yaml"
        file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return file

    def load(self, entry: ModelEntry, weights: Path | None, data: CellData, budget: Budget) -> UltralyticsDetector:
        """See `benchmark.family.Family`."""
        facade = self.facade(str(weights) if weights else entry.build["yaml"])
        if not weights:  # the host builds model files for 80 classes
            stock = facade.model
            model = type(stock)(stock.yaml, ch=data.channels, nc=len(data.names), verbose=False)
            model.names, model.args, model.task = dict(data.names), stock.args, stock.task
            facade.model = model
        facade.model.eval()
        arguments = {"conf": MIN_SCORE, "max_det": MAX_FINDINGS, "imgsz": budget.imgsz, **entry.predict}
        relations = relations_of(data) if arguments.pop("told", False) else None
        if arguments.pop("multi_label", False):
            arguments["predictor"] = MultiLabelPredictor
        return UltralyticsDetector(facade, {**arguments, "device": budget.device.split(",")[0]}, relations)


FAMILY = UltralyticsFamily()

_SCALES = {
    "yolov8": ("nsmlx", "YOLOv8m"),
    "yolov9": ("tsmce", "YOLOv9m"),
    "yolov10": ("nsmblx", "YOLOv10m"),
    "yolo11": ("nsmlx", "YOLOv11m"),
    "yolo12": ("nsmlx", "YOLOv12m"),
    "yolo26": ("nsmlx", "YOLOv26m"),
}
# what the trainer of these models has as defaults for all of them, see `engine.arguments`
_OURS = {"cls_pw": 0.25}
_VARIANTS = {
    "": "",
    "-nogelan": "C2f in place of GELAN",
    "-noa2": "without area attention",
    "-norelan": "without R-ELAN",
    "-noorder": "stage 2 is not told how many levels lie above and below",
    "-onebox": "one refined box a proposal in place of one a class",
    "-onehot": "stage 1 is taught one label an anchor point",
    "-nomldr": "without stage 2",
    "-noa2-nomldr": "without area attention and stage 2",
    "-v1": "the paper's V1: one stage, area attention, DFL",
    "-v33": "the paper's V3.3: DenseC2f with layer normalisation",
}
_NMSFREE = "End-to-end head, without suppression; weights shared with the row without the ending."
_MULTI = "Every class of an anchor point counts, as in the host's val; weights shared with the row without the ending."
_TOLD = "As -multilabel, and then told what the dataset declares of its classes; weights shared likewise."


def _stock() -> list[ModelEntry]:
    """Rows of the host's detectors."""
    rows = []
    for name, (scales, paper) in _SCALES.items():
        for s in scales:
            row = {"family": "ultralytics", "build": {"yaml": f"{name}{s}.yaml"}, "scale": s}
            rows.append(ModelEntry(f"{name}{s}", **row, paper=paper if s == "m" else ""))
            rows.append(ModelEntry(f"{name}{s}-multilabel", **row, predict={"multi_label": True}, note=_MULTI))
            rows.append(ModelEntry(f"{name}{s}-told", **row, predict={"multi_label": True, "told": True}, note=_TOLD))
            if name in ("yolov10", "yolo26"):
                rows.append(ModelEntry(f"{name}{s}-nmsfree", **row, predict={"nms": False}, note=_NMSFREE))
    return rows


def _own() -> list[ModelEntry]:
    """Rows of this package's detectors; the names are those of the model files, scale m is also the bare name."""
    rows = []
    for variant, what in _VARIANTS.items():
        for s in "nsmlx":
            name = f"yolospine{variant}-{s}"
            row = {"family": "ultralytics", "build": {"yaml": f"{name}.yaml"}, "scale": s, "recipe": _OURS}
            paper = "YOLOspine" if (variant, s) == ("", "m") else ""
            rows.append(ModelEntry(name, **row, paper=paper, note=what))
            if not variant:
                note = "hard NMS in place of Soft-NMS; weights shared with the row without the ending"
                rows.append(ModelEntry(f"{name}-hardnms", **row, predict={"suppression": "hard"}, note=note))
                untold = {**row, "build": {**row["build"], "declared": False}}
                note = "not told what the dataset declares of its classes"
                rows.append(ModelEntry(f"{name}-undeclared", **untold, note=note))
                sampling = {**row, "recipe": {**_OURS, "class_centric": RECIPE["class_centric"]}}
                rows.append(ModelEntry(f"{name}-sampling", **sampling, note="more samples of rare classes an epoch"))
    return rows


ROWS = (*_stock(), *_own())
