"""Text encoders of SeqTR and MSAM: a sentence vector, word vectors, and which words are real."""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from mindground.backbones.bert import Bert
from mindground.backbones.gru import BiGru, WordTable
from mindground.nn.linear import Linear
from mindground.nn.noise import Dropout

__all__ = ["BertText", "GruText", "TextAttention"]

_FAR = 1e9


class TextAttention(nn.Cell):
    """Sentence vector as a weighted mean of words; the weights see the words and a raw sentence vector.

    Args:
        width: of words and sentence.
        masked: leave padding out of the softmax; upstream does not.
        dropout: after both activations, in training only.
    """

    def __init__(self, width: int, masked: bool = False, dropout: float = 0.2) -> None:
        super().__init__()
        self.masked = masked
        self.local = Linear(width, width, start="xavier_uniform")
        self.overall = Linear(width, width, start="xavier_uniform")
        self.common = Linear(width, 1, start="xavier_uniform")
        self.dropout, self.dropout2 = Dropout(dropout), Dropout(dropout)

    def construct(self, words: ms.Tensor, raw: ms.Tensor, real: ms.Tensor) -> ms.Tensor:
        """words (B, T, D), raw (B, D), real (B, T) float32 -> (B, D)."""
        local = self.dropout(ops.tanh(self.local(words)))
        overall = self.dropout2(ops.tanh(self.overall(raw)))
        logits = self.common(local * ops.broadcast_to(overall.expand_dims(1), local.shape))[:, :, 0]
        if self.masked:
            logits = logits + (real - 1.0) * _FAR
        weights = ops.softmax(logits, -1).expand_dims(1)
        return ops.bmm(weights, words)[:, 0]


class GruText(nn.Cell):
    """Embedding table and bidirectional GRU.

    Args:
        vocab_size: rows of the table.
        embedding: width of a word.
        hidden: of one direction; words have twice as many channels.
        pool: max or mean over real words, or last (the final states of both directions).
        attention: `TextAttention` on top of the pooled vector; None = the pooled vector is the sentence.
        freeze_embedding: whether the table stays as it is.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding: int = 300,
        hidden: int = 512,
        pool: str = "max",
        attention: TextAttention | None = None,
        freeze_embedding: bool = True,
    ) -> None:
        super().__init__()
        if pool not in ("max", "mean", "last"):
            raise ValueError(f"pool={pool!r}; choose max, mean or last")
        self.pool, self.attends = pool, attention is not None
        self.words = WordTable(vocab_size, embedding)
        self.words.embedding_table.requires_grad = not freeze_embedding
        self.gru = BiGru(embedding, hidden)
        if attention is not None:
            self.attention = attention

    def construct(self, token_ids: ms.Tensor, token_mask: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor]:
        """ids and mask (B, T) int32 -> sentence (B, D), words (B, T, D), mask as float32 (B, T).

        A sentence without a real word is a vector of zeros.
        """
        real = token_mask.astype(ms.float32)
        words, last = self.gru(self.words(token_ids))
        spread = ops.broadcast_to(real.expand_dims(-1), words.shape)
        count = real.sum(-1, keepdims=True)
        if self.pool == "max":
            sentence = ops.amax(words + (spread - 1.0) * _FAR, 1)
        elif self.pool == "mean":
            sentence = (words * spread).sum(1) / ops.broadcast_to(ops.maximum(count, 1.0), last.shape)
        else:
            sentence = last
        some = ops.broadcast_to(ops.minimum(count, 1.0), sentence.shape)
        # Not a product alone: the largest of nothing is -1e9.
        sentence = ops.where(some > 0, sentence, ops.zeros_like(sentence))
        if self.attends:
            sentence = self.attention(words, sentence, real)
        return sentence, words, real


class BertText(nn.Cell):
    """BERT and a linear map to the width of the fusion; the sentence is the first token.

    Args:
        bert: the encoder.
        width: D of what is given.
        static: only the table of word pieces and the map, as MSAM's released code computes; the sentence vector is
            then the same for every sentence.
        frozen_layers: layers that do not learn, from the first one; embeddings do.
    """

    def __init__(self, bert: Bert, hidden: int, width: int, static: bool = False, frozen_layers: int = 11) -> None:
        super().__init__()
        self.static = static
        self.bert = bert
        self.mapping = Linear(hidden, width, start="kaiming_uniform")
        for index, layer in enumerate(bert.encoder.layer):
            for parameter in layer.get_parameters():
                parameter.requires_grad = index >= frozen_layers and not static
        if static:
            table = bert.embeddings.word_embeddings.embedding_table
            for parameter in bert.embeddings.get_parameters():
                parameter.requires_grad = parameter is table

    def construct(self, token_ids: ms.Tensor, token_mask: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor]:
        """ids and mask (B, T) int32 -> sentence (B, D), words (B, T, D), mask as float32 (B, T)."""
        hidden = self.bert.embeddings.word_embeddings(token_ids) if self.static else self.bert(token_ids, token_mask)
        words = self.mapping(hidden)
        return words[:, 0], words, token_mask.astype(ms.float32)
