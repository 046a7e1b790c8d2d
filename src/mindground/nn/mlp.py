"""Feed-forward blocks."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import nn, ops

from mindground.nn.activations import Gelu
from mindground.nn.linear import Linear

__all__ = ["Mlp", "MultiLayerPerceptron"]


class Mlp(nn.Cell):
    """fc2(gelu(fc1(x))), the feed-forward half of a transformer block."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(width, hidden)
        self.act = Gelu()
        self.fc2 = Linear(hidden, width)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(..., width) -> the same shape."""
        return self.fc2(self.act(self.fc1(x)))


class MultiLayerPerceptron(nn.Cell):
    """Linear layers `layers.N` with ReLU between them and none after the last.

    Args:
        widths: input width, every hidden width, output width.
        start: see `Linear`.
    """

    def __init__(self, widths: Sequence[int], start: str = "kaiming_uniform") -> None:
        super().__init__()
        if len(widths) < 2:
            raise ValueError(f"widths={list(widths)}; give at least the input and the output width")
        self.layers = nn.CellList([Linear(a, b, start=start) for a, b in zip(widths[:-1], widths[1:], strict=True)])

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(..., widths[0]) -> (..., widths[-1])."""
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index < last:
                x = ops.relu(x)
        return x
