"""From a referring sample to the arrays a network takes; which recipe does it says `data.recipe`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mindground.data.transforms.base import Crop, Example, Plan, SentenceTransform, resized_size
from mindground.data.transforms.referent_window import ReferringTransform, crop_ranges, draw_plan, plan_geometry
from mindground.data.transforms.stretch import StretchTransform
from mindground.data.transforms.transvg import TransvgTransform
from mindground.errors import ConfigError
from mindground.text import Tokenizer

if TYPE_CHECKING:
    from mindground.config import DataConfig
    from mindground.data.dataset import Dataset

__all__ = [
    "TRANSFORMS",
    "Crop",
    "Example",
    "Plan",
    "ReferringTransform",
    "SentenceTransform",
    "StretchTransform",
    "TransvgTransform",
    "crop_ranges",
    "draw_plan",
    "make_transform",
    "plan_geometry",
    "resized_size",
    "transform_for",
]

# (what the samples of a data set ask: `Dataset.kind`, `data.recipe`) -> (data section, tokeniser, training) ->
# transform. A new recipe and the transform of another kind are entered here; everybody takes them from here.
TRANSFORMS: dict[tuple[str, str], Callable[[DataConfig, Tokenizer, bool], SentenceTransform]] = {
    ("referring", "referent_window"): ReferringTransform,
    ("referring", "stretch"): StretchTransform,
    ("referring", "transvg"): TransvgTransform,
}


def make_transform(kind: str, data_config: DataConfig, tokenizer: Tokenizer, training: bool) -> SentenceTransform:
    """The transform of `data.recipe` for samples of a kind (`Dataset.kind`).

    Raises:
        ConfigError: the recipe has none for this kind.
    """
    make = TRANSFORMS.get((kind, data_config.recipe))
    if make is None:
        recipes = sorted(recipe for its_kind, recipe in TRANSFORMS if its_kind == kind)
        what = f"choose data.recipe among {recipes}" if recipes else "no recipe prepares them"
        raise ConfigError(f"data.recipe={data_config.recipe!r} does not prepare {kind} samples: {what}")
    return make(data_config, tokenizer, training)


def transform_for(
    dataset: Dataset, data_config: DataConfig, tokenizer: Tokenizer | None, training: bool
) -> SentenceTransform:
    """The transform for what the samples of a data set ask, as `metrics.metrics_for` chooses the metrics.

    Raises:
        ConfigError: no transform for this kind of samples, or sentences without a tokeniser to read them.
    """
    if not any(kind == dataset.kind for kind, _ in TRANSFORMS):
        raise ConfigError(
            f"data.dataset={data_config.dataset!r} holds {dataset.kind} without sentences, and this family looks for "
            "what a sentence names: choose a data set with sentences, or write them with tools/make_referring.py"
        )
    if tokenizer is None:
        raise ConfigError(
            f"data.dataset={data_config.dataset!r} holds sentences, but there is no vocabulary to read them with: "
            "take a checkpoint that has one, or name a file in data.vocab"
        )
    return make_transform(dataset.kind, data_config, tokenizer, training)
