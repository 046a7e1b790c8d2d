"""Fields of configuration sections that say what a change of them changes."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, get_args

from mindground.errors import ConfigError, shown

__all__ = [
    "AFFECTS",
    "Affects",
    "acts_in_training_only",
    "affected",
    "check_ranges",
    "choices_of",
    "flat",
    "key",
    "refuse_outside",
]

# What is another when a key has another value:
#   numbers  what a training computes, step by step
#   start    where its weights come from at the first step; a continued run does not read it
#   length   how many steps there are
#   report   what is measured, written and kept of it
#   place    where files lie
#   speed    how fast it is, and how much memory it takes
Affects = Literal["numbers", "start", "length", "report", "place", "speed"]
AFFECTS: tuple[str, ...] = get_args(Affects)


# Whole numbers of a family's section that say no range of their own.
_USUAL_RANGE = (-(1 << 20), 1 << 20)


def key(
    default: Any,
    *,
    affects: Affects,
    choices: Callable[[], Iterable[str]] | None = None,
    training_only: bool = False,
    low: float | None = None,
    high: float | None = None,
) -> Any:
    """A field of a section.

    Args:
        default: its value; a list, a mapping or a section is copied for every instance.
        affects: what a change of it changes.
        choices: the values that it may have, where other modules say them.
        training_only: a trained network answers the same with any value; verbs that do not train refuse the key.
        low, high: the range of a number, or of every number of a list, both included (`check_ranges`).
    """
    metadata = {"affects": affects, "choices": choices, "training_only": training_only, "low": low, "high": high}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: copy.deepcopy(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def choices_of(cls: type, name: str) -> list[str] | None:
    """Values that a field may have, where its type does not say them."""
    choices = next(f for f in dataclasses.fields(cls) if f.name == name).metadata.get("choices")
    return None if choices is None else list(choices())


def acts_in_training_only(section: Any, name: str) -> bool:
    """Whether a key, dotted below an instance of a dataclass, is without effect on a trained network."""
    first, _, rest = name.partition(".")
    if not dataclasses.is_dataclass(section):
        return False
    field = next((f for f in dataclasses.fields(section) if f.name == first), None)
    if field is None:
        return False
    if field.metadata.get("training_only", False):
        return True
    return bool(rest) and acts_in_training_only(getattr(section, first), rest)


def affected(section: Any, prefix: str = "", usual: str | None = None) -> Iterator[tuple[str, str | None]]:
    """(dotted key, what it affects) of every value below a section.

    Args:
        section: instance of a dataclass.
        prefix: before every key.
        usual: for fields that say nothing.
    """
    for field in dataclasses.fields(section):
        name, value = f"{prefix}{field.name}", getattr(section, field.name)
        affects = field.metadata.get("affects", usual)
        if dataclasses.is_dataclass(value):
            yield from affected(value, f"{name}.", affects)
        elif isinstance(value, Mapping) and value:
            yield from ((f"{name}.{entry}", affects) for entry in value)
        else:
            yield name, affects


def refuse_outside(section: Any, prefix: str, names: Iterable[str], low: float, high: float = math.inf) -> None:
    """For the `__post_init__` of a section: raises ConfigError for a number outside `low` (included) to `high` (not).

    Args:
        section: instance of a dataclass.
        prefix: before every name in the message.
        names: fields that hold numbers.
        low, high: the range.
    """
    for name in names:
        value = getattr(section, name)
        if not low <= value < high:
            span = f"at least {low} and below {high}" if high < math.inf else f"at least {low}, and finite"
            raise ConfigError(f"{prefix}{name}={value} must be {span}")


def check_ranges(section: Any, prefix: str) -> None:
    """Raises ConfigError for a number of a family's section, or of one below it, outside the range of its field.

    Sizes come out of files of strangers (a checkpoint holds its configuration), and are built before any weight is
    compared: every whole number has an upper end, its own or the usual one.
    """
    for field in dataclasses.fields(section):
        value, name = getattr(section, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            check_ranges(value, f"{name}.")
            continue
        low, high = field.metadata.get("low"), field.metadata.get("high")
        for number in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(number, bool) or not isinstance(number, (int, float)):
                continue
            usual = _USUAL_RANGE if isinstance(number, int) else (-math.inf, math.inf)
            least, most = usual[0] if low is None else low, usual[1] if high is None else high
            if not least <= number <= most:
                span = f"at least {least}" if number < least else f"at most {most}"
                raise ConfigError(f"{name}={shown(number)} must be {span}")


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value of a nested mapping; an empty mapping below the top is a value."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
