"""Tokenisers from local vocabulary files, and words of direction, which depend on the transformation of the image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mindground.errors import CheckpointError, ConfigError, shown
from mindground.text.base import Tokenizer
from mindground.text.bpe import ClipTokenizer
from mindground.text.directions import LEGACY_DIRECTIONS, directions, has_direction
from mindground.text.mirror import flip_doubts, flip_expression, flips_safely
from mindground.text.wordpiece import WordPieceTokenizer, build_wordpiece
from mindground.text.words import WordTokenizer, build_words

__all__ = [
    "LEGACY_DIRECTIONS",
    "ClipTokenizer",
    "Tokenizer",
    "WordPieceTokenizer",
    "WordTokenizer",
    "build_tokenizer",
    "build_wordpiece",
    "build_words",
    "directions",
    "flip_doubts",
    "flip_expression",
    "flips_safely",
    "has_direction",
    "tokenizer_from_payload",
]

_KINDS: dict[str, type[WordPieceTokenizer] | type[ClipTokenizer] | type[WordTokenizer]] = {
    WordPieceTokenizer.kind: WordPieceTokenizer,
    ClipTokenizer.kind: ClipTokenizer,
    WordTokenizer.kind: WordTokenizer,
}


def build_tokenizer(kind: str, vocab: str = "", sentences: Iterable[str] | None = None) -> Tokenizer:
    """A tokeniser from a vocabulary file, or from training sentences.

    Args:
        kind: `wordpiece`, `clip_bpe` or `words` (`data.tokenizer`).
        vocab: path of the vocabulary file (`data.vocab`); empty = built from `sentences`.
        sentences: training sentences, read only when there is no vocabulary file.

    Raises:
        ConfigError: unknown kind, a missing file, or neither file nor sentences.
    """
    if kind not in _KINDS:
        raise ConfigError(f"data.tokenizer={kind!r} is unknown; choose one of {sorted(_KINDS)}")
    if vocab:
        path = Path(vocab).expanduser()
        if not path.is_file():
            raise ConfigError(f"data.vocab={vocab!r} is not a file; give the path of a vocabulary file")
        return _KINDS[kind].from_file(path)
    if kind == ClipTokenizer.kind:
        raise ConfigError(
            "data.tokenizer='clip_bpe' needs data.vocab, the path of bpe_simple_vocab_16e6.txt.gz "
            "(it comes with OpenAI's CLIP package)"
        )
    if sentences is None:
        raise ConfigError("data.vocab is empty and there are no training sentences to build a vocabulary from")
    return build_words(sentences) if kind == WordTokenizer.kind else build_wordpiece(sentences)


def tokenizer_from_payload(payload: Any) -> Tokenizer:
    """The tokeniser that `Tokenizer.to_payload` described (a checkpoint carries this dict).

    Raises:
        CheckpointError: the payload's kind is unknown, or a part of it is missing or damaged.
    """
    if not isinstance(payload, Mapping):
        raise CheckpointError(f"the checkpoint's tokeniser is {shown(payload)}, not a table; take another copy")
    kind = payload.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise CheckpointError(
            f"the checkpoint's tokeniser is of kind {shown(kind)}; this version knows {sorted(_KINDS)}"
        )
    try:
        return _KINDS[kind].from_payload(dict(payload))
    except KeyError as error:
        raise CheckpointError(f"the checkpoint's tokeniser lacks {error.args[0]!r}; the file is incomplete") from error
    except ConfigError as error:
        raise CheckpointError(f"the checkpoint's tokeniser is damaged: {error}; take another copy") from error
