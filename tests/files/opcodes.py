"""Pickles and torch files that no writer makes, put together from instructions."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
PROTO = b"\x80\x02"


def text(value: str) -> bytes:
    """BINUNICODE."""
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def integer(value: int) -> bytes:
    """BININT, or LONG1 where that is too small."""
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def name(module: str, attribute: str) -> bytes:
    """GLOBAL."""
    return f"c{module}\n{attribute}\n".encode()


def tuple_of(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def table(*pairs: tuple[bytes, bytes]) -> bytes:
    return b"}(" + b"".join(key + value for key, value in pairs) + b"u"


def shared(levels: int, empty: bytes = b"K\x01") -> bytes:
    """t = (t, t), so many times: two to the power of `levels` leaves."""
    step = b"".join(b"q" + bytes([n]) + b"h" + bytes([n]) + b"\x86" for n in range(1, levels + 1))
    return empty + step


def nested(levels: int) -> bytes:
    """((((...)))), in tuples."""
    return b")" + b"\x85" * levels


def tensor(
    key: str = "0",
    count: int = 4,
    size: tuple[int, ...] = (4,),
    stride: tuple[int, ...] = (1,),
    kind: str = "FloatStorage",
    offset: int = 0,
) -> bytes:
    """A call of torch's `_rebuild_tensor_v2`."""
    storage = tuple_of(text("storage"), name("torch", kind), text(key), text("cpu"), integer(count)) + b"Q"
    sizes = tuple_of(*map(integer, size)), tuple_of(*map(integer, stride))
    rest = b"\x89" + name("collections", "OrderedDict") + b")R"
    return name("torch._utils", "_rebuild_tensor_v2") + tuple_of(storage, integer(offset), *sizes, rest) + b"R"


VALUES = np.arange(4, dtype="<f4")


def torch_zip(body: bytes, storages: dict[str, bytes] | None = None, method: int = zipfile.ZIP_STORED) -> bytes:
    """An archive of `torch.save` whose top object is `body`."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr("archive/data.pkl", body)
        for key, raw in ({"0": VALUES.tobytes()} if storages is None else storages).items():
            archive.writestr(f"archive/data/{key}", raw)
    return stream.getvalue()


def torch_legacy(body: bytes) -> bytes:
    """A file of `torch.save` before 1.6 with one storage of four floats."""
    head = b"".join(pickle.dumps(value, 2) for value in (MAGIC, 1001, {"little_endian": True}))
    return head + body + pickle.dumps(["0"], 2) + struct.pack("<q", 4) + VALUES.tobytes()


def forms(body: bytes, folder: Path) -> list[tuple[str, Path]]:
    """A pickle as every kind of file that may hold one, with every reader that opens it."""
    body = PROTO + body + b"."
    files = {"bare.p": body, "zip.pth": torch_zip(body), "legacy.pth": torch_legacy(body)}
    for file, content in files.items():
        (folder / file).write_bytes(content)
    plain = [("read_plain_pickle", folder / "bare.p")]
    return plain + [(reader, folder / file) for file in files for reader in ("read_weights", "read_plain_torch")]


def all_forms(bodies: list[bytes], folder: Path) -> list[tuple[str, Path]]:
    """`forms` of several pickles, each in a folder of its own."""
    jobs = []
    for number, body in enumerate(bodies):
        (folder / str(number)).mkdir()
        jobs += forms(body, folder / str(number))
    return jobs
