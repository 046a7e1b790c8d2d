"""MSAM's fusion in PyTorch: both kernels, Swin blocks, compression."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

__all__ = ["ConvUnit", "KernelFusion"]


class ConvUnit(nn.Module):
    """Convolution, BatchNorm, LeakyReLU of slope 0.1."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, out, H', W')."""
        return functional.leaky_relu(self.bn(self.conv(x)), 0.1)


class Broadcast(nn.Module):
    """Every channel times a number of the sentence."""

    def __init__(self, width: int, text: int) -> None:
        super().__init__()
        self.proj = nn.Linear(text, width)

    def forward(self, x: torch.Tensor, sentence: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C), (B, D) -> (B, H, W, C)."""
        return x * self.proj(sentence).sigmoid()[:, None, None]


class CrossAttention(nn.Module):
    """Pixels look at words."""

    def __init__(self, width: int, text: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.proj = nn.Linear(width, width), nn.Linear(width, width)
        self.k, self.v = nn.Linear(text, width), nn.Linear(text, width)

    def forward(self, x: torch.Tensor, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C), (B, T, D), (B, T) -> (B, H, W, C)."""
        parts = [
            item.flatten(1, -2).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for item in (self.q(x), self.k(words), self.v(words))
        ]
        found = functional.scaled_dot_product_attention(*parts, attn_mask=(mask > 0)[:, None, None])
        return self.proj(found.transpose(1, 2).reshape(x.shape))


class WindowAttention(nn.Module):
    """Attention within windows, with a learned bias by relative places."""

    def __init__(self, width: int, window: int, heads: int) -> None:
        super().__init__()
        self.heads, self.count = heads, window * window
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        rows, columns = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        rows, columns = rows.flatten(), columns.flatten()
        index = (rows[:, None] - rows + window - 1) * (2 * window - 1) + columns[:, None] - columns + window - 1
        self.register_buffer("index", index.flatten(), persistent=False)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """(windows, N, C), (windows of an image, N, N) -> (windows, N, C)."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.index].view(self.count, self.count, -1).permute(2, 0, 1)
        scores = q * q.shape[-1] ** -0.5 @ k.transpose(2, 3) + bias
        if mask is not None:
            scores = (scores.unflatten(0, (-1, len(mask))) + mask[:, None]).flatten(0, 1)
        return self.proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


class SwinBlock(nn.Module):
    """Window attention and a feed-forward layer, pre-norm."""

    def __init__(self, width: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = WindowAttention(width, window, heads)
        self.mlp = nn.Module()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) -> (B * windows, N, C)."""
        size = self.window
        rows, columns = x.shape[1] // size, x.shape[2] // size
        x = x.reshape(len(x), rows, size, columns, size, -1).transpose(2, 3)
        return x.reshape(-1, size * size, x.shape[-1])

    def _mask(self, height: int, width: int) -> torch.Tensor:
        """(windows, N, N): -100 between regions that the shift put side by side."""
        regions = torch.zeros(1, height, width, 1)
        cuts = (slice(0, -self.window), slice(-self.window, -self.shift), slice(-self.shift, None))
        for number in range(9):
            regions[:, cuts[number // 3], cuts[number % 3]] = number
        regions = self._split(regions)[..., 0]
        return (regions[:, :, None] != regions[:, None]).float() * -100

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) -> the same shape."""
        _, height, width, channels = x.shape
        size = self.window
        y = functional.pad(self.norm1(x), (0, 0, 0, -width % size, 0, -height % size))
        rows, columns = y.shape[1], y.shape[2]
        if self.shift:
            y = y.roll((-self.shift, -self.shift), (1, 2))
        y = self.attn(self._split(y), self._mask(rows, columns) if self.shift else None)
        y = y.reshape(len(x), rows // size, columns // size, size, size, channels).transpose(2, 3)
        y = y.reshape(len(x), rows, columns, channels)
        if self.shift:
            y = y.roll((self.shift, self.shift), (1, 2))
        x = x + y[:, :height, :width]
        return x + self.mlp.fc2(functional.gelu(self.mlp.fc1(self.norm2(x))))


class Merging(nn.Module):
    """Halves height and width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) -> (B, H / 2, W / 2, 2 C)."""
        x = functional.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        quarters = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(quarters, -1)))


class Stage(nn.Module):
    """One resolution of the fusion."""

    def __init__(self, width: int, out: int, merges: bool, text: int, depth: int, head: int, window: int) -> None:
        super().__init__()
        self.qcb, self.ca = Broadcast(width, text), CrossAttention(width, text, width // head)
        self.swin = nn.Module()
        self.swin.blocks = nn.ModuleList(
            SwinBlock(width, width // head, window, window // 2 * (i % 2)) for i in range(depth)
        )
        self.kc = nn.Module()
        self.kc.pm = Merging(2 * width) if merges else None
        wide = 4 * width if merges else 2 * width
        self.kc.conv = nn.Sequential(ConvUnit(wide, out, 1), ConvUnit(out, out, 3), ConvUnit(out, out, 1))

    def forward(
        self, x: torch.Tensor, before: torch.Tensor | None, words: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """(B, H, W, C) -> (B, H', W', out)."""
        y = self.qcb(x, words[:, 0])
        y = y if before is None else y + before
        for block in self.swin.blocks:
            y = block(y)
        y = torch.cat([self.ca(x, words, mask), y], -1)
        if self.kc.pm is not None:
            y = self.kc.pm(y)
        return self.kc.conv(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class KernelFusion(nn.Module):
    """Three stages, fine to coarse."""

    def __init__(self, widths: Sequence[int], text: int, depths: Sequence[int], head: int, window: int) -> None:
        super().__init__()
        last = len(widths) - 1
        self.stages = nn.ModuleList(
            Stage(width, widths[min(i + 1, last)], i < last, text, depths[i], head, window)
            for i, width in enumerate(widths)
        )

    def forward(self, maps: Sequence[torch.Tensor], words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Maps (B, C_i, H_i, W_i), words (B, T, D), mask (B, T) -> (B, C, h, w)."""
        found = None
        for stage, x in zip(self.stages, maps, strict=True):
            found = stage(x.permute(0, 2, 3, 1), found, words, mask)
        assert found is not None
        return found.permute(0, 3, 1, 2)
