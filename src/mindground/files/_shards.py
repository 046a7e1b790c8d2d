"""Weights that are split over several files, with an index that names the file of every tensor.

{"metadata": {...}, "weight_map": {"encoder.weight": "model-00001-of-00002.safetensors", ...}}
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mindground.errors import WeightsError, shown
from mindground.files._budget import why

if TYPE_CHECKING:
    import numpy as np

    from mindground.files.weights import WeightFile

__all__ = ["check_whole", "is_index", "read_sharded"]

_LARGEST_INDEX = 64 << 20
_MOST_SHARDS = 1000
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.(?P<kind>\w+)")


def is_index(head: bytes) -> bool:
    """Whether a file that is of no other format starts like a JSON table."""
    return re.match(rb'\s*\{\s*"', head) is not None


def check_whole(path: Path) -> None:
    """Refuse one file of several, whose tensors alone are no model.

    Raises:
        WeightsError: its name says that it is one of several; the message names the index.
    """
    found = _SHARD.fullmatch(path.name)
    if found is None or int(found["count"]) < 2:
        return
    index = path.with_name(f"{found['stem']}.{found['kind']}.index.json")
    here = "which is beside it" if index.is_file() else "which belongs beside it with all files that it names"
    raise WeightsError(
        f"{path}: is file {int(found['number'])} of the {int(found['count'])} of one model; give {index.name}, {here}"
    )


def read_sharded(path: Path, read: Callable[[Path], WeightFile]) -> tuple[dict[str, np.ndarray], dict[str, Any], str]:
    """Tensors, metadata and format of all files that an index names.

    Args:
        path: the index.
        read: reads one of the files.

    Raises:
        WeightsError: it is no index, names a file outside its folder or one that is missing, or a file lacks a tensor.
    """
    places = _places(path)
    wanted: dict[str, list[str]] = {}
    for tensor, place in places.items():
        wanted.setdefault(place, []).append(tensor)
    names = sorted(wanted)
    tensors: dict[str, np.ndarray] = {}
    metadata: dict[str, Any] = {"shards": names}
    kinds: set[str] = set()
    for name in names:
        part = path.parent / name
        if not part.is_file():
            raise WeightsError(f"{path}: names {shown(name)}, which is not beside it; get all {len(names)} files")
        found = read(part)
        kinds.add(found.format)
        metadata = {**found.metadata, **metadata}
        missing = [tensor for tensor in wanted[name] if tensor not in found.tensors]
        if missing:
            raise WeightsError(
                f"{part}: lacks tensor {shown(missing[0])}, which {path.name} places there; get both again"
            )
        tensors |= {tensor: found.tensors[tensor] for tensor in wanted[name]}
    return {name: tensors[name] for name in places}, metadata, f"sharded {'+'.join(sorted(kinds))}"


def _places(path: Path) -> dict[str, str]:
    """Tensor -> name of the file beside the index."""
    if path.stat().st_size > _LARGEST_INDEX:
        raise WeightsError(f"{path}: begins like JSON and is no index of weights; give the file that holds the weights")
    try:
        content = json.loads(path.read_bytes())
        places = content["weight_map"]
        if not isinstance(places, dict) or not places:
            raise ValueError("weight_map is not a table")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise WeightsError(
            f"{path}: begins like JSON and is no index of weights (no weight_map that can be read, {why(error)}); give "
            "the file that holds the weights"
        ) from error
    for name in places.values():
        plain = isinstance(name, str) and 0 < len(name) <= 255 and name.isprintable()
        if not plain or "/" in name or "\\" in name or name in (".", "..") or name == path.name:
            raise WeightsError(
                f"{path}: names {shown(name)}; an index may name only files beside it. Get it from a source you trust"
            )
    if len(set(places.values())) > _MOST_SHARDS:
        raise WeightsError(f"{path}: names more than {_MOST_SHARDS} files; it is damaged or hostile, do not use it")
    return places
