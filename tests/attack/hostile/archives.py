"""Zip files and what lies in them: names, sizes, methods, npz members."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np

from attack import opcodes as op
from attack.child import EVIDENCE
from attack.containers import npy, npz_of, zip_zeros
from attack.hostile.case import Case, either, read, refused

__all__ = ["cases"]

_BODY = op.state_dict(("a", op.tensor()))
_HEADERS = {
    "objects": "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n",
    "shape below zero": "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}\n",
    "empty and huge": "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 99999999999999999999)}\n",
    "elements of no bytes": "{'descr': '|V0', 'fortran_order': False, 'shape': (99999999,)}\n",
    "objects in records": "{'descr': [('a','|O')], 'fortran_order': False, 'shape': (1,)}\n",
    "5000 brackets": "(" * 5000 + "\n",
    "nine dimensions by product": "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)*9}\n",
    "a power": "9**9**9**9\n",
    "shape true": "{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}\n",
    "8 PB": "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999, 9999999)}\n",
    "6 GB": "{'descr': '|u1', 'fortran_order': False, 'shape': (60000, 100000)}\n",
    "shape that overflows": "{'descr': '|u1', 'fortran_order': False, 'shape': (4294967296, 4294967296)}\n",
    "200000 dimensions": "{'descr': '|u1', 'fortran_order': False, 'shape': (" + "1," * 200_000 + ")}\n",
}


def cases() -> Iterator[Case]:
    """All of them."""
    yield from _names()
    yield from _sizes()
    yield from _damage()
    for name, header in _HEADERS.items():
        yield either(f"npz member: {name}", "npz", _member(header))
        yield either(f"feature: {name}", "features", _member(header, "arr_0"))
        yield either(f"word vectors: {name}", "word_archive", _member(header, "word_emb"))
    yield from _features()


def _names() -> Iterator[Case]:
    yield either("member with a path upward", "torch_zip", op.in_zip(_BODY, more={f"../{EVIDENCE}": b"x"}))
    yield either("member far upward", "torch_zip", op.in_zip(_BODY, more={f"../../../../{EVIDENCE}": b"x"}))
    yield either("member with an absolute path", "torch_zip", op.in_zip(_BODY, more={f"/dev/shm/{EVIDENCE}": b"x"}))
    scripted = op.call(op.name("__torch__.os", "system"), op.text(f"touch {EVIDENCE}"))
    body = op.pickled(scripted + op.table((op.text("w"), op.tensor())) + b"b")
    yield read("class of a script stays inert", "torchscript", op.in_zip(body, more={"archive/constants.pkl": b"x"}))
    yield refused("data.pkl twice", "torch_zip", _twice())


def _twice() -> bytes:
    out = io.BytesIO()
    evil = op.pickled(op.call(op.name("os", "system"), op.text(f"touch {EVIDENCE}")))
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", _BODY)
        archive.writestr("archive/data.pk_", evil)
        archive.writestr("archive/data/0", op.FLOATS)
    return out.getvalue().replace(b"archive/data.pk_", b"archive/data.pkl")


def _sizes() -> Iterator[Case]:
    def packed(code: bytes, count: int) -> bytes:
        return op.in_zip(op.pickled(code * count), compression=zipfile.ZIP_DEFLATED)

    for name, code in {"empty lists": b"]", "marks": b"(", "empty dicts": b"}"}.items():
        for reader in ("torch_zip", "pair_list"):
            yield refused(f"60 MB of {name} in 60 kB", reader, lambda code=code: packed(code, 60_000_000))
    yield refused("250 MB of empty lists in 250 kB", "torch_zip", lambda: packed(b"]", 250_000_000))
    yield refused("members that share their bytes", "torch_zip", _overlapping(1000, 4 << 20))
    yield either("2 GB of zeros", "npz", lambda: _zeros(2 << 30))
    yield either("250 MB of zeros", "npz", lambda: _zeros(250 << 20))
    for name, method in {"bzip2": zipfile.ZIP_BZIP2, "lzma": zipfile.ZIP_LZMA}.items():
        yield either(f"100 MB of zeros by {name}", "npz", lambda method=method: _packed(100 << 20, method))
    yield refused("2 GB of zeros", "word_archive", lambda: _zeros(2 << 30, "word_emb"))
    yield either("250 MB of zeros in a storage", "torch_zip", _storage)


def _overlapping(count: int, size: int) -> bytes:
    """A directory of many members that all lie at one place."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    raw = packer.compress(bytes(size)) + packer.flush()
    check = zlib.crc32(bytes(size))
    local = struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, 0, 8, 0, 0, check, len(raw), size, 1, 0) + b"a" + raw
    directory = b""
    for number in range(count):
        name = f"archive/data/{number}".encode()
        sizes = (check, len(raw), size, len(name), 0, 0, 0, 0, 0, 0)
        directory += struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 20, 20, 0, 8, 0, 0, *sizes) + name
    return local + directory + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, count, count, len(directory), len(local), 0)


def _head(size: int) -> bytes:
    return npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({size // 4},)}}\n")


def _zeros(size: int, name: str = "a") -> bytes:
    """An npz of one array of zeros."""
    return zip_zeros(f"{name}.npy", _head(size), size)


def _packed(size: int, method: int) -> bytes:
    """The same by another method than deflate."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("a.npy", _head(size) + bytes(size))
    return out.getvalue()


def _storage() -> bytes:
    count = (250 << 20) // 4
    window = op.tensor(op.storage("0", count), size=(count,))
    body = op.state_dict(("a", window))
    return op.in_zip(body, {"0": bytes(250 << 20)}, compression=zipfile.ZIP_DEFLATED)


def _damage() -> Iterator[Case]:
    whole = op.in_zip(_BODY)
    packed = op.in_zip(_BODY, compression=zipfile.ZIP_LZMA)
    for at in range(60, 130, 6):
        damaged = bytearray(packed)
        damaged[at] ^= 0x55
        yield either(f"lzma damaged at {at}", "torch_zip", bytes(damaged))
    dictionary = bytearray(packed)
    at = packed.index(b"archive/data.pkl") + len(b"archive/data.pkl") + 5
    dictionary[at : at + 4] = b"\xff" * 4
    yield either("lzma with a dictionary of 4 GB", "torch_zip", bytes(dictionary))
    remnant = whole.replace(b"PK\x05\x06", b"PK\x06\x07" + bytes(16) + b"PK\x05\x06", 1)
    yield either("a zip64 locator that leads nowhere", "torch_zip", remnant)
    locked = bytearray(whole)
    locked[6] |= 1
    locked[whole.index(b"PK\x01\x02") + 8] |= 1
    yield refused("encrypted", "torch_zip", bytes(locked))
    yield refused("one byte short", "torch_zip", whole[:-1])
    yield refused("another byte order", "torch_zip", op.in_zip(_BODY, order=b"biggie"))
    yield refused("no member at all", "torch_zip", b"PK\x05\x06" + bytes(18))


def _member(header: str, name: str = "a") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(f"{name}.npy", npy(header, bytes(64), 1 if len(header) < 65536 else 2))
    return out.getvalue()


def _features() -> Iterator[Case]:
    yield either("feature: empty file", "features", b"")
    yield either("feature: a pickle", "features", b"\x80\x04N.")
    yield either("feature: other names", "features", npz_of(x=np.ones(3)))
    yield either("feature: 2 GB of zeros", "features", lambda: _zeros(2 << 30, "arr_0"))
    yield either("feature: damaged archive", "features", b"PK\x03\x04" + bytes(30))
