"""Zip archives written by PyTorch: checkpoints since 1.6 and TorchScript modules."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

from mindground.errors import WeightsError, shown
from mindground.files._budget import Budget, expanded, why
from mindground.files._pickle import Machine
from mindground.files._references import storage_reference
from mindground.files._tensors import StorageRef, item_size

__all__ = ["check_sizes", "main_pickle", "open_archive", "read_torch_zip"]

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def open_archive(path: Path) -> zipfile.ZipFile:
    """Open a zip file.

    Raises:
        WeightsError: it is damaged or cut off (the table of contents is at the end).
    """
    try:
        return zipfile.ZipFile(path)
    # zipfile raises the last one for a version of the format that it cannot read.
    except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError) as error:
        raise WeightsError(f"{path}: the archive is damaged or cut off ({why(error)}); download it again") from error


def check_sizes(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse an archive whose parts state more bytes than the file can hold, or that PyTorch and numpy do not write.

    Raises:
        WeightsError: the parts are far larger than the file, overlap, or are compressed by another method than deflate.
    """
    size = path.stat().st_size
    for part in archive.infolist():
        if part.compress_type not in _METHODS:
            raise WeightsError(
                f"{path}: part {shown(part.filename)} is compressed by method {part.compress_type}, which files of "
                "weights do not use; pack it again without compression"
            )
    stored = sum(part.file_size for part in archive.infolist() if part.compress_type == zipfile.ZIP_STORED)
    whole = sum(part.file_size for part in archive.infolist())
    if stored > size or whole > expanded(size):
        raise WeightsError(
            f"{path}: an archive of {size} bytes claims to hold {whole}; it is damaged or hostile, do not use it"
        )


def _read_part(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except KeyError as error:
        raise WeightsError(f"{path}: part {shown(name)} is missing from the archive; download it again") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, OverflowError) as error:
        raise WeightsError(f"{path}: part {shown(name)} is damaged ({why(error)}); download the file again") from error


class _Storages:
    """Storages of one archive, each read once, when a tensor needs it."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, folder: str, big_endian: bool) -> None:
        self._path = path
        self._archive = archive
        self._folder = folder
        self._big_endian = big_endian
        self._known: dict[str, StorageRef] = {}

    def __call__(self, reference: Any) -> StorageRef:
        kind, key, count, view = storage_reference(self._path, reference)
        if view is not None:
            raise ValueError("a view of a storage, which only files from before 1.6 have")
        if key in self._known:
            return self._known[key]
        part = f"{self._folder}{key}"
        try:
            held = self._archive.getinfo(part).file_size
        except KeyError as error:
            raise WeightsError(f"{self._path}: storage {shown(part)} is missing; download the file again") from error
        if held != count * item_size(kind):
            raise WeightsError(
                f"{self._path}: storage {shown(part)} should hold {count} numbers of {kind} but has {held} bytes; "
                "the file is damaged, download it again"
            )
        found = StorageRef(key, kind, count, read=self._reader(part), big_endian=self._big_endian)
        self._known[key] = found
        return found

    def _reader(self, part: str) -> Any:
        def read() -> bytes:
            return _read_part(self._path, self._archive, part)

        return read


def main_pickle(path: Path, archive: zipfile.ZipFile) -> bytes:
    """The pickle of an archive's top object, as bytes.

    Raises:
        WeightsError: it is not an archive of PyTorch, or damaged.
    """
    check_sizes(path, archive)
    return _read_part(path, archive, _top(path, set(archive.namelist())))


def _top(path: Path, names: set[str]) -> str:
    """Name of the part that holds the top object."""
    tops = sorted((name for name in names if name.endswith("data.pkl")), key=len)
    tops = [name for name in tops if name.count("/") <= 1 and name.rsplit("/", 1)[-1] == "data.pkl"]
    if not tops:
        old = any(name.endswith("model.json") for name in names)
        what = "a zip file without data.pkl or .npy parts, so not one of PyTorch or numpy; give the file inside it"
        if old:
            what = "a TorchScript archive of PyTorch 1.3 or older; re-save it with a newer one"
        raise WeightsError(f"{path}: this is {what}")
    return tops[0]


def read_torch_zip(path: Path, archive: zipfile.ZipFile, budget: Budget) -> tuple[Any, set[str], bool]:
    """Contents of an archive, with tensors as references into it (keep it open until they are read).

    Returns:
        The top object, names of inert objects, and whether it is a TorchScript module.

    Raises:
        UnsafeFileError: it names something that is not allowed.
        WeightsError: it is not an archive of PyTorch, or damaged.
    """
    check_sizes(path, archive)
    names = set(archive.namelist())
    top = _top(path, names)
    root = top[: -len("data.pkl")]
    scripted = f"{root}constants.pkl" in names
    order = _read_part(path, archive, f"{root}byteorder") if f"{root}byteorder" in names else b"little"
    if order not in (b"little", b"big"):
        raise WeightsError(f"{path}: unknown byte order {order[:20]!r}; the file is damaged")
    storages = _Storages(path, archive, f"{root}data/", order == b"big")
    machine = Machine(_read_part(path, archive, top), path, budget, persistent=storages, scripted=scripted)
    return machine.load(), machine.inert, scripted
