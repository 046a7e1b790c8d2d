"""Swin transformer (Liu et al., arXiv 2103.14030) as a dense backbone of any input size, and as a classifier.

Maps are channel-last: (B, H, W, C). Every stage may carry a hook, a Cell that sees the stage's tokens (and whatever a
model hands to `construct` beside the image) and decides what the stage exports and what enters the next one.

Index of relative positions, shift masks and window order depend on sizes only; each is built once for a size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindground.errors import ConfigError
from mindground.nn import init
from mindground.nn.attention import merge_heads, split_heads
from mindground.nn.dropout import DropPath
from mindground.nn.linear import Linear
from mindground.nn.mlp import Mlp
from mindground.nn.norm import LayerNorm
from mindground.nn.patches import PatchProjection
from mindground.nn.window import merge_windows, split_windows
from mindground.nn.window_attention import window_core

__all__ = [
    "SWIN_SIZES",
    "PatchMerging",
    "Swin",
    "SwinBlock",
    "SwinClassifier",
    "SwinStage",
    "WindowAttention",
    "relative_index",
    "shift_mask",
]

_LARGEST_WINDOW = 64
# The four published sizes: width of the first stage, blocks and heads of every stage.
SWIN_SIZES: dict[str, tuple[int, tuple[int, ...], tuple[int, ...]]] = {
    "tiny": (96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "small": (96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "base": (128, (2, 2, 18, 2), (4, 8, 16, 32)),
    "large": (192, (2, 2, 18, 2), (6, 12, 24, 48)),
}
_EPS = 1e-5
_OTHER_REGION = -100.0


@lru_cache(maxsize=64)
def relative_index(window: int) -> np.ndarray:
    """(N, N) int32, N = window^2: row of the bias table for query a and key b, tokens row by row."""
    rows, columns = (axis.reshape(-1) for axis in np.meshgrid(np.arange(window), np.arange(window), indexing="ij"))
    down = rows[:, None] - rows[None] + window - 1
    across = columns[:, None] - columns[None] + window - 1
    return (down * (2 * window - 1) + across).astype(np.int32)


@lru_cache(maxsize=64)
def shift_mask(height: int, width: int, window: int) -> np.ndarray:
    """(windows, N, N) float32 additive mask of a shifted block on a padded map: -100 between different regions.

    Args:
        height, width: of the padded map, multiples of `window`.
    """
    shift = window // 2

    def regions(length: int) -> np.ndarray:
        place = np.arange(length)
        return (place >= length - window).astype(np.int64) + (place >= length - shift)

    labels = regions(height)[:, None] * 3 + regions(width)[None]
    split = labels.reshape(height // window, window, width // window, window).transpose(0, 2, 1, 3)
    split = split.reshape(-1, window * window)
    return np.where(split[:, :, None] == split[:, None], 0.0, _OTHER_REGION).astype(np.float32)


@lru_cache(maxsize=64)
def _build_mask(height: int, width: int, window: int) -> ms.Tensor:
    return ms.Tensor(shift_mask(height, width, window))


@ops.constexpr
def _mask_constant(height: int, width: int, window: int) -> ms.Tensor:
    return _build_mask(height, width, window)


def _pad(x: ms.Tensor, below: int, right: int) -> ms.Tensor:
    """(B, H, W, C) with zeros at the bottom and right."""
    batch, height, width, channels = x.shape
    if below > 0:
        x = ops.concat((x, ops.zeros((batch, below, width, channels), x.dtype)), 1)
    if right > 0:
        x = ops.concat((x, ops.zeros((batch, height + below, right, channels), x.dtype)), 2)
    return x


def _roll(x: ms.Tensor, by: int) -> ms.Tensor:
    """(B, H, W, C) moved up and left by `by` pixels (down and right where it is negative), cyclically."""
    x = ops.concat((x[:, by:], x[:, :by]), 1)
    return ops.concat((x[:, :, by:], x[:, :, :by]), 2)


class WindowAttention(nn.Cell):
    """Self-attention within windows, with a bias for every relative position.

    Args:
        width: C.
        window: side of a window.
        heads: number of heads; they split the channels contiguously.

    Raises:
        ConfigError: a window so large that its index alone, of window**4 numbers, would fill the memory.
    """

    def __init__(self, width: int, window: int, heads: int) -> None:
        super().__init__()
        if not 1 <= window <= _LARGEST_WINDOW:
            raise ConfigError(f"a window of {window} tokens a side must be at least 1 and at most {_LARGEST_WINDOW}")
        self.window, self.heads = window, heads
        table = init.trunc_normal(((2 * window - 1) ** 2, heads))
        self.relative_position_bias_table = init.parameter(table, "relative_position_bias_table")
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)
        self.index = ms.Tensor(relative_index(window).reshape(-1))
        self.core = window_core((width // heads) ** -0.5, masked=False)
        self.masked_core = window_core((width // heads) ** -0.5, masked=True)

    def bias(self) -> ms.Tensor:
        """(heads, N, N) additive bias on attention logits."""
        count = self.window * self.window
        rows = ops.gather(self.relative_position_bias_table, self.index, 0)
        return ops.transpose(rows, (1, 0)).reshape((self.heads, count, count))

    def construct(self, windows: ms.Tensor, mask: ms.Tensor | None = None) -> ms.Tensor:
        """(B, windows, N, C), mask (windows, N, N) or None -> (B, windows, N, C)."""
        batch, number, count, width = windows.shape
        x = self.qkv(windows.reshape((batch * number, count, width)))
        q, k, v = ops.split(x, width, -1)
        q, k, v = split_heads(q, self.heads), split_heads(k, self.heads), split_heads(v, self.heads)
        if mask is None:
            out = self.core(q, k, v, self.bias())
        else:
            out = self.masked_core(q, k, v, self.bias(), mask)
        return self.proj(merge_heads(out, self.heads)).reshape(windows.shape)


class SwinBlock(nn.Cell):
    """Window attention and a feed-forward layer, both pre-norm.

    Args:
        width, heads, window: of the attention.
        shift: pixels by which windows are moved; 0 or window // 2.
        mlp_ratio: hidden width of the feed-forward layer as a multiple of `width`.
        drop_path: stochastic depth.
        shift_always: False leaves the shift out where one window covers the map, as the classifier does.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        window: int,
        shift: int,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        shift_always: bool = True,
    ) -> None:
        super().__init__()
        self.window, self.shift, self.shift_always = window, shift, shift_always
        self.norm1 = LayerNorm(width, _EPS)
        self.attn = WindowAttention(width, window, heads)
        self.drop_path = DropPath(drop_path)
        self.norm2 = LayerNorm(width, _EPS)
        self.mlp = Mlp(width, int(width * mlp_ratio))

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(B, H, W, C) -> the same shape."""
        x = x + self.drop_path(self.attend(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def attend(self, x: ms.Tensor) -> ms.Tensor:
        """Attention within (shifted) windows; what is padded takes part and is cut off again."""
        _, height, width, _ = x.shape
        below, right = -height % self.window, -width % self.window
        shift = self.shift
        if not self.shift_always and min(height, width) <= self.window:
            shift = 0
        padded = (height + below, width + right)
        if shift == 0:
            return merge_windows(self.attn(split_windows(x, self.window)), self.window, (height, width))
        x = split_windows(_roll(_pad(x, below, right), shift), self.window)
        x = self.attn(x, _mask_constant(padded[0], padded[1], self.window))
        x = _roll(merge_windows(x, self.window, padded), -shift)
        if below > 0:
            x = x[:, :height]
        if right > 0:
            x = x[:, :, :width]
        return x


class PatchMerging(nn.Cell):
    """Halves height and width (rounding up) and doubles the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = LayerNorm(4 * width, _EPS)
        self.reduction = Linear(4 * width, 2 * width, bias=False)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(B, H, W, C) -> (B, ceil(H / 2), ceil(W / 2), 2 C)."""
        batch, height, width, channels = x.shape
        x = _pad(x, height % 2, width % 2)
        rows, columns = (height + 1) // 2, (width + 1) // 2
        upper, lower = ops.unbind(x.reshape((batch * rows, 2, columns, 2 * channels)), 1)
        # Column by column: both rows of the left pixels stand before those of the right ones.
        left_up, right_up = ops.split(upper, channels, -1)
        left_low, right_low = ops.split(lower, channels, -1)
        x = ops.concat((left_up, left_low, right_up, right_low), -1)
        return self.reduction(self.norm(x)).reshape((batch, rows, columns, 2 * channels))


class SwinStage(nn.Cell):
    """Blocks of one resolution, then the hook, then patch merging.

    Args:
        width, depth, heads, window: of the blocks; every second one is shifted.
        drop_paths: rate of every block.
        downsample: whether the stage ends with patch merging.
        hook: Cell called as hook(x (B, H, W, C), *extras) -> (exported map, map that goes on); None exports what
            goes on.
        mlp_ratio, shift_always: see `SwinBlock`.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        window: int,
        drop_paths: Sequence[float],
        downsample: bool,
        hook: nn.Cell | None = None,
        mlp_ratio: float = 4.0,
        shift_always: bool = True,
    ) -> None:
        super().__init__()
        self.blocks = nn.CellList(
            [
                SwinBlock(width, heads, window, (window // 2) * (i % 2), mlp_ratio, float(drop_paths[i]), shift_always)
                for i in range(depth)
            ]
        )
        self.hooked, self.merges = hook is not None, downsample
        if hook is not None:
            self.hook = hook
        if downsample:
            self.downsample = PatchMerging(width)

    def construct(self, x: ms.Tensor, *extras: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        """(B, H, W, C) -> exported map (B, H, W, C), and the input of the next stage."""
        for block in self.blocks:
            x = block(x)
        exported = x
        if self.hooked:
            exported, x = self.hook(x, *extras)
        if self.merges:
            x = self.downsample(x)
        return exported, x


class _PatchEmbed(nn.Cell):
    """Patches of the zero-padded image, normalised."""

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.patch = patch
        self.proj = PatchProjection(3, patch, width)
        self.norm = LayerNorm(width, _EPS)

    def construct(self, image: ms.Tensor) -> ms.Tensor:
        """(B, 3, H, W) -> (B, ceil(H / patch), ceil(W / patch), C)."""
        batch, channels, height, width = image.shape
        below, right = -height % self.patch, -width % self.patch
        if right > 0:
            image = ops.concat((image, ops.zeros((batch, channels, height, right), image.dtype)), 3)
        if below > 0:
            image = ops.concat((image, ops.zeros((batch, channels, below, width + right), image.dtype)), 2)
        return self.norm(self.proj(image))


class Swin(nn.Cell):
    """The dense backbone.

    Args:
        embed_dim: width of the first stage; every further one is twice as wide.
        depths, num_heads: blocks and heads of every stage.
        window_size: side of a window in tokens.
        drop_path_rate: of the last block; it grows linearly from 0.
        mlp_ratio: hidden width of feed-forward layers as a multiple of the stage's.
        exports: stages whose maps `construct` returns, each normalised by its own `norm<i>`.
        hooks: (stage, its width) -> Cell for `SwinStage`, or None for a stage without one.
        shift_always: see `SwinBlock`; the dense networks of the field shift on small maps, too.
        patch_size: of the first projection.
    """

    def __init__(
        self,
        embed_dim: int = 128,
        depths: Sequence[int] = (2, 2, 18, 2),
        num_heads: Sequence[int] = (4, 8, 16, 32),
        window_size: int = 12,
        drop_path_rate: float = 0.0,
        mlp_ratio: float = 4.0,
        exports: Sequence[int] | None = None,
        hooks: Callable[[int, int], nn.Cell | None] | None = None,
        shift_always: bool = True,
        patch_size: int = 4,
    ) -> None:
        super().__init__()
        count = len(depths)
        self.widths = tuple(embed_dim * 2**stage for stage in range(count))
        self.exports = tuple(range(count)) if exports is None else tuple(exports)
        self.window_size = window_size
        self.patch_embed = _PatchEmbed(patch_size, embed_dim)
        rates = np.linspace(0.0, drop_path_rate, sum(depths))
        ends = np.cumsum(depths)
        self.layers = nn.CellList(
            [
                SwinStage(
                    width, depth, heads, window_size, rates[end - depth : end].tolist(), stage < count - 1,
                    hooks(stage, width) if hooks is not None else None, mlp_ratio, shift_always,
                )
                for stage, (width, depth, heads, end) in enumerate(
                    zip(self.widths, depths, num_heads, ends, strict=True)
                )
            ]
        )  # fmt: skip
        for stage in self.exports:
            setattr(self, f"norm{stage}", LayerNorm(self.widths[stage], _EPS))
        self.norms = tuple(getattr(self, f"norm{stage}") for stage in self.exports)

    def construct(self, image: ms.Tensor, *extras: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """Normalised image (B, 3, H, W), what the hooks take -> maps (B, H_i, W_i, C_i) of the stages in `exports`."""
        return self.stages(self.patch_embed(image), *extras)

    def stages(self, x: ms.Tensor, *extras: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """Result of `patch_embed` -> maps, as `construct` gives them."""
        maps: tuple[ms.Tensor, ...] = ()
        for index in range(len(self.layers)):
            exported, x = self.layers[index](x, *extras)
            if index in self.exports:
                maps = maps + (self.norms[self.exports.index(index)](exported),)
        return maps

    def last(self, x: ms.Tensor) -> ms.Tensor:
        """Result of `patch_embed` -> what leaves the last stage, not normalised."""
        for layer in self.layers:
            x = layer(x)[1]
        return x


class SwinClassifier(nn.Cell):
    """The network that Microsoft's files hold: mean of the normalised last map, then classes.

    Args:
        classes: outputs.
        settings: of `Swin`; windows are not shifted where one covers the map.
    """

    def __init__(
        self, classes: int, embed_dim: int, depths: Sequence[int], num_heads: Sequence[int], window_size: int
    ) -> None:
        super().__init__()
        self.backbone = Swin(embed_dim, depths, num_heads, window_size, exports=(), shift_always=False)
        width = self.backbone.widths[-1]
        self.norm = LayerNorm(width, _EPS)
        self.head = Linear(width, classes)

    def construct(self, image: ms.Tensor) -> ms.Tensor:
        """Normalised image (B, 3, H, W) -> logits (B, classes)."""
        x = self.norm(self.backbone.last(self.backbone.patch_embed(image)))
        return self.head(x.reshape((x.shape[0], -1, x.shape[3])).mean(1))
