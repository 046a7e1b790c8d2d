"""The optimiser and the learning-rate schedule of VG-LAW."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import mindspore as ms
import numpy as np
from mindspore import ops

from golden.case import Case
from golden.claim import Checks, claim
from mindground.config import TrainConfig
from mindground.engine.optim import OptimizerGroup, clip_factor
from mindground.engine.optim.adamw import AdamW
from mindground.engine.schedules import schedule_list, segments_of
from mindground.engine.step import TrainStep
from mindground.models.base import GroundingModel
from mindground.structures import Batch


class _Given(GroundingModel):
    """The gradient of the loss by parameter i is input i."""

    term_names: ClassVar[tuple[str, ...]] = ("same",)
    output_names: ClassVar[tuple[str, ...]] = ("products",)

    def __init__(self, values: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.input_names = tuple(values)
        self.values = ms.ParameterTuple(
            [ms.Parameter(ms.Tensor(value), name=name.replace(".", "_")) for name, value in values.items()]
        )

    def construct(self, *gradients: ms.Tensor) -> tuple[ms.Tensor, ...]:
        total = ms.Tensor(0.0, ms.float32)
        for i in range(len(self.values)):
            total = total + (self.values[i] * gradients[i]).sum()
        return (total,)

    def loss(self, outputs: tuple[ms.Tensor, ...]) -> tuple[ms.Tensor, ...]:
        return outputs[0], ops.square(outputs[0])


@claim(model="VG-LAW", holds=("config.clip_max_norm", "config.accumulate"), whole=True)
def check_adamw(case: Case, mode: str, checks: Checks) -> None:
    settings: dict[str, Any] = case.meta["config"]
    names = [key.removeprefix("init/") for key in case.inputs if key.startswith("init/")]
    model = _Given({name: case.inputs[f"init/{name}"] for name in names})
    groups = []
    for prefix, rate in settings["lr"].items():
        members = tuple(p for p, name in zip(model.values, names, strict=True) if name.startswith(prefix))
        groups.append(OptimizerGroup(prefix, members, rate, settings["weight_decay"]))
    optimizer = AdamW(groups, (settings["beta1"], settings["beta2"]), settings["eps"], settings["bias_correction"])
    comm = SimpleNamespace(rank=0, size=1, reduces_on_device=False)
    step = TrainStep(
        model,
        optimizer,
        comm,
        graph=mode == "graph",
        clip_max_norm=settings["clip_max_norm"],
        accumulation="sum",
    )
    micro = settings["accumulate"]
    given = {name: case.inputs[f"grad/{name}"] for name in names}
    for turn in range(len(given[names[0]]) // micro):
        rows = range(turn * micro, (turn + 1) * micro)
        result = step([Batch({name: given[name][row] for name in names}, [], [], 0) for row in rows], 1.0, turn)
        factor = clip_factor(result["grad_norm"], settings["clip_max_norm"], upstream=True)
        for name, parameter in zip(names, model.values, strict=True):
            if f"clipped{turn}/{name}" in case.outputs:
                ours = sum(given[name][row] for row in rows) * factor
                checks.output(f"clipped{turn}/{name}", ours, case.outputs[f"clipped{turn}/{name}"])
            checks.output(f"param{turn + 1}/{name}", parameter.asnumpy(), case.outputs[f"param{turn + 1}/{name}"])


@claim(model="VG-LAW", holds=("output/lr0",), modes=("host",))
def check_schedule(case: Case, mode: str, checks: Checks) -> None:
    for index, settings in enumerate(case.meta["config"]):
        train = TrainConfig(
            lr_scheduler="step",
            warmup_steps=settings["warmup_steps"],
            warmup_ratio=0.01,
            drop_epochs=settings["drop_epochs"],
            drop_rate=settings["gamma"],
        )
        total = settings["steps_per_epoch"] * settings["epochs"]
        factors = schedule_list(segments_of(train), settings["steps_per_epoch"], total)
        checks.output(f"lr{index}", np.asarray(factors) * settings["lr"], case.outputs[f"lr{index}"])
