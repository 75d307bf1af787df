"""Cascade R-CNN R50-FPN by an installed Detectron2, the paper's row "Detectron2" by the library itself.

Source: ``Misc/cascade_mask_rcnn_R_50_FPN_3x.yaml`` of Detectron2's model zoo without the mask branch. Deviations: from
scratch, hence its own settings for that (group normalisation in the ResNet, stride in the 3 x 3 convolution, nothing
frozen); input, normalisation, augmentation and training loop are the benchmark's; 300 detections with scores down to
0.001. PyPI has no Detectron2: https://detectron2.readthedocs.io says how to install it. `families.cascade_rcnn` needs
no such thing, and no row of one family is ever served by the other.
"""

from __future__ import annotations

from typing import Any

import torch

from yolospine_ultra.benchmark.families.data import Targets
from yolospine_ultra.benchmark.families.network import DetectionNetwork, Found
from yolospine_ultra.benchmark.families.torch_family import TorchFamily
from yolospine_ultra.benchmark.family import MAX_FINDINGS, MIN_SCORE, Budget, CellData, ModelEntry


class Detectron2Network(DetectionNetwork):
    """A model of Detectron2 that takes and gives what the benchmark's networks do."""

    def __init__(self, config: str, options: dict[str, Any], classes: int, channels: int) -> None:
        """Build with random weights.

        Args:
            config: a configuration of Detectron2's model zoo.
            options: keys of that configuration that differ, such as ``{"MODEL.RESNETS.DEPTH": 18}``.
            classes: number of classes.
            channels: input channels.

        Raises:
            ImportError: Detectron2 is not installed.
        """
        try:
            from detectron2 import model_zoo
            from detectron2.modeling import build_model
        except ImportError as error:
            raise ImportError(
                f"Detectron2 cannot be imported ({error}); see https://detectron2.readthedocs.io for its installation, "
                "or take the row cascade-rcnn-r50."
            ) from error
        super().__init__()
        cfg = model_zoo.get_config(config)
        own = {
            "MODEL.DEVICE": "cpu",  # the loop moves it
            "MODEL.WEIGHTS": "",
            "MODEL.MASK_ON": False,
            "MODEL.PIXEL_MEAN": [0.5] * channels,
            "MODEL.PIXEL_STD": [0.25] * channels,
            "MODEL.RESNETS.NORM": "GN",
            "MODEL.RESNETS.STRIDE_IN_1X1": False,
            "MODEL.BACKBONE.FREEZE_AT": 0,
            "MODEL.ROI_HEADS.NUM_CLASSES": classes,
            "MODEL.ROI_HEADS.SCORE_THRESH_TEST": MIN_SCORE,
            "TEST.DETECTIONS_PER_IMAGE": MAX_FINDINGS,
        }
        cfg.merge_from_list([x for pair in (own | options).items() for x in pair])
        self.model = build_model(cfg)

    def forward(self, images: torch.Tensor) -> list[Any]:
        """Detectron2's `Instances` of each image, suppressed."""
        height, width = images.shape[-2:]
        inputs = [{"image": image, "height": height, "width": width} for image in images]
        return [result["instances"] for result in self.model(inputs)]

    def loss(self, images: torch.Tensor, targets: list[Targets]) -> dict[str, torch.Tensor]:
        """Two terms of the proposals and two a stage."""
        from detectron2.structures import Boxes, Instances
        from detectron2.utils.events import EventStorage

        size = tuple(images.shape[-2:])
        inputs = [
            {"image": image, "instances": Instances(size, gt_boxes=Boxes(t.boxes), gt_classes=t.classes)}
            for image, t in zip(images, targets, strict=True)
        ]
        with EventStorage():  # its heads log into one
            return self.model(inputs)

    def found(self, output: list[Any]) -> list[Found]:
        """Boxes, classes and scores as Detectron2 gives them."""
        return [
            Found(x.pred_boxes.tensor.cpu().numpy(), x.pred_classes.cpu().numpy(), x.scores.clamp(0, 1).cpu().numpy())
            for x in output
        ]


class Detectron2Family(TorchFamily):
    """`build` has `config`, of Detectron2's model zoo, and may have `options` of it."""

    packages = ("detectron2",)
    install = "see https://detectron2.readthedocs.io, PyPI has none"

    def build(self, entry: ModelEntry, data: CellData, budget: Budget) -> Detectron2Network:
        """See `Detectron2Network`."""
        options = entry.build.get("options", {})
        return Detectron2Network(entry.build["config"], options, len(data.names), data.channels)


FAMILY = Detectron2Family()

ROWS = (
    ModelEntry(
        "detectron2-cascade-r50",
        "detectron2",
        {"config": "Misc/cascade_mask_rcnn_R_50_FPN_3x.yaml"},
        recipe={"lr0": 3e-4},
        paper="Detectron2",
        note="Detectron2 itself, Cascade R-CNN R50-FPN from scratch with group normalisation.",
    ),
)
