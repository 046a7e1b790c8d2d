"""Decompression with a limit: right values, and no more memory than the limit."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import zlib
from collections.abc import Callable

import pytest

from mindground.errors import DataError
from mindground.files.compressed import Compression, decompress_bounded

COMPRESS: dict[Compression, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "bz2": bz2.compress,
    "lzma": lzma.compress,
}


@pytest.mark.parametrize("kind", COMPRESS)
def test_values(kind: Compression) -> None:
    noise = random.Random(0).randbytes(300_000)
    for data in (b"", b"a", b"words " * 50_000, noise):
        packed = COMPRESS[kind](data)
        assert decompress_bounded(packed, kind, limit=len(data), name="x") == data
        if data:
            with pytest.raises(DataError, match=f"x: .* more than {len(data) - 1} bytes"):
                decompress_bounded(packed, kind, limit=len(data) - 1, name="x")


@pytest.mark.parametrize("kind", ["gzip", "bz2", "lzma"])
def test_several_streams_and_padding(kind: Compression) -> None:
    packed = COMPRESS[kind](b"one ") + COMPRESS[kind](b"two")
    assert decompress_bounded(packed + bytes(512), kind, limit=7, name="x") == b"one two"
    with pytest.raises(DataError, match="more than 6"):
        decompress_bounded(packed, kind, limit=6, name="x")


@pytest.mark.parametrize("kind", COMPRESS)
def test_damage(kind: Compression) -> None:
    packed = COMPRESS[kind](random.Random(1).randbytes(500))
    wrong = [packed[:length] for length in range(len(packed))] + [packed + b"more", b"\0" + packed, b"hello"]
    for data in wrong:
        with pytest.raises(DataError, match="^x: ") as caught:
            decompress_bounded(data, kind, limit=1000, name="x")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_bomb_stops_at_the_limit(kind: Compression) -> None:
    import tracemalloc

    packed = COMPRESS[kind](bytes(64 << 20))
    tracemalloc.start()
    with pytest.raises(DataError, match="expand to more than"):
        decompress_bounded(packed, kind, limit=1 << 20, name="x")
    assert tracemalloc.get_traced_memory()[1] < 16 << 20  # lzma keeps a dictionary of 8 MiB
    tracemalloc.stop()
