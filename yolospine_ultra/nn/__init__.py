"""Blocks and heads; importing this package registers all of them."""

from yolospine_ultra.nn.area_attention import A2, AreaAttention
from yolospine_ultra.nn.dde import DDEDetect
from yolospine_ultra.nn.dense_c2f import DenseC2f
from yolospine_ultra.nn.gelan import GELAN
from yolospine_ultra.nn.mldr import MLDR
from yolospine_ultra.nn.relan import RELAN
from yolospine_ultra.nn.spine_detect import SpineDetect

__all__ = ["A2", "GELAN", "MLDR", "RELAN", "AreaAttention", "DDEDetect", "DenseC2f", "SpineDetect"]
