"""The host's results of one image, with sizes in millimetres where its scan tells them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from ultralytics.engine.results import Results

from yolospine_ultra.data.scans import Place


class SpineResults(Results):
    """The host's `Results` of a detector.

    Attributes:
        place: file, plane and patient position of a scan's image (`yolospine_ultra.data.scans.Place`), None for other
            images. `place.patient_mm(points)` gives patient coordinates. Nothing in it names a patient but what the
            user's own file names say.
    """

    def __init__(self, *args: Any, place: Place | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.place = place

    @property
    def spacing_mm(self) -> tuple[float, float] | None:
        """Size of a pixel of `orig_img` (rows, columns) in mm, or None where unknown."""
        return self.place.spacing_mm if self.place else None

    @property
    def boxes_mm(self) -> Tensor | np.ndarray | None:
        """Boxes (n, 4), x1 y1 x2 y2 in mm from the image's upper left corner, or None where the spacing is unknown."""
        if self.boxes is None or self.spacing_mm is None:
            return None
        rows, columns = self.spacing_mm
        scale = [columns, rows, columns, rows]
        xyxy = self.boxes.xyxy
        return xyxy * (xyxy.new_tensor(scale) if isinstance(xyxy, torch.Tensor) else np.array(scale, xyxy.dtype))

    def new(self) -> SpineResults:
        """The same image without detections, as the host's."""
        result = SpineResults(
            orig_img=self.orig_img, path=self.path, names=self.names, speed=self.speed, place=self.place
        )
        result.save_dir = self.save_dir
        return result

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """The host's, a dictionary a box, with its `size_mm` (width, height) where the spacing is known.

        It is what `to_json`, `to_csv` and `to_df` write.
        """
        rows = super().summary(normalize, decimals)
        boxes = self.boxes_mm
        if boxes is not None:
            for row, (x1, y1, x2, y2) in zip(rows, boxes.tolist(), strict=True):
                row["size_mm"] = {"width": round(x2 - x1, decimals), "height": round(y2 - y1, decimals)}
        return rows
