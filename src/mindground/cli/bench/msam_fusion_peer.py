"""MSAM's fusion in PyTorch: both kernels, Swin blocks, compression."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from mindground.cli.bench.swin_peer import Block, Merging

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
        q, k, v = (
            item.flatten(1, -2).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for item in (self.q(x), self.k(words), self.v(words))
        )
        found = functional.scaled_dot_product_attention(q, k, v, attn_mask=(mask > 0)[:, None, None])
        return self.proj(found.transpose(1, 2).reshape(x.shape))


class _Blocks(nn.Module):
    """Swin blocks under the name that files give them."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) -> the same shape."""
        return self.blocks(x)


class _Compress(nn.Module):
    """Patch merging, unless the stage is the last, and three convolutions."""

    def __init__(self, width: int, out: int, merges: bool) -> None:
        super().__init__()
        self.pm = Merging(2 * width) if merges else None
        wide = 4 * width if merges else 2 * width
        self.conv = nn.Sequential(ConvUnit(wide, out, 1), ConvUnit(out, out, 3), ConvUnit(out, out, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, 2 C) -> (B, H', W', out)."""
        x = x if self.pm is None else self.pm(x)
        return self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Stage(nn.Module):
    """One resolution of the fusion."""

    def __init__(self, width: int, out: int, merges: bool, text: int, depth: int, head: int, window: int) -> None:
        super().__init__()
        self.qcb, self.ca = Broadcast(width, text), CrossAttention(width, text, width // head)
        self.swin = _Blocks([Block(width, width // head, window, window // 2 * (i % 2)) for i in range(depth)])
        self.kc = _Compress(width, out, merges)

    def forward(
        self, x: torch.Tensor, before: torch.Tensor | None, words: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """(B, H, W, C) -> (B, H', W', out)."""
        y = self.qcb(x, words[:, 0])
        y = y if before is None else y + before
        return self.kc(torch.cat([self.ca(x, words, mask), self.swin(y)], -1))


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
