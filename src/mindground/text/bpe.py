"""CLIP's byte-level BPE, on the `tokenizers` package, from the merges file OpenAI publishes.

Source: Radford et al., CLIP, 2021 (`bpe_simple_vocab_16e6.txt.gz`, MIT); checked against recorded ids
of the original tokeniser. ftfy repairs the text where it is installed.
"""

from __future__ import annotations

import base64
import functools
import html
import importlib
import logging
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import tokenizers
from tokenizers import Regex, models, pre_tokenizers

from mindground.errors import ConfigError, MindGroundError, shown
from mindground.files.compressed import decompress_bounded
from mindground.files.text import split_lines
from mindground.text.base import Tokenizer

__all__ = ["ClipTokenizer"]

_log = logging.getLogger("mindground")

_MOST_BYTES = 16 << 20
_START, _END = "<|startoftext|>", "<|endoftext|>"
# The file holds more merges than CLIP was trained with: 49408 ids less 2 x 256 bytes and 2 specials.
_MERGES = 49152 - 256 - 2
_WORDS = r"(?i)'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


class ClipTokenizer(Tokenizer):
    """<|startoftext|> pieces <|endoftext|>; every text can be encoded, so no word is unknown.

    Args:
        merges: pairs of symbols, in the order of their priority.
        repair: repair broken Unicode with ftfy, as the original does.

    Raises:
        ConfigError: a merge that stands twice, or of a symbol that nothing makes.
    """

    kind: ClassVar[str] = "clip_bpe"

    def __init__(self, merges: Sequence[tuple[str, str]], *, repair: bool = True) -> None:
        self.merges = list(merges)
        self.repair = repair
        letters = _byte_letters()
        symbols = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in self.merges)]
        vocabulary = {symbol: place for place, symbol in enumerate([*symbols, _START, _END])}
        self.pad_id = 0
        self.start_id, self.end_id = vocabulary[_START], vocabulary[_END]
        self.vocab_size = len(symbols) + 2
        self.truncated = 0
        _check_merges(self.merges, vocabulary)
        engine = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=self.merges, end_of_word_suffix="</w>"))
        engine.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        engine.add_special_tokens([_START, _END])
        self._engine = engine

    @classmethod
    def from_file(cls, path: str | Path, *, repair: bool = True) -> ClipTokenizer:
        """From `bpe_simple_vocab_16e6.txt.gz`, or the same text unpacked.

        Raises:
            ConfigError: the file is damaged or holds too few merges.
        """
        data = Path(path).read_bytes()
        try:
            text = (_unpacked(data, "gzip", str(path)) if data[:2] == b"\x1f\x8b" else data).decode("utf-8")
        except (OSError, EOFError, zlib.error, ValueError) as error:
            raise ConfigError(f"{path} is not a readable BPE vocabulary ({error}); fetch it again") from error
        lines = split_lines(text)[1 : _MERGES + 1]  # the first line is a version
        pairs = [tuple(line.split()) for line in lines]
        if len(pairs) < _MERGES or any(len(pair) != 2 for pair in pairs):
            raise ConfigError(f"{path} holds no {_MERGES} merges of two symbols; give bpe_simple_vocab_16e6.txt.gz")
        return cls([(pair[0], pair[1]) for pair in pairs], repair=repair)

    @classmethod
    def from_payload(cls, payload: dict[str, Any]) -> ClipTokenizer:
        """From what `to_payload` gave."""
        merges, repair = payload["merges"], payload["repair"]
        if not isinstance(repair, bool):
            raise ConfigError(f"repair is {shown(repair)}, not true or false")
        if not isinstance(merges, str):
            raise ConfigError(f"merges is {shown(merges)}, not text")
        try:
            packed = base64.b64decode(merges, validate=True)
            text = _unpacked(packed, "zlib", "merges").decode("utf-8")
        except (ValueError, EOFError, zlib.error) as error:
            raise ConfigError(f"merges cannot be unpacked ({error})") from error
        pairs = [line.split(" ") for line in text.split("\n")]
        wrong = [pair for pair in pairs if len(pair) != 2 or not all(pair)]
        if wrong:
            raise ConfigError(f"merges holds {shown(' '.join(wrong[0]))}, which is no pair of symbols")
        return cls([(first, second) for first, second in pairs], repair=repair)

    def to_payload(self) -> dict[str, Any]:
        """See `Tokenizer.to_payload`; the merges are packed, about 300 kB."""
        packed = zlib.compress("\n".join(" ".join(pair) for pair in self.merges).encode("utf-8"), 9)
        return {"kind": self.kind, "merges": base64.b64encode(packed).decode("ascii"), "repair": self.repair}

    def ids(self, sentence: str) -> list[int]:
        """See `Tokenizer.ids`."""
        text = self.clean(sentence)
        return [self.start_id, *self._engine.encode(text, add_special_tokens=False).ids, self.end_id]

    def unknown(self, sentence: str) -> list[str]:
        """See `Tokenizer.unknown`: always empty, because bytes encode every text."""
        return []

    def clean(self, sentence: str) -> str:
        """Repaired, HTML-unescaped twice, white space collapsed, lower case."""
        text = _repairer()(sentence) if self.repair else sentence
        return " ".join(html.unescape(html.unescape(text)).split()).lower()


def _unpacked(data: bytes, kind: Literal["gzip", "zlib"], name: str) -> bytes:
    """At most 16 MiB: OpenAI's file holds 3 MB.

    Raises:
        ConfigError: more.
        ValueError, zlib.error, OSError, EOFError: damaged.
    """
    try:
        return decompress_bounded(data, kind, limit=_MOST_BYTES, name=name)
    except MindGroundError as error:
        raise ConfigError(str(error)) from error


def _check_merges(merges: Sequence[tuple[str, str]], vocabulary: Mapping[str, int]) -> None:
    """Raises ConfigError for a merge that stands twice, or whose parts are neither bytes nor made by another merge."""
    seen: set[tuple[str, str]] = set()
    for number, pair in enumerate(merges):
        if pair in seen:
            raise ConfigError(
                f"merge {number} of the BPE vocabulary, {shown(' '.join(pair))}, stands there before, so later ids "
                "would be those of other words; give bpe_simple_vocab_16e6.txt.gz"
            )
        seen.add(pair)
        strange = [symbol for symbol in pair if symbol not in vocabulary]
        if strange:
            raise ConfigError(
                f"merge {number} of the BPE vocabulary takes {shown(strange[0])}, which is no symbol of it; give "
                "bpe_simple_vocab_16e6.txt.gz"
            )


def _byte_letters() -> list[str]:
    """256 printable characters that represent the bytes, in the order of CLIP's ids.

    Printable Latin-1 bytes represent themselves and come first; the others follow, shifted by 256.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    shifted = len(set(range(256)) - set(printable))
    return [chr(code) for code in (*printable, *range(256, 256 + shifted))]


@functools.cache
def _repairer() -> Callable[[str], str]:
    try:
        repair: Callable[[str], str] = importlib.import_module("ftfy").fix_text
    except ImportError:
        _log.warning("ftfy is not installed: broken Unicode in sentences is kept as it is (pip install ftfy)")
        return str
    return repair
