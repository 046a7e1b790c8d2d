"""A tiny network trained through the device path: `device_path_job.py OUT GRAPH ACCUMULATION [ranks meet on the host]`.

`mean`: one rank has the whole batch, two have half of it each and normalise by both. `sum`: every rank has the whole
batch and normalises by it, because it clips by its own norm. Either way two ranks have to be one. Writes weights,
moments, averages, BatchNorm statistics and losses of every step.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, ClassVar

from mindground.runtime import device

device.prepare()

import mindspore as ms  # noqa: E402
import numpy as np  # noqa: E402
from mindspore import nn, ops  # noqa: E402

from engine.fakes import OneRank  # noqa: E402
from mindground.config import TrainConfig  # noqa: E402
from mindground.engine.optim import optimizer_from_config  # noqa: E402
from mindground.engine.step import TrainStep  # noqa: E402
from mindground.models.base import GroundingModel, ParameterGroup  # noqa: E402
from mindground.nn.batch_norm import BatchNorm2d, average_buffers, buffers, set_batch_norm  # noqa: E402
from mindground.structures import Batch, Geometry, Sample  # noqa: E402

STEPS, MICRO, WHOLE = 20, 2, 8


class Network(GroundingModel):
    """A convolution, a BatchNorm, a layer; a nonlinear loss, so that every order of averages shows."""

    input_names: ClassVar[tuple[str, ...]] = ("image",)
    target_names: ClassVar[tuple[str, ...]] = ("box",)
    output_names: ClassVar[tuple[str, ...]] = ("box",)
    term_names = ("square", "size")

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(3)
        self.conv = nn.Conv2d(2, 5, 3, pad_mode="pad", padding=1)
        self.norm = BatchNorm2d(5)
        self.last = nn.Dense(5, 4)
        for parameter in self.trainable_params():
            parameter.set_data(ms.Tensor(rng.standard_normal(parameter.shape).astype(np.float32) * 0.4))

    def construct(self, image: ms.Tensor) -> tuple[ms.Tensor, ...]:
        return (self.last(ops.tanh(self.norm(self.conv(image))).mean((2, 3))),)

    def loss(self, outputs: tuple[ms.Tensor, ...], box: ms.Tensor) -> tuple[ms.Tensor, ...]:
        square, size = ops.square(outputs[0] - box).mean(), ops.tanh(outputs[0]).mean()
        return square + 0.1 * size, square, size

    def parameter_groups(self) -> list[ParameterGroup]:
        inner = (*self.conv.trainable_params(), *self.norm.trainable_params())
        return [ParameterGroup("visual", inner), ParameterGroup("base", tuple(self.last.trainable_params()))]


def batch_of(step: int, micro: int, rank: int, size: int) -> Batch:
    """The share of a rank of micro-batch `micro`; strided, as the loader divides it."""
    rng = np.random.default_rng([7, step, micro])
    image = rng.standard_normal((WHOLE, 2, 6, 6)).astype(np.float32)
    box = rng.standard_normal((WHOLE, 4)).astype(np.float32)
    count = WHOLE // size
    samples = [Sample("none.png", f"s{row}", f"i{row}", "a thing", np.zeros((1, 4))) for row in range(count)]
    geometries = [Geometry((8, 8), (8, 8), (8, 8))] * count
    return Batch({"image": image[rank::size], "box": box[rank::size]}, samples, geometries, count)


def main(argv: Sequence[str]) -> None:
    """Train and write `OUT`."""
    out, graph, accumulation, on_host = argv[0], argv[1] == "graph", argv[2], "host" in argv[3:]
    device.apply(device_target="CPU", mode_name="GRAPH" if graph else "PYNATIVE")
    comm: Any = OneRank()
    if device.launched_size() > 1:
        from runtime.mpi_device import MpiDeviceComm

        comm = MpiDeviceComm()
    elif not on_host:
        comm.reduces_on_device = True
    settings = TrainConfig(
        lr=0.01, lr_factors={"visual": 0.5}, clip_max_norm=0.3, ema_decay=0.9, weight_decay=0.01,
        accumulation=accumulation,
    )  # fmt: skip
    model = Network()
    shared = accumulation == "mean"
    set_batch_norm(model, "sync" if shared else "local", comm)
    optimizer = optimizer_from_config(model, settings)
    step = TrainStep(
        model, optimizer, comm, graph=graph, clip_max_norm=settings.clip_max_norm, accumulation=accumulation
    )
    curve, reductions = [], 0
    for number in range(STEPS):
        place = (comm.rank, comm.size) if shared else (0, 1)
        batches = [batch_of(number, micro, *place) for micro in range(MICRO)]
        terms = step(batches, 1.0, number, stop=number == STEPS - 1 and comm.rank == comm.size - 1)
        curve.append([terms["total"], terms["square"], terms["size"], terms["grad_norm"], terms["stop"]])
        if comm.size > 1 and number == 0:
            reductions = comm.counts["reductions"]
    average_buffers(model, comm, also=optimizer.buffer_average)
    names = {id(p): name for name, p in model.parameters_and_names()}
    found = {f"weight/{name}": p.asnumpy() for name, p in model.parameters_and_names()}
    found |= {f"state/{key}": value for key, value in optimizer.state(names).items()}
    assert len(buffers(model)) == 2 and len(optimizer.buffer_average) == 2
    if comm.rank == 0:
        np.savez(out, curve=np.asarray(curve), reductions=reductions, **found)
    if comm.size > 1:
        everybody = comm.all_gather_object({name: value.tobytes() for name, value in found.items()})
        assert everybody[0] == everybody[1], "the ranks have other weights"
        comm.finalize()
    # MindSpore waits for the operators made of Python functions when it is unloaded.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
