"""Counting and telling what a proof came to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["AP50_WANTED", "Counted", "Report", "by_average_precision", "by_records", "first_full", "tell"]

IOU = 0.5
AP50_WANTED = 0.99  # of instance families: every object found, next to nothing found in vain

Scores = Mapping[str, float]


@dataclass(frozen=True)
class Counted:
    """One figure of a split.

    Attributes:
        what: `boxes` or `masks`.
        value: samples that are right, or AP50.
        of: samples, or 1 for AP50.
        wanted: what makes the proof.
    """

    what: str
    value: float
    of: float
    wanted: float

    @property
    def reached(self) -> bool:
        return self.value >= self.wanted

    def __str__(self) -> str:
        if self.of == 1:
            return f"{self.what} AP50 {self.value:.3f}"
        return f"{self.what} {int(self.value)} of {int(self.of)} right (IoU >= {IOU})"


@dataclass(frozen=True)
class Report:
    """A finished proof; `found` and `exchanged` hold the same figures in the same order."""

    family: str
    seed: int
    steps: int
    seconds: float
    found: Sequence[Counted]
    exchanged: Sequence[Counted]
    first_step: int | None = None

    @property
    def passed(self) -> bool:
        """Everything right, and wrong where the question or the truth is another one."""
        apart = all(b.value <= a.value / 2 for a, b in zip(self.found, self.exchanged, strict=True))
        return bool(self.found) and all(item.reached for item in self.found) and apart


def by_records(records: Sequence[Mapping[str, Any]], scores: Scores, samples: int) -> list[Counted]:
    """Samples of a referring split whose IoU is at least a half, by boxes and by masks where both were judged.

    Raises:
        ValueError: fewer or more records than samples, or records without any IoU.
    """
    if len(records) != samples:
        raise ValueError(f"{len(records)} records for {samples} samples")
    counted = []
    for what in ("box", "mask"):
        ious = [record.get(f"{what}_iou") for record in records]
        if any(iou is not None for iou in ious):
            right = sum(iou is not None and iou >= IOU for iou in ious)
            counted.append(Counted("boxes" if what == "box" else "masks", right, samples, samples))
    if not counted:
        raise ValueError("the records hold neither box_iou nor mask_iou")
    return counted


def by_average_precision(records: Sequence[Mapping[str, Any]], scores: Scores, samples: int) -> list[Counted]:
    """AP50 of an instance split, for boxes and masks where they were judged. Raises ValueError where neither was."""
    found = {"boxes": "box_ap50", "masks": "mask_ap50"}
    counted = [Counted(what, scores[name], 1, AP50_WANTED) for what, name in found.items() if name in scores]
    if not counted:
        raise ValueError(f"no AP50 among {', '.join(scores)}")
    return counted


def first_full(history: Sequence[tuple[int, Scores]], asks_expressions: bool) -> int | None:
    """Step of the first evaluation at which everything was right; None if there was none."""
    full: Callable[[Scores], bool]
    if asks_expressions:
        names = ("prec@0.5", "mask_prec@0.5")

        def full(scores: Scores) -> bool:
            values = [scores[name] for name in names if name in scores]
            return bool(values) and min(values) >= 1.0
    else:

        def full(scores: Scores) -> bool:
            return all(item.reached for item in by_average_precision([], scores, 0))

    return next((step for step, scores in history if full(scores)), None)


def tell(report: Report) -> str:
    """The report as lines of text."""
    since = f", all right from step {report.first_step} on" if report.first_step is not None else ""
    lines = [
        f"{report.family}, seed {report.seed}: {report.steps} steps in {report.seconds:.0f} s{since}",
        *(f"  as drawn    {item}" for item in report.found),
        *(f"  exchanged   {item}" for item in report.exchanged),
        "passed" if report.passed else "FAILED",
    ]
    return "\n".join(lines)
