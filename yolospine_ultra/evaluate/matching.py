"""One-to-one matching of predictions with ground truth, best score first, class by class.

The order and the choice are those of the COCO evaluation (Lin et al. 2014): predictions by falling score, each takes
the free ground truth of its class that it overlaps most, if by at least the threshold.
"""

from __future__ import annotations

import numpy as np
import torch
from torchvision.ops import box_iou

from yolospine_ultra.evaluate.findings import ImageFindings


def iou_matrix(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU of boxes (N, 4) and (M, 4), x1 y1 x2 y2: (N, M) in 0..1; 0 for two boxes without area."""
    first, second = (torch.from_numpy(np.ascontiguousarray(x)) for x in (first, second))  # a view may be reversed
    return box_iou(first, second).nan_to_num(0.0).numpy()


def found_places(truth: ImageFindings, predicted: ImageFindings, iou: float = 0.5) -> np.ndarray:
    """Which places of ground truth some prediction covers, whatever the classes.

    Args:
        truth: labelled findings of an image; findings with one box are one place.
        predicted: findings in the same image.
        iou: least IoU, above 0 and at most 1.

    Returns:
        (P,) bool, one a different box of `truth`. One prediction may find several places that overlap.
    """
    return (iou_matrix(np.unique(truth.boxes, axis=0), predicted.boxes) >= iou).any(1)


def match_by_class(truth: ImageFindings, predicted: ImageFindings, iou: float = 0.5) -> np.ndarray:
    """Which prediction finds each ground truth.

    Args:
        truth: N labelled findings of an image.
        predicted: findings with scores in the same image; equal scores keep their order.
        iou: least IoU of a match, above 0 and at most 1.

    Returns:
        (N,) int64: index of the prediction of the same class that the ground truth is matched with, -1 for none. No
        prediction stands in it twice.

    Raises:
        ValueError: `predicted` has no scores, or `iou` is out of range.
    """
    if predicted.scores is None:
        raise ValueError(f"{predicted.name}: predictions need scores, but these findings have none")
    if not 0 < iou <= 1:
        raise ValueError(f"iou={iou}: expected above 0 and at most 1")
    overlap = iou_matrix(truth.boxes, predicted.boxes)
    overlap[truth.classes[:, None] != predicted.classes] = 0
    found = np.full(len(truth), -1, dtype=np.int64)
    if not len(truth):
        return found
    for k in np.argsort(-predicted.scores, kind="stable"):
        best = int(np.argmax(np.where(found < 0, overlap[:, k], -1.0)))
        if found[best] < 0 and overlap[best, k] >= iou:
            found[best] = k
    return found
