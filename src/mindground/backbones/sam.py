"""Image encoder of Segment Anything (Kirillov et al., arXiv 2304.02643): a windowed vision transformer with a neck.

Its blocks are those of ViTDet with the same window attention and decomposed relative positions. Tables that belong to
another grid are resized as upstream does: positions bicubically, relative positions linearly, so any input size that is
a multiple of the patch runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import nn, ops

from mindground.backbones.vitdet import ViTDetBlock, bicubic_constant
from mindground.nn import init
from mindground.nn.conv import Conv2d
from mindground.nn.linear import Linear, PlainProduct
from mindground.nn.norm import ChannelNorm, LayerNorm
from mindground.nn.patches import PatchEmbed
from mindground.nn.resize import resize_positions

__all__ = ["MOST_LOGITS", "SamEncoder", "SamNeck"]

MOST_LOGITS = 1 << 24
"""Numbers of one tensor of attention logits (67 MB): all heads of ViT-B at 1024 pixels together have twelve times as
many, and a softmax as many again."""
_EPS = 1e-6


class _Mix(nn.Cell):
    """A convolution of kernel 1 without bias on channel-last maps; `weight` (out, in, 1, 1)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = init.parameter(init.kaiming_uniform((out_channels, in_channels, 1, 1), in_channels), "weight")
        self.product = PlainProduct()

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(..., in) -> (..., out)."""
        weight = self.weight.reshape(self.weight.shape[:2])
        return self.product(x.reshape((-1, x.shape[-1])), weight).reshape(x.shape[:-1] + (weight.shape[0],))


class SamNeck(nn.Cell):
    """Two convolutions, each with a norm over channels: (B, h, w, width) -> (B, channels, h, w)."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.conv1 = _Mix(width, channels)
        self.norm1 = LayerNorm(channels, _EPS)
        self.conv2 = Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = ChannelNorm(channels, _EPS)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """See the class."""
        x = ops.transpose(self.norm1(self.conv1(x)), (0, 3, 1, 2))
        return self.norm2(self.conv2(x))


class SamEncoder(nn.Cell):
    """Image -> embedding at a sixteenth of its resolution, and states between the blocks where they are wanted.

    Args:
        img_size: side in pixels that the tables are made for; other multiples of the patch run as well.
        patch_size: side of a patch in pixels.
        width, depth, heads: of the transformer.
        hidden: width between the two layers of its feed-forward part.
        window_size: side of a window in tokens.
        global_blocks: indexes of the blocks that attend to the whole map.
        channels: of the embedding.
        most_logits: see `nn.attention.GridAttention`.
        qkv_layers: for every block its layer (B, n, width) -> (B, n, 3 width); None = a plain `Linear`.
    """

    def __init__(
        self,
        img_size: int = 1024,
        patch_size: int = 16,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        hidden: int = 3072,
        window_size: int = 14,
        global_blocks: Sequence[int] = (2, 5, 8, 11),
        channels: int = 256,
        most_logits: int = MOST_LOGITS,
        qkv_layers: Sequence[nn.Cell] | None = None,
    ) -> None:
        super().__init__()
        self.patch_size, self.width, self.depth, self.channels = patch_size, width, depth, channels
        self.table_side = img_size // patch_size
        side = self.table_side
        self.pos_embed = init.parameter(init.trunc_normal((1, side, side, width)), "pos_embed")
        self.patch_embed = PatchEmbed(patch_size, width)
        self.blocks = nn.CellList(
            [
                ViTDetBlock(
                    width, heads, hidden, 0 if index in set(global_blocks) else window_size, (side, side), 0.0, _EPS,
                    True, "interpolate", Linear(width, 3 * width) if qkv_layers is None else qkv_layers[index],
                    most_logits,
                )
                for index in range(depth)
            ]
        )  # fmt: skip
        self.neck = SamNeck(width, channels)

    def positions(self, rows: int, columns: int) -> ms.Tensor:
        """Position table of a grid, (rows, columns, width)."""
        side = self.table_side
        table = self.pos_embed.reshape((side, side, self.width))
        if (rows, columns) == (side, side):
            return table
        return resize_positions(table, bicubic_constant(side, rows), bicubic_constant(side, columns))

    def tokens(self, image: ms.Tensor) -> ms.Tensor:
        """(B, 3, H, W) -> patches with their positions (B, H / patch, W / patch, width), state 0."""
        x = self.patch_embed(image)
        table = self.positions(x.shape[1], x.shape[2])
        return x + ops.broadcast_to(table.expand_dims(0), x.shape)

    def states(self, image: ms.Tensor, wanted: tuple[int, ...] = ()) -> tuple[ms.Tensor, ...]:
        """Image (B, 3, H, W) -> states (B, h, w, width), then the embedding (B, channels, h, w).

        Args:
            wanted: ascending indexes of the states that are given: 0 are the patches with their positions, i is what
                block i - 1 gives.
        """
        x = self.tokens(image)
        found = ()
        if 0 in wanted:
            found = found + (x,)
        for index in range(self.depth):
            x = self.blocks[index](x)
            if index + 1 in wanted:
                found = found + (x,)
        return found + (self.neck(x),)

    def construct(self, image: ms.Tensor) -> ms.Tensor:
        """Normalised image (B, 3, H, W) -> embedding (B, channels, H / patch, W / patch)."""
        return self.states(image)[0]
