"""Tokens of a prompt and the image's embedding look at each other twice; masks and their expected IoU come out.

Maps stay channel-last, (prompts, cells, channels): the two transposed convolutions are products whose results are put
in order only after the mask, one channel instead of 64, is made. Where prompts share an image, its map has 1 on its
first axis until the first thing that depends on the prompt.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from mindground.nn import init
from mindground.nn.activations import Gelu
from mindground.nn.attention import Attention
from mindground.nn.linear import Linear, affine_kernel
from mindground.nn.mlp import MultiLayerPerceptron
from mindground.nn.norm import LayerNorm
from mindground.nn.swap import swap_middle

__all__ = ["MaskDecoder", "TwoWayBlock"]

_MASKS = 4
"""Mask tokens: one for a sure prompt, three for a prompt that may mean a part or the whole."""
_EPS = 1e-6
_FINAL_EPS = 1e-5


def _over_prompts(x: ms.Tensor, count: int) -> ms.Tensor:
    """(1 or P, N, C) -> (P, N, C)."""
    return x if x.shape[0] == count else ops.broadcast_to(x, (count,) + x.shape[1:])


class _Projected(nn.Cell):
    """Attention with projections of its own, to `width` // `downsample` channels."""

    def __init__(self, width: int, heads: int, downsample: int = 1) -> None:
        super().__init__()
        inner = width // downsample
        self.q_proj = Linear(width, inner, start="kaiming_uniform")
        self.k_proj = Linear(width, inner, start="kaiming_uniform")
        self.v_proj = Linear(width, inner, start="kaiming_uniform")
        self.out_proj = Linear(inner, width, start="kaiming_uniform")
        self.attention = Attention(heads, inner // heads)

    def construct(self, q: ms.Tensor, k: ms.Tensor, v: ms.Tensor, bias: ms.Tensor | None = None) -> ms.Tensor:
        """q (P or 1, N, C), k and v (P or 1, M, C), bias (P, 1, 1, M) -> (P, N, C)."""
        q, k, v = self.q_proj(q), self.k_proj(k), self.v_proj(v)
        shape = q.shape
        if k.shape[0] == 1 and shape[0] > 1:
            # Keys of one image for all prompts: their queries stand in one row.
            q = q.reshape((1, shape[0] * shape[1], shape[2]))
        found = self.attention(_over_prompts(q, k.shape[0]), k, v, bias)
        return self.out_proj(found.reshape((-1, shape[1], shape[2])))


class _FeedForward(nn.Cell):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = Linear(width, hidden, start="kaiming_uniform")
        self.lin2 = Linear(hidden, width, start="kaiming_uniform")

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.lin2(ops.relu(self.lin1(x)))


class TwoWayBlock(nn.Cell):
    """Tokens attend to themselves and to the image, then the image attends to the tokens.

    Args:
        width, heads, hidden: of the block.
        eps: of its norms.
        first: the result of the first attention takes the place of the tokens, which get no positions there.
    """

    def __init__(self, width: int, heads: int, hidden: int, eps: float, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = _Projected(width, heads)
        self.norm1 = LayerNorm(width, eps)
        self.to_image = _Projected(width, heads, 2)
        self.norm2 = LayerNorm(width, eps)
        self.mlp = _FeedForward(width, hidden)
        self.norm3 = LayerNorm(width, eps)
        self.to_tokens = _Projected(width, heads, 2)
        self.norm4 = LayerNorm(width, eps)

    def construct(
        self, tokens: ms.Tensor, image: ms.Tensor, start: ms.Tensor, places: ms.Tensor, bias: ms.Tensor | None
    ) -> tuple[ms.Tensor, ms.Tensor]:
        """One round.

        Args:
            tokens: (P, T, C).
            image: (P or 1, N, C).
            start: (P, T, C), the tokens as they were at first; they are their own positions.
            places: (P or 1, N, C), positions of the image's cells.
            bias: (P, 1, 1, T), 0 or a large negative number for a token that is none; None = all are.

        Returns:
            tokens and image, (P, T, C) and (P, N, C).
        """
        if self.first:
            tokens = self.self_attn(tokens, tokens, tokens, bias)
        else:
            placed = tokens + start
            tokens = tokens + self.self_attn(placed, placed, tokens, bias)
        tokens = self.norm1(tokens)
        keys = image + _over_prompts(places, image.shape[0])
        tokens = self.norm2(tokens + self.to_image(tokens + start, keys, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        change = self.to_tokens(keys, tokens + start, tokens, bias)
        return tokens, self.norm4(_over_prompts(image, change.shape[0]) + change)


class _Transformer(nn.Cell):
    def __init__(self, width: int, depth: int, heads: int, hidden: int, eps: float) -> None:
        super().__init__()
        self.layers = nn.CellList([TwoWayBlock(width, heads, hidden, eps, index == 0) for index in range(depth)])
        self.final_attn = _Projected(width, heads, 2)
        self.norm_final = LayerNorm(width, _FINAL_EPS)

    def construct(
        self, tokens: ms.Tensor, image: ms.Tensor, places: ms.Tensor, bias: ms.Tensor | None
    ) -> tuple[ms.Tensor, ms.Tensor]:
        """Tokens (P, T, C) and image (P or 1, N, C) -> both, after all rounds."""
        start = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, start, places, bias)
        keys = image + _over_prompts(places, image.shape[0])
        return self.norm_final(tokens + self.final_attn(tokens + start, keys, image)), image


class _Doubled(nn.Cell):
    """A transposed convolution of kernel and stride 2 as a product; `weight` (in, out, 2, 2) and `bias` (out).

    construct: rows (R, in) -> (4 R, out), the four pixels of a cell one after the other, row by row.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        shape = (in_channels, out_channels, 2, 2)
        self.weight = init.parameter(init.kaiming_uniform(shape, out_channels * 4), "weight")
        self.bias = init.parameter(init.kaiming_uniform((out_channels,), out_channels * 4), "bias")
        self.kernel = affine_kernel()

    def construct(self, rows: ms.Tensor) -> ms.Tensor:
        weight = ops.transpose(self.weight, (2, 3, 1, 0)).reshape((4 * self.out_channels, -1))
        bias = ops.concat((self.bias, self.bias, self.bias, self.bias), 0)
        return self.kernel(rows, weight, bias).reshape((-1, self.out_channels))


class MaskDecoder(nn.Cell):
    """See the module.

    Args:
        width: C.
        depth, heads, hidden: of the transformer.
        iou_hidden: width of the hidden layers of the head that expects the IoU.
        eps: of the norms inside the blocks: 1e-5 in the original files, 1e-6 in what Hugging Face (and RSPrompter,
            which builds on it) computes.
    """

    def __init__(
        self,
        width: int = 256,
        depth: int = 2,
        heads: int = 8,
        hidden: int = 2048,
        iou_hidden: int = 256,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.width = width
        self.iou_token = init.parameter(init.normal((1, width), 1.0), "iou_token")
        self.mask_tokens = init.parameter(init.normal((_MASKS, width), 1.0), "mask_tokens")
        self.transformer = _Transformer(width, depth, heads, hidden, eps)
        self.upscale1 = _Doubled(width, width // 4)
        self.upscale_norm = LayerNorm(width // 4, _EPS)
        self.upscale2 = _Doubled(width // 4, width // 8)
        self.act = Gelu()
        self.hyper = nn.CellList([MultiLayerPerceptron([width, width, width, width // 8]) for _ in range(_MASKS)])
        self.iou_head = MultiLayerPerceptron([width, iou_hidden, iou_hidden, _MASKS])
        self.product = ops.BatchMatMul(transpose_b=True)

    def upscaled(self, image: ms.Tensor) -> ms.Tensor:
        """(P, N, C) -> (P, 16 N, C / 8), the sixteen pixels of a cell one after the other."""
        rows = self.act(self.upscale_norm(self.upscale1(image.reshape((-1, self.width)))))
        return self.act(self.upscale2(rows)).reshape((image.shape[0], -1, self.width // 8))

    def construct(
        self,
        image: ms.Tensor,
        places: ms.Tensor,
        tokens: ms.Tensor,
        size: tuple[int, int],
        present: ms.Tensor | None = None,
    ) -> tuple[ms.Tensor, ms.Tensor]:
        """Masks of P prompts.

        Args:
            image: (P or 1, N, C), embedding plus what is known of the mask.
            places: (P or 1, N, C).
            tokens: (P, T, C) of the prompt.
            size: (h, w) of the grid, N = h * w.
            present: (P, T) float32, 0 for tokens that only fill the shape; None = all are real.

        Returns:
            logits (P, 4, 4h, 4w) and expected IoU (P, 4).
        """
        count = tokens.shape[0]
        own = ops.concat((self.iou_token, self.mask_tokens), 0)
        own = ops.broadcast_to(own.expand_dims(0), (count,) + own.shape)
        bias = None
        if present is not None:
            present = ops.concat((ops.ones((count, own.shape[1]), present.dtype), present), 1)
            bias = ((present - 1.0) * 1e9).reshape((count, 1, 1, -1))
        found, image = self.transformer(ops.concat((own, tokens), 1), image, places, bias)
        found = ops.split(found, [1] * (1 + _MASKS) + [found.shape[1] - 1 - _MASKS], 1)
        weights = ()
        for index in range(_MASKS):
            weights = weights + (self.hyper[index](found[1 + index]),)
        masks = self.product(ops.concat(weights, 1), self.upscaled(image))
        return self.ordered(masks, size), self.iou_head(found[0].reshape((count, self.width)))

    def ordered(self, masks: ms.Tensor, size: tuple[int, int]) -> ms.Tensor:
        """(P, M, 16 N) in the order of `upscaled` -> (P, M, 4h, 4w)."""
        count, (rows, columns) = masks.shape[0] * masks.shape[1], size
        # (cells, [row 1, column 1, row 2, column 2]) -> (cells, rows, columns of a cell).
        x = swap_middle(masks.reshape((count * rows * columns * 2, 2, 2, 2)))
        x = swap_middle(x.reshape((count * rows, columns, 4, 4)))
        return x.reshape((masks.shape[0], masks.shape[1], 4 * rows, 4 * columns))
