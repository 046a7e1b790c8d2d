"""Adam, AMSGrad, SGD and RMSProp against PyTorch, step by step, and the optimiser that a `train` section asks for."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from mindground.engine.optim.adamw import Adam, AdamW
from mindground.engine.optim.base import Optimizer, OptimizerGroup
from mindground.engine.optim.build import build_optimizer, groups_from_config, optimizer_from_config, scaled_rate
from mindground.engine.optim.rmsprop import RMSProp
from mindground.engine.optim.sgd import SGD
from mindground.errors import CheckpointError, ConfigError

SHAPES = [(4, 3), (5,), (2, 3, 2), (6,)]
RATES, DECAYS = (1e-2, 3e-3), (0.1, 0.0)
KINDS: dict[str, dict[str, Any]] = {
    "adamw": {"kind": "adamw"},
    "adamw-amsgrad": {"kind": "adamw", "amsgrad": True},
    "adam": {"kind": "adam"},
    "adam-amsgrad": {"kind": "adam", "amsgrad": True},
    "sgd": {"kind": "sgd"},
    "sgd-momentum": {"kind": "sgd", "momentum": 0.9},
    "sgd-nesterov": {"kind": "sgd", "momentum": 0.8, "nesterov": True},
    "rmsprop": {"kind": "rmsprop"},
    "rmsprop-momentum": {"kind": "rmsprop", "momentum": 0.9},
}


def _parameters(rng: np.random.Generator) -> list[ms.Parameter]:
    return [
        ms.Parameter(ms.Tensor(rng.standard_normal(s).astype(np.float32)), name=f"p{i}") for i, s in enumerate(SHAPES)
    ]


def _groups(parameters: list[ms.Parameter]) -> list[OptimizerGroup]:
    parts = (tuple(parameters[:2]), tuple(parameters[2:]))
    return [OptimizerGroup(n, p, r, d) for n, p, r, d in zip("ab", parts, RATES, DECAYS, strict=True)]


def _ours(name: str, parameters: list[ms.Parameter], **more: Any) -> Optimizer:
    settings = {**KINDS[name], **more}
    if settings["kind"] != "sgd":
        settings |= {"betas": (0.9, 0.98), "eps": 1e-6}
    return build_optimizer(_groups(parameters), **settings)


def _theirs(torch: Any, name: str, parameters: list[Any]) -> Any:
    settings = {key: value for key, value in KINDS[name].items() if key != "kind"}
    parts = (parameters[:2], parameters[2:])
    groups = [{"params": p, "lr": r, "weight_decay": d} for p, r, d in zip(parts, RATES, DECAYS, strict=True)]
    if KINDS[name]["kind"] == "sgd":
        return torch.optim.SGD(groups, **settings)
    if KINDS[name]["kind"] == "rmsprop":
        return torch.optim.RMSprop(groups, alpha=0.98, eps=1e-6, **settings)
    maker = torch.optim.AdamW if KINDS[name]["kind"] == "adamw" else torch.optim.Adam
    return maker(groups, betas=(0.9, 0.98), eps=1e-6, **settings)


def _compiled(optimizer: Optimizer, graph: bool) -> Callable[..., ms.Tensor]:
    count = len(optimizer.host_scalars(0.0, 0.0))

    def update(*values: ms.Tensor) -> ms.Tensor:
        return optimizer(values[:count], values[count:])

    return ms.jit(update) if graph else update


@pytest.mark.parametrize("graph", [True, False], ids=["graph", "pynative"])
@pytest.mark.parametrize("name", KINDS)
def test_ten_steps_are_those_of_torch(name: str, graph: bool) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    ours = _parameters(rng)
    theirs = [torch.nn.Parameter(torch.tensor(np.array(p.asnumpy()))) for p in ours]
    optimizer, peer = _ours(name, ours), _theirs(torch, name, theirs)
    if isinstance(optimizer, AdamW):
        # Both kernels: the fused one for the smallest parameters, the other for the rest.
        optimizer.fused_below = 6
    update = _compiled(optimizer, graph)
    for step in range(10):
        # Sizes from 1e-5 up, so that eps and its place in the formula matter; rising and falling, so that the
        # largest second moment is not the last one. 0.5 stands for clipping, the factor for a schedule.
        size, factor = 10.0 ** -(step % 6), 1.0 - 0.05 * step
        grads = [rng.standard_normal(p.shape).astype(np.float32) * np.float32(size) for p in ours]
        update(*optimizer.host_scalars(factor, 0.5), *(ms.Tensor(g) for g in grads))
        optimizer.updates += 1
        for parameter, grad in zip(theirs, grads, strict=True):
            parameter.grad = torch.tensor(grad) * 0.5
        for group, rate in zip(peer.param_groups, RATES, strict=True):
            group["lr"] = rate * factor
        peer.step()
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a.asnumpy(), b.detach().numpy(), rtol=3e-6, atol=3e-6)


@pytest.mark.parametrize("name", KINDS)
def test_no_step_compiles_anew(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from mindspore.common import api

    compiled = []
    inner = api._JitExecutor.compile

    def compile_(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = len(api.ms_compile_cache)
        result = inner(self, *args, **kwargs)
        compiled.append(len(api.ms_compile_cache) - before)
        return result

    monkeypatch.setattr(api._JitExecutor, "compile", compile_)
    parameters = _parameters(np.random.default_rng(0))
    optimizer = _ours(name, parameters, ema_decay=0.9, buffers=(ms.Parameter(ms.Tensor([1.0]), name="b"),))
    update = _compiled(optimizer, graph=True)
    for step in range(4):
        grads = [ms.Tensor(np.full(p.shape, step + 1, np.float32)) for p in parameters]
        update(*optimizer.host_scalars(1.0 / (step + 1), 0.1 * (step + 1)), *grads)
        optimizer.updates += 1
    assert sum(compiled) == 1, compiled


@pytest.mark.parametrize("name", KINDS)
def test_state_continues_to_the_same_numbers(name: str) -> None:
    rng = np.random.default_rng(3)
    values = [rng.standard_normal(s).astype(np.float32) for s in SHAPES]
    grads = [tuple(ms.Tensor(rng.standard_normal(s).astype(np.float32)) for s in SHAPES) for _ in range(4)]

    def start() -> tuple[list[ms.Parameter], ms.Parameter, Optimizer, dict[int, str]]:
        parameters = [ms.Parameter(ms.Tensor(v), name=f"p{i}") for i, v in enumerate(values)]
        buffer = ms.Parameter(ms.Tensor(np.ones(2, np.float32)), name="mean", requires_grad=False)
        optimizer = _ours(name, parameters, ema_decay=0.9, buffers=(buffer,))
        return parameters, buffer, optimizer, {id(p): p.name for p in (*parameters, buffer)}

    def advance(optimizer: Optimizer, gradients: list[tuple[ms.Tensor, ...]]) -> None:
        for gradient in gradients:
            optimizer(optimizer.host_scalars(1.0, 1.0), gradient)
            optimizer.updates += 1

    whole, _, through, names = start()
    advance(through, grads)
    first, _, stopped, first_names = start()
    advance(stopped, grads[:2])
    state = stopped.state(first_names)
    state = {key: np.array(value) for key, value in state.items()}
    second, _, continued, second_names = start()
    for parameter, value in zip(second, first, strict=True):
        parameter.set_data(ms.Tensor(np.array(value.asnumpy())))
    continued.load_state(state, second_names, stopped.updates)
    advance(continued, grads[2:])
    for a, b in zip(whole, second, strict=True):
        np.testing.assert_array_equal(a.asnumpy(), b.asnumpy())
    ours, theirs = through.state(names), continued.state(second_names)
    assert ours.keys() == theirs.keys() and "ema/mean" in ours
    for key, value in ours.items():
        np.testing.assert_array_equal(value, theirs[key])
    missing = {key: value for key, value in state.items() if key != "ema/mean"}
    with pytest.raises(CheckpointError, match="'ema/mean'"):
        continued.load_state(missing, second_names, 2)


class _Network(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.tower, self.head = nn.Dense(3, 4), nn.Dense(4, 2)
        self.norm = nn.BatchNorm2d(4)
        self.own: dict[str, Any] = {}

    def parameter_groups(self) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(name="tower", parameters=tuple(self.tower.trainable_params()), lr_factor=0.1),
            SimpleNamespace(
                name="head",
                parameters=(*self.head.trainable_params(), *self.norm.trainable_params()),
                weight_decay=None,
            ),
            SimpleNamespace(name="frozen", parameters=(), weight_decay=0.5),
        ]


def _train(**changes: Any) -> SimpleNamespace:
    settings = {
        "lr": 1e-2, "lr_factors": {}, "weight_decay": 0.3, "no_decay_norm": False, "optimizer": "adamw",
        "amsgrad": False, "momentum": 0.9, "nesterov": False, "beta1": 0.8, "beta2": 0.95, "eps": 1e-7,
        "bias_correction": False, "ema_decay": 0.0,
    }  # fmt: skip
    return SimpleNamespace(**(settings | changes))


def test_the_train_section_becomes_an_optimiser() -> None:
    plain = optimizer_from_config(_Network(), _train())
    assert type(plain) is AdamW and plain.betas == (0.8, 0.95) and plain.eps == 1e-7 and not plain.bias_correction
    assert plain.groups_by_name == {"tower": (1e-2 * 0.1, 0.3), "head": (1e-2, 0.3)}
    assert not plain.buffers and not plain.amsgrad
    named = optimizer_from_config(_Network(), _train(lr_factors={"tower": 0.5, "head": 2, "frozen": 3}))
    assert named.groups_by_name == {"tower": (5e-3, 0.3), "head": (2e-2, 0.3)}
    spared = optimizer_from_config(_Network(), _train(no_decay_norm=True))
    assert spared.groups_by_name["head (no decay)"] == (1e-2, 0.0) and spared.groups_by_name["head"] == (1e-2, 0.3)
    assert {p.name for p, d in zip(spared.parameters, spared.decays, strict=True) if d} == {
        "tower.weight", "head.weight",
    }  # fmt: skip
    adam = optimizer_from_config(_Network(), _train(optimizer="adam", amsgrad=True))
    assert type(adam) is Adam and adam.amsgrad
    sgd = optimizer_from_config(_Network(), _train(optimizer="sgd", nesterov=True))
    assert isinstance(sgd, SGD) and sgd.nesterov and float(sgd.momentum.asnumpy()) == np.float32(0.9)
    rmsprop = optimizer_from_config(_Network(), _train(optimizer="rmsprop", momentum=0.0))
    assert isinstance(rmsprop, RMSProp) and not rmsprop.moves
    assert [float(value.asnumpy()) for value in (rmsprop.alpha, rmsprop.eps)] == [np.float32(0.95), np.float32(1e-7)]
    averaged = optimizer_from_config(_Network(), _train(ema_decay=0.9))
    assert [b.name for b in averaged.buffers] == ["norm.moving_mean", "norm.moving_variance"]


def test_the_rate_follows_the_samples_of_a_step() -> None:
    from dataclasses import dataclass

    @dataclass
    class Section:
        lr: float = 1e-3
        lr_reference_batch: int = 0

    section = Section()
    assert scaled_rate(section, 64) == (section, 1.0)
    section.lr_reference_batch = 320
    rated, factor = scaled_rate(section, 64)
    assert factor == 0.2 and rated.lr == pytest.approx(2e-4) and section.lr == 1e-3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr_factors": {"haed": 1.0}}, "'haed'.*tower, head, frozen"),
        ({"lr_factors": {"head": -1.0}}, r"lr_factors\[head\]=-1"),
        ({"optimizer": "lion"}, "'lion'.*adamw, adam, sgd, rmsprop"),
        ({"optimizer": "sgd", "amsgrad": True}, "amsgrad.*adam"),
        ({"optimizer": "rmsprop", "amsgrad": True}, "amsgrad.*adam"),
        ({"optimizer": "rmsprop", "nesterov": True}, "nesterov.*sgd"),
        ({"optimizer": "rmsprop", "momentum": 1.0}, "momentum=1.0"),
        ({"nesterov": True}, "nesterov.*sgd"),
        ({"optimizer": "sgd", "nesterov": True, "momentum": 0.0}, "needs momentum"),
        ({"optimizer": "sgd", "momentum": 1.0}, "momentum=1.0"),
        ({"ema_decay": 1.0}, "ema_decay=1.0"),
    ],
)
def test_what_cannot_act_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        optimizer_from_config(_Network(), _train(**changes))


def test_momentum_is_refused_where_it_has_no_place() -> None:
    with pytest.raises(ConfigError, match="beta1"):
        build_optimizer(_groups(_parameters(np.random.default_rng(0))), kind="adam", momentum=0.9)


def test_every_trainable_parameter_needs_a_group() -> None:
    class Forgetful(_Network):
        def parameter_groups(self) -> list[SimpleNamespace]:
            return super().parameter_groups()[:1]

    with pytest.raises(ConfigError, match=r"head\.weight"):
        groups_from_config(Forgetful(), _train())


def test_a_parameter_in_two_groups_is_refused() -> None:
    parameters = _parameters(np.random.default_rng(0))
    with pytest.raises(ConfigError, match="once"):
        build_optimizer([*_groups(parameters), OptimizerGroup("c", (parameters[0],), 1.0, 0.0)])
