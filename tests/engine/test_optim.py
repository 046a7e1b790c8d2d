"""The optimiser and schedules against PyTorch and against closed forms."""

from __future__ import annotations

import math

import mindspore as ms
import numpy as np
import pytest

from engine.fakes import FakeModel
from mindground.config import TrainConfig
from mindground.engine.optim import OptimizerGroup, clip_factor, optimizer_from_config, sum_of_squares
from mindground.engine.optim.adamw import AdamW
from mindground.errors import ConfigError
from mindground.models.base import ParameterGroup


def _parameters(rng: np.random.Generator) -> list[ms.Parameter]:
    shapes = [(4, 3), (5,), (2, 3, 2)]
    return [
        ms.Parameter(ms.Tensor(rng.standard_normal(s).astype(np.float32)), name=f"p{i}") for i, s in enumerate(shapes)
    ]


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("fused_below", [0, 10, 100])
def test_adamw_is_torch_adamw(graph: bool, fused_below: int) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    ours = _parameters(rng)
    theirs = [torch.nn.Parameter(torch.tensor(np.array(p.asnumpy()))) for p in ours]
    groups = [OptimizerGroup("a", tuple(ours[:1]), 1e-2, 0.1), OptimizerGroup("b", tuple(ours[1:]), 3e-3, 0.0)]
    optimizer = AdamW(groups, (0.9, 0.98), 1e-6)
    optimizer.fused_below = fused_below
    peer = torch.optim.AdamW(
        [
            {"params": theirs[:1], "lr": 1e-2, "weight_decay": 0.1},
            {"params": theirs[1:], "lr": 3e-3, "weight_decay": 0.0},
        ],
        betas=(0.9, 0.98),
        eps=1e-6,
    )

    def run(scalars: tuple[ms.Tensor, ...], grads: tuple[ms.Tensor, ...]) -> ms.Tensor:
        return optimizer(scalars, grads)

    update = ms.jit(run) if graph else run
    for step in range(6):
        # Sizes from 1e-6 up, so that eps and its place in the formula matter.
        grads = [rng.standard_normal(p.shape).astype(np.float32) * 10.0 ** (-step) for p in ours]
        norm = math.sqrt(sum(float((g**2).sum()) for g in grads))
        update(optimizer.host_scalars(0.5, clip_factor(norm, 0.15)), tuple(ms.Tensor(g) for g in grads))
        optimizer.updates += 1
        for parameter, grad in zip(theirs, grads, strict=True):
            parameter.grad = torch.tensor(grad)
        torch.nn.utils.clip_grad_norm_(theirs, 0.15)
        for group, rate in zip(peer.param_groups, (1e-2, 3e-3), strict=True):
            group["lr"] = rate * 0.5
        peer.step()
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a.asnumpy(), b.detach().numpy(), rtol=2e-6, atol=2e-6)


def test_average_follows_the_parameters() -> None:
    parameter = ms.Parameter(ms.Tensor(np.ones(3, np.float32)), name="p")
    optimizer = AdamW([OptimizerGroup("a", (parameter,), 0.1, 0.0)], ema_decay=0.999)
    expected = np.ones(3)
    for step in range(4):
        optimizer(optimizer.host_scalars(1.0, 1.0), (ms.Tensor(np.full(3, 0.5, np.float32)),))
        optimizer.updates += 1
        decay = min(0.999, (step + 1) / (step + 10))
        expected = decay * expected + (1 - decay) * parameter.asnumpy()
        np.testing.assert_allclose(optimizer.average[0].asnumpy(), expected, rtol=1e-6)
    assert not np.allclose(expected, parameter.asnumpy())


@pytest.mark.parametrize("shapes", [((300, 512), (7,), (64, 3, 16, 40)), ((300, 512), (3, 85)), ((5,),)])
def test_sum_of_squares_of_large_and_small_tensors(shapes: tuple[tuple[int, ...], ...]) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    exact = sum(float((a.astype(np.float64) ** 2).sum()) for a in arrays)
    value = float(sum_of_squares(tuple(ms.Tensor(a) for a in arrays)).asnumpy())
    assert abs(value - exact) < 2e-6 * exact


def test_every_trainable_parameter_needs_a_group() -> None:
    class Forgetful(FakeModel):
        def parameter_groups(self) -> list[ParameterGroup]:
            return [group for group in super().parameter_groups() if group.name != "base"]

    with pytest.raises(ConfigError, match=r"second\.weight"):
        optimizer_from_config(Forgetful(), TrainConfig())


def test_norms_and_biases_can_be_spared() -> None:
    optimizer = optimizer_from_config(FakeModel(), TrainConfig(no_decay_norm=True, weight_decay=0.3))
    decays = {p.name: d for p, d in zip(optimizer.parameters, optimizer.decays, strict=True)}
    assert decays["first.weight"] == 0.3
    assert decays["first.bias"] == 0.0


def test_clipping_formulas() -> None:
    assert clip_factor(3.0, 0.15) == 0.15 / (3.0 + 1e-6)
    assert clip_factor(3.0, 0.15, upstream=True) == 0.15 / 3.0
    assert clip_factor(0.1, 0.15) == clip_factor(0.1, 0.15, upstream=True) == 1.0
    assert clip_factor(9.0, 0.0) == 1.0


def test_hundreds_of_parameters_compile() -> None:
    parameters = tuple(ms.Parameter(ms.Tensor(np.ones(2, np.float32)), name=f"p{i}") for i in range(400))
    optimizer = AdamW([OptimizerGroup("a", parameters, 0.1, 0.0)], ema_decay=0.9)

    def run(scalars: tuple[ms.Tensor, ...], grads: tuple[ms.Tensor, ...]) -> tuple[ms.Tensor, ms.Tensor]:
        return optimizer(scalars, grads), sum_of_squares(grads)

    grads = tuple(ms.Tensor(np.ones(2, np.float32)) for _ in parameters)
    _, squares = ms.jit(run)(optimizer.host_scalars(1.0, 1.0), grads)
    assert float(squares.asnumpy()) == 800.0
    np.testing.assert_allclose(parameters[-1].asnumpy(), 0.9, rtol=1e-5)
