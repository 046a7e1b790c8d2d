"""A model's parameters under the names of another framework."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mindground.errors import WeightsError
from mindground.files.safetensors import write_safetensors_atomic
from mindground.weights.maps import WeightMap

if TYPE_CHECKING:
    from mindspore import nn

__all__ = ["Exported", "export"]


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: the file.
        written: how many tensors it holds.
        left_out: parameters that have no name there.
    """

    path: Path
    written: int
    left_out: tuple[str, ...] = ()


def export(
    model: nn.Cell,
    map: WeightMap,
    path: str | Path,
    metadata: Mapping[str, str] | None = None,
    *,
    partial: bool = False,
) -> Exported:
    """Write a model's parameters under the names of another framework as safetensors.

    Args:
        metadata: texts beside the tensors.
        partial: parameters without a name there are left out, as where the map is that of a backbone.

    Raises:
        WeightsError: a parameter has no name there (with `partial`: none has).
        CheckpointError: the file cannot be written.
    """
    from mindground.weights.load import parameter_arrays

    ours = parameter_arrays(model)
    named = {name: array for name, array in ours.items() if map.their_names(name)} if partial else ours
    if not named:
        raise WeightsError(f"none of the {len(ours)} tensors of {type(model).__name__} has a name in {map.name!r}")
    theirs = map.to_theirs(named)
    written = write_safetensors_atomic(path, theirs, metadata)
    return Exported(written, len(theirs), tuple(name for name in ours if name not in named))
