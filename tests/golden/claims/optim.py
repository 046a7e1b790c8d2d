"""Optimisers and averages by themselves: RMSIN's AdamW, SeqTR's Adam with amsgrad and its average of the weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from golden.case import Case
from golden.claim import Checks, claim
from mindground.engine.ema import averaged_weights
from mindground.engine.optim.base import Optimizer, OptimizerGroup
from mindground.engine.optim.build import build_optimizer
from mindground.engine.optim.gradients import clip_factor, sum_of_squares


def _update(optimizer: Optimizer, mode: str) -> Callable[..., ms.Tensor]:
    count = len(optimizer.host_scalars(0.0, 0.0))

    def update(*values: ms.Tensor) -> ms.Tensor:
        return optimizer(values[:count], values[count:])

    return ms.jit(update) if mode == "graph" else update


@claim(model="rmsin", kind="adamw")
def check_adamw_with_an_idle_parameter(case: Case, mode: str, checks: Checks) -> None:
    """Four groups with decays of their own; a parameter that gets no gradient stands in no group and stays."""
    inputs, settings = case.inputs, case.config
    names = sorted(key for key in inputs if key.startswith("p"))
    parameters = {name: ms.Parameter(ms.Tensor(inputs[name]), name=name) for name in names}
    trained = [name for name in names if "g" + name[1:] in inputs]
    groups = [
        OptimizerGroup(name, (parameters[name],), settings["lr"], decay)
        for name, decay in zip(names, settings["wd"], strict=True)
        if name in trained
    ]
    optimizer = build_optimizer(groups)
    update = _update(optimizer, mode)
    for step in range(settings["steps"]):
        factor = (1 - step / settings["total_iters"]) ** 0.9
        gradients = [ms.Tensor(inputs["g" + name[1:]][step]) for name in trained]
        update(*optimizer.host_scalars(factor, 1.0), *gradients)
        optimizer.updates += 1
        for name in names:
            checks.output(f"{name} after step {step}", parameters[name].asnumpy(), case.outputs[name][step])


@claim(model="seqtr", kind="optim")
def check_amsgrad(case: Case, mode: str, checks: Checks) -> None:
    """Adam with amsgrad on a linear layer: loss, norm before clipping, and the weights after every step."""
    settings, weights = case.config, case.state_dict()
    layer = nn.Dense(*settings["dims"])
    layer.weight.set_data(ms.Tensor(weights["lin.weight"]))
    layer.bias.set_data(ms.Tensor(weights["lin.bias"]))
    optimizer = build_optimizer(
        [OptimizerGroup("all", (layer.weight, layer.bias), settings["lr"], 0.0)],
        kind="adam", betas=tuple(settings["betas"]), eps=settings["eps"], amsgrad=True,
    )  # fmt: skip

    def loss(x: ms.Tensor, t: ms.Tensor) -> ms.Tensor:
        return ops.square(layer(x) - t).sum()

    def gradients(x: ms.Tensor, t: ms.Tensor) -> Any:
        value, grads = ms.value_and_grad(loss, None, optimizer.parameters)(x, t)
        return value, sum_of_squares(grads), grads

    run, update = (ms.jit(gradients) if mode == "graph" else gradients), _update(optimizer, mode)
    losses, norms = [], []
    for step, factor in enumerate(settings["factors"]):
        value, squares, grads = run(ms.Tensor(case.inputs["x"][step]), ms.Tensor(case.inputs["t"][step]))
        losses.append(float(value.asnumpy()))
        norms.append(float(np.sqrt(squares.asnumpy())))
        update(*optimizer.host_scalars(factor, clip_factor(norms[-1], settings["clip"])), *grads)
        optimizer.updates += 1
        for name, parameter in (("weight", layer.weight), ("bias", layer.bias)):
            checks.output(f"{name}{step + 1}", parameter.asnumpy(), case.outputs[f"{name}{step + 1}"], 1e-5)
    checks.output("loss", losses, case.outputs["loss"])
    checks.output("grad_norm_before_clip", norms, case.outputs["grad_norm_before_clip"])


@claim(model="seqtr", kind="ema")
def check_average(case: Case, mode: str, checks: Checks) -> None:
    """Averages of a weight, of a running variance and of a counter, as the model sees them."""
    weights = case.state_dict()
    counter = "bn.num_batches_tracked"
    tensors = {name: ms.Parameter(ms.Tensor(value), name=name) for name, value in weights.items()}
    tensors[counter] = ms.Parameter(ms.Tensor(np.array(0, np.int64)), name=counter, requires_grad=False)
    trained = [name for name in tensors if not name.startswith("bn.running") and name != counter]
    optimizer = build_optimizer(
        # A rate of zero: the case sets the values itself.
        [OptimizerGroup("all", tuple(tensors[name] for name in trained), 0.0, 0.0)],
        ema_decay=case.config["alpha"],
        buffers=tuple(tensors[name] for name in tensors if name not in trained),
    )
    update = _update(optimizer, mode)
    given = {"fc.weight": case.inputs["w"], "bn.running_var": case.inputs["v"], counter: case.inputs["n"]}
    for step in range(case.config["steps"]):
        for name, values in given.items():
            ops.assign(tensors[name], ms.Tensor(np.array(values[step])))
        update(*optimizer.host_scalars(1.0, 1.0), *(ops.zeros_like(p) for p in optimizer.parameters))
        optimizer.updates += 1
        with averaged_weights(optimizer):
            for name in given:
                ours, theirs = tensors[name].asnumpy(), case.outputs[f"{name}{step + 1}"]
                compare = checks.exact if name == counter else checks.output
                compare(f"{name} after update {step + 1}", ours, theirs)
