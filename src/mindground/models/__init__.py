"""Families, found by folder or by entry point: `models/<family>/__init__.py` offers `Config` and `build`.

A family is added by adding a folder and removed by deleting it; nothing lists them. An installed package adds one by an
entry point of the group `mindground.families`: its name is the family's, its value the module.
"""

from __future__ import annotations

import difflib
import fnmatch
import importlib
import importlib.util
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mindground.config.registry import Family
from mindground.errors import ConfigError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from mindground.models.base import GroundingModel
    from mindground.models.interface import ModelInterface
    from mindground.weights.maps import WeightMap

__all__ = [
    "build_model",
    "families",
    "family_facts",
    "family_module",
    "family_weight_maps",
    "list_models",
    "model_interface",
    "weight_maps_in",
]

_GROUP = "mindground.families"


def families() -> list[str]:
    """Names of all families: those whose folders are here, and those of other installed packages.

    Raises:
        ConfigError: two packages offer a family of one name.
    """
    return sorted({*_built_in(), *_installed()})


def family_module(name: str) -> ModuleType:
    """The package of one family; a built-in name is never looked up elsewhere.

    Raises:
        ConfigError: an unknown family (the message names the nearest), or one whose package cannot be imported.
    """
    if name in _built_in():
        return importlib.import_module(f"{__name__}.{name}")
    found = _installed()
    if name not in found:
        near = difflib.get_close_matches(name, families(), 1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(families())}"
        raise ConfigError(f"unknown family {name!r}; {hint}")
    try:
        module = found[name].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"family {name!r} of package {_package(found[name])} cannot be imported: {error}") from error
    if not isinstance(module, ModuleType):
        raise ConfigError(f"family {name!r} of package {_package(found[name])} must be a module, found {module!r}")
    return module


def family_facts(name: str) -> Family:
    """What a configuration has to know of a family; does not import MindSpore."""
    module = family_module(name)
    return Family(
        name=name,
        config=module.Config,
        flags=getattr(module, "FLAGS", {}),
        ignored_flags=getattr(module, "IGNORED_FLAGS", {}),
        refused_flags=getattr(module, "REFUSED_FLAGS", {}),
        lr_groups=getattr(module, "LR_GROUPS", {}),
        pretrained_parts=("model", *module.PRETRAINED_PARTS) if hasattr(module, "PRETRAINED_PARTS") else (),
        old_rates=getattr(module, "OLD_RATES", {}),
        old_paths=getattr(module, "OLD_PATHS", {}),
        changes=getattr(module, "CHANGES", {}),
        published_dataset=getattr(module, "PUBLISHED_DATASET", ""),
        text_layers=getattr(module, "TEXT_LAYERS", ""),
        source_keys=getattr(module, "source_keys", None),
        default_file=_file(module, "default.yaml"),
        published_file=_file(module, "published.yaml"),
    )


def model_interface(config: Any) -> ModelInterface:
    """What the network of a resolved configuration asks and answers; does not import MindSpore."""
    interface: ModelInterface = family_module(config.family).interface(config)
    return interface


def family_weight_maps(name: str) -> dict[str, WeightMap]:
    """Sources of weights that a family reads (its module `weights`), known before a network is built.

    Empty for a family that has none.
    """
    return weight_maps_in(family_module(name).__name__)


def weight_maps_in(package: str) -> dict[str, WeightMap]:
    """`WEIGHT_MAPS` of the module `weights` in a package; empty where there is no such module."""
    if not package or importlib.util.find_spec(f"{package}.weights") is None:
        return {}
    maps: dict[str, WeightMap] = importlib.import_module(f"{package}.weights").WEIGHT_MAPS
    return maps


def list_models(pattern: str = "*") -> list[str]:
    """Names of the families that a shell pattern fits, those of other installed packages among them."""
    return fnmatch.filter(families(), pattern)


def build_model(config: Any) -> GroundingModel:
    """Network of a resolved `mindground.config.Config`, freshly initialised."""
    model: GroundingModel = family_module(config.family).build(config)
    return model


def _built_in() -> tuple[str, ...]:
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg))


def _installed() -> dict[str, EntryPoint]:
    """Name -> entry point of families outside this package."""
    from importlib.metadata import entry_points

    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=_GROUP):
        if point.name in _built_in():
            raise ConfigError(
                f"package {_package(point)} offers a family {point.name!r}, which is built in; it needs another name"
            )
        if point.name in found and point.value != found[point.name].value:
            raise ConfigError(
                f"packages {_package(found[point.name])} and {_package(point)} both offer a family {point.name!r}; "
                "uninstall one"
            )
        found[point.name] = point
    return found


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value


def _file(module: ModuleType, name: str) -> Path | None:
    """A file beside the module of a family."""
    path = Path(str(module.__file__)).with_name(name)
    return path if path.is_file() else None
