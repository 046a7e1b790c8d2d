"""Seeded changes of files that know what the file is made of, so that they get past its first check.

`mutate(shape, rng, data)` never raises: what cannot be taken apart is changed byte by byte.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import pickle
import pickletools
import random
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from attack.child import EVIDENCE
from attack.containers import field, npy, safetensors, varint
from attack.texts import configuration, lines_of_text, markup
from attack.trees import as_lists, mutate_tree

__all__ = ["SHAPES", "mutate", "mutations"]

_LARGEST = 1 << 20
_SIZES = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)


def mutations(shape: str, seed: int, seeds: Sequence[bytes], count: int, kept: Sequence[bytes] = ()) -> list[bytes]:
    """`count` inputs that grew out of the seeds, or half of them out of `kept`; equal for equal arguments."""
    rng = random.Random(f"{shape}:{seed}")
    found = []
    for _ in range(count):
        data = rng.choice(kept if kept and rng.random() < 0.5 else seeds)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            data = mutate(shape, rng, data)
        found.append(data[:_LARGEST])
    return found


def mutate(shape: str, rng: random.Random, data: bytes) -> bytes:
    """One change. `shape` is a key of `SHAPES`."""
    if rng.random() < 0.2:
        return _bytes(rng, data)
    with contextlib.suppress(Exception):
        return SHAPES[shape](rng, data)
    return _bytes(rng, data)


def _bytes(rng: random.Random, data: bytes) -> bytes:
    """Bit flips, lost, doubled and foreign bytes, fields that look like lengths."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        count = len(out)
        at = rng.randrange(count) if count else 0
        length = rng.randrange(1, min(64, count) + 1) if count else 0
        change = rng.randrange(9) if count else 4
        if change == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif change == 1:
            out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif change == 2:
            del out[at:]
        elif change == 3:
            del out[at : at + rng.choice((1, 2, 4, 8, 16))]
        elif change == 4:
            out[at:at] = rng.randbytes(rng.choice((1, 2, 4, 8)))
        elif change == 5:
            width = rng.choice((2, 4, 8))
            value = rng.choice((*_SIZES, count, count + 1, count * 2, rng.getrandbits(32))) % 256**width
            out[at : at + width] = value.to_bytes(width, rng.choice(("little", "big")))
        elif change == 6:
            source = rng.randrange(count)
            out[at:at] = out[source : source + length]
        elif change == 7:
            source = rng.randrange(count)
            out[at : at + length] = out[source : source + length]
        else:
            out += out[at:]
        del out[_LARGEST:]
    return bytes(out)


# ---- pickles -------------------------------------------------------------------------------------------------------

_PIECES = (
    *(bytes([code]) for code in b"N\x88])}(tld012aesuRb\x81oQ\x93\x94\x85\x86\x87\x8f\x90\x91.\x97\x98"),
    *(b"q\x00", b"h\x00", b"q\x01", b"h\x01", b"r\x10\0\0\0", b"r\0\0\0\x10", b"\x82\x01", b"\x95" + b"\0" * 7 + b"\1"),
    *(b"K\0", b"J\xff\xff\xff\xff", b"\x8a\x08" + b"\xff" * 7 + b"\x7f", b"G\x7f\xf8" + b"\0" * 6, b"Pabc\n"),
    *(b"\x8c\x01a", b"\x8b\x04\0\0\0\xff\xff\xff\x7f", b"\x8e\2" + b"\0" * 7 + b"ab", b"\x96\2" + b"\0" * 7 + b"ab"),
    *(b"cbuiltins\ngetattr\n", b"ccollections\nOrderedDict\n", b"cnumpy\ndtype\n", b"cbuiltins\nset\n"),
    *(b"ctorch._utils\n_rebuild_tensor_v2\n", b"iargparse\nNamespace\n", b")" + b"2\x86" * 36, b")" + b"\x85" * 5000),
    b"cos\nsystem\n\x8c" + bytes([6 + len(EVIDENCE)]) + b"touch " + EVIDENCE.encode() + b"\x85R",
)
"""Instructions, some with their arguments; the last tries to run a command."""


def _instructions(data: bytes) -> tuple[list[bytes], bytes]:
    """The instructions of the pickles at the head, and the rest."""
    parts: list[bytes] = []
    end = 0
    stream = io.BytesIO(data)
    with contextlib.suppress(Exception):
        for _ in range(8):
            starts = [place for _, _, place in pickletools.genops(stream) if place is not None]
            parts += [data[a:b] for a, b in zip(starts, [*starts[1:], stream.tell()], strict=True)]
            end = stream.tell()
    return parts, data[end:]


def _pickle(rng: random.Random, data: bytes) -> bytes:
    if data[:2] == b"PK":
        return _zip(rng, data)
    if rng.random() < 0.5:
        tree = _plain(data)
        if isinstance(tree, (list, tuple, dict)):
            with contextlib.suppress(RecursionError, OverflowError):
                return pickle.dumps(mutate_tree(rng, as_lists(tree)), rng.choice((0, 2, 4)))
    parts, rest = _instructions(data)
    if len(parts) < 3:
        return _bytes(rng, data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at, other = rng.randrange(len(parts)), rng.randrange(len(parts))
        change = rng.randrange(6)
        if change == 0:
            del parts[at]
        elif change == 1:
            parts.insert(at, rng.choice(_PIECES))
        elif change == 2:
            parts[at] = rng.choice(_PIECES)
        elif change == 3:
            parts.insert(at, parts[other])
        elif change == 4:
            parts[at], parts[other] = parts[other], parts[at]
        else:
            parts[at] = _bytes(rng, parts[at])
        if not parts:
            break
    return b"".join(parts) + rest


class _Plain(pickle.Unpickler):
    """Reads only what was mutated from the plain seeds; everything named is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name}")


def _plain(data: bytes) -> Any:
    """The tree of a pickle that names nothing and holds no deep or shared structure; None for any other."""
    if len(data) > 20_000 or any(code in data for code in (b"\x85" * 30, b"2\x86" * 10)):
        return None
    found = [(code.name, argument) for code, argument, _ in pickletools.genops(data)]
    if any(isinstance(argument, int) and name.endswith("PUT") and argument > 10_000 for name, argument in found):
        return None
    return _Plain(io.BytesIO(data)).load()


# ---- containers ----------------------------------------------------------------------------------------------------


def _zip(rng: random.Random, data: bytes) -> bytes:
    """Members changed, lost, doubled, renamed or packed otherwise."""
    out = io.BytesIO()
    warnings.simplefilter("ignore", UserWarning)  # of names that occur twice
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        members = source.infolist()
        chosen = rng.randrange(len(members))
        with zipfile.ZipFile(out, "w", rng.choice((0, 0, 8, 12, 14))) as target:
            for place, member in enumerate(members):
                body, name = source.read(member), member.filename
                change = rng.random() if place == chosen else 1.0
                if change < 0.15:
                    continue
                if change < 0.3:
                    name = rng.choice(
                        (f"../{EVIDENCE}", "archive/data/../data.pkl", "data.pkl", f"{name}\0", "archive/1")
                    )
                elif change < 1.0:
                    kind = "pickle" if name.endswith(".pkl") else "npy" if name.endswith(".npy") else "bytes"
                    body = mutate(kind, rng, body)
                target.writestr(name, body)
                if rng.random() < 0.05:
                    target.writestr(name, _bytes(rng, body))
    whole = out.getvalue()
    return whole if rng.random() < 0.8 else _bytes(rng, whole)


def _json(rng: random.Random, data: bytes) -> bytes:
    return json.dumps(mutate_tree(rng, json.loads(data))).encode()


def _lines(rng: random.Random, data: bytes) -> bytes:
    records = [json.loads(line) for line in data.split(b"\n") if line.strip()]
    at = rng.randrange(len(records))
    records[at] = mutate_tree(rng, records[at])
    return "".join(json.dumps(record) + "\n" for record in records).encode()


_DTYPES = ("F8_E4M3", "F4", "BF16", "F16", "F64", "I8", "U64", "BOOL", "C64", 3, "")


def _safetensors(rng: random.Random, data: bytes) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    described = header.get("__metadata__", {})
    if isinstance(described, dict) and "mindground" in described and rng.random() < 0.7:
        described["mindground"] = json.dumps(mutate_tree(rng, json.loads(described["mindground"])))
        return safetensors(header, data[8 + length :])
    header = mutate_tree(rng, header)
    if isinstance(header, dict) and rng.random() < 0.3:
        for entry in header.values():
            if isinstance(entry, dict) and "dtype" in entry:
                entry["dtype"] = rng.choice(_DTYPES)
    return safetensors(header, data[8 + length :])


def _fields(data: bytes) -> list[tuple[int, int | bytes]]:
    """(number, value) of every field of a message; ValueError for what is none."""
    found: list[tuple[int, int | bytes]] = []
    at = 0

    def read() -> int:
        nonlocal at
        value = shift = 0
        while True:
            value |= (data[at] & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if not data[at - 1] & 0x80:
                return value

    while at < len(data):
        key = read()
        if key & 7 == 0:
            found.append((key >> 3, read()))
        elif key & 7 == 2:
            length = read()
            if at + length > len(data):
                raise ValueError("cut short")
            found.append((key >> 3, data[at : at + length]))
            at += length
        else:
            raise ValueError("another wire type")
    return found


def _protobuf(rng: random.Random, data: bytes, depth: int = 0) -> bytes:
    try:
        fields = _fields(data)
    except (ValueError, IndexError):
        return _bytes(rng, data)
    if not fields:
        return _bytes(rng, data)
    parts = [field(place, value) for place, value in fields]
    at = rng.randrange(len(fields))
    place, value = fields[at]
    change = rng.random()
    if change < 0.5 and isinstance(value, bytes) and depth < 3:
        parts[at] = field(place, _protobuf(rng, value, depth + 1))
    elif change < 0.6:
        parts.insert(at, parts[at])
    elif change < 0.7:
        del parts[at]
    elif change < 0.8:
        parts[at] += field(place, rng.choice((*_SIZES, 2**40)))
    elif change < 0.9:
        parts[at] = varint(place << 3 | 2) + varint(rng.choice(_SIZES)) + parts[at]
    else:
        parts[at] = field(rng.choice((0, 1, 2, 3, 4, 536870911)), rng.choice((b"", b"Float32", b"\xff\xfe", b"str")))
    return b"".join(parts)


_DESCRIPTIONS = ("|u1", "<f8", "|O", "|b1", "<U5", "|V0", "|S0", "<M8[ns]", "<c16", ">f4", "(2,3)f4")
_ARRAYS = (
    "(20, 30)",
    "(20,)",
    "()",
    "(-1, 30)",
    "(0, 5)",
    "(2, 20, 30)",
    "(99999999, 99999999)",
    "(20, 30.0)",
    "(1,)*99",
)
_HEADERS = (
    "[" * 200,
    "(" * 5000,
    "{'descr': [('a', '<f4')], 'fortran_order': 1, 'shape': (150,)}",
    "__import__('os')",
    "{}",
    "\0" * 30,
)


def _npy(rng: random.Random, data: bytes) -> bytes:
    if data[:6] != b"\x93NUMPY":
        return _zip(rng, data) if data[:2] == b"PK" else _bytes(rng, data)
    kind, shape = rng.choice(_DESCRIPTIONS), rng.choice(_ARRAYS)
    plain = f"{{'descr': '{kind}', 'fortran_order': {rng.random() < 0.5}, 'shape': {shape}}}"
    header = plain if rng.random() < 0.7 else rng.choice(_HEADERS)
    length = struct.unpack_from("<H", data, 8)[0]
    return npy(header.ljust(length)[: max(length, len(header))], data[10 + length :], rng.choice((1, 1, 1, 2)))


def _gzip(rng: random.Random, data: bytes) -> bytes:
    if data[:2] != b"\x1f\x8b":
        return lines_of_text(rng, data)
    body = zlib.decompressobj(31).decompress(data, 1 << 23)
    return gzip.compress(lines_of_text(rng, body), 1, mtime=0)


SHAPES: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "bytes": _bytes,
    "gzip": _gzip,
    "json": _json,
    "lines": _lines,
    "npy": _npy,
    "pickle": _pickle,
    "protobuf": _protobuf,
    "safetensors": _safetensors,
    "text": lines_of_text,
    "xml": markup,
    "yaml": configuration,
    "zip": _zip,
}
"""What a file is made of -> how it is changed."""
