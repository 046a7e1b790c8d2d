"""BERT's WordPiece, on the `tokenizers` package, from a local vocab.txt or from training sentences.

Algorithm: Devlin et al., BERT, 2019; checked against recorded ids of transformers' BertTokenizerFast.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from mindground.errors import ConfigError, shown
from mindground.text.base import Tokenizer, check_tokens, checked_text, read_tokens

__all__ = ["SPECIAL_TOKENS", "WordPieceTokenizer", "build_wordpiece"]

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_NEEDED = SPECIAL_TOKENS[:4]  # [MASK] is only for pre-training


class WordPieceTokenizer(Tokenizer):
    """[CLS] words and ##pieces [SEP], lower-cased and without accents where `lower` is set.

    Args:
        tokens: the vocabulary; a token's id is its index.
        lower: lower-case and strip accents (bert-base-uncased).
        keep_end: a truncated sentence still ends with [SEP] (Hugging Face, VG-LAW). With False long sentences
            lose [SEP] (LAVT, RMSIN).
        clean: remove control characters first (Hugging Face).
        grows: see `Tokenizer`.

    Raises:
        ConfigError: a token that is no text, a needed special token is missing, or a token occurs twice.
    """

    kind: ClassVar[str] = "wordpiece"

    def __init__(
        self,
        tokens: Sequence[str],
        *,
        lower: bool = True,
        keep_end: bool = True,
        clean: bool = True,
        grows: bool = False,
    ) -> None:
        self.tokens = list(tokens)
        self.lower, self.keep_end, self.clean, self.grows = lower, keep_end, clean, grows
        check_tokens(self.tokens)
        vocabulary = {token: place for place, token in enumerate(self.tokens)}
        missing = [token for token in _NEEDED if token not in vocabulary]
        if missing:
            raise ConfigError(f"a WordPiece vocabulary needs {', '.join(missing)}; this one has {len(tokens)} tokens")
        if len(vocabulary) != len(self.tokens):
            twice = [token for token, count in Counter(self.tokens).items() if count > 1]
            raise ConfigError(
                f"the vocabulary lists {shown(twice[0])} and {len(twice) - 1} more tokens twice; remove them"
            )
        self.pad_id, self.unknown_id = vocabulary["[PAD]"], vocabulary["[UNK]"]
        self.start_id, self.end_id = vocabulary["[CLS]"], vocabulary["[SEP]"]
        self.vocab_size = len(self.tokens)
        self.truncated = 0
        self._engine = _engine(vocabulary, lower, clean)

    @classmethod
    def from_tokens(cls, tokens: Sequence[str], **options: bool) -> WordPieceTokenizer:
        """From a list of tokens; the ids are the indexes."""
        return cls(tokens, **options)

    @classmethod
    def from_file(cls, path: str | Path, **options: bool) -> WordPieceTokenizer:
        """From a vocab.txt, one token a line (UTF-8).

        Raises:
            ConfigError: the file is not text, or not a WordPiece vocabulary.
        """
        tokens = read_tokens(path, "a WordPiece vocab.txt")
        try:
            return cls(tokens, **options)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error

    @classmethod
    def from_payload(cls, payload: dict[str, Any]) -> WordPieceTokenizer:
        """From what `to_payload` gave."""
        options = {name: payload[name] for name in ("lower", "keep_end", "clean")}
        # Checkpoints of before this entry do not say it; `engine.vocabulary` knows where theirs came from.
        options["grows"] = payload.get("grows", False)
        for name, value in options.items():
            if not isinstance(value, bool):
                raise ConfigError(f"{name} is {shown(value)}, not true or false")
        if not isinstance(payload["tokens"], list):
            raise ConfigError(f"tokens is {shown(payload['tokens'])}, not a list")
        return cls(payload["tokens"], **options)

    def to_payload(self) -> dict[str, Any]:
        """See `Tokenizer.to_payload`."""
        return {
            "kind": self.kind,
            "tokens": list(self.tokens),
            "lower": self.lower,
            "keep_end": self.keep_end,
            "clean": self.clean,
            "grows": self.grows,
        }

    def new_entries(self, sentences: Iterable[str]) -> list[str]:
        """See `Tokenizer.new_entries`."""
        if not self.grows:
            return []
        known = set(self.tokens)
        return [token for token in build_wordpiece(sentences, lower=self.lower).tokens if token not in known]

    def extended(self, entries: Sequence[str]) -> WordPieceTokenizer:
        """See `Tokenizer.extended`."""
        options = {name: getattr(self, name) for name in ("lower", "keep_end", "clean", "grows")}
        return WordPieceTokenizer([*self.tokens, *entries], **options)

    def ids(self, sentence: str) -> list[int]:
        """See `Tokenizer.ids`."""
        return [self.start_id, *self._engine.encode(sentence, add_special_tokens=False).ids, self.end_id]

    def pieces(self, sentence: str) -> list[str]:
        """The tokens of the sentence as text, without [CLS] and [SEP]."""
        return list(self._engine.encode(sentence, add_special_tokens=False).tokens)

    def unknown(self, sentence: str) -> list[str]:
        """See `Tokenizer.unknown`."""
        encoding = self._engine.encode(sentence, add_special_tokens=False)
        return [
            sentence[start:end]
            for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
            if token == self.unknown_id
        ]

    def unread(self, sentence: str) -> list[str]:
        """See `Tokenizer.unread`: a vocabulary of sentences spells a new word by characters, which nothing trained."""
        if not self.grows:
            return super().unread(sentence)
        normaliser, splitter = _normaliser(self.lower, self.clean), pre_tokenizers.BertPreTokenizer()
        words = [word for word, _ in splitter.pre_tokenize_str(normaliser.normalize_str(checked_text(sentence)))]
        known = set(self.tokens)
        # Punctuation that no sentence had takes part in no meaning.
        return list(dict.fromkeys(w for w in words if w not in known and any(c.isalnum() for c in w)))

    def cut(self, ids: list[int], max_len: int) -> list[int]:
        """See `Tokenizer.cut`; without `keep_end` the end token is lost."""
        return super().cut(ids, max_len) if self.keep_end else ids[:max_len]


def _normaliser(lower: bool, clean: bool) -> normalizers.Normalizer:
    return normalizers.BertNormalizer(clean_text=clean, handle_chinese_chars=True, strip_accents=lower, lowercase=lower)


def _engine(vocabulary: dict[str, int], lower: bool, clean: bool) -> tokenizers.Tokenizer:
    engine = tokenizers.Tokenizer(
        models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100, continuing_subword_prefix="##")
    )
    engine.normalizer = _normaliser(lower, clean)
    engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # A special token written in the sentence counts as that token, as in Hugging Face's BERT.
    engine.add_special_tokens([token for token in SPECIAL_TOKENS if token in vocabulary])
    return engine


def build_wordpiece(sentences: Iterable[str], *, max_words: int = 30_000, lower: bool = True) -> WordPieceTokenizer:
    """A tokeniser with a vocabulary of the sentences' words, for training from scratch.

    It holds the most frequent words whole and every character seen (and all of printable ASCII) as a
    start and as a continuation, so that a new word is split into characters instead of [UNK]. The result does
    not depend on the order of the sentences.

    Args:
        sentences: training sentences.
        max_words: whole words to keep, by frequency.
        lower: lower-case and strip accents.
    """
    normaliser, splitter = _normaliser(lower, True), pre_tokenizers.BertPreTokenizer()
    counts: Counter[str] = Counter()
    for sentence in sentences:
        counts.update(word for word, _ in splitter.pre_tokenize_str(normaliser.normalize_str(checked_text(sentence))))
    ascii_characters = set(string.digits + string.punctuation + string.ascii_lowercase)
    if not lower:
        ascii_characters |= set(string.ascii_uppercase)
    characters = sorted(ascii_characters | {character for word in counts for character in word})
    by_frequency = sorted(counts, key=lambda word: (-counts[word], word))[:max_words]
    words = [word for word in by_frequency if len(word) > 1]
    tokens = [*SPECIAL_TOKENS, *characters, *(f"##{c}" for c in characters), *words]
    return WordPieceTokenizer(tokens, lower=lower, grows=True)
