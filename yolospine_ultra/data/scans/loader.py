"""The host's loader of images and videos, with scans among the images."""

from __future__ import annotations

import cv2
import numpy as np
from ultralytics.data.loaders import LoadImagesAndVideos, LoadPilAndNumpy, SourceTypes, autocast_list
from ultralytics.utils import LOGGER
from ultralytics.utils.patches import imread

from yolospine_ultra.data.scans.scan import ScanError
from yolospine_ultra.data.scans.sources import SHOWN, Item, Sources, none_left
from yolospine_ultra.data.scans.view import Place


class ScanLoader(LoadImagesAndVideos):
    """Batches of images in the order of the source, then its videos, as the host gives them.

    A scan that cannot be read is named and left out; after the last one a line counts them. Where nothing could be read
    the iteration ends with a `ScanError`.

    Attributes:
        places: of each image of the current batch its `Place`, or None for an image that is no scan.
    """

    def __init__(self, sources: Sources, batch: int = 1, vid_stride: int = 1, channels: int = 3) -> None:
        # the host's constructor knows its own formats only
        self.items = [i for i in sources.items if not i.video] + [i for i in sources.items if i.video]
        self.files = [i.name for i in self.items]
        self.video_flag = [i.video for i in self.items]
        self.nf, self.ni = len(self.items), self.video_flag.count(False)
        self.mode = "image" if self.ni else "video"
        self.vid_stride, self.bs, self.n_channels = vid_stride, batch, channels
        self.cv2_flag = {1: cv2.IMREAD_GRAYSCALE, 3: cv2.IMREAD_COLOR}.get(channels, cv2.IMREAD_UNCHANGED)
        self.cap = None
        self.source_type = SourceTypes()
        self.refused = list(sources.errors)
        self.errors, self.given = list(self.refused), 0
        self.places: list[Place | None] = []
        if not self.ni:
            self._new_video(self.files[0])

    def __iter__(self) -> ScanLoader:
        """Start again at the first image."""
        self.errors, self.given = list(self.refused), 0
        return super().__iter__()

    def __next__(self) -> tuple[list[str], list[np.ndarray], list[str]]:
        """Paths, images (H, W, channels) and log lines of the next batch."""
        paths, images, info, self.places = [], [], [], []
        while self.count < self.ni and len(images) < self.bs:
            item = self.items[self.count]
            self.count += 1
            try:
                name, image, place = self._load(item)
            except ScanError as e:
                LOGGER.warning(str(e))
                self.errors.append(e)
                continue
            if image is None:
                LOGGER.warning(f"Image Read Error {item.name}")
                continue
            plane = f" (plane {place.index + 1} of {place.planes}" if place and place.planes > 1 else ""
            if plane:
                plane += f", cut across slices {place.cut_mm:.3g} mm apart)" if place.cut_mm else ")"
            paths.append(name)
            images.append(image)
            info.append(f"image {self.count}/{self.nf} {name}{plane}: ")
            self.places.append(place)
        if images:
            self.mode = "image"
            self.given += len(images)
            return paths, images, info
        try:
            return super().__next__()  # videos
        except StopIteration:
            self._sum_up()
            raise

    def _load(self, item: Item) -> tuple[str, np.ndarray | None, Place | None]:
        """Name, image and place of an item; no image where the host cannot read it."""
        if item.view:
            view = item.view()
            return str(view.place.file), view.channels(self.n_channels), view.place
        if item.memory is None:
            return item.name, imread(item.name, flags=self.cv2_flag), None
        image = autocast_list([item.memory])[0]
        name = getattr(image, "filename", "") or item.name
        return str(name), LoadPilAndNumpy._single_check(image, self.n_channels), None

    def _sum_up(self) -> None:
        """Say how many scans were left out; an error where nothing else was there."""
        if not self.errors:
            return
        if not self.given and self.ni == self.nf:
            raise none_left(self.errors)
        total = self.nf + len(self.refused)
        LOGGER.warning(f"{len(self.errors)} of {total} images and scans left out:")
        for e in self.errors[:SHOWN]:
            LOGGER.warning(f"  {e}")
        if len(self.errors) > SHOWN:
            LOGGER.warning(f"  and {len(self.errors) - SHOWN} more, named above")
