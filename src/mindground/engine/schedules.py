"""Learning-rate factors by optimiser step: warm-up, then one of the usual ways down.

A factor multiplies every group's own rate. Steps count optimiser updates, not micro-batches (upstream VG-LAW counted
micro-batches and then never used the result).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mindground.errors import ConfigError

__all__ = ["SCHEDULES", "lr_factor", "schedule_list"]

SCHEDULES = ("step", "cosine", "poly", "constant", "exponential", "halfdecay")


def lr_factor(config: Any, step: int, steps_per_epoch: int, total_steps: int) -> float:
    """Factor on the learning rate of optimiser step `step` (from 0).

    Args:
        config: the `train` section.
        step: updates already made.
        steps_per_epoch: updates in one epoch.
        total_steps: updates in the whole run; where cosine and poly end, and what halfdecay halves ten times in.

    Raises:
        ConfigError: an unknown schedule.
    """
    if config.lr_scheduler not in SCHEDULES:
        raise ConfigError(
            f"train.lr_scheduler={config.lr_scheduler!r} is unknown; choose one of {', '.join(SCHEDULES)}"
        )
    epoch = step // max(1, steps_per_epoch)
    if step < config.warmup_steps:
        return config.warmup_ratio + (1.0 - config.warmup_ratio) * step / config.warmup_steps
    if config.lr_scheduler == "step":
        drops = sum(step >= after * steps_per_epoch for after in config.drop_epochs)
        return float(config.drop_rate**drops)
    if config.lr_scheduler == "constant":
        return 1.0
    if config.lr_scheduler == "exponential":
        return float(config.lr_exponential**epoch)
    if config.lr_scheduler == "halfdecay":
        epochs = total_steps // max(1, steps_per_epoch)
        return float(0.5 ** (epoch // max(1, epochs // 10)))
    if config.lr_by_epoch:
        step = max(epoch * steps_per_epoch, config.warmup_steps)
    progress = (step - config.warmup_steps) / max(1, total_steps - config.warmup_steps)
    progress = min(max(progress, 0.0), 1.0)
    shape = (1 + math.cos(math.pi * progress)) / 2
    if config.lr_scheduler == "poly":
        shape = (1 - progress) ** config.poly_power
    return config.min_lr_ratio + (1.0 - config.min_lr_ratio) * shape


def schedule_list(config: Any, steps_per_epoch: int, total_steps: int) -> Sequence[float]:
    """All factors of a run, for plots and tests."""
    return [lr_factor(config, step, steps_per_epoch, total_steps) for step in range(total_steps)]
