"""Overrides laid over a checkpoint's configuration: each one acts, or it is refused by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mindground.errors import ConfigError

if TYPE_CHECKING:
    from mindground.config import Config

__all__ = ["acting"]

# What acts on a trained network, by what is done with it: prefixes of dotted keys.
_ACTING = {
    "evaluation": ("model.", "data.", "eval.", "device.", "train.seed"),
    "prediction": (
        "model.",
        "data.img_size",
        "data.mean",
        "data.std",
        "data.max_len",
        "eval.mask_threshold",
        "device.",
    ),
}
# Exceptions, with what to do instead.
_VOCABULARY = "the checkpoint holds its own vocabulary"
_TRAINING = "it acts in training only"
_REFUSED = {
    "data.vocab": _VOCABULARY,
    "data.tokenizer": _VOCABULARY,
    "data.train_split": _TRAINING,
    "data.augment_variants": _TRAINING,
    "data.image_cache_mb": _TRAINING,
    "eval.select_by": _TRAINING,
}


def acting(config: Config, adjust: Callable[[Config], Config] | None, what: str) -> Config:
    """`adjust(config)`, after a check that every key it changes acts in what is done.

    Args:
        config: of the checkpoint.
        adjust: lays overrides over it; None = none.
        what: evaluation or prediction.

    Raises:
        ConfigError: keys that would have no effect; all of them are named.
    """
    from mindground.config import to_dict

    if adjust is None:
        return config
    adjusted = adjust(config)
    before, after = _flat(to_dict(config)), _flat(to_dict(adjusted))
    # Another data set brings its own usual splits with it.
    derived = {"data.eval_splits", "data.splitBy"}
    changed = [key for key in after if before.get(key) != after[key] and key not in derived]
    without = [(key, _reason(key, what)) for key in changed]
    idle = [f"{key} ({reason})" for key, reason in without if reason]
    if idle:
        raise ConfigError(f"without effect on {what} with this checkpoint: {', '.join(idle)}; leave them out")
    return adjusted


def _reason(key: str, what: str) -> str:
    """Why a key has no effect; empty where it acts."""
    if key in _REFUSED:
        return _REFUSED[key]
    if key.startswith("data.transform.") and key != "data.transform.name":
        return _TRAINING
    if key.startswith(_ACTING[what]):
        return ""
    return _TRAINING if key.startswith("train.") else f"it is not used in {what}"


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
