"""Small untrained networks of every family, with normalisation that is settled so that signals reach their ends."""

import torch
from torch import nn
from ultralytics.nn.tasks import DetectionModel, RTDETRDetectionModel, SegmentationModel

from yolospine_ultra.benchmark.families.segmentation import SegmentationDetector
from yolospine_ultra.engine.model import PluginDetectionModel

NAMES = ["a", "b", "c"]
SIZE = 64

_RTDETR = {
    "nc": 3,
    "backbone": [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [16, 3, 4]], [-1, 1, "Conv", [24, 3, 2]]],
    "head": [[-1, 1, "Conv", [32, 3, 2]], [[1, 2, 3], 1, "RTDETRDecoder", ["nc", 32, 20, 4, 4, 2, 32]]],
}


class TinyMasks(nn.Module):
    """A segmentation network of two layers, its parts named as those of segmentation-models-pytorch."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.SiLU())
        self.decoder = nn.Sequential(nn.Conv2d(8, 6, 3, padding=1), nn.SiLU())
        self.segmentation_head = nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, images):
        return self.segmentation_head(self.decoder(self.encoder(images)))


def build(name):
    """A network by name, in evaluation mode."""
    torch.manual_seed(0)
    made = {
        "rtdetr": lambda: RTDETRDetectionModel(_RTDETR, verbose=False),
        "masks": lambda: SegmentationDetector(TinyMasks(), 3),
        "yolo11n-seg": lambda: SegmentationModel("yolo11n-seg.yaml", nc=3, verbose=False),
    }
    stock = (
        (lambda: PluginDetectionModel(f"{name}.yaml", nc=3, verbose=False))
        if "spine" in name
        else (lambda: DetectionModel(f"{name}.yaml", nc=3, verbose=False))
    )
    return settle(made.get(name, stock)())


def settle(network):
    """Statistics of normalisation from random images, class biases around 0, evaluation mode."""
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [m.momentum for m in norms]
    for m in norms:
        m.momentum = 1.0
    network.train()
    with torch.no_grad():
        for m in network.modules():
            for branch in (getattr(m, "cv3", None), getattr(m, "one2one_cv3", None)):
                for level in branch if isinstance(branch, nn.ModuleList) else ():
                    nn.init.normal_(level[-1].bias)
        network(images(4)) if isinstance(network, SegmentationDetector) else network.predict(images(4))
    for m, momentum in zip(norms, momenta, strict=True):
        m.momentum = momentum
    return network.eval()


def images(count=1, size=SIZE):
    """Random smooth images (count, 3, size, size)."""
    rng = torch.Generator().manual_seed(1)
    small = torch.rand(count, 3, size // 8, size // 8, generator=rng)
    return nn.functional.interpolate(small, size=(size, size), mode="bilinear")
