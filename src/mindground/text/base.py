"""The interface of tokenisers: ids and mask of fixed length, and a payload for checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mindground.errors import ConfigError, DataError, shown
from mindground.files.text import read_lines

__all__ = ["Tokenizer", "check_tokens", "checked_text", "read_tokens"]

_log = logging.getLogger("mindground")


class Tokenizer:
    """Sentences -> token ids (B, L) and mask (B, L), both int32; the mask is 1 on real tokens.

    Attributes:
        kind: name used in configurations and payloads.
        pad_id: id of padding behind the last real token.
        vocab_size: number of ids, for the embedding table.
        truncated: number of sentences that were truncated so far.
        grows: the vocabulary was built from sentences, so words of further ones may be appended to it.
    """

    kind: ClassVar[str] = ""
    pad_id: int = 0
    vocab_size: int = 0
    truncated: int = 0
    grows: bool = False

    def ids(self, sentence: str) -> list[int]:
        """All ids of one sentence, with its start and end tokens."""
        raise TypeError(f"{type(self).__name__} does not define ids")

    def unknown(self, sentence: str) -> list[str]:
        """Words of the sentence that the vocabulary cannot express; empty for byte-level kinds."""
        raise TypeError(f"{type(self).__name__} does not define unknown")

    def unread(self, sentence: str) -> list[str]:
        """Words of which the network cannot know what they mean: no training sentence of its vocabulary had them.

        A vocabulary of published files knows every word by its pieces, and has none but those of `unknown`.
        """
        return self.unknown(sentence)

    def new_entries(self, sentences: Iterable[str]) -> list[str]:
        """Entries that a growing vocabulary lacks for these sentences, most frequent words first; else none."""
        return []

    def extended(self, entries: Sequence[str]) -> Tokenizer:
        """This vocabulary with `entries` behind its own, which keep their ids."""
        raise TypeError(f"{type(self).__name__} has a fixed vocabulary")

    def to_payload(self) -> dict[str, Any]:
        """JSON-able description from which `text.tokenizer_from_payload` makes an equal tokeniser."""
        raise TypeError(f"{type(self).__name__} does not define to_payload")

    def cut(self, ids: list[int], max_len: int) -> list[int]:
        """Truncate `ids` to `max_len`; the last token is still the end token."""
        return ids[: max_len - 1] + ids[-1:]

    def __call__(self, sentences: Sequence[str], max_len: int) -> tuple[np.ndarray, np.ndarray]:
        """Token ids and mask, (B, max_len) int32 each. Too long sentences are truncated and counted.

        Raises:
            ValueError: `max_len` leaves no room for start and end token, or a bare string was given.
            DataError: a sentence holds half of a character (a lone surrogate), which no UTF-8 file can.
        """
        if isinstance(sentences, str):
            raise ValueError("a tokeniser takes a list of sentences; put the single sentence into a list")
        if max_len < 2:
            raise ValueError(f"max_len={max_len} leaves no room for start and end token; use at least 2")
        token_ids = np.full((len(sentences), max_len), self.pad_id, np.int32)
        token_mask = np.zeros((len(sentences), max_len), np.int32)
        for index, sentence in enumerate(sentences):
            ids = self.ids(checked_text(sentence))
            if len(ids) > max_len:
                self._count_truncated(sentence, len(ids), max_len)
                ids = self.cut(ids, max_len)
            token_ids[index, : len(ids)] = ids
            # Derived from the length and never from the ids: id 0 is a real token of CLIP.
            token_mask[index, : len(ids)] = 1
        return token_ids, token_mask

    def _count_truncated(self, sentence: str, length: int, max_len: int) -> None:
        self.truncated += 1
        if self.truncated == 1:  # once: training repeats the same sentences every epoch
            _log.warning(
                "a sentence of %d tokens was cut to data.max_len=%d (%.60r ...); further cuts are only counted",
                length,
                max_len,
                sentence,
            )


def checked_text(sentence: str) -> str:
    """The sentence. Raises DataError where it cannot be written as UTF-8."""
    try:
        sentence.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"the sentence {shown(sentence)} holds half of a character at {error.start}; write it as UTF-8"
        ) from error
    return sentence


def check_tokens(tokens: Sequence[Any]) -> None:
    """Raises ConfigError for a token that is no text, or none that UTF-8 can hold."""
    for token in tokens:
        if not isinstance(token, str):
            raise ConfigError(f"the vocabulary holds {shown(token)}, which is no text")
        try:
            token.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ConfigError(f"the vocabulary holds {shown(token)}, which is half of a character") from error


def read_tokens(path: str | Path, wanted: str) -> list[str]:
    """The lines of a vocabulary file, one token a line; empty lines at its end are none.

    Raises:
        ConfigError: it is not text in UTF-8; the message ends with what is `wanted`.
    """
    try:
        lines = read_lines(path)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not a text file in UTF-8; give {wanted}") from error
    while lines and not lines[-1]:
        lines.pop()
    return lines
