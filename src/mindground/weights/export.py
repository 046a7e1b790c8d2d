"""A model's parameters under the names of another framework."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mindground.files.safetensors import write_safetensors_atomic
from mindground.weights.maps import WeightMap

if TYPE_CHECKING:
    from mindspore import nn

__all__ = ["export"]


def export(model: nn.Cell, map: WeightMap, path: str | Path, metadata: Mapping[str, str] | None = None) -> Path:
    """Write a model's parameters under the names of another framework as safetensors, and return the path.

    Raises:
        WeightsError: a parameter has no name there.
        CheckpointError: the file cannot be written.
    """
    from mindground.weights.load import parameter_arrays

    return write_safetensors_atomic(path, map.to_theirs(parameter_arrays(model)), metadata)
