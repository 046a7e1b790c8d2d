"""Families, found by folder: `models/<family>/__init__.py` offers `Config` and `build`.

A family is added by adding a folder and removed by deleting it; nothing lists them.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mindground.errors import ConfigError

if TYPE_CHECKING:
    from mindground.models.base import GroundingModel
    from mindground.models.interface import ModelInterface
    from mindground.weights.maps import WeightMap

__all__ = [
    "build_model",
    "families",
    "family_module",
    "family_weight_maps",
    "model_config_class",
    "model_interface",
    "published_file",
]


def families() -> list[str]:
    """Names of the families whose folders are here."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.ispkg)


def family_module(name: str) -> ModuleType:
    """The package of one family. Raises ConfigError that names the nearest family."""
    if name not in families():
        near = difflib.get_close_matches(name, families(), 1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(families())}"
        raise ConfigError(f"unknown family {name!r}; {hint}")
    return importlib.import_module(f"{__name__}.{name}")


def model_config_class(name: str) -> type:
    """The dataclass behind the `model` section of a family; does not import MindSpore."""
    return family_module(name).Config


def model_interface(config: Any) -> ModelInterface:
    """What the network of a resolved configuration asks and answers; does not import MindSpore."""
    interface: ModelInterface = family_module(config.family).interface(config)
    return interface


def published_file(name: str) -> Path | None:
    """The recipe that stands for a family when no file is named: `models/<family>/published.yaml`.

    None where the defaults of the dataclasses are the published recipe already.
    """
    path = Path(family_module(name).__path__[0]) / "published.yaml"
    return path if path.is_file() else None


def family_weight_maps(name: str) -> dict[str, WeightMap]:
    """Sources of weights that a family reads (`models/<family>/weights.py`), known before a network is built."""
    maps: dict[str, WeightMap] = importlib.import_module(f"{family_module(name).__name__}.weights").WEIGHT_MAPS
    return maps


def build_model(config: Any) -> GroundingModel:
    """Network of a resolved `mindground.config.Config`, freshly initialised."""
    return family_module(config.family).build(config)
