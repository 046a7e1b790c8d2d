"""Transform recipes by name: one module each in this folder, and modules of other installed packages."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from mindground.data.transforms.base import Transform
from mindground.errors import ConfigError

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["GROUP", "RECIPES", "Recipe"]

GROUP = "mindground.transforms"
"""Entry points of other packages: the value is a module that offers `RECIPES`."""


@dataclass(frozen=True)
class Recipe:
    """One value of `data.transform.name`.

    Attributes:
        name: the value.
        config: dataclass of the recipe's own keys.
        transform: takes these keys, and what `Transform` takes, as named arguments.
        kinds: of samples that it prepares (`Dataset.kind`).
    """

    name: str
    config: type
    transform: type[Transform]
    kinds: tuple[str, ...] = ("referring",)


class _Registry(Mapping[str, Recipe]):
    """Name -> recipe; the modules are imported at the first look-up."""

    def __init__(self) -> None:
        self._known: dict[str, Recipe] | None = None

    def __getitem__(self, name: str) -> Recipe:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> Mapping[str, Recipe]:
        if self._known is None:
            self._known = _discover()
        return self._known


def _discover() -> dict[str, Recipe]:
    """Recipes of this folder in the order of their modules' names, then those of other packages.

    Raises:
        ConfigError: a package names a module that cannot be imported or offers no recipes, or a name is taken.
    """
    found: dict[str, Recipe] = {}
    home = importlib.import_module("mindground.data.transforms")
    for module in pkgutil.iter_modules(home.__path__, f"{home.__name__}."):
        if module.name != __name__:
            _take(importlib.import_module(module.name), found, required=False)
    for point in entry_points(group=GROUP):
        try:
            outside = point.load()
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"the entry point {point.name!r} of {GROUP} names {point.value}, which cannot be imported "
                f"({error}); mend or remove the package that brings it"
            ) from error
        _take(outside, found, required=True)
    return found


def _take(module: ModuleType, found: dict[str, Recipe], *, required: bool) -> None:
    items = getattr(module, "RECIPES", None)
    if items is None and not required:
        return  # a helper of the recipes
    if not isinstance(items, tuple) or not all(isinstance(item, Recipe) for item in items):
        raise ConfigError(f"{module.__name__} must offer RECIPES, a tuple of Recipe; it is {items!r:.80}")
    for item in items:
        if found.setdefault(item.name, item) is not item:
            raise ConfigError(
                f"{module.__name__} describes the recipe {item.name!r}, which is known already; rename one"
            )


RECIPES: Mapping[str, Recipe] = _Registry()
"""Every recipe by its name."""
