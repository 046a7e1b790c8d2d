"""Overrides of a checkpoint's configuration: each acts on what the verb does, or is refused by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mindground.config import registry
from mindground.config.keys import acts_in_training_only
from mindground.config.overrides import known_names
from mindground.config.upgrade import new_names
from mindground.errors import ConfigError

if TYPE_CHECKING:
    from mindground.config import CommandLine, Config

__all__ = ["EVALUATION_KEYS", "PREDICTION_KEYS", "SAMPLES_KEYS", "adjustment"]

# What a verb reads of a checkpoint's configuration: a key, or what keys begin with where it ends with a dot; "-" before
# one takes it out again. Checkpoints hold their vocabulary. Keys that act in training only say so where they are
# described (`config.keys.key`), and no list names them.
_NEVER = ("-data.vocab", "-data.tokenizer")
EVALUATION_KEYS = ("model.", "data.", "eval.", "device.", "train.seed", *_NEVER)
SAMPLES_KEYS = ("model.", "data.", "eval.mask_threshold", *_NEVER, "-data.num_workers")
PREDICTION_KEYS = (
    "model.",
    "eval.mask_threshold",
    "data.bands",
    "data.img_size",
    "data.max_len",
    "data.mean",
    "data.std",
    "data.transform.",
    "data.use_mask",
)
# Sizes of one split of the drawn set -> whether a split is it.
_SIZES: dict[str, Callable[[str], bool]] = {
    "data.synthetic.train_images": lambda split: split == "train",
    "data.synthetic.val_images": lambda split: split != "train",
}


def adjustment(
    line: CommandLine, verb: str, keys: Sequence[str], *, split: str | None = None, first_split: bool = False
) -> Callable[[Config], Config]:
    """`line.applied_to` for a verb that reads `keys` of the configuration.

    The returned function raises ConfigError for an override of any other key, of a key that acts in training only, and
    of one that belongs to a split that is not read, with its name: it would be without effect. A name that sets several
    keys passes when the verb reads one of them. A file (`--config`) may hold more.

    Args:
        line: the command line.
        verb: what the command does, for messages.
        keys: what it reads.
        split: the one that the command line names; empty or None = those of `data.eval_splits`.
        first_split: without `split`, only the first of them is read.
    """

    def adjust(config: Config) -> Config:
        adjusted = line.applied_to(config)  # an old spelling is answered with the new one first
        asked = _asked(line, config.family)
        for name, set_here in asked.items():
            if not any(_acts(key, keys) for key in set_here):
                raise ConfigError(
                    f"--{name} has no effect on {verb}, which reads {_told(keys)} of the configuration; leave it out"
                )
        splits = [split] if split else adjusted.data.eval_splits[: 1 if first_split else None]
        for name, set_here in asked.items():
            reasons = [_idle(adjusted, key, splits, split) for key in set_here if _acts(key, keys)]
            if all(reasons):
                raise ConfigError(f"--{name} has no effect on {verb}: {reasons[0]}; leave it out")
        return adjusted

    return adjust


def _asked(line: CommandLine, family: str) -> dict[str, tuple[str, ...]]:
    """Name of an override as typed -> the present keys that it sets.

    Unknown names and the family are left out: `applied_to` answers for them.
    """
    names, renamed = known_names(family), new_names(registry.family(family))
    found: dict[str, tuple[str, ...]] = {}
    for name, _ in line.overrides:
        keys = names.get(name) or names.get(name.replace("-", "_"), ())
        if keys and keys != ("family",):
            found[name] = tuple(renamed.get(key, key) for key in keys)
    return found


def _idle(config: Config, key: str, splits: Sequence[str], named: str | None) -> str:
    """Why a key does nothing here; empty where it acts."""
    if acts_in_training_only(config, key):
        return f"{key} acts in training only"
    if named and key == "data.eval_splits":
        return f"--split {named} names the split"
    if key in _SIZES and not any(map(_SIZES[key], splits)):
        return f"{key} is the size of another split than {', '.join(splits)}"
    return ""


def _covers(pattern: str, key: str) -> bool:
    return key == pattern or key.startswith(pattern if pattern.endswith(".") else f"{pattern}.")


def _acts(key: str, patterns: Sequence[str]) -> bool:
    if key in patterns:
        return True
    taken_out = any(_covers(pattern[1:], key) for pattern in patterns if pattern.startswith("-"))
    return not taken_out and any(_covers(pattern, key) for pattern in patterns if not pattern.startswith("-"))


def _told(patterns: Sequence[str]) -> str:
    return ", ".join(f"{p}*" if p.endswith(".") else p for p in patterns if not p.startswith("-"))
