"""numpy's formats: values of good files, and one sentence for every lie in a header."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mindground.errors import CheckpointError, DataError, MindGroundError, UnsafeFileError
from mindground.files.npy import read_npy, read_npz_arrays

ARRAYS = [
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3)),
    np.array(3.5),
    np.zeros((0, 4), np.uint8),
    np.array([True, False]),
]


def _saved(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npy(header: str, payload: bytes = b"", version: int = 1) -> bytes:
    raw = header.encode()
    length = struct.pack("<H" if version == 1 else "<I", len(raw))
    return b"\x93NUMPY" + bytes([version, 0]) + length + raw + payload


def _described(descr: str, shape: str) -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n"


LIES = {
    "empty": b"",
    "not one": b"hello",
    "pickle": pickle.dumps([1]),
    "a damaged zip": b"PK\x03\x04" + bytes(30),
    "terabytes": npy(_described("'<f8'", "(99999999, 9999999)")),
    "overflow": npy(_described("'|u1'", "(4294967296, 4294967296)")),
    "negative": npy(_described("'|u1'", "(-1, 4)"), b"1234"),
    "not sizes": npy(_described("'|u1'", "('a',)"), b"1234"),
    "65 dimensions": npy(_described("'|u1'", "(" + "1," * 65 + ")"), b"1"),
    "structured": npy(_described("[('a', '<f4')]", "(2,)"), bytes(8)),
    "text": npy(_described("'<U3'", "(2,)"), bytes(24)),
    "a billion numbers of no bytes": npy(_described("'|V0'", "(1000000000,)")),
    "dates": npy(_described("'<M8[s]'", "(2,)"), bytes(16)),
    "cut off": npy(_described("'<f4'", "(2,)"), bytes(7)),
    "nested": npy("(" * 9000 + "\n"),
    "brackets": npy("((((" + "\n"),
    "power": npy(_described("'|u1'", "(9**9**9,)")),
    "digits": npy(_described("'|u1'", f"({'9' * 5000},)")),
    "version 9": b"\x93NUMPY\x09\x00" + bytes(20),
    "header of 4 GB": b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 100,
}


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.dtype))
def test_values(array: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(_saved(array))
    for found in (read_npy(path), read_npy(_saved(array), "bytes")):
        np.testing.assert_array_equal(found, array)
        assert found.shape == array.shape and found.dtype == array.dtype.newbyteorder("=")
        assert found.flags.c_contiguous and found.flags.writeable


@pytest.mark.parametrize("name", LIES)
def test_lies(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(LIES[name])
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", LIES[name])
    for read in (
        lambda: read_npy(path),
        lambda: read_npy(LIES[name], str(path)),
        lambda: read_npz_arrays(tmp_path / "a.npz"),
    ):
        with pytest.raises(DataError) as caught:
            read()
        assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["<U0", "|S0"])
def test_texts_of_no_letters_take_no_memory(kind: str) -> None:
    """numpy makes room for one letter of each."""
    with pytest.raises(DataError, match="not a whole .npy"):
        read_npy(npy(_described(repr(kind), "(9999999, 99999999)")), "a.npy", kinds="SU")
    with pytest.raises(DataError, match="a header of 4294967295 bytes"):
        read_npy(LIES["header of 4 GB"], "a.npy")


def test_objects_are_a_pickle(tmp_path: Path) -> None:
    path = tmp_path / "o.npy"
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UnsafeFileError, match="numpy.object"):
        read_npy(path)


def test_limits_and_the_class_of_the_error(tmp_path: Path) -> None:
    data = _saved(np.zeros(100, np.uint8))
    assert read_npy(data, "x", max_bytes=100).shape == (100,)
    with pytest.raises(CheckpointError, match="99 are read"):
        read_npy(data, "x", max_bytes=99, error=CheckpointError)
    with pytest.raises(DataError, match="uint8"):
        read_npy(data, "x", kinds="f")
    with pytest.raises(DataError, match="check the path"):
        read_npy(tmp_path / "absent.npy")
    with pytest.raises(MindGroundError, match="check the path"):
        read_npy(tmp_path)


def test_archives(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, *ARRAYS)
    for found, array in zip(read_npz_arrays(path).values(), ARRAYS, strict=True):
        np.testing.assert_array_equal(found, array)
    with pytest.raises(DataError, match="are read"):
        read_npz_arrays(path, max_bytes=40)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a.npy", _saved(np.zeros(9)))
    with pytest.raises(DataError, match="compression"):
        read_npz_arrays(path)
    for content in (b"", b"PK\x03\x04" + bytes(30), b"PK\x05\x06" + b"\xff" * 18):
        path.write_bytes(content)
        with pytest.raises(DataError):
            read_npz_arrays(path)
