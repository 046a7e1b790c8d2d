"""The device's way of joining gradients beside the host's: two different ranks, both orders, both modes."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import mindspore as ms
import numpy as np
import pytest

from engine.fakes import FakeModel, OneRank, make_batch
from mindground.config import TrainConfig
from mindground.engine.joint_gradients import DeviceGradients, HostGradients, flattened
from mindground.engine.optim import optimizer_from_config, sum_of_flat_squares
from mindground.engine.step import TrainStep
from mindground.errors import NonFiniteLossError


class Recorded(OneRank):
    """One of two ranks: it keeps what it would send, and gets what the other has sent."""

    def __init__(self, rank: int, on_device: bool) -> None:
        super().__init__(rank=rank, size=2, reduces_on_device=on_device)
        self.sent: np.ndarray | None = None
        self.other: Callable[[], np.ndarray | None] = lambda: None
        self.reductions = 0

    def _joined(self, own: np.ndarray) -> np.ndarray:
        self.sent, self.reductions = own.copy(), self.reductions + 1
        other = self.other()
        return own if other is None else own + other

    def all_reduce_mean_(self, buffer: np.ndarray) -> None:
        buffer[...] = self._joined(buffer) / 2

    def all_reduce_sum(self, values: ms.Tensor) -> ms.Tensor:
        return ms.Tensor(self._joined(values.asnumpy()))

    def all_gather_object(self, value: Any) -> list[Any]:
        return [value, ["of the other"]]


def make_step(comm: Any, graph: bool, **train: Any) -> TrainStep:
    settings = TrainConfig(**{"lr": 0.01, "lr_factors": {"visual": 2.0}, "clip_max_norm": 0.5, **train})
    model = FakeModel(dropout=0.0)
    return TrainStep(
        model, optimizer_from_config(model, settings), comm, graph=graph, clip_max_norm=settings.clip_max_norm,
        accumulation=settings.accumulation,
    )  # fmt: skip


def weights(step: TrainStep) -> list[np.ndarray]:
    return [np.array(parameter.asnumpy()) for parameter in step.optimizer.parameters]


def batches_of(rank: int) -> list[Any]:
    """Two micro-batches; the second rank's gradients are much larger, so that a clip on every rank shows."""
    found = [make_batch(np.arange(4) + 8 * rank + 4 * micro) for micro in range(2)]
    for batch in found:
        batch.arrays["box"] = batch.arrays["box"] * (1.0 + 9.0 * rank)
    return found


def two_ranks(on_device: bool, graph: bool, accumulation: str) -> tuple[list[dict[str, float]], list[Any]]:
    """Both ranks of one step: each is run first for what it sends, then with what the other has sent."""
    sent = []
    for rank in range(2):
        comm = Recorded(rank, on_device)
        make_step(comm, graph, accumulation=accumulation)(batches_of(rank), 1.0, 0, stop=rank == 1)
        sent.append(comm.sent)
    answers, found = [], []
    for rank in range(2):
        comm = Recorded(rank, on_device)
        comm.other = lambda rank=rank: sent[1 - rank]
        step = make_step(comm, graph, accumulation=accumulation)
        answers.append(step(batches_of(rank), 1.0, 0, stop=rank == 1))
        assert comm.reductions == 1
        found.append(weights(step))
    return answers, found


@pytest.mark.parametrize("accumulation", ["mean", "sum"])
@pytest.mark.parametrize("graph", [True, False])
def test_device_and_host_join_and_clip_alike(graph: bool, accumulation: str) -> None:
    host, on_host = two_ranks(False, graph, accumulation)
    device, on_device = two_ranks(True, graph, accumulation)
    assert host[0] == host[1] and device[0] == device[1], "ranks come to other decisions"
    for name, value in host[0].items():
        assert device[0][name] == pytest.approx(value, rel=2e-6), name
    assert host[0]["stop"] == 0.5 and host[0]["grad_norm"] > 0.5
    for ours, theirs in zip(on_device[0], on_host[0], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
    for ours, theirs in zip(on_device[0], on_device[1], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_two_orders_of_clipping_differ() -> None:
    """What the test above compares would otherwise prove nothing."""
    mean, summed = (two_ranks(True, False, accumulation)[1][0] for accumulation in ("mean", "sum"))
    assert max(np.abs(ours - theirs).max() for ours, theirs in zip(mean, summed, strict=True)) > 1e-4


@pytest.mark.parametrize("accumulation", ["mean", "sum"])
def test_micro_batches_of_one_rank_stay_on_the_device(accumulation: str) -> None:
    steps = [make_step(OneRank(reduces_on_device=device), True, accumulation=accumulation) for device in (False, True)]
    kinds = [type(step._joint) for step in steps]
    assert kinds == [HostGradients, DeviceGradients]
    for turn in range(3):
        host, device = (step(batches_of(turn % 2), 1.0, turn) for step in steps)
        assert all(device[name] == pytest.approx(value, rel=2e-6) for name, value in host.items())
    for ours, theirs in zip(weights(steps[1]), weights(steps[0]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("accumulation", ["mean", "sum"])
@pytest.mark.parametrize("on_device", [True, False])
def test_a_rank_that_breaks_stops_all_of_them_before_a_weight_changes(on_device: bool, accumulation: str) -> None:
    broken = Recorded(1, on_device)
    bad = batches_of(1)
    bad[1].arrays["image"][0, 0] = np.nan
    with pytest.raises(NonFiniteLossError):
        make_step(broken, False, accumulation=accumulation)(bad, 1.0, 0)
    healthy = Recorded(0, on_device)
    healthy.other = lambda: broken.sent
    step = make_step(healthy, False, accumulation=accumulation)
    before = weights(step)
    with pytest.raises(NonFiniteLossError, match=r"rank 0: s0, .*; rank 1: of the other"):
        step(batches_of(0), 1.0, 0)
    for now, then in zip(weights(step), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("on_device", [False, True])
def test_a_norm_that_overflows_on_one_rank_is_no_norm_of_any(on_device: bool, summed: bool) -> None:
    """Finite gradients whose squares are not: clipped to nothing, they would look healthy to the other ranks."""
    optimizer: Any = SimpleNamespace(parameters=[ms.Parameter(ms.Tensor(np.zeros(3, np.float32)), name="p")])

    def join(comm: Recorded, value: float) -> float:
        gradient = ms.Tensor(np.full(3, value, np.float32))
        if on_device:
            joined = DeviceGradients(optimizer, comm, 1, 0.5, summed, graph=False)
            return joined([flattened((gradient,), ms.Tensor([1.0], ms.float32))], 1, 1.0, False).norm
        numbers = ms.Tensor([1.0, 3.0], ms.float32)
        return HostGradients(optimizer, comm, 1, 0.5, summed)([(numbers, (gradient,))], 1, 1.0, False).norm

    huge, healthy = Recorded(1, on_device), Recorded(0, on_device)
    assert not np.isfinite(join(huge, 1e20))
    assert 0.5 < join(healthy, 1.0) < 2.0
    healthy.other = lambda: huge.sent
    assert not np.isfinite(join(healthy, 1.0))


@pytest.mark.parametrize("size", [1, 256, 257, 70_000])
def test_a_long_vector_keeps_its_digits(size: int, mode: str) -> None:
    values = np.random.default_rng(0).standard_normal(size).astype(np.float32)

    def squares(x: ms.Tensor) -> ms.Tensor:
        return sum_of_flat_squares(x)

    found = float((ms.jit(squares) if mode == "graph" else squares)(ms.Tensor(values)).asnumpy())
    assert found == pytest.approx(float(np.square(values.astype(np.float64)).sum()), rel=3e-7)
