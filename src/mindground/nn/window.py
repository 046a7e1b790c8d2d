"""Splitting a channel-last map into square windows and merging them again."""

from __future__ import annotations

import mindspore as ms
from mindspore import ops

from mindground.nn.swap import swap_middle

__all__ = ["merge_windows", "split_windows"]


def split_windows(x: ms.Tensor, size: int) -> ms.Tensor:
    """(B, H, W, C) -> (B, windows, size * size, C), zero-padded at the bottom and right to whole windows.

    The windows of one sample are adjacent, row by row.
    """
    batch, height, width, channels = x.shape
    pad_h, pad_w = -height % size, -width % size
    if pad_h > 0:
        x = ops.concat((x, ops.zeros((batch, pad_h, width, channels), x.dtype)), 1)
    if pad_w > 0:
        x = ops.concat((x, ops.zeros((batch, height + pad_h, pad_w, channels), x.dtype)), 2)
    down, across = (height + pad_h) // size, (width + pad_w) // size
    x = swap_middle(x.reshape((batch * down, size, across, size * channels)))
    return x.reshape((batch, down * across, size * size, channels))


def merge_windows(windows: ms.Tensor, size: int, grid: tuple[int, int]) -> ms.Tensor:
    """(B, windows, size * size, C) -> (B, H, W, C) for `grid` = (H, W); the padding is cut off."""
    batch, channels = windows.shape[0], windows.shape[-1]
    height, width = grid
    down, across = (height + size - 1) // size, (width + size - 1) // size
    x = swap_middle(windows.reshape((batch * down, across, size, size * channels)))
    x = x.reshape((batch, down * size, across * size, channels))
    if down * size > height:
        x = x[:, :height]
    if across * size > width:
        x = x[:, :, :width]
    return x
