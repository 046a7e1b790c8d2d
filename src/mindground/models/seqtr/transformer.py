"""Encoder over the fused map and decoder over tokens: post-norm layers as in DETR, with a cache for decoding."""

from __future__ import annotations

import math

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindground.nn import init
from mindground.nn.attention import attention_core, merge_heads, split_heads
from mindground.nn.linear import Linear
from mindground.nn.noise import Dropout
from mindground.nn.norm import LayerNorm
from mindground.nn.packed_attention import PackedAttention

__all__ = ["Decoder", "DecoderLayer", "EncoderLayer", "GridPositions"]

_EPS = 1e-5


class GridPositions(nn.Cell):
    """Sines and cosines of the place of every pixel that belongs to the image (DETR, normalised).

    Args:
        width: channels; the first half tells the row, the second the column.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        index = np.arange(half)
        rates = 10000.0 ** (-2.0 * (index // 2) / half)
        # A cosine is a sine a quarter further on.
        self.rates = ms.Tensor(rates.reshape(1, 1, 1, half), ms.float32)
        self.phases = ms.Tensor((index % 2 * (math.pi / 2)).reshape(1, 1, 1, half), ms.float32)

    def construct(self, real: ms.Tensor) -> ms.Tensor:
        """real (B, h, w) float32, 1 inside the image -> (B, h * w, width)."""
        batch, height, width = real.shape
        down = ops.cumsum(real, 1)
        across = ops.cumsum(real, 2)
        down = down / (ops.broadcast_to(down[:, height - 1 :], down.shape) + 1e-6)
        across = across / (ops.broadcast_to(across[:, :, width - 1 :], across.shape) + 1e-6)
        both = ops.concat((self._waves(down), self._waves(across)), -1)
        return both.reshape((batch, height * width, both.shape[-1]))

    def _waves(self, share: ms.Tensor) -> ms.Tensor:
        shape = share.shape + (self.rates.shape[-1],)
        angles = ops.broadcast_to((share * (2.0 * math.pi)).expand_dims(-1), shape)
        return ops.sin(angles * ops.broadcast_to(self.rates, shape) + ops.broadcast_to(self.phases, shape))


class _FeedForward(nn.Cell):
    """linear1, ReLU, linear2; dropout inside."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.linear1 = Linear(width, hidden, start="xavier_uniform")
        self.linear2 = Linear(hidden, width, start="xavier_uniform")
        for layer in (self.linear1, self.linear2):
            layer.bias.set_data(init.kaiming_uniform(layer.bias.shape, layer.in_features))
        self.dropout = Dropout(dropout)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.linear2(self.dropout(ops.relu(self.linear1(x))))


class EncoderLayer(nn.Cell):
    """Self-attention and feed-forward, each followed by its norm; positions enter queries and keys."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = PackedAttention(width, heads, dropout)
        self.feed = _FeedForward(width, hidden, dropout)
        self.norm1, self.norm2 = LayerNorm(width, _EPS), LayerNorm(width, _EPS)
        self.dropout1, self.dropout2 = Dropout(dropout), Dropout(dropout)

    def construct(self, x: ms.Tensor, positions: ms.Tensor, bias: ms.Tensor) -> ms.Tensor:
        """x and positions (B, N, C), additive key bias (B, 1, 1, N) -> (B, N, C)."""
        x = self.norm1(x + self.dropout1(self.self_attn.with_positions(x, x + positions, bias)))
        return self.norm2(x + self.dropout2(self.feed(x)))


class _TwoSided(PackedAttention):
    """Attention of one sequence to another, in steps that a cache can stand between."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__(width, heads, dropout)
        self.heads = heads
        self.cached = attention_core(self.scale, "biased")

    def queries(self, placed: ms.Tensor) -> ms.Tensor:
        """(B, N, C) -> (B, N, C)."""
        return self._projected(placed, 0, 1)

    def keys(self, placed: ms.Tensor) -> ms.Tensor:
        """(B, M, C) -> (B, M, C)."""
        return self._projected(placed, 1, 1)

    def values(self, x: ms.Tensor) -> ms.Tensor:
        """(B, M, C) -> (B, M, C)."""
        return self._projected(x, 2, 1)

    def look(self, queries: ms.Tensor, keys: ms.Tensor, values: ms.Tensor, bias: ms.Tensor) -> ms.Tensor:
        """Projected queries (B, N, C), keys and values (B, M, C), bias (B or 1, 1, 1 or N, M) -> (B, N, C)."""
        return self.out_proj(self.attention(queries, keys, values, bias))

    def look_split(self, queries: ms.Tensor, keys: ms.Tensor, values: ms.Tensor, bias: ms.Tensor) -> ms.Tensor:
        """The same for one query (B, 1, C), keys and values by heads (B * heads, M, d) and their bias (.., 1, M)."""
        found = self.cached(split_heads(queries, self.heads), keys, values, bias)
        return self.out_proj(merge_heads(found, self.heads))


class DecoderLayer(nn.Cell):
    """Self-attention to earlier tokens, attention to the memory, feed-forward; a norm after each."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.self_attn = _TwoSided(width, heads, dropout)
        self.multihead_attn = _TwoSided(width, heads, dropout)
        self.feed = _FeedForward(width, hidden, dropout)
        self.norm1, self.norm2 = LayerNorm(width, _EPS), LayerNorm(width, _EPS)
        self.norm3 = LayerNorm(width, _EPS)
        self.dropout1, self.dropout2, self.dropout3 = Dropout(dropout), Dropout(dropout), Dropout(dropout)

    def construct(
        self, x: ms.Tensor, places: ms.Tensor, memory: ms.Tensor, placed: ms.Tensor, earlier: ms.Tensor, bias: ms.Tensor
    ) -> ms.Tensor:
        """All tokens at once.

        Args:
            x, places: (B, N, C) tokens and their places.
            memory, placed: (B, M, C) without and with positions.
            earlier: (1, 1, N, N) additive, bars later tokens.
            bias: (B, 1, 1, M) additive, bars pixels outside the image.
        """
        own, other = self.self_attn, self.multihead_attn
        x = self.norm1(x + self.dropout1(own.with_positions(x, x + places, earlier)))
        found = other.look(other.queries(x + places), other.keys(placed), other.values(memory), bias)
        x = self.norm2(x + self.dropout2(found))
        return self.norm3(x + self.dropout3(self.feed(x)))

    def prepare(self, memory: ms.Tensor, placed: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        """Keys and values of the memory by heads, (B * heads, M, d) each: the same for every token."""
        other = self.multihead_attn
        return split_heads(other.keys(placed), self.heads), split_heads(other.values(memory), self.heads)

    def advance(
        self,
        x: ms.Tensor,
        place: ms.Tensor,
        here: ms.Tensor,
        earlier: ms.Tensor,
        bias: ms.Tensor,
        cache: tuple[ms.Tensor, ms.Tensor],
        memory: tuple[ms.Tensor, ms.Tensor],
    ) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor]:
        """One token.

        Args:
            x, place: (B, 1, C).
            here: (1, N, 1), 1 at its place.
            earlier: (B * heads, 1, N) additive, bars places behind it.
            bias: (B * heads, 1, M) additive, bars pixels outside the image.
            cache: keys and values of the places before, (B * heads, N, d) each, 0 elsewhere.
            memory: what `prepare` gave.

        Returns:
            (B, 1, C), and the cache with this place filled in.
        """
        own, other = self.self_attn, self.multihead_attn
        key = split_heads(own.keys(x + place), self.heads)
        value = split_heads(own.values(x), self.heads)
        spread = ops.broadcast_to(here, cache[0].shape)
        keys = cache[0] + spread * ops.broadcast_to(key, cache[0].shape)
        values = cache[1] + spread * ops.broadcast_to(value, cache[1].shape)
        x = self.norm1(x + own.look_split(own.queries(x + place), keys, values, earlier))
        x = self.norm2(x + other.look_split(other.queries(x + place), memory[0], memory[1], bias))
        return self.norm3(x + self.feed(x)), keys, values


class Decoder(nn.Cell):
    """Layers and a last norm."""

    def __init__(self, width: int, heads: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.CellList([DecoderLayer(width, heads, hidden, dropout) for _ in range(layers)])
        self.norm = LayerNorm(width, _EPS)

    def construct(
        self, x: ms.Tensor, places: ms.Tensor, memory: ms.Tensor, placed: ms.Tensor, earlier: ms.Tensor, bias: ms.Tensor
    ) -> ms.Tensor:
        """See `DecoderLayer.construct`."""
        for layer in self.layers:
            x = layer(x, places, memory, placed, earlier, bias)
        return self.norm(x)
