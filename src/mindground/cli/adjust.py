"""Overrides of a checkpoint's configuration: each acts on what the verb does, or is refused by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mindground.config import registry
from mindground.config.overrides import known_names
from mindground.config.upgrade import new_names
from mindground.errors import ConfigError

if TYPE_CHECKING:
    from mindground.config import CommandLine, Config

__all__ = ["EVALUATION_KEYS", "PREDICTION_KEYS", "SAMPLES_KEYS", "adjustment"]

# What a verb reads of a checkpoint's configuration: a key, or what keys begin with where it ends with a dot; "-" before
# one takes it out again. Checkpoints hold their vocabulary, and augmentation belongs to training.
_NEVER = (
    "-data.vocab",
    "-data.tokenizer",
    "-data.train_split",
    "-data.transform.",
    "-data.augment_variants",
    "-data.image_cache_mb",
    "-eval.select_by",
)
# Which recipe resizes an image acts everywhere; its own keys are augmentations.
_RECIPE = "data.transform.name"
EVALUATION_KEYS = ("model.", "data.", "eval.", "device.", "train.seed", _RECIPE, *_NEVER)
SAMPLES_KEYS = ("model.", "data.", "eval.mask_threshold", _RECIPE, *_NEVER, "-data.num_workers")
PREDICTION_KEYS = (
    "model.",
    "eval.mask_threshold",
    "data.img_size",
    "data.max_len",
    "data.mean",
    "data.std",
    _RECIPE,
    "data.use_mask",
)


def adjustment(line: CommandLine, verb: str, keys: Sequence[str]) -> Callable[[Config], Config]:
    """`line.applied_to` for a verb that reads `keys` of the configuration.

    The returned function raises ConfigError for an override of any other key, with its name: it would be without
    effect. A name that sets several keys passes when the verb reads one of them. A file (`--config`) may hold more.
    """

    def adjust(config: Config) -> Config:
        names, renamed = known_names(config.family), new_names(registry.family(config.family))
        for name, _ in line.overrides:
            # `applied_to` answers for unknown names, and for another family.
            set_here = names.get(name) or names.get(name.replace("-", "_"), ())
            set_here = tuple(renamed.get(key, key) for key in set_here)
            if set_here and set_here != ("family",) and not any(_acts(key, keys) for key in set_here):
                raise ConfigError(
                    f"--{name} has no effect on {verb}, which reads {_told(keys)} of the configuration; leave it out"
                )
        return line.applied_to(config)

    return adjust


def _covers(pattern: str, key: str) -> bool:
    return key == pattern or key.startswith(pattern if pattern.endswith(".") else f"{pattern}.")


def _acts(key: str, patterns: Sequence[str]) -> bool:
    if key in patterns:
        return True
    taken_out = any(_covers(pattern[1:], key) for pattern in patterns if pattern.startswith("-"))
    return not taken_out and any(_covers(pattern, key) for pattern in patterns if not pattern.startswith("-"))


def _told(patterns: Sequence[str]) -> str:
    return ", ".join(f"{p}*" if p.endswith(".") else p for p in patterns if not p.startswith("-"))
