"""Weights of others into a fresh model: the fitting map is found by its names, and the report is shown."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mindground.config import value_of
from mindground.engine.checkpoint import read_checkpoint
from mindground.errors import ConfigError, WeightsError
from mindground.files.weights import read_weights
from mindground.models import family_module
from mindground.models.base import GroundingModel
from mindground.weights.load import load_into, parameter_shapes
from mindground.weights.maps import identity_map, strip_wrapper_prefix

if TYPE_CHECKING:
    from mindground.config import Config
    from mindground.files.weights import WeightFile
    from mindground.weights.maps import Adapted, WeightMap
    from mindground.weights.report import LoadReport

__all__ = ["load_file", "load_pretrained"]

_LOG = logging.getLogger("mindground")
# Written into a file by tools/import_weights.py.
_IMPORTED = "imported"
_OWN = "our own names"


def load_pretrained(model: GroundingModel, train: Any, config: Config | None = None) -> list[LoadReport]:
    """Load the files that `train.pretrained` names.

    Args:
        model: freshly initialised.
        train: the `train` section.
        config: the whole, where files shall be compared with it in what no shape verifies.

    Raises:
        WeightsError: a file that no map of the family explains, that fits only in part, or that says about itself
            something else than the configuration.
        ConfigError: a part that the family wants pretrained got nothing, and random weights were not asked for.
    """
    reports = [load_file(model, path, config) for path in train.pretrained.values()]
    loaded = {name for report in reports for name in report.loaded}
    for part in type(model).pretrained_parts.values():
        names = [name for name in parameter_shapes(model) if name.startswith(part.prefix)]
        if part.required and names and not loaded.intersection(names) and not train.random_encoders:
            raise ConfigError(
                f"{part.prefix.rstrip('.')} has no weights: give {part.hint}, or train it from random weights with "
                "--train.random_encoders=true"
            )
    return reports


def load_file(model: GroundingModel, path: str, config: Config | None = None) -> LoadReport:
    """Load one file into the part of the model that it is for; the report goes to the log."""
    weights = read_weights(path)
    if config is not None and "mindground" not in weights.metadata:
        _check_unseen(weights, config)
    if "mindground" in weights.metadata:
        report = load_into(model, read_checkpoint(path).part("model"), source=str(path))
    else:
        maps = type(model).weight_maps()
        if _IMPORTED in weights.metadata:
            maps = {_OWN: _own_names(maps)}
        name, adapted = _explained(model, maps, strip_wrapper_prefix(weights.tensors)[0], path)
        parts = sorted({ours.split(".", 1)[0] for ours in adapted.tensors})
        outside = rf"(?!(?:{'|'.join(map(re.escape, parts))})(?:\.|$)).*"
        report = load_into(model, adapted, allow_missing=(outside,), source=f"{path} as {name}")
    _LOG.info("weights of %s\n%s", path, report.table())
    return report


def _check_unseen(weights: WeightFile, config: Config) -> None:
    """Raises WeightsError where a file says something about its network that no shape tells, and it is not set so."""
    describe = getattr(family_module(config.family), "describe_source", None)
    facts = describe(replace(weights, tensors=strip_wrapper_prefix(weights.tensors)[0])) if describe else None
    if facts is None:
        return
    for key in facts.unseen:
        asked = value_of(config, key)
        if asked != facts.keys[key]:
            raise WeightsError(
                f"{weights.path} was trained with {key}={facts.keys[key]}, and {asked} is set: shapes agree with both, "
                f"results would be wrong; set --{key}={facts.keys[key]}"
            )


def _own_names(maps: Mapping[str, WeightMap]) -> WeightMap:
    """For what tools/import_weights.py wrote: names are ours already, sizes may still have to be fitted."""
    adapters = tuple(adapter for weight_map in maps.values() for adapter in weight_map.adapters)
    return replace(identity_map(_OWN), adapters=adapters)


def _explained(model: GroundingModel, maps: Mapping[str, WeightMap], tensors: Any, path: str) -> tuple[str, Adapted]:
    """The map that leaves the least unexplained, and what it made of the file."""
    shapes = parameter_shapes(model)
    tried: list[tuple[int, str, Adapted]] = []
    for name, weight_map in maps.items():
        adapted = weight_map.to_ours(tensors, shapes)
        fitting = sum(ours in shapes for ours in adapted.tensors)
        tried.append((fitting - len(adapted.unexpected), name, adapted))
    if not tried or max(sum(o in shapes for o in a.tensors) for _, _, a in tried) == 0:
        raise WeightsError(
            f"{path}: none of its {len(tensors)} names (first {next(iter(tensors), '-')!r}) belongs to a source that "
            f"this family knows ({', '.join(name for _, name, _ in tried) or 'none'})"
        )
    _, name, adapted = max(tried, key=lambda entry: entry[0])
    return name, adapted
