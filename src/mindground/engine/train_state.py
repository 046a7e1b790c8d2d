"""Where a training run stands; a checkpoint carries it, and a continued run starts from it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mindground.engine.description import read_description
from mindground.errors import CheckpointError
from mindground.metrics import is_better

__all__ = ["TrainState", "best_so_far", "continued"]

_LOG = logging.getLogger("mindground")


@dataclass
class TrainState:
    """Where a run stands; everything random follows from it and the seed.

    Attributes:
        step: optimiser steps made.
        epoch: epoch under way, from 0.
        samples: of this epoch, used so far, over all ranks.
        best: highest value of the selecting metric so far, or None.
        best_by: what `best` is a value of: the metric, the split and the thresholds.
        others: highest value of every further metric that chooses a checkpoint of its own.
        judged_by: splits and thresholds that they are values of.
        metrics: last evaluation.
        evaluated_step: step after which the last evaluation was made.
    """

    step: int = 0
    epoch: int = 0
    samples: int = 0
    best: float | None = None
    best_by: str = ""
    best_step: int = 0
    others: dict[str, float] = field(default_factory=dict)
    judged_by: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    evaluated_step: int = 0
    updates: int = 0
    loss_scale: float = 1.0
    samples_per_step: int = 0
    seed: int = 0


def best_so_far(state: TrainState, path: Path) -> tuple[float | None, int]:
    """Best value and its step: those of `state`, or those of the best checkpoint in the run folder where it is better.

    A run may go on from an older checkpoint than the last one; its evaluations must not replace a better best.

    Args:
        state: of the checkpoint that the run goes on from.
        path: of the best checkpoint, which need not exist; one that another metric chose is not compared.

    Raises:
        CheckpointError: it is damaged.
    """
    kept = read_description(path).state if path.is_file() else {}
    best = kept.get("best")
    if isinstance(best, float) and kept.get("best_by") == state.best_by and is_better(best, state.best):
        return best, int(kept.get("best_step") or 0)
    return state.best, state.best_step


def continued(fresh: TrainState, stored: Mapping[str, Any], joint_batch: int) -> TrainState:
    """The state of a checkpoint, for a run that goes on from it.

    Args:
        fresh: of the run at hand; it says how many samples a step has now, and what chooses the best checkpoint.
        stored: state of the checkpoint; entries that a later version added take the values of `fresh`.
        joint_batch: samples of one batch over all ranks.

    Raises:
        CheckpointError: steps have another number of samples, or batches do not divide what an epoch has used.
    """
    state = TrainState(**{key: stored[key] for key in asdict(fresh) if key in stored})
    if "evaluated_step" not in stored and state.metrics:
        state.evaluated_step = state.step  # checkpoints of schema 1 did not say
    if state.samples_per_step != fresh.samples_per_step:
        raise CheckpointError(
            f"the run used {state.samples_per_step} samples per step, this continuation {fresh.samples_per_step}; "
            f"set train.batch_sum={state.samples_per_step} (batch_size x ranks must divide it)"
        )
    if state.best is not None and state.best_by and state.best_by != fresh.best_by:
        _LOG.info(
            "the best checkpoint so far was chosen by %s, from now on by %s: the next evaluation starts anew",
            state.best_by,
            fresh.best_by,
        )
        state.best, state.best_step = None, 0
    state.best_by = fresh.best_by
    if state.judged_by != fresh.judged_by:
        state.others, state.judged_by = {}, fresh.judged_by
    if state.samples % joint_batch:
        raise CheckpointError(
            f"the run stopped {state.samples} samples into an epoch, no multiple of {joint_batch} per batch"
        )
    return state
