"""The datasets of a training: images and scans, with artefacts of MRI and rare classes shown more often."""

from __future__ import annotations

from typing import Any

import numpy as np
from ultralytics.data.augment import BaseTransform, Compose
from ultralytics.data.utils import get_split_fraction
from ultralytics.utils import LOGGER, RANK, colorstr

from yolospine_ultra.data.augment import MRIArtefacts, class_table, extra_indices
from yolospine_ultra.data.scan_dataset import ScanDataset


class SpineDataset(ScanDataset):
    """`ScanDataset` for training, with the arguments `mri_augment` and `class_centric`.

    Artefacts come on each image as it was read, before mosaic and rotation, as they come from one acquisition. They
    stay on when the host closes the mosaic for the last epochs, as its other changes of intensity do.

    Extra samples are further entries in `labels` and `im_files` for the same files: all that the host does by index
    (caches, mosaic, rectangular batches, samplers of distributed trainings) holds for them, and `cls_pw` weighs what an
    epoch shows. They follow from the labels and `seed` alone, and so are the same in every process and after a resume.
    """

    def __init__(self, *args: Any, hyp: Any, **kwargs: Any) -> None:
        self.class_centric, self.seed = hyp.class_centric, hyp.seed
        self.artefacts = MRIArtefacts(hyp.mri_augment)
        super().__init__(*args, hyp=hyp, **kwargs)
        # an image in the host's buffer is not decoded again: a set that fits in it without extra samples fits with them
        self.max_buffer_length = round(self.max_buffer_length * self.ni / len(set(self.im_files)))

    def update_labels(self, include_class: list[int] | None) -> None:
        """As the host's, then with the extra samples of `class_centric`."""
        super().update_labels(include_class)
        total = round(self.class_centric * len(self.labels))
        if not total:
            return
        names = self.data["names"]
        classes = [label["cls"] for label in self.labels]
        extra = extra_indices(classes, len(names), total, self.seed)
        if RANK in {-1, 0}:
            table = class_table(classes, extra, names)
            LOGGER.info(f"{self.prefix}class-centric augmentation, class_centric={self.class_centric}\n{table}")
        self.im_files = self.im_files + [self.im_files[i] for i in extra]
        self.labels = self.labels + [dict(self.labels[i]) for i in extra]

    def get_image_and_label(self, index: int) -> dict[str, Any]:
        """As the host's, for an image and for each image of a mosaic, with an artefact in some."""
        label = super().get_image_and_label(index)
        label["img"] = self.artefacts(label["img"])
        return label

    def build_transforms(self, hyp: Any) -> Compose:
        """The host's; images of one channel get the brightness of `hsv_v`, which the host gives to three only."""
        transforms = super().build_transforms(hyp)
        if self.channels == 1 and hyp.hsv_v:
            transforms.insert(-1, RandomBrightness(hyp.hsv_v))
        return transforms


class RandomBrightness(BaseTransform):
    """The gain that the host's `RandomHSV` gives to V, for images of one channel."""

    def __init__(self, gain: float) -> None:
        self.gain = gain

    def apply_image(self, labels: dict[str, Any], params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Multiply the grey values by 1 - gain to 1 + gain, at most 255."""
        factor = 1 + np.random.uniform(-1, 1) * self.gain
        labels["img"] = np.clip(labels["img"] * np.float32(factor), 0, 255).astype(labels["img"].dtype)
        return labels


def build_dataset(
    args: Any, img_path: str, batch: int | None, data: dict[str, Any], stride: int, mode: str = "train"
) -> ScanDataset:
    """`SpineDataset` for training, `ScanDataset` otherwise, with what the host's `build_yolo_dataset` would give them.

    Args:
        args: the run's arguments.
        img_path: images of the split.
        batch: images a batch.
        data: the dataset's dictionary.
        stride: of the model, in pixels.
        mode: "train", or "val" for square images without augmentation.
    """
    train = mode == "train"
    make = SpineDataset if train else ScanDataset
    return make(
        img_path=img_path,
        imgsz=args.imgsz,
        batch_size=batch,
        augment=train,
        hyp=args,
        rect=train and args.rect,
        cache=args.cache or None,
        single_cls=args.single_cls or False,
        stride=stride,
        pad=0.0 if train else 0.5,
        prefix=colorstr(f"{mode}: "),
        task=args.task,
        classes=args.classes,
        data=data,
        fraction=1.0 if data.get("complete") else get_split_fraction(args.fraction, "train" if train else args.split),
    )
