"""One step: accumulation, clipping, non-finite numbers, repeatable dropout, both modes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mindspore as ms
import numpy as np
import pytest

from engine.fakes import FakeModel, OneRank, make_batch
from mindground.config import TrainConfig
from mindground.engine.forward import Runner, evaluating
from mindground.engine.optim import optimizer_from_config
from mindground.engine.step import TrainStep
from mindground.errors import DataError, NonFiniteLossError


def make_step(graph: bool, dropout: float = 0.0, comm: Any = None, **train: Any) -> TrainStep:
    settings = TrainConfig(**{"lr": 0.01, "lr_factors": {"visual": 2.0}, "clip_max_norm": 0.5, **train})
    model = FakeModel(dropout)
    return TrainStep(
        model,
        optimizer_from_config(model, settings),
        comm or OneRank(),
        graph=graph,
        clip_max_norm=settings.clip_max_norm,
        accumulation=settings.accumulation,
        seed=settings.seed,
    )


def weights(step: TrainStep) -> dict[str, np.ndarray]:
    return {p.name: np.array(p.asnumpy()) for p in step.optimizer.parameters}


@pytest.mark.parametrize("graph", [True, False])
def test_accumulation_is_the_big_batch(graph: bool) -> None:
    whole, parts = make_step(graph), make_step(graph)
    for turn in range(3):
        rows = np.arange(8) + 8 * turn
        a = whole([make_batch(rows)], 1.0, turn)
        b = parts([make_batch(rows[:4]), make_batch(rows[4:])], 1.0, turn)
        assert a["total"] == pytest.approx(b["total"], rel=1e-6)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-5)
        assert a["grad_norm"] > 0.5
    for name, value in weights(whole).items():
        np.testing.assert_allclose(value, weights(parts)[name], rtol=2e-5, atol=2e-6)


def test_both_modes_make_the_same_steps() -> None:
    graph, plain = make_step(True, dropout=0.3), make_step(False, dropout=0.3)
    for turn in range(3):
        a, b = (step([make_batch(np.arange(8))], 1.0, turn) for step in (graph, plain))
        assert a["total"] == pytest.approx(b["total"], rel=1e-5)
    for name, value in weights(graph).items():
        np.testing.assert_allclose(value, weights(plain)[name], rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("graph", [True, False])
def test_dropout_is_a_function_of_seed_and_step(graph: bool) -> None:
    batch = make_batch(np.arange(8))

    def losses(seed: int, steps: list[int]) -> list[float]:
        step = make_step(graph, dropout=0.5, seed=seed)
        return [step([batch], 0.0, number)["total"] for number in steps]

    first = losses(3, [0, 1, 2, 1])
    assert first[1] == first[3]
    assert len(set(first)) == 3
    assert losses(3, [2, 0]) == [first[2], first[0]]
    assert losses(4, [0]) != first[:1]


@pytest.mark.parametrize("micro", [1, 2])
def test_non_finite_loss_changes_nothing(micro: int) -> None:
    step = make_step(True)
    step([make_batch(np.arange(8))] * micro, 1.0, 0)
    before, moments = weights(step), [np.array(m.asnumpy()) for m in step.optimizer.first]
    bad = make_batch(np.asarray([40, 41, 42, 43]))
    bad.arrays["image"][1, 0] = np.nan
    with pytest.raises(NonFiniteLossError, match=r"step 1 .*rank 0: .*s40, s41, s42, s43"):
        step([make_batch(np.arange(4))] * (micro - 1) + [bad], 1.0, 1)
    for name, value in weights(step).items():
        np.testing.assert_array_equal(value, before[name])
    for now, earlier in zip(step.optimizer.first, moments, strict=True):
        np.testing.assert_array_equal(now.asnumpy(), earlier)


def test_infinite_gradient_norm_is_caught_too() -> None:
    step = make_step(True)
    bad = make_batch(np.arange(4))
    bad.arrays["box"][:] = 3e37
    with pytest.raises(NonFiniteLossError):
        step([bad], 1.0, 0)


def test_missing_array_is_named() -> None:
    batch = make_batch(np.arange(4))
    del batch.arrays["box"]
    with pytest.raises(DataError, match="'box'"):
        make_step(False)([batch], 1.0, 0)


@dataclass
class TwoRanksOnOne(OneRank):
    """Stands for two ranks: the other one's buffer is known beforehand."""

    size: int = 2
    other: np.ndarray | None = None
    seen: np.ndarray | None = None

    def all_reduce_mean_(self, buffer: np.ndarray) -> None:
        self.seen = buffer.copy()
        if self.other is not None:
            buffer += self.other
            buffer /= 2


def test_two_ranks_are_the_joint_batch() -> None:
    rows = np.arange(8)
    whole = make_step(True)
    joint = whole([make_batch(rows)], 1.0, 0)
    other = TwoRanksOnOne()
    make_step(True, comm=other)([make_batch(rows[4:])], 1.0, 0)
    comm = TwoRanksOnOne(other=other.seen)
    half = make_step(True, comm=comm)
    result = half([make_batch(rows[:4])], 1.0, 0, stop=True)
    assert result["total"] == pytest.approx(joint["total"], rel=1e-6)
    assert result["grad_norm"] == pytest.approx(joint["grad_norm"], rel=1e-5)
    assert result["stop"] == 0.5
    for name, value in weights(whole).items():
        np.testing.assert_allclose(value, weights(half)[name], rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("graph", [True, False])
def test_the_loss_sees_float32_in_half_precision(graph: bool) -> None:
    """The CPU computes float16 slowly, and well enough to see what reaches the loss."""

    class Watching(FakeModel):
        def loss(self, outputs: tuple[ms.Tensor, ...], box: ms.Tensor) -> tuple[ms.Tensor, ...]:
            if outputs[0].dtype != ms.float32:
                raise TypeError("the loss got a half type")
            return super().loss(outputs, box)

    def first_terms(precision: str) -> dict[str, float]:
        model = Watching(dropout=0.0)
        optimizer = optimizer_from_config(model, TrainConfig(lr=0.01))
        step = TrainStep(model, optimizer, OneRank(), graph=graph, precision=precision)
        return step([make_batch(np.arange(8))], 1.0)

    exact, rounded = first_terms("float32"), first_terms("float16")
    assert rounded["total"] == pytest.approx(exact["total"], rel=2e-2) and rounded["total"] != exact["total"]
    runner = Runner(FakeModel(), graph=graph, precision="float16")
    with evaluating(runner.model):
        assert runner.network(make_batch(np.arange(2)).arrays)["box"].dtype == np.float32
