"""Swin's blocks in PyTorch, written down as published; names are those of Microsoft's files."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

__all__ = ["Block", "Merging", "PatchEmbed"]


class PatchEmbed(nn.Module):
    """4 x 4 patches, normalised."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj, self.norm = nn.Conv2d(3, width, 4, 4), nn.LayerNorm(width)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, H / 4, W / 4, C)."""
        right, below = -image.shape[3] % 4, -image.shape[2] % 4
        return self.norm(self.proj(functional.pad(image, (0, right, 0, below))).permute(0, 2, 3, 1))


class _Attention(nn.Module):
    index: torch.Tensor

    def __init__(self, width: int, window: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        place = torch.cartesian_prod(torch.arange(window), torch.arange(window))
        apart = place[:, None] - place[None] + window - 1
        self.register_buffer("index", apart[..., 0] * (2 * window - 1) + apart[..., 1], persistent=False)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """(B * windows, N, C), mask (windows, N, N) -> (B * windows, N, C)."""
        number, count, width = x.shape
        q, k, v = self.qkv(x).reshape(number, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.index.flatten()].reshape(count, count, -1).permute(2, 0, 1)
        bias = bias[None].contiguous()
        if mask is not None:
            bias = (bias + mask[:, None]).repeat(number // len(mask), 1, 1, 1)
        x = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(x.transpose(1, 2).reshape(number, count, width))


class _Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


def _mask(height: int, width: int, window: int) -> torch.Tensor:
    """(windows, N, N): -100 between tokens that a shift brought together."""

    def regions(length: int) -> torch.Tensor:
        place = torch.arange(length)
        return (place >= length - window).int() + (place >= length - window // 2).int()

    labels = regions(height)[:, None] * 3 + regions(width)
    labels = labels.reshape(height // window, window, width // window, window).permute(0, 2, 1, 3)
    labels = labels.reshape(-1, window * window)
    return torch.where(labels[:, :, None] == labels[:, None], 0.0, -100.0)


class Block(nn.Module):
    """Attention in (shifted) windows and a feed-forward layer."""

    def __init__(self, width: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.mlp = _Attention(width, window, heads), _Mlp(width, 4 * width)
        self._masks: dict[tuple[int, int], torch.Tensor] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) -> the same shape."""
        x = x + self._attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def _attend(self, x: torch.Tensor) -> torch.Tensor:
        batch, height, width, channels = x.shape
        side = self.window
        x = functional.pad(x, (0, 0, 0, -width % side, 0, -height % side))
        rows, columns = x.shape[1] // side, x.shape[2] // side
        mask = None
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
            size = (x.shape[1], x.shape[2])
            if size not in self._masks:
                self._masks[size] = _mask(*size, side)
            mask = self._masks[size]
        x = x.reshape(batch, rows, side, columns, side, channels).permute(0, 1, 3, 2, 4, 5)
        x = self.attn(x.reshape(-1, side * side, channels), mask)
        x = x.reshape(batch, rows, columns, side, side, channels).permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(batch, rows * side, columns * side, channels)
        if self.shift:
            x = torch.roll(x, (self.shift, self.shift), (1, 2))
        return x[:, :height, :width]


class Merging(nn.Module):
    """Four neighbours become one token of twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) -> (B, H / 2, W / 2, 2 C), sizes rounded up."""
        x = functional.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        parts = (x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2])
        return self.reduction(self.norm(torch.cat(parts, -1)))
