"""Objects through collectives for equal arrays, with ranks as threads: what arrives, and how much travels."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from mindground.runtime import packed
from mindground.runtime.packed import broadcast_bytes, from_words, gather_objects, to_words


class Ranks:
    """Threads that meet in every collective; counts the numbers that each of them sends."""

    def __init__(self, size: int) -> None:
        self.size, self.sent = size, 0
        self.barrier = threading.Barrier(size, timeout=20)
        self.given: list[Any] = [None] * size

    def together(self, rank: int, words: np.ndarray) -> np.ndarray:
        assert words.dtype == np.int32 and words.ndim == 1
        self.given[rank] = words.copy()
        self.barrier.wait()
        found = np.stack(self.given)  # unequal lengths would raise
        self.barrier.wait()
        if rank == 0:
            self.sent += words.size
        return found

    def run(self, call: Callable[[int], Any]) -> list[Any]:
        with ThreadPoolExecutor(self.size) as pool:
            return list(pool.map(call, range(self.size)))


@pytest.mark.parametrize("length", [0, 1, 3, 4, 5, 1000])
def test_bytes_become_numbers_and_come_back(length: int) -> None:
    data = bytes(range(256)) * 4
    words = to_words(data[:length])
    assert words.size == -(-length // 4) and from_words(words, length) == data[:length]


def test_values_of_different_length_and_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "PIECE", 7)  # several pieces
    values = ["short", {"long": list(range(100))}, None]
    ranks = Ranks(3)
    found = ranks.run(lambda rank: gather_objects(values[rank], lambda words: ranks.together(rank, words)))
    assert found == [values] * 3


def test_what_all_have_does_not_travel() -> None:
    value = np.arange(100_000)
    ranks = Ranks(4)
    found = ranks.run(lambda rank: gather_objects(value, lambda words: ranks.together(rank, words)))
    assert all(len(them) == 4 and all(np.array_equal(one, value) for one in them) for them in found)
    assert ranks.sent == 9
    assert found[0][0] is not found[0][1], "ranks' values must not share memory"


@pytest.mark.parametrize("length", [0, 5, 4096, 100_001])
def test_the_first_rank_gives_its_bytes_once(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "PIECE", 1000)
    data = np.random.default_rng(0).integers(0, 256, length, np.uint8).tobytes()
    ranks = Ranks(3)
    found = ranks.run(
        lambda rank: broadcast_bytes(None if rank else data, lambda words: ranks.together(rank, words)[0])
    )
    assert found == [data] * 3
    # One byte is a quarter of a number, not a number: with its length, nothing more travels.
    assert ranks.sent == 1 + -(-length // 4)
