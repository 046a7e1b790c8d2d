"""The word table of a network or a file: the one parameter whose rows are the entries of a vocabulary."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

__all__ = ["table_rows", "word_tables"]

# BERT's, CLIP's and SeqTR's, under our names and those of published files.
_NAMES = re.compile(
    r"(.*\.)?(word_embeddings\.\w+|token_embedding(\.weight)?|words\.embedding_table|lan_enc\.embedding\.weight)"
)


def word_tables(names: Iterable[str]) -> list[str]:
    """Those of the names that a word table has."""
    return [name for name in names if _NAMES.fullmatch(name)]


def table_rows(shapes: Mapping[str, Sequence[int]]) -> int:
    """Rows of the word table among tensors of these shapes; 0 where there is none."""
    return next((int(shapes[name][0]) for name in word_tables(shapes) if len(shapes[name]) == 2), 0)
