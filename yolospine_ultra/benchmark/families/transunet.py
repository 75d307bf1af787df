"""TransUNet: a convolutional U-Net whose deepest map passes through a Vision Transformer.

Source: Chen et al. 2021, "TransUNet: Transformers Make Strong Encoders for Medical Image Segmentation", sections 3.1
and 3.2. Encoder: timm's hybrid of a ResNet-50 without its last stage and a ViT-B/16 (there R50-ViT-B/16). Decoder:
the U-Net's of segmentation-models-pytorch, with skips at 1/2, 1/4 and 1/8. Deviation: random initialisation instead of
ImageNet-21k's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

BRIDGE = 512  # channels between transformer and decoder, as in the original
DECODER = (256, 128, 64, 16)  # likewise


class TransUNet(nn.Module):
    """One map of logits a class, at the size of the input. (B, C, S, S) -> (B, classes, S, S)."""

    def __init__(
        self,
        classes: int,
        imgsz: int,
        channels: int = 3,
        vit: str = "vit_base_r50_s16_384",
        vit_args: Mapping[str, Any] | None = None,
    ) -> None:
        """Build with random weights.

        Args:
            classes: maps.
            imgsz: side of the input, a multiple of 16; the position embedding is made for it.
            channels: input channels.
            vit: a hybrid model of timm with a ResNetV2 stem of stride 16.
            vit_args: arguments of that model that differ from its own, such as ``{"depth": 2}``.
        """
        import timm
        from segmentation_models_pytorch.base import SegmentationHead
        from segmentation_models_pytorch.base.modules import Conv2dReLU
        from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder

        super().__init__()
        self.encoder = timm.create_model(
            vit, pretrained=False, num_classes=0, global_pool="", img_size=imgsz, in_chans=channels, **(vit_args or {})
        )
        resnet = self.encoder.patch_embed.backbone
        skips = [resnet.stem.conv.out_channels, *(s["num_chs"] for s in resnet.feature_info[1:-1])]
        self.bridge = Conv2dReLU(self.encoder.embed_dim, BRIDGE, 3, padding=1, use_norm="batchnorm")
        self.decoder = UnetDecoder([channels, *skips, BRIDGE], DECODER, n_blocks=len(DECODER))
        self.head = SegmentationHead(DECODER[-1], classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits."""
        resnet = self.encoder.patch_embed.backbone
        x = resnet.stem.norm(resnet.stem.conv(images))
        maps = [images, x]
        x = resnet.stem.pool(x)
        for stage in resnet.stages:
            x = stage(x)
            maps.append(x)
        maps[-1] = self.bridge(self.transform(resnet.norm(x)))
        return self.head(self.decoder(maps))

    def transform(self, x: torch.Tensor) -> torch.Tensor:
        """The map of 1/16 after the transformer, (B, c, h, w) -> (B, embed_dim, h, w)."""
        vit = self.encoder
        x = vit.patch_embed.proj(x)
        height, width = x.shape[-2:]
        tokens = vit.norm_pre(vit._pos_embed(x.flatten(2).transpose(1, 2)))
        tokens = vit.norm(vit.blocks(tokens))[:, vit.num_prefix_tokens :]  # without the class token
        return tokens.transpose(1, 2).unflatten(2, (height, width))
