"""Optimisers: AdamW, Adam, SGD, each over groups with rates and decays of their own."""

from __future__ import annotations

from mindground.engine.optim.base import Optimizer, OptimizerGroup
from mindground.engine.optim.build import OPTIMIZERS, build_optimizer, optimizer_from_config, scaled_rate
from mindground.engine.optim.gradients import clip_factor, sum_of_flat_squares, sum_of_squares

__all__ = [
    "OPTIMIZERS",
    "Optimizer",
    "OptimizerGroup",
    "build_optimizer",
    "clip_factor",
    "optimizer_from_config",
    "scaled_rate",
    "sum_of_flat_squares",
    "sum_of_squares",
]
