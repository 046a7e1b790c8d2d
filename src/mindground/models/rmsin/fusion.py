"""What stands behind every stage of the image encoder: attention of pixels on words, gates, a visual branch."""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from mindground.nn.activations import Gelu
from mindground.nn.attention import Attention
from mindground.nn.batch_norm import BatchNorm2d
from mindground.nn.conv import Conv2d, Pointwise
from mindground.nn.linear import Linear
from mindground.nn.noise import Dropout
from mindground.nn.norm import InstanceNorm

__all__ = ["Gate", "PixelWordAttention", "StageFusion", "VariousReceptive"]

_MASKED = -1e4


class PixelWordAttention(nn.Cell):
    """Every pixel collects what the words say of it (LAVT, arXiv 2112.02244, section 3.2).

    Args:
        width: C of the stage.
        text_width: of a word.
        heads: they split the channels contiguously; the scale is C^-0.5 whatever their number (as upstream trained).
        dropout: on both projections, in training only.
    """

    def __init__(self, width: int, text_width: int, heads: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.vis_project = Pointwise(width, width)
        self.key = Pointwise(text_width, width)
        self.query = Pointwise(width, width)
        self.value = Pointwise(text_width, width)
        self.out = Pointwise(width, width)
        self.project_mm = Pointwise(width, width)
        self.act, self.norm, self.dropout = Gelu(), InstanceNorm(), Dropout(dropout)
        self.attention = Attention(heads, width // heads, scale=width**-0.5)

    def visual(self, x: ms.Tensor) -> ms.Tensor:
        """Pixels (B, N, C) -> their own factor of the product (B, N, C)."""
        return self.dropout(self.act(self.vis_project(x)))

    def queries(self, x: ms.Tensor) -> ms.Tensor:
        """Pixels (B, N, C) -> queries (B, N, C)."""
        return self.norm(self.query(x))

    def language(self, x: ms.Tensor, text: ms.Tensor, mask: ms.Tensor) -> ms.Tensor:
        """Pixels (B, N, C), words (B, T, Cl), mask (B, T) -> the factor of the words (B, N, C)."""
        keys, values = self.key(text), self.value(text)
        real = ops.broadcast_to(mask.expand_dims(-1), keys.shape)
        bias = ((1.0 - mask) * _MASKED).expand_dims(1).expand_dims(1)
        attended = self.attention(self.queries(x), keys * real, values * real, bias)
        return self.norm(self.out(attended))

    def construct(self, x: ms.Tensor, text: ms.Tensor, mask: ms.Tensor) -> ms.Tensor:
        """x (B, N, C), text (B, T, Cl), mask (B, T) float, 1 = a word -> (B, N, C)."""
        product = self.visual(x) * self.language(x, text, mask)
        return self.dropout(self.act(self.project_mm(product)))


class Gate(nn.Cell):
    """tanh(W2 relu(W1 x)), without biases: how much of a branch enters, for every channel of every pixel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = Linear(width, width, bias=False)
        self.fc2 = Linear(width, width, bias=False)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(..., C) -> the same shape."""
        return ops.tanh(self.fc2(ops.relu(self.fc1(x))))


class _ThreeBranches(nn.Cell):
    """3x3, 1x1 and identity branch on one channel, each normalised, summed."""

    def __init__(self) -> None:
        super().__init__()
        self.wide_conv1 = Conv2d(1, 1, bias=False)
        self.wide_bn1 = BatchNorm2d(1)
        self.wide_conv2 = Conv2d(1, 1, 3, padding=1, bias=False)
        self.wide_bn2 = BatchNorm2d(1)
        self.point_conv = Conv2d(1, 1, bias=False)
        self.point_bn = BatchNorm2d(1)
        self.same_bn = BatchNorm2d(1)

    def construct(self, z: ms.Tensor) -> ms.Tensor:
        wide = self.wide_bn2(self.wide_conv2(self.wide_bn1(self.wide_conv1(z))))
        return wide + self.point_bn(self.point_conv(z)) + self.same_bn(z)


class VariousReceptive(nn.Cell):
    """Weights of pixels from receptive fields of several sizes (RMSIN, arXiv 2312.12470: intra-scale interaction)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = _ThreeBranches()
        self.second = _ThreeBranches()
        self.product = ops.MatMul()

    def weights(self, x: ms.Tensor) -> ms.Tensor:
        """(B, H, W, C) -> weights (B, 1, H, W)."""
        batch, height, width, channels = x.shape
        mean = self.product(x.reshape((-1, channels)), ops.ones((channels, 1), x.dtype) * (1.0 / channels))
        inner = ops.relu(self.first(mean.reshape((batch, 1, height, width))))
        return ops.sigmoid(self.second(inner))

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(B, H, W, C) -> the same shape."""
        # A product with a row of ones is the spreading over channels that is fast on a CPU.
        spread = self.product(self.weights(x).reshape((-1, 1)), ops.ones((1, x.shape[3]), x.dtype))
        return x * spread.reshape(x.shape)


class StageFusion(nn.Cell):
    """Hook of a Swin stage: exports what the words say, hands the gated sum on.

    Args:
        width, text_width, heads, dropout: of the attention.
        visual: whether the visual branch of RMSIN stands beside that of the words.
        last: no stage follows: the gates exist, because files have them, and are not computed.
    """

    def __init__(
        self, width: int, text_width: int, heads: int, dropout: float, visual: bool, last: bool = False
    ) -> None:
        super().__init__()
        self.has_visual, self.last = visual, last
        self.fusion = PixelWordAttention(width, text_width, heads, dropout)
        self.res_gate = Gate(width)
        if visual:
            self.visual_residual = VariousReceptive()
            self.visual_gate = Gate(width)
        if last:
            for cell in (self.res_gate, *((self.visual_residual, self.visual_gate) if visual else ())):
                for parameter in cell.get_parameters():
                    parameter.requires_grad = False

    def gated(self, x: ms.Tensor, fused: ms.Tensor) -> ms.Tensor:
        """Tokens and the attention's result, both (B, H, W, C) -> what the next stage starts from."""
        total = x + self.res_gate(fused) * fused
        if self.has_visual:
            seen = self.visual_residual(x)
            total = total + self.visual_gate(seen) * seen
        return total

    def construct(self, x: ms.Tensor, text: ms.Tensor, mask: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        """x (B, H, W, C), text (B, T, Cl), mask (B, T) -> exported map and the map that goes on, both (B, H, W, C)."""
        batch, height, width, channels = x.shape
        fused = self.fusion(x.reshape((batch, height * width, channels)), text, mask).reshape(x.shape)
        return (fused, fused) if self.last else (fused, self.gated(x, fused))
