"""ViTDet: a plain vision transformer with window attention and a few global blocks, single scale.

Follows detectron2's `modeling/backbone/vit.py` (Li et al., arXiv 2203.16527) number by number, with one exception: a
table of relative positions that is too long for the grid is cropped around its centre instead of being interpolated, so
that every row still stands for the same offset. `rel_pos_resize="interpolate"` is detectron2's way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindground.nn import init
from mindground.nn.attention import GridAttention, attention_core, merge_heads, split_heads
from mindground.nn.dropout import DropPath
from mindground.nn.linear import Linear
from mindground.nn.mlp import Mlp
from mindground.nn.norm import LayerNorm
from mindground.nn.patches import PatchEmbed
from mindground.nn.relpos import centre_crop, grid_indicator, grid_terms, relative_matrix
from mindground.nn.resize import bicubic_matrix, linear_matrix, resize_positions
from mindground.nn.window import merge_windows, split_windows
from mindground.weights.maps import WeightMap

__all__ = [
    "DETECTRON2_MAP",
    "MAE_MAP",
    "VITDET_MAP",
    "ViTDet",
    "ViTDetBlock",
    "bicubic_constant",
    "fit_relative_table",
    "layer_decay_rate",
]


@lru_cache(maxsize=64)
def _build_relative(size: int, length: int, resize: str) -> ms.Tensor:
    return ms.Tensor(relative_matrix(size, size, length, resize))


@lru_cache(maxsize=64)
def _build_indicator(rows: int, columns: int) -> ms.Tensor:
    return ms.Tensor(grid_indicator(rows, columns))


@lru_cache(maxsize=64)
def _build_bicubic(source: int, target: int) -> ms.Tensor:
    return ms.Tensor(bicubic_matrix(source, target))


@ops.constexpr
def _relative_constant(size: int, length: int, resize: str) -> ms.Tensor:
    return _build_relative(size, length, resize)


@ops.constexpr
def _indicator_constant(rows: int, columns: int) -> ms.Tensor:
    return _build_indicator(rows, columns)


@ops.constexpr
def bicubic_constant(source: int, target: int) -> ms.Tensor:
    return _build_bicubic(source, target)


class _GridSelfAttention(nn.Cell):
    """Attention among the positions of a grid (a window or the whole map)."""

    def __init__(
        self,
        width: int,
        heads: int,
        table_grid: tuple[int, int],
        use_rel_pos: bool,
        resize: str,
        qkv: nn.Cell,
        most_logits: int = 0,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.head_width = width // heads
        self.use_rel_pos = use_rel_pos
        self.resize = resize
        self.qkv = qkv
        self.proj = Linear(width, width)
        if use_rel_pos:
            self.rel_pos_h = init.parameter(init.constant((2 * table_grid[0] - 1, self.head_width)), "rel_pos_h")
            self.rel_pos_w = init.parameter(init.constant((2 * table_grid[1] - 1, self.head_width)), "rel_pos_w")
            self.core = GridAttention(self.head_width**-0.5, most_logits)
        else:
            self.core = attention_core(self.head_width**-0.5)

    def _offsets(self, table: ms.Tensor, size: int) -> ms.Tensor:
        rows = ops.matmul(_relative_constant(size, table.shape[0], self.resize), table)
        return rows.reshape((size, size, self.head_width))

    def construct(self, x: ms.Tensor, grid: tuple[int, int], extras: tuple[ms.Tensor, ...]) -> ms.Tensor:
        """x (B, windows, N, C), grid (rows, columns) with N = rows * columns -> the same shape."""
        batch, windows, count, width = x.shape
        qkv = self.qkv(x.reshape((batch, windows * count, width)), *extras)
        q, k, v = ops.split(qkv.reshape((batch * windows, count, 3 * width)), width, -1)
        q, k, v = split_heads(q, self.heads), split_heads(k, self.heads), split_heads(v, self.heads)
        if self.use_rel_pos:
            rows, columns = grid
            rel_h, rel_w = grid_terms(
                q, self._offsets(self.rel_pos_h, rows), self._offsets(self.rel_pos_w, columns), grid
            )
            out = self.core(q, k, v, rel_h, rel_w, _indicator_constant(rows, columns))
        else:
            out = self.core(q, k, v)
        return self.proj(merge_heads(out, self.heads)).reshape((batch, windows, count, width))


class ViTDetBlock(nn.Cell):
    """Pre-norm transformer block; `window_size` 0 attends to the whole map.

    Args:
        most_logits: see `nn.attention.GridAttention`.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        window_size: int,
        grid: tuple[int, int],
        drop_path: float,
        norm_eps: float,
        use_rel_pos: bool,
        rel_pos_resize: str,
        qkv: nn.Cell,
        most_logits: int = 0,
    ) -> None:
        super().__init__()
        self.window_size = window_size
        self.norm1 = LayerNorm(width, norm_eps)
        table_grid = (window_size, window_size) if window_size else grid
        self.attn = _GridSelfAttention(width, heads, table_grid, use_rel_pos, rel_pos_resize, qkv, most_logits)
        self.drop_path = DropPath(drop_path)
        self.norm2 = LayerNorm(width, norm_eps)
        self.mlp = Mlp(width, hidden)

    def construct(self, x: ms.Tensor, extras: tuple[ms.Tensor, ...] = ()) -> ms.Tensor:
        """(B, H, W, C), tensors for the qkv layer -> (B, H, W, C)."""
        batch, height, width, channels = x.shape
        size = self.window_size
        y = self.norm1(x)
        if size > 0:
            y = self.attn(split_windows(y, size), (size, size), extras)
            y = merge_windows(y, size, (height, width))
        else:
            y = self.attn(y.reshape((batch, 1, height * width, channels)), (height, width), extras)
            y = y.reshape(x.shape)
        x = x + self.drop_path(y)
        return x + self.drop_path(self.mlp(self.norm2(x)))


class ViTDet(nn.Cell):
    """Image -> one feature map at 1/patch_size of its resolution.

    Args:
        img_size: side in pixels, or (height, width), that the relative tables of global blocks are made for. Other
            sizes run as well: tables are fitted at run time.
        window_block_indexes: blocks that attend inside windows of `window_size`; all others are global.
        drop_path_rate: rate of the last block; it grows linearly from 0.
        norm_eps: epsilon of all layer norms.
        pretrain_img_size: side that `pos_embed` belongs to; the table is stored at that size and resized at run time.
        rel_pos_resize: "crop" or "interpolate", see the module's description.
        qkv_layers: block index -> Cell called as qkv(x (B, n, C), *extras) -> (B, n, 3C); None = plain `Linear`.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 448,
        patch_size: int = 16,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        window_size: int = 14,
        window_block_indexes: Sequence[int] = (0, 1, 3, 4, 6, 7, 9, 10),
        drop_path_rate: float = 0.0,
        norm_eps: float = 1e-6,
        pretrain_img_size: int = 224,
        use_rel_pos: bool = True,
        rel_pos_resize: str = "crop",
        qkv_layers: Callable[[int], nn.Cell] | None = None,
    ) -> None:
        super().__init__()
        height, width = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
        self.patch_size = patch_size
        self.embed_dim = embed_dim
        self.depth = depth
        self.pretrain_grid = pretrain_img_size // patch_size
        positions = 1 + self.pretrain_grid**2
        self.pos_embed = init.parameter(init.trunc_normal((1, positions, embed_dim)), "pos_embed")
        self.patch_embed = PatchEmbed(patch_size, embed_dim)
        rates = np.linspace(0.0, drop_path_rate, depth)
        blocks = []
        for index in range(depth):
            qkv = Linear(embed_dim, 3 * embed_dim) if qkv_layers is None else qkv_layers(index)
            window = window_size if index in set(window_block_indexes) else 0
            grid = (height // patch_size, width // patch_size)
            blocks.append(
                ViTDetBlock(
                    embed_dim, num_heads, int(embed_dim * mlp_ratio), window, grid, float(rates[index]), norm_eps,
                    use_rel_pos, rel_pos_resize, qkv,
                )
            )  # fmt: skip
        self.blocks = nn.CellList(blocks)

    def positions(self, rows: int, columns: int) -> ms.Tensor:
        """Position table of a grid, (rows, columns, C); the class token's entry is dropped."""
        side = self.pretrain_grid
        table = self.pos_embed[0, 1:].reshape((side, side, self.embed_dim))
        if (rows, columns) == (side, side):
            return table
        return resize_positions(table, bicubic_constant(side, rows), bicubic_constant(side, columns))

    def tokens(self, image: ms.Tensor) -> ms.Tensor:
        """(B, 3, H, W) -> patches with their positions (B, H / patch, W / patch, C), the input of the first block."""
        x = self.patch_embed(image)
        table = self.positions(x.shape[1], x.shape[2])
        return x + ops.broadcast_to(table.expand_dims(0), x.shape)

    def block(self, index: int) -> nn.Cell:
        """The block of that index, a Cell (x (B, H, W, C), extras) -> (B, H, W, C)."""
        return self.blocks[index]

    def features(self, tokens: ms.Tensor, block_extras: tuple[tuple[ms.Tensor, ...], ...] | None = None) -> ms.Tensor:
        """Result of `tokens` -> last feature map (B, C, H / patch, W / patch)."""
        x = tokens
        for index, block in enumerate(self.blocks):
            if block_extras is None:
                x = block(x, ())
            else:
                x = block(x, block_extras[index])
        return ops.transpose(x, (0, 3, 1, 2))

    def construct(self, image: ms.Tensor, block_extras: tuple[tuple[ms.Tensor, ...], ...] | None = None) -> ms.Tensor:
        """Normalised image (B, 3, H, W) -> (B, C, H / patch, W / patch).

        Args:
            block_extras: for every block the tensors that its qkv layer takes after x.
        """
        return self.features(self.tokens(image), block_extras)


def fit_relative_table(array: np.ndarray, wanted: tuple[int, ...]) -> tuple[np.ndarray, str] | None:
    """Adapter for rel_pos tables: centre crop of a longer table, linear interpolation of a shorter one."""
    if array.ndim != 2 or len(wanted) != 2 or array.shape[1] != wanted[1]:
        return None
    have, want = array.shape[0], wanted[0]
    if have > want:
        start = (have - want) // 2
        return np.ascontiguousarray(
            centre_crop(array, want)
        ), f"centre crop {have} -> {want}, rows {start}..{start + want}"
    return linear_matrix(have, want) @ array.astype(np.float32), f"linear interpolation {have} -> {want}"


def layer_decay_rate(name: str, decay: float, layers: int, prefix: str = "") -> float:
    """Learning-rate factor decay^(layers + 1 - layer) of one parameter, as ViTDet was trained.

    The patch and position embeddings are layer 0, block k is layer k + 1. Parameters that do not start with `prefix`,
    and the others of the backbone, have factor 1.
    """
    layer = layers + 1
    if name.startswith(prefix):
        parts = name.split(".")
        if "pos_embed" in parts or "patch_embed" in parts:
            layer = 0
        elif "blocks" in parts and "residual" not in parts:
            layer = int(parts[parts.index("blocks") + 1]) + 1
    return decay ** (layers + 1 - layer)


_RULES = (
    ("pos_embed", "pos_embed"),
    ("patch_embed.proj.{leaf:weight|bias}", "patch_embed.proj.{leaf}"),
    ("blocks.{n}.norm{k}.weight", "blocks.{n}.norm{k}.gamma"),
    ("blocks.{n}.norm{k}.bias", "blocks.{n}.norm{k}.beta"),
    ("blocks.{n}.attn.{part:qkv|proj}.{leaf:weight|bias}", "blocks.{n}.attn.{part}.{leaf}"),
    ("blocks.{n}.attn.rel_pos_{axis:h|w}", "blocks.{n}.attn.rel_pos_{axis}"),
    ("blocks.{n}.mlp.fc{k}.{leaf:weight|bias}", "blocks.{n}.mlp.fc{k}.{leaf}"),
)
_ADAPTERS = ((r"blocks\.\d+\.attn\.rel_pos_[hw]", fit_relative_table),)

# The backbone alone, without a prefix on either side.
VITDET_MAP = WeightMap("ViTDet backbone", backbone="vitdet", rules=_RULES, adapters=_ADAPTERS)

# A released Mask R-CNN or Cascade R-CNN file; use `with_prefix(ours=...)` for its position in a family's model.
DETECTRON2_MAP = WeightMap(
    "detectron2 ViTDet",
    backbone="vitdet",
    rules=tuple(("backbone.net." + theirs, ours) for theirs, ours in _RULES),
    adapters=_ADAPTERS,
    ignored=(
        (r"backbone\.simfp_\d+\..*", "feature pyramid of the detector"),
        (r"proposal_generator\..*", "proposal head of the detector"),
        (r"roi_heads\..*", "box and mask heads of the detector"),
        (r"pixel_(mean|std)", "input statistics, part of our configuration"),
        (r".*anchor_generator\..*", "anchors of the detector"),
    ),
)

# The masked-autoencoder file that ViTDet itself starts from: no relative positions (they start at 0).
MAE_MAP = WeightMap(
    "MAE ViT",
    backbone="vitdet",
    rules=_RULES,
    adapters=_ADAPTERS,
    ignored=(
        (r"cls_token", "the class token is not used"),
        (r"(fc_)?norm\.(weight|bias)", "there is no norm after the last block"),
        (r"(decoder_.*|mask_token)", "decoder of the pre-training"),
    ),
    may_miss=((r"blocks\.\d+\.attn\.rel_pos_[hw]", "not part of this pre-training; starts at 0"),),
)
