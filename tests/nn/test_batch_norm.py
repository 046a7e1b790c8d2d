"""BatchNorm against PyTorch, and what is done with its statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops

from mindground.errors import ConfigError, DeviceError
from mindground.nn.batch_norm import (
    BatchNorm2d,
    average_buffers,
    batch_norms,
    buffers,
    restored_buffers,
    set_batch_norm,
)

SHAPE = (2, 3, 4, 5)


class Network(nn.Cell):
    """One BatchNorm of ours, one of MindSpore's, and a buffer of another kind."""

    buffer_names = ("seen",)

    def __init__(self) -> None:
        super().__init__()
        self.ours, self.theirs = BatchNorm2d(3), nn.BatchNorm2d(3, momentum=0.9)
        self.seen = ms.Parameter(ms.Tensor(np.array([4], np.int32)), name="seen", requires_grad=False)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.theirs(self.ours(x))


@dataclass
class Rank:
    """One of two ranks; the other's buffer is known beforehand."""

    other: np.ndarray | None = None
    size: int = 2
    rank: int = 0
    reduces_on_device: bool = False
    seen: np.ndarray | None = None

    def graph_all_reduce(self) -> Any:
        return _doubled

    def all_reduce_mean_(self, buffer: np.ndarray) -> None:
        assert buffer.dtype == np.float32 and buffer.flags.c_contiguous and buffer.flags.writeable
        self.seen = buffer.copy()
        if self.other is not None:
            buffer += self.other
            buffer /= 2


def _x(seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(SHAPE) * 3 + 5).astype(np.float32)


def _weights() -> np.ndarray:
    return np.random.default_rng(9).standard_normal(SHAPE).astype(np.float32)


def _set(cell: BatchNorm2d) -> None:
    rng = np.random.default_rng(1)
    cell.gamma.set_data(ms.Tensor(rng.standard_normal(3).astype(np.float32)))
    cell.beta.set_data(ms.Tensor(rng.standard_normal(3).astype(np.float32)))


def _peer(cell: BatchNorm2d) -> Any:
    torch = pytest.importorskip("torch")
    peer = torch.nn.BatchNorm2d(3)
    peer.load_state_dict(
        {
            "weight": torch.tensor(np.array(cell.gamma.asnumpy())),
            "bias": torch.tensor(np.array(cell.beta.asnumpy())),
            "running_mean": torch.tensor(np.array(cell.moving_mean.asnumpy())),
            "running_var": torch.tensor(np.array(cell.moving_variance.asnumpy())),
            "num_batches_tracked": torch.tensor(0),
        }
    )
    return peer


def _same_statistics(cell: BatchNorm2d, peer: Any) -> None:
    np.testing.assert_allclose(cell.moving_mean.asnumpy(), peer.running_mean.numpy(), rtol=1e-5)
    np.testing.assert_allclose(cell.moving_variance.asnumpy(), peer.running_var.numpy(), rtol=1e-5)


def test_training_and_evaluation_are_those_of_torch(mode: str) -> None:
    cell = BatchNorm2d(3)
    _set(cell)
    peer = _peer(cell)
    torch = pytest.importorskip("torch")
    weights = ms.Tensor(_weights())

    def weighted(x: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        y = cell(x)
        return (y * weights).sum(), y

    gradients = ms.value_and_grad(weighted, 0, (cell.gamma, cell.beta), has_aux=True)
    if mode == "graph":
        gradients = ms.jit(gradients)
    cell.set_train(True)
    for seed in range(3):
        (_, y), (dx, (dgamma, dbeta)) = gradients(ms.Tensor(_x(seed)))
        x = torch.tensor(_x(seed), requires_grad=True)
        theirs = peer(x)
        peer.zero_grad()
        (theirs * torch.tensor(_weights())).sum().backward()
        for a, b in ((y, theirs.detach()), (dx, x.grad), (dgamma, peer.weight.grad), (dbeta, peer.bias.grad)):
            np.testing.assert_allclose(a.asnumpy(), b.numpy(), rtol=1e-4, atol=2e-5)
        _same_statistics(cell, peer)
    cell.set_train(False)
    peer.eval()
    before = cell.moving_mean.asnumpy().copy()
    np.testing.assert_allclose(cell(ms.Tensor(_x(7))).asnumpy(), peer(torch.tensor(_x(7))).detach().numpy(), rtol=1e-5)
    np.testing.assert_array_equal(cell.moving_mean.asnumpy(), before)


def test_frozen_never_moves_and_still_learns(mode: str) -> None:
    model = Network()
    set_batch_norm(model, "frozen")
    model.set_train(True)
    before = {name: np.array(b.asnumpy()) for name, b in buffers(model).items()}

    def total(x: ms.Tensor) -> ms.Tensor:
        return ops.square(model(x)).sum()

    gradients = ms.value_and_grad(total, None, tuple(model.trainable_params()))
    if mode == "graph":
        gradients = ms.jit(gradients)
    _, found = gradients(ms.Tensor(_x()))
    assert all(np.abs(g.asnumpy()).max() > 0 for g in found)
    # Statistics are 0 and 1 here, so the input passes but for eps.
    np.testing.assert_allclose(model(ms.Tensor(_x())).asnumpy(), _x(), rtol=1e-4)
    for name, value in buffers(model).items():
        np.testing.assert_array_equal(value.asnumpy(), before[name])
    local = Network()
    set_batch_norm(local, "frozen")
    set_batch_norm(local, "local")
    local.set_train(True)(ms.Tensor(_x()))
    assert all(not np.array_equal(b.asnumpy(), before[n]) for n, b in buffers(local).items() if n != "seen")


def test_ranks_together_are_the_joint_batch(mode: str) -> None:
    """Equal batches on two ranks, so that an all-reduce, and its gradient, doubles what one rank hands in."""
    torch = pytest.importorskip("torch")
    cell = BatchNorm2d(3)
    _set(cell)
    peer = _peer(cell)
    cell.set_train(True)
    cell.ranks, cell.all_reduce = 2, _doubled
    weights = ms.Tensor(_weights())

    def weighted(x: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        y = cell(x)
        return (y * weights).sum(), y

    gradients = ms.value_and_grad(weighted, 0, (cell.gamma, cell.beta), has_aux=True)
    if mode == "graph":
        gradients = ms.jit(gradients)
    (_, y), (dx, (dgamma, dbeta)) = gradients(ms.Tensor(_x()))
    x = torch.tensor(np.concatenate([_x(), _x()]), requires_grad=True)
    theirs = peer(x)
    (theirs * torch.tensor(np.concatenate([_weights(), _weights()]))).sum().backward()
    np.testing.assert_allclose(y.asnumpy(), theirs.detach().numpy()[:2], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(dx.asnumpy(), x.grad.numpy()[:2], rtol=1e-4, atol=2e-5)
    # Half of the joint gradient each; the step averages ranks and so takes half of the joint sum.
    np.testing.assert_allclose(dgamma.asnumpy(), peer.weight.grad.numpy() / 2, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dbeta.asnumpy(), peer.bias.grad.numpy() / 2, rtol=1e-4, atol=1e-4)
    _same_statistics(cell, peer)


def _doubled(values: ms.Tensor) -> ms.Tensor:
    return values * 2.0


def test_other_batches_of_other_ranks_count(mode: str) -> None:
    """Forward only: what the other rank hands in is known beforehand."""
    torch = pytest.importorskip("torch")
    cell = BatchNorm2d(3)
    peer = _peer(cell)
    ours, others = _x(0), _x(1) * 2 - 3
    joint = np.concatenate([ours, others])
    mean = joint.mean((0, 2, 3), keepdims=True)
    parts = [others.sum((0, 2, 3)), np.square(others - mean).sum((0, 2, 3))]
    cell.ranks, cell.all_reduce = 2, _Handing([ms.Tensor(part) for part in parts])
    cell.set_train(True)
    y = cell(ms.Tensor(ours)) if mode == "pynative" else ms.jit(cell)(ms.Tensor(ours))
    theirs = peer(torch.tensor(joint)).detach().numpy()
    np.testing.assert_allclose(y.asnumpy(), theirs[:2], rtol=1e-4, atol=1e-5)
    _same_statistics(cell, peer)


class _Handing(nn.Cell):
    """Adds another prepared tensor at every call."""

    def __init__(self, parts: list[ms.Tensor]) -> None:
        super().__init__()
        self.parts, self.turn = parts, 0

    def construct(self, values: ms.Tensor) -> ms.Tensor:
        part = self.parts[self.turn]
        self.turn = (self.turn + 1) % 2
        return values + part


def test_one_value_per_channel_has_no_variance() -> None:
    cell = BatchNorm2d(3).set_train(True)
    with pytest.raises(ValueError, match="more than one value"):
        cell(ms.Tensor(np.ones((1, 3, 1, 1), np.float32)))
    assert np.isfinite(cell.moving_variance.asnumpy()).all()


def test_kinds_that_cannot_work_are_refused_by_name() -> None:
    with pytest.raises(DeviceError, match=r"batch_norm=sync.*2 ranks.*local"):
        set_batch_norm(Network(), "sync", Rank())
    with pytest.raises(ConfigError, match=r"'global'.*local, sync, frozen"):
        set_batch_norm(Network(), "global")
    with pytest.raises(ConfigError, match="Dense has no BatchNorm"):
        set_batch_norm(nn.Dense(2, 2), "frozen")
    set_batch_norm(nn.Dense(2, 2), "local")
    with pytest.raises(ConfigError, match=r"theirs is MindSpore's own BatchNorm2d"):
        set_batch_norm(Network(), "sync", Rank(reduces_on_device=True))
    with pytest.raises(ValueError, match="set_batch_norm"):
        BatchNorm2d(3, kind="sync")


def test_sync_takes_the_collectives_of_the_device() -> None:
    model = nn.SequentialCell(BatchNorm2d(3))
    set_batch_norm(model, "sync", Rank(reduces_on_device=True))
    assert model[0].ranks == 2 and model[0].all_reduce is _doubled
    set_batch_norm(model, "sync", Rank(size=1))
    alone = BatchNorm2d(3)
    model.set_train(True), alone.set_train(True)
    np.testing.assert_array_equal(model(ms.Tensor(_x())).asnumpy(), alone(ms.Tensor(_x())).asnumpy())


def test_all_buffers_are_found() -> None:
    model = Network()
    assert set(batch_norms(model)) == {"ours", "theirs"}
    assert list(buffers(model)) == [
        "seen", "ours.moving_mean", "ours.moving_variance", "theirs.moving_mean", "theirs.moving_variance",
    ]  # fmt: skip
    assert not any(parameter.requires_grad for parameter in buffers(model).values())


def test_ranks_meet_in_the_middle() -> None:
    first, second = Network(), Network()
    for seed, model in enumerate((first, second)):
        model.set_train(True)
        model(ms.Tensor(_x(seed)))
    second.seen.set_data(ms.Tensor(np.array([5], np.int32)))
    extra = ms.Parameter(ms.Tensor(np.array([8.0], np.float32)), name="more")
    listening = Rank()
    average_buffers(second, listening, (ms.Parameter(ms.Tensor(np.array([2.0], np.float32)), name="more"),))
    expected = {
        name: (value.asnumpy() + buffers(second)[name].asnumpy()) / 2
        for name, value in buffers(first).items()
        if name != "seen"
    }
    average_buffers(first, Rank(other=listening.seen), (extra,))
    for name, value in expected.items():
        np.testing.assert_allclose(buffers(first)[name].asnumpy(), value, rtol=1e-6)
    assert extra.asnumpy().tolist() == [5.0] and first.seen.asnumpy().tolist() == [4]


def test_one_rank_or_no_buffers_need_no_exchange() -> None:
    alone = Rank(size=1)
    average_buffers(Network(), alone)
    nothing = Rank()
    average_buffers(nn.Dense(2, 2), nothing)
    assert alone.seen is None and nothing.seen is None


def test_a_look_in_between_leaves_no_trace(mode: str) -> None:
    model = Network()
    model.set_train(True)
    forward = ms.jit(model) if mode == "graph" else model
    forward(ms.Tensor(_x(0)))
    before = {name: np.array(b.asnumpy()) for name, b in buffers(model).items()}
    with restored_buffers(model):
        forward(ms.Tensor(_x(1)))
        assert not np.array_equal(model.ours.moving_mean.asnumpy(), before["ours.moving_mean"])
    for name, value in buffers(model).items():
        np.testing.assert_array_equal(value.asnumpy(), before[name])
