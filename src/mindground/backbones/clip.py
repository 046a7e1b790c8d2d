"""CLIP's two towers (Radford et al., ICML 2021, arXiv 2103.00020), every token kept.

The numbers are those of the published code: pre-norm blocks with quick-GELU, no dropout. The text tower is causal, so
padding behind a sentence changes nothing before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindground.nn import init
from mindground.nn.activations import Gelu, QuickGelu
from mindground.nn.linear import Linear
from mindground.nn.norm import LayerNorm
from mindground.nn.packed_attention import PackedAttention
from mindground.nn.patches import PatchProjection

__all__ = ["Clip", "ClipText", "ClipVision", "ResidualBlock"]

_EPS = 1e-5
# Far below every attention logit, and representable in float16.
_MASKED = -1e4


class _Mlp(nn.Cell):
    def __init__(self, width: int, activation: str) -> None:
        super().__init__()
        self.c_fc = Linear(width, 4 * width)
        self.act = Gelu() if activation == "gelu" else QuickGelu()
        self.c_proj = Linear(4 * width, width)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.c_proj(self.act(self.c_fc(x)))


class ResidualBlock(nn.Cell):
    """Pre-norm transformer block of both towers.

    Args:
        width, heads: dimensions.
        depth: number of blocks in the tower; the initial weights are smaller for deeper towers.
        activation: quick_gelu (OpenAI's weights) or gelu.
    """

    def __init__(self, width: int, heads: int, depth: int, activation: str = "quick_gelu") -> None:
        super().__init__()
        self.attn = PackedAttention(width, heads)
        self.ln_1 = LayerNorm(width, _EPS)
        self.mlp = _Mlp(width, activation)
        self.ln_2 = LayerNorm(width, _EPS)
        # Deviations of the published code (`initialize_parameters`); a fixed 0.02 is too small for narrow towers.
        inner, outer = width**-0.5, (2 * depth * width) ** -0.5
        for weight, std in (
            (self.attn.in_proj_weight, inner),
            (self.attn.out_proj.weight, outer),
            (self.mlp.c_fc.weight, (2 * width) ** -0.5),
            (self.mlp.c_proj.weight, outer),
        ):
            weight.set_data(init.normal(weight.shape, std))

    def construct(self, x: ms.Tensor, bias: ms.Tensor | None = None) -> ms.Tensor:
        """(B, N, C), additive bias or None -> (B, N, C)."""
        x = x + self.attn(self.ln_1(x), bias)
        return x + self.mlp(self.ln_2(x))


class _Transformer(nn.Cell):
    def __init__(self, width: int, layers: int, heads: int, activation: str) -> None:
        super().__init__()
        self.resblocks = nn.CellList([ResidualBlock(width, heads, layers, activation) for _ in range(layers)])

    def construct(self, x: ms.Tensor, bias: ms.Tensor | None = None) -> ms.Tensor:
        for block in self.resblocks:
            x = block(x, bias)
        return x


class ClipVision(nn.Cell):
    """Image tower.

    Args:
        image_size: side of the square input in pixels, a multiple of the patch size.
        patch_size: side of a patch.
        width, layers, heads: of the transformer.
        embed_dim: width of the space that image and text share; only `project` uses it.
        activation: quick_gelu (OpenAI's weights) or gelu.
    """

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        width: int,
        layers: int,
        heads: int,
        embed_dim: int,
        activation: str = "quick_gelu",
    ) -> None:
        super().__init__()
        if image_size % patch_size:
            raise ValueError(f"image size {image_size} is not a multiple of the patch size {patch_size}")
        self.width = width
        self.grid = image_size // patch_size
        scale = width**-0.5
        self.conv1 = PatchProjection(3, patch_size, width, bias=False)
        self.class_embedding = init.parameter(init.normal((width,), scale), "class_embedding")
        self.positional_embedding = init.parameter(
            init.normal((self.grid**2 + 1, width), scale), "positional_embedding"
        )
        self.ln_pre = LayerNorm(width, _EPS)
        self.transformer = _Transformer(width, layers, heads, activation)
        self.ln_post = LayerNorm(width, _EPS)
        self.proj = init.parameter(init.normal((width, embed_dim), scale), "proj")

    def embed(self, image: ms.Tensor) -> ms.Tensor:
        """Normalised image (B, 3, S, S) -> (B, 1 + N, C), class token first: the input of the first block."""
        patches = self.conv1(image)
        batch = patches.shape[0]
        patches = patches.reshape((batch, self.grid * self.grid, self.width))
        first = ops.broadcast_to(self.class_embedding.reshape((1, 1, self.width)), (batch, 1, self.width))
        x = ops.concat((first, patches), 1)
        x = x + ops.broadcast_to(self.positional_embedding.expand_dims(0), x.shape)
        return self.ln_pre(x)

    def levels(self, image: ms.Tensor, blocks: Sequence[int]) -> tuple[ms.Tensor, ...]:
        """Raw outputs (B, 1 + N, C) of the named blocks (from 0, ascending); later blocks do not run."""
        x = self.embed(image)
        found = ()
        for index in range(blocks[-1] + 1):
            x = self.transformer.resblocks[index](x, None)
            if index in blocks:
                found = (*found, x)
        return found

    def project(self, x: ms.Tensor) -> ms.Tensor:
        """Output of the last block (B, 1 + N, C) -> every token in the shared space (B, 1 + N, E)."""
        x = self.ln_post(x)
        rows = ops.matmul(x.reshape((-1, self.width)), self.proj)
        return rows.reshape((x.shape[0], x.shape[1], self.proj.shape[1]))

    def construct(self, image: ms.Tensor) -> ms.Tensor:
        """Normalised image (B, 3, S, S) -> every token in the shared space (B, 1 + N, E)."""
        return self.project(self.transformer(self.embed(image), None))


@lru_cache(maxsize=64)
def _build_causal(length: int) -> ms.Tensor:
    return ms.Tensor(np.triu(np.full((length, length), _MASKED, np.float32), 1)[None, None])


@ops.constexpr
def _causal_constant(length: int) -> ms.Tensor:
    return _build_causal(length)


class ClipText(nn.Cell):
    """Text tower. Its parameters carry the names that they have at the top of the published files.

    Args:
        context_length: rows of the position table; sentences may be shorter, not longer.
        vocab_size, width, layers, heads, embed_dim: dimensions.
        activation: quick_gelu (OpenAI's weights) or gelu.
    """

    def __init__(
        self,
        context_length: int,
        vocab_size: int,
        width: int,
        layers: int,
        heads: int,
        embed_dim: int,
        activation: str = "quick_gelu",
    ) -> None:
        super().__init__()
        self.width = width
        self.context_length = context_length
        self.transformer = _Transformer(width, layers, heads, activation)
        self.token_embedding = init.parameter(init.normal((vocab_size, width), 0.02), "token_embedding")
        self.positional_embedding = init.parameter(init.normal((context_length, width), 0.01), "positional_embedding")
        self.ln_final = LayerNorm(width, _EPS)
        self.text_projection = init.parameter(init.normal((width, embed_dim), width**-0.5), "text_projection")

    def hidden(self, token_ids: ms.Tensor) -> ms.Tensor:
        """(B, L) int32 -> normalised output of the last block (B, L, C)."""
        length = token_ids.shape[1]
        if length > self.context_length:
            raise ValueError("more tokens than the position table has rows; lower data.max_len")
        x = ops.gather(self.token_embedding, token_ids, 0)
        x = x + ops.broadcast_to(self.positional_embedding[:length].expand_dims(0), x.shape)
        return self.ln_final(self.transformer(x, _causal_constant(length)))

    def project(self, x: ms.Tensor) -> ms.Tensor:
        """Result of `hidden` -> every token in the shared space (B, L, E)."""
        rows = ops.matmul(x.reshape((-1, self.width)), self.text_projection)
        return rows.reshape((x.shape[0], x.shape[1], self.text_projection.shape[1]))

    def construct(self, token_ids: ms.Tensor) -> ms.Tensor:
        """(B, L) int32, any ids behind the end token -> every token in the shared space (B, L, E)."""
        return self.project(self.hidden(token_ids))


class Clip(nn.Cell):
    """Both towers in one Cell, with the pooling that CLIP itself uses.

    Args:
        vision: the image tower.
        text: the text tower.
    """

    def __init__(self, vision: ClipVision, text: ClipText) -> None:
        super().__init__()
        self.visual = vision
        self.text = text
        self.logit_scale = init.parameter(ms.Tensor(np.float32(np.log(1 / 0.07))), "logit_scale")

    def pooled_image(self, image: ms.Tensor) -> ms.Tensor:
        """Image (B, 3, S, S) -> class token in the shared space (B, E)."""
        return self.visual(image)[:, 0]

    def pooled_text(self, token_ids: ms.Tensor, end: ms.Tensor) -> ms.Tensor:
        """Tokens (B, L) and the index of each sentence's end token (B,) int32 -> (B, E)."""
        tokens = self.text(token_ids)
        rows = tokens.reshape((-1, tokens.shape[2]))
        return ops.gather(rows, ops.arange(tokens.shape[0]).astype(ms.int32) * tokens.shape[1] + end, 0)

    def construct(self, image: ms.Tensor, token_ids: ms.Tensor, end: ms.Tensor) -> ms.Tensor:
        """exp(logit_scale) * cosine of every image (rows) with every sentence (columns)."""
        image = _unit(self.pooled_image(image))
        text = _unit(self.pooled_text(token_ids, end))
        return ops.matmul(image, text.transpose(1, 0)) * ops.exp(self.logit_scale)


def _unit(x: ms.Tensor) -> ms.Tensor:
    """Vectors (B, E) scaled to length 1."""
    return x / ops.broadcast_to(ops.sqrt(ops.square(x).sum(1)).expand_dims(1), x.shape)
