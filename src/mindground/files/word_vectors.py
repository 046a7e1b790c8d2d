"""Vectors of words: text files as GloVe and fastText publish them, and SeqTR's `word_emb.npz` with its table of words.

A text file of some gigabytes is read line by line, and only the words that are asked for are kept.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mindground.errors import DataError, MindGroundError, WeightsError, shown
from mindground.files.npy import read_npz_arrays
from mindground.files.pickles import read_plain_pickle

__all__ = ["looks_pickled", "read_token_table", "read_word_vectors"]

_TABLES = ("token_to_ix.pkl", "ix_to_token.pkl")
_ARRAY = "word_emb"
_CHUNK = 1 << 20
_LONGEST_LINE = 1 << 16
# Vectors as text shrink to a third or so; what grows far more is no such file.
_MOST_GROWTH, _ALLOWED_GROWTH = 24, 4 << 20
_MOST_WORDS, _LARGEST_TABLE = 1 << 22, 4 << 30
_HEADER = re.compile(rb"[0-9]{1,12} [0-9]{1,6}")


def looks_pickled(head: bytes) -> bool:
    """Whether a file that begins so is a pickle: protocol 2 or later, or a dictionary of the older protocols."""
    return head[:1] == b"\x80" or head[:2] in (b"(d", b"}q", b"}p", b"}(")


def read_token_table(path: str | Path) -> list[str]:
    """Words of `token_to_ix.pkl` or `ix_to_token.pkl` in the order of their numbers; nothing of the file is run.

    Raises:
        UnsafeFileError: it names a class or function.
        DataError: it is no table of words and numbers, or the numbers are not 0, 1, 2, ...
    """
    if not Path(path).is_file():
        raise DataError(f"{path}: is missing or no ordinary file; check the path")
    table = read_plain_pickle(path)
    if not isinstance(table, dict) or not table or len(table) > _MOST_WORDS:
        raise DataError(f"{path} holds {shown(table)}, not a table of words and their numbers")
    pairs = [(key, value) if isinstance(key, str) else (value, key) for key, value in table.items()]
    words: list[str | None] = [None] * len(pairs)
    for word, number in pairs:
        if not isinstance(word, str) or type(number) is not int or not 0 <= number < len(words):
            raise DataError(f"{path}: {shown(word)} and {shown(number)} are no word and a number below {len(words)}")
        if words[number] is not None:
            raise DataError(f"{path}: {shown(words[number])} and {shown(word)} have one number, {number}")
        words[number] = word
    return [word for word in words if word is not None]


def read_word_vectors(path: str | Path, words: Sequence[str], width: int) -> dict[str, np.ndarray]:
    """Vectors of those of the words that a file has.

    Args:
        path: `.npz` of SeqTR (beside it lies `token_to_ix.pkl` or `ix_to_token.pkl`), or a text file, plain or
            compressed by gzip, of one word and its numbers a line; a first line of two counts is passed over. Of a
            word that stands there twice the first line counts.
        words: exactly as the file spells them.
        width: numbers of a vector.

    Returns:
        Word -> (width,) float32.

    Raises:
        WeightsError: missing, damaged, of another width, with numbers that are not finite, or too large.
        UnsafeFileError: it would run code.
    """
    path = Path(path).expanduser()
    try:
        if not path.is_file():
            raise WeightsError(f"{path}: is missing or no ordinary file; check the path")
        with path.open("rb") as stream:
            head = stream.read(8)
            if head[:2] == b"PK":
                return _of_archive(path, words, width)
            stream.seek(0)
            size = path.stat().st_size
            lines = _unpacked(stream, size, path) if head[:2] == b"\x1f\x8b" else iter(lambda: stream.read(_CHUNK), b"")
            return _of_text(_lines(lines, path), set(words), width, path)
    except MindGroundError:
        raise
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error


def _of_archive(path: Path, words: Sequence[str], width: int) -> dict[str, np.ndarray]:
    most = _MOST_GROWTH * path.stat().st_size + _ALLOWED_GROWTH
    arrays = read_npz_arrays(path, kinds="f", max_bytes=min(most, _LARGEST_TABLE), error=WeightsError)
    if _ARRAY not in arrays or arrays[_ARRAY].ndim != 2:
        raise WeightsError(f"{path} holds {shown(list(arrays))}, and no table {_ARRAY!r}; it is no word_emb.npz")
    table = arrays[_ARRAY].astype(np.float32)
    beside = next((path.with_name(name) for name in _TABLES if path.with_name(name).is_file()), None)
    if beside is None:
        raise WeightsError(f"{path}: {' or '.join(_TABLES)} must lie beside it, which says whose vectors these are")
    rows = read_token_table(beside)
    if len(rows) != len(table):
        raise WeightsError(
            f"{path} has {len(table)} vectors, and {beside.name} {len(rows)} words; they do not belong together"
        )
    _check_width(table.shape[1], width, path)
    wanted = set(words)
    found = {word: table[place] for place, word in enumerate(rows) if word in wanted}
    for word, vector in found.items():
        _check_finite(vector, word, path)
    return found


def _of_text(lines: Iterator[bytes], wanted: set[str], width: int, path: Path) -> dict[str, np.ndarray]:
    left = {word.encode("utf-8", "surrogatepass"): word for word in wanted}
    found: dict[str, np.ndarray] = {}
    checked = False
    for number, line in enumerate(lines, 1):
        if number == 1 and _HEADER.fullmatch(line.strip()):
            continue
        if not checked:
            _check_width(len(line.split(b" ")) - 1, width, path)
            checked = True
        first, _, rest = line.partition(b" ")
        if first not in left:
            continue
        # "at name@domain.com 0.1 ...": a word of the file may hold spaces, and is then none of ours.
        numbers = rest.split()
        if len(numbers) != width:
            continue
        found[left[first]] = _numbers(numbers, left[first], number, path)
        del left[first]
        if not left:
            break
    if not checked:
        raise WeightsError(f"{path} holds no vector; it is empty or no file of word vectors")
    return found


def _numbers(texts: Sequence[bytes], word: str, line: int, path: Path) -> np.ndarray:
    try:
        vector = np.asarray([float(text) for text in texts], np.float32)
    except ValueError as error:
        raise WeightsError(
            f"{path} line {line}: the vector of {shown(word)} holds something else than numbers ({shown(str(error))})"
        ) from error
    _check_finite(vector, word, path)
    return vector


def _check_finite(vector: np.ndarray, word: str, path: Path) -> None:
    if not np.isfinite(vector).all():
        raise WeightsError(f"{path}: the vector of {shown(word)} holds numbers that are not finite; get the file again")


def _check_width(found: int, wanted: int, path: Path) -> None:
    if found != wanted:
        raise WeightsError(
            f"{path}: a vector has {found} numbers, and the word table {wanted}; take another file, or set the width "
            "of the table (of SeqTR: model.text.gru.embedding)"
        )


def _unpacked(stream: Any, size: int, path: Path) -> Iterator[bytes]:
    """Chunks of a gzip file, as long as it grows no more than text does."""
    room = _MOST_GROWTH * size + _ALLOWED_GROWTH
    machine = zlib.decompressobj(wbits=31)
    try:
        while data := stream.read(_CHUNK):
            while data:
                chunk = machine.decompress(data, _CHUNK)
                room -= len(chunk)
                if room < 0:
                    raise WeightsError(f"{path}: {size} bytes expand far more than vectors as text do; do not use it")
                yield chunk
                data = machine.unconsumed_tail
                if machine.eof:
                    data = machine.unused_data + data
                    if data.strip(b"\0"):
                        machine = zlib.decompressobj(wbits=31)
                    else:
                        data = b""
        if not machine.eof:
            raise WeightsError(f"{path}: the gzip data is cut off; get the file again")
    except zlib.error as error:
        raise WeightsError(f"{path}: not whole gzip data ({error}); get the file again") from error


def _lines(chunks: Iterator[bytes], path: Path) -> Iterator[bytes]:
    """Lines without their ends."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r")
        if len(rest) > _LONGEST_LINE:
            raise WeightsError(f"{path}: a line of more than {_LONGEST_LINE} bytes; it is no file of word vectors")
    if rest:
        yield rest
