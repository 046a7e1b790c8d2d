"""A BERT as a section of a configuration describes it, for every family that has one."""

from __future__ import annotations

from typing import Any, Protocol

from mindground.backbones.bert import Bert

__all__ = ["BertSection", "bert_of"]


class BertSection(Protocol):
    """Keys of a section that say the sizes of a BERT; names as in the configurations of published models."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    layer_norm_eps: float
    dropout: float


def bert_of(section: BertSection, vocab_size: int, **options: Any) -> Bert:
    """The encoder; `options` are further arguments of `Bert` (`pooler`, `padding_idx`).

    Args:
        section: of the configuration.
        vocab_size: rows of the word table.
    """
    return Bert(
        vocab_size=vocab_size,
        hidden_size=section.hidden_size,
        num_hidden_layers=section.num_hidden_layers,
        num_attention_heads=section.num_attention_heads,
        intermediate_size=section.intermediate_size,
        max_position_embeddings=section.max_position_embeddings,
        layer_norm_eps=section.layer_norm_eps,
        dropout=section.dropout,
        **options,
    )
