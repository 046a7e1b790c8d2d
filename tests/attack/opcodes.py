"""Pickles written opcode by opcode, and the PyTorch files that hold them: what no pickler would write."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np

__all__ = [
    "FLOATS",
    "ORDERED",
    "array_of",
    "call",
    "doubled",
    "in_legacy",
    "in_zip",
    "name",
    "nested",
    "number",
    "pickled",
    "real",
    "state_dict",
    "storage",
    "table",
    "tensor",
    "text",
    "tuple_of",
]

FLOATS = np.arange(4, dtype="<f4").tobytes()
"""The storage `0` of most files here: four float32."""
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


def text(value: str) -> bytes:
    """BINUNICODE in its shortest form."""
    raw = value.encode("utf-8", "surrogatepass")
    if len(raw) < 256:
        return b"\x8c" + bytes([len(raw)]) + raw
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    """BININT1, BININT, LONG1 or LONG4, whichever holds it."""
    if 0 <= value < 256:
        return b"K" + bytes([value])
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw if len(raw) < 256 else b"\x8b" + struct.pack("<i", len(raw)) + raw


def real(value: float) -> bytes:
    """BINFLOAT."""
    return b"G" + struct.pack(">d", value)


def tuple_of(*items: bytes) -> bytes:
    """MARK, the items, TUPLE."""
    return b"(" + b"".join(items) + b"t"


def array_of(*items: bytes) -> bytes:
    """A list."""
    return b"](" + b"".join(items) + b"e"


def table(*pairs: tuple[bytes, bytes]) -> bytes:
    """A dict."""
    return b"}(" + b"".join(key + value for key, value in pairs) + b"u"


def name(module: str, attribute: str) -> bytes:
    """GLOBAL."""
    return b"c" + module.encode() + b"\n" + attribute.encode() + b"\n"


def call(function: bytes, *arguments: bytes) -> bytes:
    """REDUCE: the function, called with the arguments."""
    return function + tuple_of(*arguments) + b"R"


ORDERED = call(name("collections", "OrderedDict"))
"""An empty OrderedDict, as torch keeps hooks in."""


def nested(depth: int) -> bytes:
    """((((...)))): a tuple in a tuple, `depth` times."""
    return b")" + b"\x85" * depth


def doubled(times: int) -> bytes:
    """t = (t, t), `times` times: small in memory, 2 ** times leaves for whoever visits them."""
    return b")" + b"2\x86" * times


def pickled(body: bytes, protocol: int = 2) -> bytes:
    """A whole pickle of what `body` leaves on the stack."""
    return b"\x80" + bytes([protocol]) + body + b"."


def storage(
    key: bytes | str = "0",
    count: bytes | int = 4,
    kind: bytes | str = "FloatStorage",
    *more: bytes,
) -> bytes:
    """The persistent id of a torch storage; bytes are opcodes put in its place."""
    return (
        tuple_of(
            text("storage"),
            kind if isinstance(kind, bytes) else name("torch", kind),
            key if isinstance(key, bytes) else text(key),
            text("cpu"),
            count if isinstance(count, bytes) else number(count),
            *more,
        )
        + b"Q"
    )


def tensor(
    held: bytes = b"",
    *,
    offset: bytes | int = 0,
    size: bytes | Sequence[int] = (4,),
    stride: bytes | Sequence[int] = (1,),
    function: str = "_rebuild_tensor_v2",
    tail: Sequence[bytes] = (b"\x89", ORDERED),
) -> bytes:
    """A torch tensor: a window of a storage (the one of `storage()` when `held` is empty)."""
    return call(
        name("torch._utils", function),
        held or storage(),
        offset if isinstance(offset, bytes) else number(offset),
        size if isinstance(size, bytes) else tuple_of(*map(number, size)),
        stride if isinstance(stride, bytes) else tuple_of(*map(number, stride)),
        *tail,
    )


def state_dict(*pairs: tuple[str, bytes]) -> bytes:
    """A pickled dict of text -> value."""
    return pickled(table(*[(text(key), value) for key, value in pairs]))


def in_zip(
    body: bytes,
    storages: Mapping[str, bytes] | None = None,
    *,
    compression: int = zipfile.ZIP_STORED,
    more: Mapping[str, bytes] | None = None,
    order: bytes = b"little",
) -> bytes:
    """A PyTorch zip file around a pickle, with its storages and any further members."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        archive.writestr("archive/data.pkl", body)
        archive.writestr("archive/byteorder", order)
        for key, raw in (storages or {"0": FLOATS}).items():
            archive.writestr(f"archive/data/{key}", raw)
        archive.writestr("archive/version", b"3\n")
        for member, raw in (more or {}).items():
            archive.writestr(member, raw)
    return out.getvalue()


def in_legacy(body: bytes, storages: Sequence[tuple[str, int, bytes]] = (("0", 4, FLOATS),)) -> bytes:
    """A PyTorch file of before 1.6: magic, version, system, pickle, keys, then (key, count, bytes) of each storage."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    out = b"".join(pickle.dumps(value, 2) for value in (_LEGACY_MAGIC, 1001, system))
    out += body + pickle.dumps([key for key, _, _ in storages], 2)
    return out + b"".join(struct.pack("<q", count) + raw for _, count, raw in storages)
