"""The cross-scale interaction of RMSIN in PyTorch, for the comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

__all__ = ["CrossScaleInteraction"]


class _FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(width), nn.Conv2d(width, 2 * width, 1)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.conv2 = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=width)
        self.conv3 = nn.Conv2d(2 * width, width, 1)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.conv3(functional.relu6(self.conv2(self.bn2(self.conv1(self.bn1(z))))))


class _Residual(nn.Module):
    def __init__(self, m: nn.Module) -> None:
        super().__init__()
        self.m = m

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z + self.m(z)


class _Qkv(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.c, self.bn = nn.Linear(width, out, bias=False), nn.BatchNorm1d(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.c(x)
        return self.bn(x.flatten(0, 1)).reshape(x.shape)


class _Tokens(nn.Module):
    def __init__(self, width: int, grid: int, heads: int, key: int) -> None:
        super().__init__()
        self.grid, self.heads, self.key, inner = grid, heads, key, 2 * heads * key
        count = grid**2 + math.ceil(grid / 2) ** 2 + math.ceil(grid / 3) ** 2
        self.qkv = _Qkv(width, 2 * inner)
        self.parallel_conv = nn.Sequential(nn.Hardswish(), nn.Conv2d(inner, inner, 3, padding=1, groups=inner))
        self.to_out, self.proj = nn.Linear(inner, width), nn.Linear(count, grid**2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, N, d) -> (B, g * g, d)."""
        batch, count, _ = x.shape
        packed = self.qkv(x).reshape(batch, count, self.heads, -1).transpose(1, 2)
        q, k, v = packed.split((self.key, self.key, 2 * self.key), -1)
        found = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, -1, count)
        values = v[:, :, : self.grid**2].reshape(batch, -1, self.grid, self.grid)
        total = self.proj(found) + self.parallel_conv(values).flatten(2)
        return self.to_out(total.transpose(1, 2))


class _CrossScale(nn.Module):
    def __init__(self, width: int, grid: int, heads: int, key: int) -> None:
        super().__init__()
        self.bn1, self.bn4, self.conv = nn.BatchNorm2d(width), nn.BatchNorm2d(width), nn.Conv2d(width, width, 1)
        half = nn.Conv2d(width, width, 3, 2, 1, groups=width)
        third = nn.Conv2d(width, width, 5, 3, 2, groups=width)
        self.DWConv1 = nn.Sequential(half, nn.BatchNorm2d(width))
        self.DWConv2 = nn.Sequential(third, nn.BatchNorm2d(width))
        self.attention = _Tokens(width, grid, heads, key)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        z = self.bn1(z)
        tokens = torch.cat([one.flatten(2) for one in (z, self.DWConv1(z), self.DWConv2(z))], 2)
        found = self.attention(tokens.transpose(1, 2)).transpose(1, 2).reshape(z.shape)
        return self.conv(functional.hardswish(self.bn4(found)))


class _Intra(nn.Module):
    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.widths = list(widths)
        for index, width in enumerate(widths):
            self.add_module(f"ff{index + 1}", _Residual(_FeedForward(width)))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        parts = zip(self.children(), z.split(self.widths, 1), strict=True)
        return torch.cat([layer(part) for layer, part in parts], 1)


class _CimBlock(nn.Module):
    def __init__(self, widths: Sequence[int], grid: int, heads: int, key: int) -> None:
        super().__init__()
        total = sum(widths)
        self.csa1 = _Residual(_CrossScale(total, grid, heads, key))
        self.intra_ff = _Residual(_Intra(widths))
        self.csa2 = _Residual(_CrossScale(total, grid, heads, key))
        self.ff = _Residual(_FeedForward(total))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.ff(self.csa2(self.intra_ff(self.csa1(z))))


class _ScaleGate(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.local_embedding, self.bn1 = nn.Conv2d(width, width, 1), nn.BatchNorm2d(width)
        self.global_embedding, self.bn2 = nn.Conv2d(width, width, 1), nn.BatchNorm2d(width)
        self.global_act, self.bn3 = nn.Conv2d(width, width, 1), nn.BatchNorm2d(width)

    def forward(self, local: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
        size = local.shape[2:]
        shift = functional.interpolate(self.bn2(self.global_embedding(coarse)), size, mode="bilinear")
        scale = functional.relu6(self.bn3(self.global_act(coarse)) + 3) / 6
        return self.bn1(self.local_embedding(local)) * functional.interpolate(scale, size, mode="bilinear") + shift


class CrossScaleInteraction(nn.Module):
    """Four maps to four maps of the same shapes, names as in published checkpoints."""

    def __init__(self, widths: Sequence[int], grid: int, heads: int, key: int, blocks: int) -> None:
        super().__init__()
        self.widths, self.grid = list(widths), grid
        quarters = [width // 4 for width in widths]
        self.down_channel, self.bn = nn.Conv2d(sum(widths), sum(quarters), 1), nn.BatchNorm2d(sum(quarters))
        self.block = nn.ModuleList(_CimBlock(quarters, grid, heads, key) for _ in range(blocks))
        self.up_channel = nn.Conv2d(sum(quarters), sum(widths), 1)
        self.fusion = nn.ModuleList(_ScaleGate(width) for width in widths)

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Maps (B, C_i, H_i, W_i), fine to coarse."""
        z = self.down_channel(torch.cat([functional.adaptive_avg_pool2d(one, self.grid) for one in maps], 1))
        for block in self.block:
            z = block(z)
        parts = self.up_channel(self.bn(z)).split(self.widths, 1)
        return [gate(one, part) for gate, one, part in zip(self.fusion, maps, parts, strict=True)]
