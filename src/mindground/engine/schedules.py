"""Learning-rate factors by optimiser step, from the segments of a schedule.

A factor multiplies every group's own rate. Steps count optimiser updates, not micro-batches (upstream VG-LAW counted
micro-batches and then never used the result).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from mindground.config.schedule import Segment, segments_of

__all__ = ["Segment", "lr_factor", "name_long_warm_up", "schedule_list", "segments_of", "warm_up_steps"]

_LOG = logging.getLogger("mindground")


def lr_factor(segments: Sequence[Segment], step: int, steps_per_epoch: int, total_steps: int) -> float:
    """Factor on the learning rate of optimiser step `step` (from 0).

    Args:
        segments: as `segments_of` gives them.
        step: updates already made.
        steps_per_epoch: updates in one epoch.
        total_steps: updates in the whole run; where a segment without a length of its own ends, and what halfdecay
            halves ten times in.
    """
    factor, begin = 1.0, 0
    for index, segment in enumerate(segments):
        length = segment.steps or segment.epochs * steps_per_epoch
        open_ended = not length or index == len(segments) - 1
        if segment.beside or open_ended or step < begin + length:
            length = length or total_steps - begin
            factor *= _factor(segment, step, begin, length, steps_per_epoch, total_steps)
            if not segment.beside:
                break
        else:
            begin += length
    return factor


def warm_up_steps(segments: Sequence[Segment], steps_per_epoch: int) -> int:
    """Steps until the rising segments at the start of a schedule end; 0 without one, or where it has no length."""
    steps = 0
    for segment in segments:
        if segment.kind != "linear" or segment.start >= segment.last:
            break
        steps = (0 if segment.beside else steps) + (segment.steps or segment.epochs * steps_per_epoch)
        if segment.beside:
            break
    return steps


def name_long_warm_up(segments: Sequence[Segment], steps_per_epoch: int, total_steps: int) -> None:
    """Warns where the warm-up is not over when the run ends."""
    steps = warm_up_steps(segments, steps_per_epoch)
    if steps >= total_steps:
        _LOG.warning(
            "the warm-up lasts %d steps and the run %d: the full learning rate is never reached; lower "
            "train.warmup_steps, or train longer",
            steps,
            total_steps,
        )


def _factor(segment: Segment, step: int, begin: int, length: int, steps_per_epoch: int, total_steps: int) -> float:
    """Factor of one segment, which begins at step `begin` and lasts `length` steps; after its end, that of its end."""
    epoch = step // max(1, steps_per_epoch)
    start, end = segment.start, segment.last
    if segment.kind == "constant":
        return start
    if segment.kind == "step":
        unit = steps_per_epoch if segment.whole_epochs else 1
        return float(start * segment.gamma ** sum(step >= after * unit for after in segment.milestones))
    if segment.kind == "exponential":
        return float(start * segment.gamma ** (epoch if segment.whole_epochs else step))
    if segment.kind == "halfdecay":
        epochs = total_steps // max(1, steps_per_epoch)
        return float(start * 0.5 ** (epoch // max(1, epochs // 10)))
    if segment.whole_epochs:
        step = max(epoch * steps_per_epoch, begin)
    if segment.kind == "cosine_restarts":
        progress = _since_restart(segment, (step - begin) / max(1, steps_per_epoch))
        return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
    if segment.kind == "linear":
        return start + (end - start) * min(step - begin, length) / max(1, length)
    progress = min(max((step - begin) / max(1, length), 0.0), 1.0)
    shape = (1 + math.cos(math.pi * progress)) / 2 if segment.kind == "cosine" else (1 - progress) ** segment.power
    return end + (start - end) * shape


def _since_restart(segment: Segment, epochs: float) -> float:
    """Share of the period under way, from 0 up to, not including, 1."""
    period = segment.period
    if segment.growth == 1:
        return (epochs % period) / period
    while epochs >= period:
        epochs, period = epochs - period, period * segment.growth
    return epochs / period


def schedule_list(segments: Sequence[Segment], steps_per_epoch: int, total_steps: int) -> Sequence[float]:
    """All factors of a run, for plots and tests."""
    return [lr_factor(segments, step, steps_per_epoch, total_steps) for step in range(total_steps)]
