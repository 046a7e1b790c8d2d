"""Whole words, as SeqTR splits sentences: lower case, without punctuation, unknown ones all alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mindground.errors import ConfigError, DataError, UnsafeFileError
from mindground.files.word_vectors import looks_pickled, read_token_table
from mindground.text.base import Tokenizer, check_tokens, read_tokens

__all__ = ["WordTokenizer", "build_words", "split_words"]

_SPECIAL = ("PAD", "UNK", "CLS")
_DROPPED = str.maketrans("-/", "  ", ".,'!?\"()*#:;")


def split_words(sentence: str) -> list[str]:
    """Words of a sentence: `.,'!?"()*#:;` are deleted, `-` and `/` divide."""
    return sentence.lower().translate(_DROPPED).split()


class WordTokenizer(Tokenizer):
    """Words by their place in a list, without start and end; a sentence may have no token at all.

    Args:
        tokens: PAD, UNK and CLS, then words; a token's id is its index.

    Raises:
        ConfigError: the list does not begin so, a token is no text, or occurs twice.
    """

    kind: ClassVar[str] = "words"

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = list(tokens)
        check_tokens(self.tokens)
        if tuple(self.tokens[: len(_SPECIAL)]) != _SPECIAL:
            raise ConfigError(f"a vocabulary of words begins with {', '.join(_SPECIAL)}; this one with {tokens[:3]!r}")
        self._ids = {token: index for index, token in enumerate(self.tokens)}
        if len(self._ids) != len(self.tokens):
            raise ConfigError("a vocabulary of words lists a word twice; remove one of the two lines")
        self.pad_id, self.unknown_id = 0, 1
        self.vocab_size = len(self.tokens)
        self.truncated = 0

    @classmethod
    def from_file(cls, path: str | Path) -> WordTokenizer:
        """From a text file (UTF-8), one token a line, or from SeqTR's `token_to_ix.pkl` or `ix_to_token.pkl`.

        Raises:
            ConfigError: the file is neither, or no vocabulary of words.
            UnsafeFileError: the pickle names a class or function; nothing of it was run.
        """
        with Path(path).open("rb") as stream:
            pickled = looks_pickled(stream.read(8))
        try:
            tokens = read_token_table(path) if pickled else read_tokens(path, "one word a line")
        except UnsafeFileError:
            raise
        except DataError as error:
            raise ConfigError(str(error)) from error
        try:
            return cls(tokens)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error

    @classmethod
    def from_payload(cls, payload: dict[str, Any]) -> WordTokenizer:
        """From what `to_payload` gave."""
        return cls(payload["tokens"])

    def to_payload(self) -> dict[str, Any]:
        """See `Tokenizer.to_payload`."""
        return {"kind": self.kind, "tokens": list(self.tokens)}

    def ids(self, sentence: str) -> list[int]:
        """See `Tokenizer.ids`; there are no start and end tokens."""
        return [self._ids.get(word, self.unknown_id) for word in split_words(sentence)]

    def unknown(self, sentence: str) -> list[str]:
        """See `Tokenizer.unknown`."""
        return [word for word in split_words(sentence) if word not in self._ids]

    def cut(self, ids: list[int], max_len: int) -> list[int]:
        """See `Tokenizer.cut`; the first words stay."""
        return ids[:max_len]


def build_words(sentences: Iterable[str]) -> WordTokenizer:
    """A tokeniser of all words of the sentences, in the order in which they first occur."""
    words = dict.fromkeys(word for sentence in sentences for word in split_words(sentence))
    # A word of the text may look like a special token in lower case only, so none is lost.
    return WordTokenizer([*_SPECIAL, *words])
