"""Learning-rate schedules of published trainings, as segments of `train.schedule`."""

from __future__ import annotations

from typing import Any

import numpy as np

from golden.case import Case
from golden.claim import Checks, claim
from mindground.config import Segment
from mindground.config.schedule import check_schedule
from mindground.engine.schedules import lr_factor, schedule_list


@claim(model="rmsin", kind="lr_schedule", modes=("host",))
def check_rmsin(case: Case, mode: str, checks: Checks) -> None:
    total = case.config["total_iters"]
    segments = [Segment("poly", power=0.9)]
    rates = [lr_factor(segments, int(i), total, total) * case.config["lr"] for i in case.inputs["iteration"]]
    checks.output("lr", rates, case.outputs["lr"])


@claim(
    model="rsprompter",
    holds=("config.iters_per_epoch", "config.base_lr", "output/lr"),
    modes=("host",),
    unread={"input/dummy": "it stands for the inputs that a schedule does not have"},
)
def check_rsprompter(case: Case, mode: str, checks: Checks) -> None:
    """50 iterations of warm-up beside a cosine by epochs, which begins with the second epoch."""
    settings = case.config
    segments = [
        Segment("linear", steps=49, start=0.001, beside=True),
        Segment("constant", epochs=1),
        Segment("cosine", epochs=settings["max_epochs"], end=0.001, by_epoch=True),
    ]
    check_schedule(segments)
    steps = settings["iters_per_epoch"]
    factors = np.asarray(schedule_list(segments, steps, steps * settings["max_epochs"]))
    # The case gives 1e4 x the rate.
    checks.output("lr", 1e4 * settings["base_lr"] * factors, case.outputs["lr"])


@claim(model="seqtr", kind="schedule", modes=("host",))
def check_seqtr(case: Case, mode: str, checks: Checks) -> None:
    for name, settings in case.config["schedules"].items():
        segments = seqtr_segments(settings)
        check_schedule(segments)
        factors = np.asarray(schedule_list(segments, 3, 3 * settings["max_epoch"])).reshape(-1, 3)
        checks.true(f"{name}: one factor an epoch", bool((factors == factors[:, :1]).all()))
        checks.output(name, factors[:, 0], case.outputs[name])


def seqtr_segments(settings: dict[str, Any]) -> list[Segment]:
    """Epoch e of w warms up with (e + 1) / (w + 1), and a decay step names the epoch, from 1, in which it acts."""
    warmup, decays = settings["warmup_epochs"], settings["decay_steps"]
    segments = [Segment("linear", epochs=warmup, start=1 / (warmup + 1), by_epoch=True)] if warmup else []
    if decays is None:
        return [*segments, Segment("linear", end=0.0, by_epoch=True)]
    return [*segments, Segment("step", milestones=[step - 1 for step in decays], gamma=settings["decay_ratio"])]
