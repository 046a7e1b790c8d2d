"""Word vectors from text files and SeqTR's archives, tables of words without unpickling."""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mindground.errors import ConfigError, DataError, MindGroundError, UnsafeFileError, WeightsError
from mindground.files.word_vectors import read_token_table, read_word_vectors
from mindground.text import build_tokenizer

LINES = b"the 0.5 -1\nship 1e-1 2\nat name@domain.com 7 7\nat 3 4\nship 9 9\n"
WORDS = ["PAD", "the", "ship", "at"]


def same(found: dict[str, np.ndarray], wanted: dict[str, list[float]]) -> bool:
    return found.keys() == wanted.keys() and all(
        array.dtype == np.float32 and np.array_equal(array, np.asarray(wanted[word], np.float32))
        for word, array in found.items()
    )


@pytest.mark.parametrize(
    "form",
    [
        lambda data: data,
        lambda data: b"4 2\n" + data,
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data.removesuffix(b"\n"),
        lambda data: gzip.compress(data),
        lambda data: gzip.compress(data[:20]) + gzip.compress(data[20:]),
    ],
    ids=["plain", "with-counts", "windows", "without-an-end", "gzip", "gzip-in-parts"],
)
def test_a_text_file(form: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "vectors"
    path.write_bytes(form(LINES))
    assert same(read_word_vectors(path, WORDS, 2), {"the": [0.5, -1], "ship": [0.1, 2], "at": [3, 4]})


def test_seqtrs_archive(tmp_path: Path) -> None:
    path, table = tmp_path / "word_emb.npz", np.arange(8, dtype=np.float32).reshape(4, 2)
    np.savez(path, word_emb=table)
    with pytest.raises(WeightsError, match=r"token_to_ix\.pkl or ix_to_token\.pkl must lie beside it"):
        read_word_vectors(path, WORDS, 2)
    (tmp_path / "ix_to_token.pkl").write_bytes(pickle.dumps({0: "PAD", 1: "UNK", 3: "ship", 2: "CLS"}))
    assert same(read_word_vectors(path, WORDS, 2), {"PAD": [0, 1], "ship": [6, 7]})
    (tmp_path / "token_to_ix.pkl").write_bytes(pickle.dumps({"PAD": 0, "UNK": 1}))
    with pytest.raises(WeightsError, match=r"4 vectors, and token_to_ix\.pkl 2 words"):
        read_word_vectors(path, WORDS, 2)


REFUSED = {
    "empty": (b"", "no vector"),
    "another width": (b"the 1 2 3\n", "has 3 numbers, and the word table 2"),
    "words for numbers": (b"the a b\n", "something else than numbers"),
    "not finite": (b"the nan 1\n", "not finite"),
    "one endless line": (b"the" + b" 1" * 100_000, "line of more than|200000|100000 numbers"),
    "gzip cut off": (gzip.compress(LINES * 50)[:-30], "gzip"),
    "gzip damaged": (b"\x1f\x8b" + LINES, "gzip"),
    "gzip that explodes": (gzip.compress(b"the 1 2\n" + b"x 1 2\n" * 4_000_000), "expand"),
    "an archive of something else": (b"PK\x03\x04 no archive", "npz"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_such_file_is_refused(name: str, tmp_path: Path) -> None:
    data, said = REFUSED[name]
    path = tmp_path / "vectors"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=said) as caught:
        read_word_vectors(path, ["the", "absent"], 2)
    assert "\n" not in str(caught.value)
    with pytest.raises(WeightsError, match="missing or no ordinary file"):
        read_word_vectors(tmp_path, WORDS, 2)


@pytest.mark.parametrize("protocol", range(5))
def test_a_table_of_words_is_a_vocabulary(protocol: int, tmp_path: Path) -> None:
    words = ["PAD", "UNK", "CLS", "the", "ship"]
    path = tmp_path / "token_to_ix.pkl"
    path.write_bytes(pickle.dumps({word: place for place, word in enumerate(words)}, protocol))
    tokenizer = build_tokenizer("words", str(path))
    assert tokenizer.ids("The ship, sunk!") == [3, 4, 1]
    path.write_bytes(pickle.dumps(dict(enumerate(words)), protocol))
    assert read_token_table(path) == words


class Runs:
    """Asks for code to be run."""

    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("run",))


TABLES: dict[str, tuple[object, type[MindGroundError], str]] = {
    "code": ({"PAD": Runs()}, UnsafeFileError, "print"),
    "a list": (["PAD"], ConfigError, "not a table of words"),
    "a gap": ({"PAD": 0, "UNK": 2}, ConfigError, "no word and a number below 2"),
    "one number twice": ({"PAD": 0, "UNK": 0}, ConfigError, "have one number"),
    "numbers that are text": ({"PAD": "0"}, ConfigError, "no word and a number"),
    "truth values": ({"PAD": False}, ConfigError, "no word and a number"),
    "other words": ({"the": 0}, ConfigError, "begins with PAD, UNK, CLS"),
}


@pytest.mark.parametrize("name", TABLES)
def test_other_pickles_are_refused_and_never_run(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree, kind, said = TABLES[name]
    path = tmp_path / "token_to_ix.pkl"
    path.write_bytes(pickle.dumps(tree))
    with pytest.raises(kind, match=said):
        build_tokenizer("words", str(path))
    assert capsys.readouterr().out == ""
    with pytest.raises(DataError, match="missing"):
        read_token_table(tmp_path / "absent.pkl")
