"""Search for the pseudo labels to keep: pure functions of `performance(subset)`.

Nothing here trains or reads files; `performance` may take hours and is called once for every subset. Reliability
thresholds are tenths, 0.0 ... 0.9: a sample is kept when its reliability is *above* the threshold. CLIP-VG (Xiao et
al., IEEE TMM 2023) shows the two searches in figures 3 and 5; details that the figures do not give are ours
(docs/curriculum.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mindground.errors import ConfigError, DataError

__all__ = [
    "BAD_BELOW",
    "THRESHOLDS",
    "Choice",
    "ThresholdResult",
    "Part",
    "bad",
    "greedy_threshold",
    "keep",
    "search_sources",
    "simple_to_complex",
]

# Every threshold for which a subset is written; the search stays below 1.0.
THRESHOLDS: tuple[float, ...] = tuple(tenths / 10 for tenths in range(11))
# Limit of upstream's second list of bad labels.
BAD_BELOW = 0.4
_HIGHEST = 9


def keep(reliability: Sequence[float] | np.ndarray, threshold: float) -> np.ndarray:
    """(N,) bool: reliability strictly above the threshold; at 1.0, the maximum, equal to it."""
    values = np.asarray(reliability)
    return values == 1 if threshold >= 1 else values > threshold


def bad(reliability: Sequence[float] | np.ndarray, threshold: float) -> np.ndarray:
    """(N,) bool of upstream's lists of bad labels: equal to 0 for threshold 0, else strictly below it."""
    values = np.asarray(reliability)
    return values == 0 if threshold <= 0 else values < threshold


@dataclass(frozen=True)
class Part:
    """A part of a training set: a source, or its samples with a measurer's reliability above `threshold`.

    Attributes:
        source: number of the source.
        measurer: number of the source whose model measured; None = the whole source.
        threshold: tenth between 0.0 and 0.9; None = the whole source.
    """

    source: int
    measurer: int | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class ThresholdResult:
    """Result of a threshold search, and every (threshold, performance) that it evaluated, in order."""

    threshold: float
    performance: float
    evaluated: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Choice:
    """What is kept of one source.

    Attributes:
        source, measurer, threshold: the part.
        performance: of the model trained on all parts chosen so far and this one.
        evaluated: (threshold, performance) in the order of the search.
        measurers: performance at the starting threshold by measurer; empty with one source.
    """

    source: int
    measurer: int
    threshold: float
    performance: float
    evaluated: tuple[tuple[float, float], ...]
    measurers: tuple[float, ...] = ()

    @property
    def part(self) -> Part:
        """The chosen part."""
        return Part(self.source, self.measurer, self.threshold)


def _tenths(threshold: float) -> int:
    tenths = round(threshold * 10)
    if not 0 <= tenths <= _HIGHEST or abs(threshold * 10 - tenths) > 1e-6:
        raise ConfigError(f"the starting threshold is {threshold}; it is one of 0.0, 0.1 ... 0.9")
    return tenths


def greedy_threshold(performance: Callable[[float], float], start: float = 0.5) -> ThresholdResult:
    """Climb from `start` in steps of 0.1 as long as the performance strictly rises.

    The start, the step up and the step down are evaluated; the better step (up if they are equal) gives the direction
    if it is better than the start. NaN counts as worse than anything.

    Args:
        performance: of a model trained on the samples above a threshold; minus infinity if they are too few to train.
        start: 0.0, 0.1 ... 0.9.

    Raises:
        ConfigError: another `start`.
        DataError: nothing around the start can be trained.
    """
    first = _tenths(start)
    evaluated: dict[int, float] = {}

    def value(tenths: int) -> float:
        if not 0 <= tenths <= _HIGHEST:
            return -math.inf
        if tenths not in evaluated:
            found = float(performance(tenths / 10))
            evaluated[tenths] = -math.inf if math.isnan(found) else found
        return evaluated[tenths]

    current, up, down = value(first), value(first + 1), value(first - 1)
    step = 1 if up >= down else -1
    best = first
    if max(up, down) > current:
        best = first + step
        while value(best + step) > value(best):
            best += step
    if evaluated[best] == -math.inf:
        raise DataError(
            f"no threshold around {start} leaves enough samples to train on; start lower, or train the measurer longer"
        )
    order = tuple((tenths / 10, score) for tenths, score in evaluated.items())
    return ThresholdResult(best / 10, evaluated[best], order)


def simple_to_complex(entities: Sequence[float]) -> list[int]:
    """Indexes of the sources by increasing mean number of entities per sentence; equal ones keep their order."""
    return sorted(range(len(entities)), key=lambda source: entities[source])


def search_sources(
    order: Sequence[int], performance: Callable[[tuple[Part, ...]], float], start: float = 0.5
) -> list[Choice]:
    """Self-paced choice from every source, from simple to complex; with one source only its threshold is searched.

    For each source the measurer is chosen first, at the starting threshold (the first of equally good ones), then the
    threshold; both times the model is trained on the parts chosen so far together with the candidate.

    Args:
        order: every source once, as `simple_to_complex` gives them; each is also a measurer.
        performance: of a model trained on the union of the parts.
        start: 0.0, 0.1 ... 0.9.
    """
    chosen: list[Choice] = []
    for source in order:
        before = tuple(choice.part for choice in chosen)
        tried: list[float] = []
        if len(order) > 1:
            tried = [_number(performance((*before, Part(source, j, start)))) for j in range(len(order))]
        measurer = int(np.argmax(tried)) if tried else source
        found = greedy_threshold(_of(performance, before, source, measurer), start)
        chosen.append(Choice(source, measurer, found.threshold, found.performance, found.evaluated, tuple(tried)))
    return chosen


def _number(value: float) -> float:
    return -math.inf if math.isnan(value) else float(value)


def _of(
    performance: Callable[[tuple[Part, ...]], float], before: tuple[Part, ...], source: int, measurer: int
) -> Callable[[float], float]:
    return lambda threshold: performance((*before, Part(source, measurer, threshold)))
