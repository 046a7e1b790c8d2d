"""Transform recipes by name: one module each in this folder, and modules of other installed packages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mindground.data.discovery import Discovered
from mindground.data.transforms.base import Transform

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


RECIPES: Mapping[str, Recipe] = Discovered("mindground.data.transforms", GROUP, "RECIPES", Recipe, "recipe")
"""Every recipe by its name."""
