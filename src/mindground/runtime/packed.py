"""Objects and arrays of any size through collectives for equal arrays of int32.

Four bytes are one number, which HCCL and NCCL both carry. A digest goes first: what all ranks have already does not
travel. What does travels in pieces, so that no rank needs a buffer of the whole for every other one.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["PIECE", "broadcast_bytes", "gather_objects", "from_words", "to_words"]

# Numbers of one piece: 16 MiB, of which a gather holds one for every rank.
PIECE = 1 << 22
_HEADER = 9


def to_words(data: bytes | memoryview) -> np.ndarray:
    """Bytes as int32, filled up with zeros to a multiple of four."""
    words = np.zeros(-(-len(data) // 4), np.int32)
    words.view(np.uint8)[: len(data)] = np.frombuffer(data, np.uint8)
    return words


def from_words(words: np.ndarray, count: int) -> bytes:
    """The first `count` bytes of int32 numbers."""
    return np.ascontiguousarray(words, np.int32).view(np.uint8)[:count].tobytes()


def gather_objects(value: Any, gather: Callable[[np.ndarray], np.ndarray]) -> list[Any]:
    """Any picklable value of every rank, in order of rank. The bytes come only from the ranks of this job.

    Args:
        gather: takes a 1-D int32 array of equal length on all ranks, returns the (size, n) stack of all of them.
    """
    data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    header = np.empty(_HEADER, np.int32)
    header[0], header[1:] = len(data) - (1 << 31), np.frombuffer(hashlib.sha256(data).digest(), np.int32)
    headers = gather(header)
    if (headers == headers[0]).all():
        return [pickle.loads(data) for _ in headers]
    lengths = headers[:, 0].astype(np.int64) + (1 << 31)
    most = -(-int(lengths.max()) // 4)
    words = np.zeros(most, np.int32)
    own = to_words(data)
    words[: own.size] = own
    pieces = [gather(words[first : first + PIECE]) for first in range(0, most, PIECE)]
    stacked = np.concatenate(pieces, axis=1)
    return [pickle.loads(from_words(one, int(length))) for one, length in zip(stacked, lengths, strict=True)]


def broadcast_bytes(data: bytes | None, broadcast: Callable[[np.ndarray], np.ndarray]) -> bytes:
    """The bytes of the first rank, on every rank.

    Args:
        data: of the first rank; None on all others.
        broadcast: takes a 1-D int32 array of equal length on all ranks, returns that of the first.
    """
    length = int(broadcast(np.asarray([len(data or b"") - (1 << 31)], np.int32))[0]) + (1 << 31)
    words = to_words(data) if data is not None else np.zeros(-(-length // 4), np.int32)
    for first in range(0, words.size, PIECE):
        words[first : first + PIECE] = broadcast(words[first : first + PIECE])
    return from_words(words, length)
