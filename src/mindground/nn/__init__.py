"""Building blocks that more than one family uses."""

from __future__ import annotations

from mindground.nn.activations import Gelu, QuickGelu
from mindground.nn.attention import Attention, attention_core
from mindground.nn.dropout import DropPath
from mindground.nn.linear import Linear
from mindground.nn.mlp import Mlp, MultiLayerPerceptron
from mindground.nn.norm import ChannelNorm, LayerNorm
from mindground.nn.resize import BilinearResize

__all__ = [
    "Attention",
    "BilinearResize",
    "ChannelNorm",
    "DropPath",
    "Gelu",
    "LayerNorm",
    "Linear",
    "Mlp",
    "MultiLayerPerceptron",
    "QuickGelu",
    "attention_core",
]
