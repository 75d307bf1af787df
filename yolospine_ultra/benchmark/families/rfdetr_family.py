"""RF-DETR of Roboflow, by the public interface of its package (1.11), in the sizes nano, small and medium.

Source: Robinson et al. 2025, "RF-DETR: Neural Architecture Search for Real-Time Detection Transformers"; Apache 2.0. It
is trained by its own trainer, from random weights. Decay of the learning rate over the layers, moving average and
clipping are its own; learning rate, weight decay, warm-up, cosine, batch, epochs and seed are the recipe's. Its
augmentations are a random resize and crop, where the recipe has `scale`, and a flip at .5, where it has `fliplr`; it
knows no mosaic. The image is stretched to a square, grey ones have three equal channels. The weights are its moving
average after the last epoch; as its trainer insists on a validation, that gets one training image. Where the images
make fewer than five batches, the package draws five with replacement.

The package brings opencv-python-headless, which overlays the files of opencv-python: give it an environment of its own.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from torch import nn
from ultralytics.data.utils import img2label_paths
from ultralytics.utils.patches import imread

from yolospine_ultra.benchmark.families.network import Found, one_device, to_findings
from yolospine_ultra.benchmark.families.training import repeatable
from yolospine_ultra.benchmark.families.weights import read_weights, save_weights
from yolospine_ultra.benchmark.family import MIN_SCORE, Budget, CellData, ModelEntry, settings
from yolospine_ultra.data.labels import read_labels
from yolospine_ultra.evaluate.findings import ImageFindings

ENCODER_RATE = 1.5  # learning rate of the encoder by that of the rest, as in the package


class RFDETRDetector:
    """A model of the package, from files to findings."""

    def __init__(self, model: Any, classes: int) -> None:
        self.model, self.classes = model, classes

    @property
    def module(self) -> nn.Module:
        """The network."""
        return self.model.model.model

    def detect(self, images: Sequence[Path]) -> list[ImageFindings]:
        """See `benchmark.family.Detector`.

        Raises:
            ValueError: a file that cannot be read as an image.
        """
        return [self._detect(Path(file)) for file in images]

    def _detect(self, file: Path) -> ImageFindings:
        """Findings of one file."""
        image = imread(file, flags=cv2.IMREAD_COLOR)
        if image is None:
            raise ValueError(f"{file} cannot be read as an image; expected a file that OpenCV decodes.")
        rgb = np.ascontiguousarray(image[..., ::-1])
        result = self.model.predict(rgb, threshold=MIN_SCORE, include_source_image=False)
        known = result.class_id < self.classes  # the last logit stands for no class
        found = Found(result.xyxy[known], result.class_id[known], result.confidence[known].clip(0, 1))
        return to_findings(file.name, found, image.shape[:2], image.shape[:2])


class RFDETRFamily:
    """`build` has `variant`, a class of the package, and may have `arguments` of it."""

    extra = "rfdetr"
    packages = ("rfdetr", "pytorch_lightning")

    def train(self, entry: ModelEntry, data: CellData, budget: Budget, folder: Path) -> Path:
        """Train from scratch and return ``folder/last.pt``, see `benchmark.family.Family`.

        Raises:
            ValueError: several devices, an input size that the variant cannot take, or a flip at another rate than .5.
        """
        given = settings(entry, budget)
        arguments = train_arguments(given, budget)
        root = write_data_set(data, folder / "data")
        output = folder / "rfdetr"
        with repeatable(budget):
            model = make_model(entry, data, budget, bool(given.get("amp", True)))
            model.train(
                dataset_dir=str(root), output_dir=str(output), class_names=list(data.names.values()), **arguments
            )
        trained = torch.load(output / "last_ema.pth", map_location="cpu", weights_only=True)["model"]
        for checkpoint in (*output.glob("*.pth"), *output.glob("*.ckpt")):  # the same weights, with optimiser state
            checkpoint.unlink()
        return save_weights(folder / "last.pt", trained, entry, data, budget)

    def load(self, entry: ModelEntry, weights: Path | None, data: CellData, budget: Budget) -> RFDETRDetector:
        """A detector, see `benchmark.family.Family`. Loading runs no code from the file.

        Raises:
            ValueError: the weights cannot be read, or are of another model, input size or set of classes.
        """
        torch.set_num_threads(budget.threads)
        model = make_model(entry, data, budget, amp=False)
        network = model.model.model
        if weights is not None:
            network.load_state_dict(read_weights(weights, entry, data, budget))
        network.eval().requires_grad_(False)  # torch's operation counter cannot follow its parameters' gradients
        return RFDETRDetector(model, len(data.names))


def make_model(entry: ModelEntry, data: CellData, budget: Budget, amp: bool) -> Any:
    """An object of the package with random weights; nothing is downloaded.

    Raises:
        ImportError: the package is missing.
        ValueError: no such variant, or an input size that it cannot take.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import rfdetr
    except ImportError as error:
        raise ImportError("RF-DETR is not installed: pip install 'yolospine_ultra[rfdetr]'.") from error
    variant = getattr(rfdetr, entry.build["variant"], None)
    if variant is None:
        raise ValueError(f"rfdetr has no {entry.build['variant']}; expected a class such as RFDETRNano.")
    config = variant._model_config_class
    block = config.model_fields["patch_size"].default * config.model_fields["num_windows"].default
    if budget.imgsz % block:
        raise ValueError(f"imgsz is {budget.imgsz}; {entry.build['variant']} takes multiples of {block}.")
    return variant(
        pretrain_weights=None,
        num_classes=len(data.names),
        resolution=budget.imgsz,
        positional_encoding_size=budget.imgsz // config.model_fields["patch_size"].default,
        device=str(one_device(budget.device)),
        amp=amp,
        **entry.build.get("arguments", {}),
    )


def train_arguments(given: dict[str, Any], budget: Budget) -> dict[str, Any]:
    """Arguments of the package's `train` from those of `family.settings`.

    Raises:
        ValueError: a flip at another rate than the package's, or several devices.
    """
    flip = given.get("fliplr", 0.5)
    if flip not in (0, 0.5):
        raise ValueError(f"fliplr is {flip}; RF-DETR flips half of the images or none, so it takes 0.5 or 0.")
    return {
        "dataset_file": "yolo",
        "epochs": budget.epochs,
        "batch_size": budget.batch,
        "grad_accum_steps": 1,
        "num_workers": budget.workers,
        "device": str(one_device(budget.device)),
        "seed": budget.seed,
        "weight_decay": given.get("weight_decay", 1e-4),
        "warmup_epochs": min(given.get("warmup_epochs", 0.0), budget.epochs / 4),
        "lr": given.get("lr0", 1e-4),
        "lr_encoder": given.get("lr0", 1e-4) * ENCODER_RATE,
        "lr_scheduler": "cosine" if given.get("cos_lr", True) else "step",
        "lr_scheduler_kwargs": {"min_factor": given.get("lrf", 0.01)} if given.get("cos_lr", True) else {},
        "aug_config": {} if flip == 0 else None,
        "scale_jitter": given.get("scale", 0.5) > 0,
        "multi_scale": False,
        "augmentation_backend": "torchvision",
        "eval_interval": budget.epochs,
        "checkpoint_interval": budget.epochs,
        "progress_bar": None,
        "tensorboard": False,
    }


def write_data_set(data: CellData, root: Path) -> Path:
    """The cell's training images, linked, in the package's layout, with one of them as its validation; returns `root`.

    Raises:
        ValueError: there is no training image with readable labels.
    """
    names = [data.names[k] for k in sorted(data.names)]
    written: list[tuple[Path, str]] = []
    for number, (file, label) in enumerate(zip(data.train, img2label_paths([str(f) for f in data.train]), strict=True)):
        rows = read_labels(label, len(names))[0] if Path(label).is_file() else np.zeros((0, 5))
        if rows is None:  # whose labels are unknown is no negative
            continue
        written.append((file, "".join(f"{int(c)} {x:.8f} {y:.8f} {w:.8f} {h:.8f}\n" for c, x, y, w, h in rows)))
        _write_sample(root / "train", f"{number:06d}", *written[-1])
    if not written:
        raise ValueError("None of the cell's training images has readable labels; check the data set's labels.")
    _write_sample(root / "valid", "000000", *max(written, key=lambda x: len(x[1])))  # one that shows something
    content = {"train": "train/images", "val": "valid/images", "nc": len(names), "names": names}
    (root / "data.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return root


def _write_sample(split: Path, stem: str, file: Path, rows: str) -> None:
    """One image and its labels."""
    for kind in ("images", "labels"):
        (split / kind).mkdir(parents=True, exist_ok=True)
    (split / "images" / f"{stem}{file.suffix.lower()}").symlink_to(file.resolve())
    (split / "labels" / f"{stem}.txt").write_text(rows, encoding="utf-8")


FAMILY = RFDETRFamily()

_NOTE = (
    "Own trainer from random weights, with its own augmentations (resize and crop; no mosaic); fp32 when predicting."
)
ROWS = tuple(
    ModelEntry(
        f"rfdetr-{size.lower()}",
        "rfdetr",
        {"variant": f"RFDETR{size}"},
        scale=size[0].lower(),
        recipe={"lr0": 1e-4, "weight_decay": 1e-4},
        note=_NOTE,
    )
    for size in ("Nano", "Small", "Medium")
)
