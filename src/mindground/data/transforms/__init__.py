"""From a sample to an image on the network's canvas with its objects; `data.transform.name` chooses the recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from mindground.data.transforms.base import Crop, Transform, TransformParams, resized_size
from mindground.data.transforms.referent_window import (
    ReferentWindowTransform,
    crop_ranges,
    draw_window_params,
    window_geometry,
)
from mindground.data.transforms.registry import GROUP, RECIPES, Recipe
from mindground.data.transforms.stretch import StretchTransform
from mindground.data.transforms.transvg import TransvgTransform
from mindground.errors import ConfigError
from mindground.structures import Sample, Truth
from mindground.text import Tokenizer

if TYPE_CHECKING:
    from mindground.config import DataConfig

__all__ = [
    "GROUP",
    "RECIPES",
    "Crop",
    "Recipe",
    "ReferentWindowTransform",
    "StretchTransform",
    "Transform",
    "TransformParams",
    "TransvgTransform",
    "build_transform",
    "crop_ranges",
    "draw_window_params",
    "resized_size",
    "window_geometry",
]


def build_transform(
    data_config: DataConfig,
    kind: str,
    truth: Callable[[Sample], Truth],
    *,
    tokenizer: Tokenizer | None = None,
    training: bool = False,
) -> Transform:
    """The transform that a `data` section asks for.

    Args:
        data_config: the section.
        kind: of the samples (`Dataset.kind`).
        truth: what is true of a sample, as the task says.
        tokenizer: None where no expressions are asked.

    Raises:
        ConfigError: the recipe does not prepare samples of this kind.
    """
    name, options = _recipe_of(data_config)
    recipe = RECIPES[name]
    if kind not in recipe.kinds:
        able = [other for other, entry in RECIPES.items() if kind in entry.kinds]
        raise ConfigError(
            f"data.transform.name={name!r} does not prepare {kind} samples: "
            + (f"choose one of {', '.join(able)}" if able else "no recipe prepares them")
        )
    return recipe.transform(
        img_size=data_config.img_size,
        mean=data_config.mean,
        std=data_config.std,
        truth=truth,
        tokenizer=tokenizer,
        max_len=data_config.max_len,
        training=training,
        image_cache_mb=data_config.image_cache_mb if training else 0,
        bands=data_config.bands or None,
        **options,
    )


def _recipe_of(data_config: DataConfig) -> tuple[str, dict[str, Any]]:
    """Name of the recipe, and its own keys with their values."""
    section = data_config.transform
    return section.name, {field.name: getattr(section, field.name) for field in fields(RECIPES[section.name].config)}
