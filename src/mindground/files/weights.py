"""Read the weight files of other frameworks as numpy arrays, without those frameworks and without running anything."""

from __future__ import annotations

import logging
import mmap
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mindground.errors import MindGroundError, WeightsError
from mindground.files._budget import BROKEN, Budget, why
from mindground.files._mindspore_ckpt import read_mindspore_ckpt, starts_like_ckpt
from mindground.files._pickle import Machine
from mindground.files._shards import check_whole, is_index, read_sharded
from mindground.files._simple import read_npz, read_safetensors, safetensors_header
from mindground.files._torch_legacy import is_legacy, nested_reader, read_torch_legacy
from mindground.files._torch_zip import open_archive, read_torch_zip
from mindground.files._unpack import is_average, unpack
from mindground.files.darknet import read_darknet, starts_like_darknet

__all__ = ["WeightFile", "read_weights"]

_LOG = logging.getLogger("mindground")
_TEXT_STARTS = (b"<!doctype", b"<html", b"<?xml")
_PICKLE_TEXT = b"(]}Iclt"


@dataclass
class WeightFile:
    """The content of a weight file.

    Attributes:
        tensors: name as in the file -> array (read-only where it is a view of the file's bytes).
        metadata: everything else in the file, as plain Python values. `inert` lists objects that were kept as data
            and not constructed, `left_out` counts tensors outside the state dict (an optimiser's), `unwrapped` is the
            key the state dict was found under.
            `shards` are the files that an index named.
        format: torch-zip, torchscript, torch-legacy, pickle, npz, safetensors, mindspore-ckpt, darknet, or `sharded`
            and that of the parts.
        path: the file.
    """

    tensors: dict[str, np.ndarray]
    metadata: dict[str, Any] = field(default_factory=dict)
    format: str = ""
    path: Path = Path()


def read_weights(path: str | Path, *, averages: bool = False) -> WeightFile:
    """Read a weight file; the content decides the format, never the name.

    An index of a sharded file (`model.safetensors.index.json`) gives the tensors of all files that it names, which have
    to be beside it.

    Args:
        path: the file.
        averages: of a file that holds weights and their averages (EMA), the averages.

    Raises:
        UnsafeFileError: it would run code (the message names it); nothing was run.
        WeightsError: it is missing, empty, cut off, damaged, of an unknown format, one of several files of a model, or
            asks for far more memory than its size explains; or it holds no averages, and they are asked for.
    """
    path = Path(path)
    check_whole(path)
    found = _read_file(path, sharded=True, averages=averages)
    if averages and not is_average(found.metadata.get("unwrapped", "")):
        raise WeightsError(f"{path} holds no averaged weights (ema_state_dict or the like); leave --averages out")
    return found


def _read_file(path: Path, *, sharded: bool = False, averages: bool = False) -> WeightFile:
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise WeightsError(f"{path}: is a folder; give the file of weights inside it")
        with open(path, "rb") as stream:
            head = stream.read(4096)
        if not head:
            raise WeightsError(f"{path}: the file is empty; download it again")
        found = _read(path, head, size, sharded, averages)
    except MindGroundError:
        raise
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    except BROKEN as error:
        raise WeightsError(f"{path}: damaged or cut off ({why(error)}); download it again") from error
    _LOG.debug("%s: %d tensors (%s)", path, len(found.tensors), found.format)
    return found


def _read(path: Path, head: bytes, size: int, sharded: bool, averages: bool) -> WeightFile:
    if head[:4] == b"PK\x03\x04" or head[:4] == b"PK\x05\x06":
        return _read_zip(path, size, averages)
    header = safetensors_header(path)
    if header is not None:
        tensors, metadata = read_safetensors(path, *header)
        return WeightFile(tensors, metadata, "safetensors", path)
    if _starts_like_pickle(head):
        return _read_pickle(path, size, averages)
    if starts_like_ckpt(head):
        tensors, metadata = read_mindspore_ckpt(path)
        return WeightFile(tensors, metadata, "mindspore-ckpt", path)
    if sharded and is_index(head):
        tensors, metadata, kind = read_sharded(path, _read_file)
        return WeightFile(tensors, metadata, kind, path)
    if starts_like_darknet(head, size):
        tensors, metadata = read_darknet(path)
        return WeightFile(tensors, metadata, "darknet", path)
    raise WeightsError(f"{path}: {_guess(head)}")


def _starts_like_pickle(head: bytes) -> bool:
    if head[:1] == b"\x80" and 2 <= head[1] <= pickle.HIGHEST_PROTOCOL if len(head) > 1 else False:
        return True
    # Protocols 0 and 1 have no marker: an opening instruction that is not the start of a text.
    return head[:1] in {bytes([code]) for code in _PICKLE_TEXT} and not head[:16].lower().startswith(_TEXT_STARTS)


def _guess(head: bytes) -> str:
    """The probable kind of a file that is no weight file."""
    start = head[:256].lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`"
    if start.startswith(_TEXT_STARTS):
        return "is a web page, not a file of weights; the download link needs a browser or a login"
    if head[:8] == b"\x89HDF\r\n\x1a\n":
        return "is an HDF5 file, which is not supported; convert it to safetensors"
    if head[:2] == b"\x1f\x8b":
        return "is gzip-compressed; unpack it and give the file inside"
    if head[257:262] == b"ustar":
        return "is a tar archive (or a PyTorch file from before 0.2); unpack or re-save it"
    known = "PyTorch, TorchScript, pickle of arrays, npz, safetensors, MindSpore ckpt, DarkNet .weights"
    return f"unknown format (starts with {head[:8]!r}), cut off or not a file of weights; known are: {known}"


def _read_zip(path: Path, size: int, averages: bool) -> WeightFile:
    with open_archive(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        if names and all(name.endswith(".npy") for name in names):
            return WeightFile(read_npz(path, archive), {}, "npz", path)
        budget = Budget(path, size)
        top, inert, scripted = read_torch_zip(path, archive, budget)
        tensors, metadata = unpack(top, path, budget, scripted=scripted, averages=averages)
    kind = "torchscript" if scripted else "torch-zip"
    return WeightFile(tensors, _with_inert(metadata, inert), kind, path)


def _read_pickle(path: Path, size: int, averages: bool) -> WeightFile:
    budget = Budget(path, size)
    with open(path, "rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        legacy = is_legacy(mapped[:32], path)
        if legacy:
            top, inert = read_torch_legacy(mapped, path, budget)
        else:
            machine = Machine(mapped, path, budget, nested=nested_reader(path, budget))
            top, inert = machine.load(), machine.inert
    tensors, metadata = unpack(top, path, budget, averages=averages)
    return WeightFile(tensors, _with_inert(metadata, inert), "torch-legacy" if legacy else "pickle", path)


def _with_inert(metadata: dict[str, Any], inert: set[str]) -> dict[str, Any]:
    if inert:
        metadata["inert"] = sorted(inert)
    return metadata
