"""BERT encoder (Devlin et al., arXiv 1810.04805) with the numbers of Hugging Face's `BertModel`."""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from mindground.nn import init
from mindground.nn.activations import Gelu
from mindground.nn.attention import Attention
from mindground.nn.linear import Linear
from mindground.nn.noise import Dropout
from mindground.nn.norm import LayerNorm
from mindground.weights.maps import WeightMap

__all__ = ["HUGGINGFACE_MAP", "Bert"]

_MASKED = -10000.0


class _Table(nn.Cell):
    """Embedding lookup; parameter `embedding_table` (rows, width)."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.embedding_table = init.parameter(init.trunc_normal((rows, width)), "embedding_table")

    def construct(self, ids: ms.Tensor) -> ms.Tensor:
        return ops.gather(self.embedding_table, ids, 0)


class BertEmbeddings(nn.Cell):
    """Word + position + token type, normalised."""

    def __init__(
        self,
        vocab_size: int,
        width: int,
        max_positions: int,
        type_vocab_size: int,
        eps: float,
        dropout: float,
        padding_idx: int | None,
    ) -> None:
        super().__init__()
        self.max_positions = max_positions
        self.padding_idx = padding_idx
        self.word_embeddings = _Table(vocab_size, width)
        self.position_embeddings = _Table(max_positions, width)
        self.token_type_embeddings = _Table(type_vocab_size, width)
        self.layer_norm = LayerNorm(width, eps)
        self.dropout = Dropout(dropout)

    def construct(self, token_ids: ms.Tensor, token_type_ids: ms.Tensor | None = None) -> ms.Tensor:
        """(B, L) int32 -> (B, L, C)."""
        length = token_ids.shape[1]
        if length > self.max_positions:
            raise ValueError("more tokens than the position table has rows; lower data.max_len")
        words = self.word_embeddings(token_ids)
        if self.padding_idx is not None:
            real = ops.cast(token_ids != self.padding_idx, words.dtype).expand_dims(-1)
            real = ops.broadcast_to(real, words.shape)
            words = words * real + ops.stop_gradient(words) * (1.0 - real)
        if token_type_ids is None:
            token_type_ids = ops.zeros_like(token_ids)
        positions = self.position_embeddings.embedding_table[:length].expand_dims(0)
        x = words + self.token_type_embeddings(token_type_ids) + ops.broadcast_to(positions, words.shape)
        return self.dropout(self.layer_norm(x))


class _SelfAttention(nn.Cell):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.query = Linear(width, width)
        self.key = Linear(width, width)
        self.value = Linear(width, width)
        self.attention = Attention(heads, width // heads, dropout)

    def construct(self, x: ms.Tensor, bias: ms.Tensor) -> ms.Tensor:
        return self.attention(self.query(x), self.key(x), self.value(x), bias)


class _ResidualOutput(nn.Cell):
    """norm(residual + dropout(dense(x)))."""

    def __init__(self, width_in: int, width: int, eps: float, dropout: float) -> None:
        super().__init__()
        self.dense = Linear(width_in, width)
        self.layer_norm = LayerNorm(width, eps)
        self.dropout = Dropout(dropout)

    def construct(self, x: ms.Tensor, residual: ms.Tensor) -> ms.Tensor:
        return self.layer_norm(self.dropout(self.dense(x)) + residual)


class _AttentionHalf(nn.Cell):
    def __init__(self, width: int, heads: int, eps: float, dropout: float) -> None:
        super().__init__()
        self.self_attn = _SelfAttention(width, heads, dropout)
        self.output = _ResidualOutput(width, width, eps, dropout)

    def construct(self, x: ms.Tensor, bias: ms.Tensor) -> ms.Tensor:
        return self.output(self.self_attn(x, bias), x)


class _Intermediate(nn.Cell):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.dense = Linear(width, hidden)
        self.act = Gelu()

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.act(self.dense(x))


class BertLayer(nn.Cell):
    """Post-norm transformer layer."""

    def __init__(self, width: int, heads: int, hidden: int, eps: float, dropout: float) -> None:
        super().__init__()
        self.attention = _AttentionHalf(width, heads, eps, dropout)
        self.intermediate = _Intermediate(width, hidden)
        self.output = _ResidualOutput(hidden, width, eps, dropout)

    def construct(self, x: ms.Tensor, bias: ms.Tensor) -> ms.Tensor:
        """(B, L, C), additive key bias (B, 1, 1, L) -> (B, L, C)."""
        x = self.attention(x, bias)
        return self.output(self.intermediate(x), x)


class _Encoder(nn.Cell):
    def __init__(self, layers: int, width: int, heads: int, hidden: int, eps: float, dropout: float) -> None:
        super().__init__()
        self.layer = nn.CellList([BertLayer(width, heads, hidden, eps, dropout) for _ in range(layers)])

    def construct(self, x: ms.Tensor, bias: ms.Tensor) -> ms.Tensor:
        for layer in self.layer:
            x = layer(x, bias)
        return x


class _Pooler(nn.Cell):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = Linear(width, width)

    def construct(self, hidden: ms.Tensor) -> ms.Tensor:
        return ops.tanh(self.dense(hidden[:, 0]))


class Bert(nn.Cell):
    """Tokens -> one feature vector per token.

    Args:
        num_hidden_layers: layers to build; a published file may hold more.
        layer_norm_eps: epsilon of all layer norms.
        dropout: rate after embeddings, on attention probabilities and after dense layers, in training only.
        padding_idx: token whose embedding receives no gradient (Hugging Face trains with 0), None = all receive one.
        pooler: whether the published pooler is part of the model. `construct` does not use it; see `pool`.
    """

    def __init__(
        self,
        vocab_size: int = 30522,
        hidden_size: int = 768,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        intermediate_size: int = 3072,
        max_position_embeddings: int = 512,
        type_vocab_size: int = 2,
        layer_norm_eps: float = 1e-12,
        dropout: float = 0.1,
        pooler: bool = True,
        padding_idx: int | None = None,
    ) -> None:
        super().__init__()
        if hidden_size % num_attention_heads != 0:
            raise ValueError(
                f"hidden_size {hidden_size} is not a multiple of num_attention_heads {num_attention_heads}"
            )
        self.embeddings = BertEmbeddings(
            vocab_size, hidden_size, max_position_embeddings, type_vocab_size, layer_norm_eps, dropout, padding_idx
        )
        self.encoder = _Encoder(
            num_hidden_layers, hidden_size, num_attention_heads, intermediate_size, layer_norm_eps, dropout
        )
        if pooler:
            self.pooler = _Pooler(hidden_size)

    def key_bias(self, token_mask: ms.Tensor) -> ms.Tensor:
        """(B, L) of 1 (real) and 0 (padding) -> additive bias (B, 1, 1, L) on attention logits."""
        mask = ops.cast(token_mask, ms.float32)
        return ((1.0 - mask) * _MASKED).expand_dims(1).expand_dims(1)

    def construct(
        self, token_ids: ms.Tensor, token_mask: ms.Tensor, token_type_ids: ms.Tensor | None = None
    ) -> ms.Tensor:
        """token_ids (B, L) int32, token_mask (B, L) int32 (1 = real) -> last hidden state (B, L, C)."""
        x = self.embeddings(token_ids, token_type_ids)
        return self.encoder(x, self.key_bias(token_mask))

    def pool(self, hidden: ms.Tensor) -> ms.Tensor:
        """Last hidden state (B, L, C) -> pooled first token (B, C); needs `pooler=True`."""
        return self.pooler(hidden)


_RULES = (
    ("embeddings.{table}_embeddings.weight", "embeddings.{table}_embeddings.embedding_table"),
    ("embeddings.LayerNorm.weight", "embeddings.layer_norm.gamma"),
    ("embeddings.LayerNorm.bias", "embeddings.layer_norm.beta"),
    (
        "encoder.layer.{n}.attention.self.{part}.{leaf:weight|bias}",
        "encoder.layer.{n}.attention.self_attn.{part}.{leaf}",
    ),
    (
        "encoder.layer.{n}.{where:attention.output|output}.LayerNorm.weight",
        "encoder.layer.{n}.{where}.layer_norm.gamma",
    ),
    ("encoder.layer.{n}.{where:attention.output|output}.LayerNorm.bias", "encoder.layer.{n}.{where}.layer_norm.beta"),
    (
        "encoder.layer.{n}.{where:attention.output|intermediate|output}.dense.{leaf:weight|bias}",
        "encoder.layer.{n}.{where}.dense.{leaf}",
    ),
    ("pooler.dense.{leaf:weight|bias}", "pooler.dense.{leaf}"),
    # older files use TensorFlow's names for the norms
    ("embeddings.LayerNorm.{leaf:gamma|beta}", "embeddings.layer_norm.{leaf}"),
    (
        "encoder.layer.{n}.{where:attention.output|output}.LayerNorm.{leaf:gamma|beta}",
        "encoder.layer.{n}.{where}.layer_norm.{leaf}",
    ),
)

# `BertModel` as saved by Hugging Face, with or without the prefix "bert." of the pre-training model.
HUGGINGFACE_MAP = WeightMap(
    "Hugging Face BERT",
    backbone="bert",
    rules=_RULES + tuple(("bert." + theirs, ours) for theirs, ours in _RULES),
    ignored=(
        (r"(bert\.)?embeddings\.position_ids", "counts from 0, computed here"),
        (r"cls\..*", "heads of the pre-training"),
    ),
    layered=("encoder.layer.",),
    remark="no tensor tells the number of heads and the epsilon of the norms: those of the configuration are used "
    "(config.json beside the file would say them)",
    may_miss=((r"pooler\.dense\.(weight|bias)", "some re-saved files carry no pooler; it is not used"),),
)
