"""The learning-rate schedule as data: segments one after the other, and the short keys that stand for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from mindground.config.keys import key
from mindground.errors import ConfigError

__all__ = ["SHORT_KEYS", "Segment", "check_schedule", "check_two_forms", "segments_of", "short_keys_of"]

Kind = Literal["constant", "linear", "cosine", "cosine_restarts", "poly", "step", "exponential", "halfdecay"]

# Kinds that move with every step unless they are told to stand still within an epoch.
_SMOOTH = ("linear", "cosine", "cosine_restarts", "poly")

# Keys of `train` that are written in place of `train.schedule`.
SHORT_KEYS = (
    "lr_scheduler",
    "warmup_steps",
    "warmup_ratio",
    "drop_epochs",
    "drop_rate",
    "poly_power",
    "lr_exponential",
    "lr_by_epoch",
    "min_lr_ratio",
)

_SHORT_KINDS = ("step", "cosine", "poly", "constant", "exponential", "halfdecay")


@dataclass
class Segment:
    """A part of a schedule: a factor on the learning rates for so many steps or epochs.

    constant         start
    linear           from start to end
    cosine           from start to end along half a cosine
    cosine_restarts  the same again and again: in `period` epochs, then in `growth` times as many each time
    poly             from start to end, as (1 - progress) ^ power
    step             start, times gamma after each of the milestones
    exponential      start times gamma ^ number
    halfdecay        start, half after every tenth of the run's epochs

    linear, cosine and poly run from the beginning of the segment to its end, and cosine_restarts counts from there;
    step, exponential and halfdecay count from the start of the run, whatever stands before them. After the last segment
    its end stays.
    """

    kind: Kind = key("constant", affects="numbers")
    # Length in optimiser steps, or in epochs; both 0 = to the end of the run.
    steps: int = key(0, affects="numbers")
    epochs: int = key(0, affects="numbers")
    start: float = key(1.0, affects="numbers")
    # Of linear, cosine, cosine_restarts and poly; none = 1 for linear, 0 for the others.
    end: float | None = key(None, affects="numbers")
    power: float = key(0.9, affects="numbers")
    # Of step: epochs, or steps with by_epoch: false.
    milestones: list[int] = key([], affects="numbers")
    # Of step and exponential.
    gamma: float = key(0.1, affects="numbers")
    # Of cosine_restarts: epochs until the first restart, and how many times longer every period is than the last.
    period: int = key(0, affects="numbers")
    growth: int = key(1, affects="numbers")
    # True = the factor stands still within an epoch. None = false for linear, poly and both cosines, else true.
    by_epoch: bool | None = key(None, affects="numbers")
    # True = the next segment begins where this one does, and their factors are multiplied.
    beside: bool = key(False, affects="numbers")

    @property
    def last(self) -> float:
        """`end`, or what is usual for the kind."""
        return self.end if self.end is not None else float(self.kind == "linear")

    @property
    def whole_epochs(self) -> bool:
        """`by_epoch`, or what is usual for the kind."""
        return self.by_epoch if self.by_epoch is not None else self.kind not in _SMOOTH


# Keys that do nothing for a kind are refused there.
_ACTING: dict[str, tuple[str, ...]] = {
    "constant": (),
    "linear": ("end", "by_epoch"),
    "cosine": ("end", "by_epoch"),
    "cosine_restarts": ("end", "by_epoch", "period", "growth"),
    "poly": ("end", "by_epoch", "power"),
    "step": ("milestones", "gamma", "by_epoch"),
    "exponential": ("gamma", "by_epoch"),
    "halfdecay": (),
}
_COMMON = ("kind", "steps", "epochs", "start", "beside")


def check_schedule(segments: Sequence[Segment], name: str = "train.schedule") -> None:
    """Raises ConfigError for segments that contradict themselves, do nothing or are never reached."""
    for index, segment in enumerate(segments):
        where = f"{name}[{index}]"
        allowed = (*_COMMON, *_ACTING[segment.kind])
        idle = [f.name for f in fields(Segment) if f.name not in allowed and _said(segment, f.name)]
        if idle:
            raise ConfigError(f"{where}.{idle[0]} does nothing for kind={segment.kind}; leave it out")
        if segment.steps and segment.epochs:
            raise ConfigError(f"{where} has both steps={segment.steps} and epochs={segment.epochs}; leave one out")
        low = [f.name for f in fields(Segment) if isinstance(v := getattr(segment, f.name), (int, float)) and v < 0]
        if low:
            raise ConfigError(f"{where}.{low[0]}={getattr(segment, low[0])} must be at least 0")
        if segment.kind == "cosine_restarts" and not (segment.period >= 1 and segment.growth >= 1):
            raise ConfigError(
                f"{where} has period={segment.period} and growth={segment.growth}: cosine_restarts needs the epochs "
                "until its first restart, and a growth of at least 1"
            )
        _check_milestones(segment.milestones, f"{where}.milestones")
        rest = segments[index + 1 :]
        if rest and not (segment.steps or segment.epochs or segment.beside):
            raise ConfigError(f"{where} goes to the end of the run, so the {len(rest)} after it are never reached")
    if segments and segments[-1].beside:
        raise ConfigError(f"{name}: no segment stands beside the last one; leave out its `beside`")


def _said(segment: Segment, name: str) -> bool:
    return bool(getattr(segment, name) != getattr(Segment(), name))


def _check_milestones(values: Sequence[int], name: str) -> None:
    if list(values) != sorted(set(values)) or min(values, default=0) < 0:
        raise ConfigError(f"{name}={list(values)} must rise, without repeats")


def short_keys_of(train: Mapping[str, Any], defaults: Any) -> list[str]:
    """Short keys of a mapping that differ from what they are where nobody sets them."""
    return [name for name in SHORT_KEYS if name in train and train[name] != getattr(defaults, name)]


def check_two_forms(schedule: Any, short: Sequence[str], source: str = "") -> None:
    """Raises ConfigError where segments and short keys both describe the schedule."""
    if schedule and short:
        where = f"{source}: " if source else ""
        keys = ", ".join(f"train.{name}" for name in short)
        raise ConfigError(
            f"{where}train.schedule and {keys} both describe the learning rate; write all of it as segments, or return "
            "to the short keys with train.schedule=[]"
        )


def segments_of(train: Any) -> list[Segment]:
    """The schedule of a `train` section: its segments, or those that its short keys stand for.

    Raises:
        ConfigError: an unknown `lr_scheduler`.
    """
    if train.schedule:
        return list(train.schedule)
    kind, spread = train.lr_scheduler, {"end": train.min_lr_ratio, "by_epoch": train.lr_by_epoch}
    if kind not in _SHORT_KINDS:
        raise ConfigError(f"train.lr_scheduler={kind!r} is unknown; choose one of {', '.join(_SHORT_KINDS)}")
    own: dict[str, dict[str, Any]] = {
        "step": {"milestones": list(train.drop_epochs), "gamma": train.drop_rate},
        "exponential": {"gamma": train.lr_exponential},
        "cosine": spread,
        "poly": {**spread, "power": train.poly_power},
    }
    segments = [Segment(kind, **own.get(kind, {}))]
    if train.warmup_steps:
        segments.insert(0, Segment("linear", steps=train.warmup_steps, start=train.warmup_ratio, end=1.0))
    return segments
