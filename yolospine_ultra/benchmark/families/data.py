"""Images and labels of a cell for the families that are trained by this package's own loop.

Training images go through Ultralytics' augmentations by a subclass of its dataset, so that a segmentation network or a
two-stage detector sees what every YOLO sees at the same seed's policy: mosaic, random scale and shift, HSV, flip. Two
things differ: the images are those of the cell's list instead of a folder's, and labels are read by `data.labels`
without the `labels.cache` that the host leaves in the data set.

Images to detect in are read and letterboxed by the host's functions too, as its predictor does for a fixed square.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader
from ultralytics.cfg import get_cfg
from ultralytics.data.augment import LetterBox
from ultralytics.data.build import seed_worker
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import img2label_paths
from ultralytics.utils import LOGGER, ops
from ultralytics.utils.patches import imread

from yolospine_ultra.benchmark.family import Budget, CellData
from yolospine_ultra.data.labels import read_labels

AUGMENTATION = frozenset(
    {"hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "scale", "shear", "perspective", "flipud", "fliplr", "bgr"}
    | {"mosaic", "mixup", "cutmix"}
)


@dataclass(frozen=True)
class Targets:
    """What is to be found in one training image.

    Attributes:
        boxes: (N, 4) float32, x1 y1 x2 y2 in pixels of the network's input.
        classes: (N,) int64; a box with several classes stands here once for each.
    """

    boxes: torch.Tensor
    classes: torch.Tensor


class CellImages(YOLODataset):
    """The training images of a cell, augmented by the host."""

    def __init__(self, data: CellData, budget: Budget, augmentation: Mapping[str, Any]) -> None:
        """Read the labels.

        Args:
            data: the cell's files.
            budget: gives the input size and the batch, by which the host sizes its buffer of mosaic images.
            augmentation: values of `AUGMENTATION`; the host's defaults for the others.

        Raises:
            ValueError: there is no training image with readable labels.
        """
        self.hyp = get_cfg(overrides=dict(augmentation))
        super().__init__(
            img_path=[str(f) for f in data.train],
            imgsz=budget.imgsz,
            batch_size=budget.batch,
            hyp=self.hyp,
            data={"names": data.names, "nc": len(data.names), "channels": data.channels},
        )

    def get_img_files(self, img_path: list[str]) -> list[str]:
        """The list itself; the host would look for folders."""
        return img_path

    def get_labels(self) -> list[dict]:
        """Labels in the host's form. An image whose labels cannot be read is left out: it is no negative."""
        labels, files = [], []
        for file, label in zip(self.im_files, img2label_paths(self.im_files), strict=True):
            rows, problems = np.zeros((0, 5)), []
            if Path(label).is_file():
                rows, problems = read_labels(label, len(self.data["names"]))
            for problem in problems:
                LOGGER.warning(str(problem))
            if rows is None:
                continue
            files.append(file)
            labels.append(
                {
                    "im_file": file,
                    "cls": rows[:, :1].astype(np.float32),
                    "bboxes": rows[:, 1:].astype(np.float32),
                    "segments": [],
                    "keypoints": None,
                    "normalized": True,
                    "bbox_format": "xywh",
                }
            )
        if not labels:
            raise ValueError("None of the cell's training images has readable labels; check the data set's labels.")
        self.im_files = files
        return labels

    def plain(self) -> None:
        """Switch mosaic and mixing off, as the host does for its last epochs."""
        self.close_mosaic(self.hyp)


def loader(images: CellImages, budget: Budget) -> DataLoader:
    """Shuffled batches in an order of the seed; augmentations draw from `random` and NumPy, which the caller seeds."""
    return DataLoader(
        images,
        batch_size=budget.batch,
        shuffle=True,
        num_workers=budget.workers,
        worker_init_fn=seed_worker,
        generator=torch.Generator().manual_seed(budget.seed),
        collate_fn=YOLODataset.collate_fn,
    )


def unpack(batch: dict[str, Any], device: torch.device) -> tuple[torch.Tensor, list[Targets]]:
    """Images (B, C, S, S) in 0..1 and the targets of each, on `device`, from a batch of the loader."""
    images = batch["img"].to(device).float() / 255
    size = images.shape[-1]
    boxes = ops.xywh2xyxy(batch["bboxes"].float()) * size
    classes = batch["cls"].reshape(-1).long()
    return images, [
        Targets(boxes[mine].to(device), classes[mine].to(device))
        for mine in (batch["batch_idx"] == i for i in range(len(images)))
    ]


def read_input(file: Path, imgsz: int, channels: int) -> tuple[torch.Tensor, tuple[int, int]]:
    """An image file as input of a network.

    Args:
        file: image file.
        imgsz: side of the square input; the image is scaled into it and padded with grey.
        channels: 1 or 3, RGB.

    Returns:
        (1, channels, imgsz, imgsz) float32 in 0..1; and height and width of the file's image, which
        `ultralytics.utils.ops.scale_boxes` takes to bring boxes back.

    Raises:
        ValueError: the file cannot be read as an image.
    """
    image = imread(file, flags=cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{file} cannot be read as an image; expected a file that OpenCV decodes.")
    boxed = LetterBox((imgsz, imgsz))(image=image)
    planes = boxed.reshape(imgsz, imgsz, channels)[..., ::-1].transpose(2, 0, 1)
    return torch.from_numpy(planes.copy())[None].float() / 255, image.shape[:2]
