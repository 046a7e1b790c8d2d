"""Sentences to token ids, from local vocabulary files only, and words that change with the picture."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mindground.errors import CheckpointError, ConfigError
from mindground.text.base import Tokenizer
from mindground.text.bpe import ClipTokenizer
from mindground.text.directions import LEGACY_DIRECTIONS, directions, flip_expression, has_direction
from mindground.text.wordpiece import WordPieceTokenizer, build_wordpiece

if TYPE_CHECKING:
    from mindground.config import DataConfig

__all__ = [
    "LEGACY_DIRECTIONS",
    "ClipTokenizer",
    "Tokenizer",
    "WordPieceTokenizer",
    "build_tokenizer",
    "build_wordpiece",
    "directions",
    "flip_expression",
    "has_direction",
    "tokenizer_from_payload",
]

_KINDS: dict[str, type[WordPieceTokenizer] | type[ClipTokenizer]] = {
    WordPieceTokenizer.kind: WordPieceTokenizer,
    ClipTokenizer.kind: ClipTokenizer,
}


def build_tokenizer(data_config: DataConfig, sentences: Iterable[str] | None = None) -> Tokenizer:
    """The tokeniser that the `data` section asks for.

    Args:
        data_config: `tokenizer` names the kind, `vocab` the file ("" = build from `sentences`).
        sentences: training sentences, read only when there is no vocabulary file.

    Raises:
        ConfigError: unknown kind, a missing file, or neither file nor sentences.
    """
    if data_config.tokenizer not in _KINDS:
        raise ConfigError(f"data.tokenizer={data_config.tokenizer!r} is unknown; choose one of {sorted(_KINDS)}")
    if data_config.vocab:
        path = Path(data_config.vocab).expanduser()
        if not path.is_file():
            raise ConfigError(f"data.vocab={data_config.vocab!r} is not a file; give the path of a vocabulary file")
        return _KINDS[data_config.tokenizer].from_file(path)
    if data_config.tokenizer == ClipTokenizer.kind:
        raise ConfigError(
            "data.tokenizer='clip_bpe' needs data.vocab, the path of bpe_simple_vocab_16e6.txt.gz "
            "(it comes with OpenAI's CLIP package)"
        )
    if sentences is None:
        raise ConfigError("data.vocab is empty and there are no training sentences to build a vocabulary from")
    return build_wordpiece(sentences)


def tokenizer_from_payload(payload: dict[str, Any]) -> Tokenizer:
    """The tokeniser that `Tokenizer.to_payload` described (a checkpoint carries this dict).

    Raises:
        CheckpointError: the payload's kind is unknown or a part of it is missing.
    """
    kind = payload.get("kind")
    if kind not in _KINDS:
        raise CheckpointError(f"the checkpoint's tokeniser is of kind {kind!r}; this version knows {sorted(_KINDS)}")
    try:
        return _KINDS[kind].from_payload(payload)
    except KeyError as error:
        raise CheckpointError(f"the checkpoint's tokeniser lacks {error.args[0]!r}; the file is incomplete") from error
