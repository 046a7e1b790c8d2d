"""MSAM's fusion: at each of three resolutions two kernels see the sentence and the words, and one map goes on.

The authors released no code of it. This follows the figure of their repository; what the figure leaves open is decided
here and told on the family's page (docs/models/seqtr.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import nn, ops

from mindground.backbones.darknet import ConvUnit
from mindground.backbones.swin import PatchMerging, SwinBlock
from mindground.nn.attention import Attention
from mindground.nn.linear import Linear

__all__ = ["AGGREGATES", "MODES", "ChannelBroadcast", "CrossAttention", "KernelCompress", "KernelFusion", "Selective"]

MODES = ("mixed", "qb", "ca")
AGGREGATES = ("kc", "sk")
_FAR = 1e9


class ChannelBroadcast(nn.Cell):
    """Query-channel broadcast: every channel times a number that the sentence gives.

    Args:
        width: C of the map.
        text: D of the sentence.
        activation: sigmoid, or tanh as in SeqTR.
    """

    def __init__(self, width: int, text: int, activation: str = "sigmoid") -> None:
        super().__init__()
        if activation not in ("sigmoid", "tanh"):
            raise ValueError(f"activation={activation!r}; choose sigmoid or tanh")
        self.squashes = activation == "tanh"
        self.proj = Linear(text, width, start="kaiming_uniform")

    def construct(self, x: ms.Tensor, sentence: ms.Tensor) -> ms.Tensor:
        """x (B, H, W, C), sentence (B, D) -> (B, H, W, C)."""
        gate = self.proj(sentence)
        gate = ops.tanh(gate) if self.squashes else ops.sigmoid(gate)
        return x * ops.broadcast_to(gate.expand_dims(1).expand_dims(1), (gate.shape[0],) + x.shape[1:])


class CrossAttention(nn.Cell):
    """Attention of every pixel on the words; no positions, no residual, no norm."""

    def __init__(self, width: int, text: int, heads: int) -> None:
        super().__init__()
        self.q = Linear(width, width, start="kaiming_uniform")
        self.k = Linear(text, width, start="kaiming_uniform")
        self.v = Linear(text, width, start="kaiming_uniform")
        self.proj = Linear(width, width, start="kaiming_uniform")
        self.attention = Attention(heads, width // heads)

    def construct(self, x: ms.Tensor, words: ms.Tensor, real: ms.Tensor) -> ms.Tensor:
        """x (B, H, W, C), words (B, T, D), real (B, T) float32 -> (B, H, W, C)."""
        batch, height, width, channels = x.shape
        queries = self.q(x).reshape((batch, height * width, channels))
        bias = ((real - 1.0) * _FAR).expand_dims(1).expand_dims(1)
        found = self.attention(queries, self.k(words), self.v(words), bias)
        return self.proj(found).reshape(x.shape)


class Selective(nn.Cell):
    """Selective kernels (Li et al., arXiv 1903.06586): per channel a soft choice between two maps."""

    def __init__(self, width: int) -> None:
        super().__init__()
        narrow = max(width // 16, 32)
        self.fc = Linear(width, narrow, start="kaiming_uniform")
        self.fcs = nn.CellList([Linear(narrow, width, start="kaiming_uniform") for _ in range(2)])

    def construct(self, a: ms.Tensor, b: ms.Tensor) -> ms.Tensor:
        """Two maps (B, H, W, C) -> one."""
        batch, height, width, channels = a.shape
        mean = (a + b).reshape((batch, height * width, channels)).mean(1)
        z = ops.relu(self.fc(mean))
        # Softmax over two is a sigmoid of the difference.
        share = ops.sigmoid(self.fcs[0](z) - self.fcs[1](z))
        share = ops.broadcast_to(share.expand_dims(1).expand_dims(1), a.shape)
        return b + share * (a - b)


class KernelCompress(nn.Cell):
    """Patch merging (not at the last stage), then three convolutions.

    Args:
        width: channels that come in.
        out: channels that leave.
        merges: whether the map is halved.
    """

    def __init__(self, width: int, out: int, merges: bool) -> None:
        super().__init__()
        self.merges = merges
        if merges:
            self.pm = PatchMerging(width)
            width *= 2
        self.conv = nn.CellList([ConvUnit(width, out, 1), ConvUnit(out, out, 3), ConvUnit(out, out, 1)])

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(B, H, W, width) -> (B, H', W', out)."""
        if self.merges:
            x = self.pm(x)
        x = ops.transpose(x, (0, 3, 1, 2))
        for unit in self.conv:
            x = unit(x)
        return ops.transpose(x, (0, 2, 3, 1))


class _Blocks(nn.Cell):
    """Swin blocks in pairs, plain and shifted."""

    def __init__(self, width: int, heads: int, window: int, depth: int) -> None:
        super().__init__()
        self.blocks = nn.CellList([SwinBlock(width, heads, window, (window // 2) * (i % 2)) for i in range(depth)])

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class KernelStage(nn.Cell):
    """One resolution: both kernels, Swin blocks over the first and what the stage before gave, then compression."""

    def __init__(
        self, width: int, out: int, merges: bool, text: int, heads: int, window: int, depth: int, mode: str,
        activation: str, aggregate: str,
    ) -> None:  # fmt: skip
        super().__init__()
        self.broadcasts, self.attends, self.selects = mode != "ca", mode != "qb", mode != "qb" and aggregate == "sk"
        if self.broadcasts:
            self.qcb = ChannelBroadcast(width, text, activation)
        if self.attends:
            self.ca = CrossAttention(width, text, heads)
        self.swin = _Blocks(width, heads, window, depth)
        if self.selects:
            self.sk = Selective(width)
        self.kc = KernelCompress(width if self.selects or not self.attends else 2 * width, out, merges)

    def construct(
        self, x: ms.Tensor, before: ms.Tensor | None, sentence: ms.Tensor, words: ms.Tensor, real: ms.Tensor
    ) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor, ms.Tensor]:
        """x (B, H, W, C) and the stage before's result -> first kernel, Swin's map, second kernel, result.

        Without cross attention Swin's map stands in the place of the second kernel.
        """
        first = self.qcb(x, sentence) if self.broadcasts else x
        swin = self.swin(first if before is None else first + before)
        if not self.attends:
            return first, swin, swin, self.kc(swin)
        second = self.ca(x, words, real)
        joined = self.sk(second, swin) if self.selects else ops.concat((second, swin), -1)
        return first, swin, second, self.kc(joined)


class KernelFusion(nn.Cell):
    """Three stages, fine to coarse.

    Args:
        widths: channels of the three maps, each twice the one before.
        text: D of sentence and words.
        depths: Swin blocks of every stage.
        head_dim: channels of a head, of both attentions.
        window: of the Swin blocks.
        mode: mixed, qb (no cross attention) or ca (no broadcast).
        activation: of the broadcast, sigmoid or tanh.
        aggregate: kc joins both kernels and compresses them, sk chooses between them first.

    Attributes:
        width: channels of the result.
    """

    def __init__(
        self,
        widths: Sequence[int],
        text: int,
        depths: Sequence[int] = (2, 2, 2),
        head_dim: int = 32,
        window: int = 7,
        mode: str = "mixed",
        activation: str = "sigmoid",
        aggregate: str = "kc",
    ) -> None:
        super().__init__()
        if mode not in MODES or aggregate not in AGGREGATES:
            raise ValueError(f"mode={mode!r}, aggregate={aggregate!r}; choose of {MODES} and {AGGREGATES}")
        self.width = widths[-1]
        last = len(widths) - 1
        self.stages = nn.CellList(
            [
                KernelStage(
                    width, widths[min(i + 1, last)], i < last, text, width // head_dim, window, depths[i], mode,
                    activation, aggregate,
                )
                for i, width in enumerate(widths)
            ]
        )  # fmt: skip

    def construct(
        self, maps: tuple[ms.Tensor, ...], sentence: ms.Tensor, words: ms.Tensor, real: ms.Tensor
    ) -> ms.Tensor:
        """Maps (B, C_i, H_i, W_i), sentence (B, D), words (B, T, D), real (B, T) -> (B, width, h, w)."""
        found = None
        for index in range(len(self.stages)):
            x = ops.transpose(maps[index], (0, 2, 3, 1))
            found = self.stages[index](x, found, sentence, words, real)[3]
        return ops.transpose(found, (0, 3, 1, 2))
