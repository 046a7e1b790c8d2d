"""Arrays in numpy's .npy and .npz formats, read without pickle and without trusting their headers."""

from __future__ import annotations

import io
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from mindground.errors import DataError, MindGroundError, UnsafeFileError, shown
from mindground.files._budget import why
from mindground.files._sizes import checked_count

__all__ = ["NPY_DAMAGE", "read_npy", "read_npy_stream", "read_npz_arrays"]

NPY_DAMAGE = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    EOFError,
    SyntaxError,
    RecursionError,
    MemoryError,
    OSError,
    RuntimeError,
    NotImplementedError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What a damaged .npy header or archive raises: numpy evaluates the header as a Python literal."""

_VERSIONS = ((1, 0), (2, 0), (3, 0))
_DEFAULT_MOST = 1 << 30
_LONGEST_HEADER = 10_000
"""Bytes; numpy refuses a longer one, too, but reads it first."""


def read_npy(
    source: str | Path | bytes,
    name: str = "",
    *,
    kinds: str = "biuf",
    max_bytes: int = _DEFAULT_MOST,
    error: type[MindGroundError] = DataError,
) -> np.ndarray:
    """Read one .npy file; the array is contiguous, writable and in the machine's byte order.

    Args:
        source: a file, or its bytes.
        name: what is read, for messages (default: the file).
        kinds: numpy's letters of the types that are accepted: `b` bool, `i` and `u` integers, `f` floats.
        max_bytes: the most bytes that the numbers may take; the header's shape is also held against the file's size
            before anything is allocated.
        error: the class to raise.

    Raises:
        UnsafeFileError: it holds Python objects, which are a pickle.
        error: missing, damaged, cut off, an archive, too large, or of another type.
    """
    name = name or (f"{len(source)} bytes" if isinstance(source, bytes) else str(source))
    try:
        if isinstance(source, bytes):
            return read_npy_stream(io.BytesIO(source), len(source), kinds=kinds, max_bytes=max_bytes, name=name)
        path = Path(source)
        if not path.is_file():
            raise error(f"{name}: is missing or no file; check the path")
        with path.open("rb") as stream:
            return read_npy_stream(stream, path.stat().st_size, kinds=kinds, max_bytes=max_bytes, name=name)
    except NPY_DAMAGE as cause:
        raise error(f"{name}: not a whole .npy array of numbers ({why(cause)}); write or get it again") from cause


def read_npz_arrays(
    path: str | Path,
    *,
    kinds: str = "biuf",
    max_bytes: int = _DEFAULT_MOST,
    error: type[MindGroundError] = DataError,
) -> dict[str, np.ndarray]:
    """Read all arrays of an .npz archive by name, in the archive's order.

    Args:
        kinds, max_bytes, error: as in `read_npy`; `max_bytes` is for all arrays together.

    Raises:
        UnsafeFileError: it holds Python objects, which are a pickle.
        error: missing, damaged, cut off, too large, or of another type.
    """
    arrays: dict[str, np.ndarray] = {}
    name, left = "", max_bytes
    try:
        with zipfile.ZipFile(path) as archive:
            for part in archive.infolist():
                name = part.filename.removesuffix(".npy")
                if part.is_dir():
                    continue
                if part.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ValueError(f"compression method {part.compress_type}")
                with archive.open(part) as stream:
                    arrays[name] = read_npy_stream(
                        stream, part.file_size, kinds=kinds, max_bytes=left, name=f"{path} array {shown(name)}"
                    )
                left -= arrays[name].nbytes
    except NPY_DAMAGE as cause:
        where = f" array {shown(name)}" if name else ""
        raise error(f"{path}{where}: not a whole .npz archive ({why(cause)}); write or get it again") from cause
    return arrays


def read_npy_stream(stream: IO[bytes], size: int, *, kinds: str, max_bytes: int, name: str) -> np.ndarray:
    """Read one array from where a stream stands.

    Args:
        size: the bytes that the stream can give at most.

    Raises:
        UnsafeFileError: it holds Python objects.
        NPY_DAMAGE: anything else that is wrong.
    """
    version = np.lib.format.read_magic(stream)
    if version not in _VERSIONS:
        raise ValueError(f"numpy format {version}")
    shape, fortran, dtype = _header(stream, version)
    if dtype.hasobject:
        raise UnsafeFileError(
            f"{name}: refused, because it holds Python objects, which are a numpy.object pickle; re-save it with "
            "numbers only"
        )
    if dtype.kind not in kinds or dtype.itemsize == 0:
        raise ValueError(f"numbers of type {shown(str(dtype))} are not read here")
    count = checked_count(shape)
    wanted = count * dtype.itemsize
    if wanted > min(size, max_bytes):
        raise ValueError(f"{shown(shape)} of {dtype} takes {wanted} bytes; there are {size}, and {max_bytes} are read")
    data = bytearray(wanted)
    if _read_into(stream, data) != wanted:
        raise ValueError(f"cut off inside the {wanted} bytes of {shown(shape)} numbers")
    array = np.frombuffer(data, dtype=dtype, count=count) if wanted else np.zeros(count, dtype)
    array = array.reshape(shape, order="F" if fortran else "C")
    native = array.astype(dtype.newbyteorder("="), order="C", copy=False)
    # `view` drops an explicit byte order from the type, which MindSpore refuses.
    return native if native.dtype.kind in "SU" else native.view(np.dtype(native.dtype.name)).reshape(shape)


def _header(stream: IO[bytes], version: tuple[int, int]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, Fortran order and type. numpy reads as many bytes as the file says there are, before it looks at them."""
    head = stream.read(2 if version == (1, 0) else 4)
    length = int.from_bytes(head, "little")
    if length > _LONGEST_HEADER:
        raise ValueError(f"a header of {length} bytes")
    read: Any = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(io.BytesIO(head + stream.read(length)))


def _read_into(stream: IO[bytes], data: bytearray) -> int:
    view, at = memoryview(data), 0
    while at < len(data):
        got = stream.readinto(view[at:])  # type: ignore[attr-defined]
        if not got:
            break
        at += got
    return at
