"""The optimiser that a configuration asks for, over the groups that a model names."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import mindspore as ms
from mindspore import nn

from mindground.engine.optim.adamw import Adam, AdamW
from mindground.engine.optim.base import Optimizer, OptimizerGroup
from mindground.engine.optim.rmsprop import RMSProp
from mindground.engine.optim.sgd import SGD
from mindground.errors import ConfigError
from mindground.nn.batch_norm import buffers as buffers_of

_LOG = logging.getLogger("mindground")

__all__ = ["OPTIMIZERS", "build_optimizer", "groups_from_config", "optimizer_from_config", "scaled_rate"]

OPTIMIZERS = ("adamw", "adam", "sgd", "rmsprop")
# Those that move on with a share of the last movement.
_MOVING = ("sgd", "rmsprop")


def build_optimizer(
    groups: Sequence[OptimizerGroup],
    *,
    kind: str = "adamw",
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    momentum: float = 0.0,
    nesterov: bool = False,
    amsgrad: bool = False,
    bias_correction: bool = True,
    ema_decay: float = 0.0,
    buffers: Sequence[ms.Parameter] = (),
) -> Optimizer:
    """An optimiser by its name.

    Args:
        groups: what is trained; each parameter once.
        kind: adamw (decoupled decay), adam (decay inside the gradient), sgd or rmsprop.
        betas, eps, amsgrad, bias_correction: of adamw and adam; rmsprop takes the second of `betas`, and `eps`.
        momentum: of sgd and rmsprop.
        nesterov: of sgd.
        ema_decay: above 0, averages of parameters and `buffers` are kept.
        buffers: state without gradient (BatchNorm statistics).

    Raises:
        ConfigError: an unknown name, or a switch that this optimiser does not have.
    """
    if amsgrad and kind in _MOVING:
        raise ConfigError(f"train.amsgrad=true belongs to adam and adamw; leave it out with train.optimizer={kind}")
    if kind == "sgd":
        return SGD(groups, momentum, nesterov, ema_decay=ema_decay, buffers=buffers)
    if kind not in OPTIMIZERS:
        raise ConfigError(f"train.optimizer={kind!r} is unknown; choose one of {', '.join(OPTIMIZERS)}")
    if nesterov:
        raise ConfigError(f"train.nesterov=true belongs to sgd; leave it out with train.optimizer={kind}")
    if kind == "rmsprop":
        return RMSProp(groups, betas[1], eps, momentum, ema_decay=ema_decay, buffers=buffers)
    if momentum:
        raise ConfigError(
            f"train.momentum={momentum:g} belongs to sgd and rmsprop; with train.optimizer={kind} it is train.beta1 "
            "that says how much of the last movement is kept"
        )
    maker = AdamW if kind == "adamw" else Adam
    return maker(groups, betas, eps, bias_correction, ema_decay, amsgrad=amsgrad, buffers=buffers)


def optimizer_from_config(model: nn.Cell, train: Any) -> Optimizer:
    """The optimiser of the `train` section over the groups of a model.

    Args:
        model: `parameter_groups()` gives objects with `name`, `parameters` and, where the family has its own,
            `weight_decay` (None: `train.weight_decay`) and `lr_factor` (1.0 where it has none).
        train: the `train` section.

    Raises:
        ConfigError: what `build_optimizer` and `groups_from_config` refuse.
    """
    return build_optimizer(
        groups_from_config(model, train),
        kind=train.optimizer,
        betas=(train.beta1, train.beta2),
        eps=train.eps,
        # A default that these two read; the others have no such number.
        momentum=train.momentum if train.optimizer in _MOVING else 0.0,
        nesterov=train.nesterov,
        amsgrad=train.amsgrad,
        bias_correction=train.bias_correction,
        ema_decay=train.ema_decay,
        buffers=tuple(buffers_of(model).values()) if train.ema_decay > 0 else (),
    )


def groups_from_config(model: nn.Cell, train: Any) -> list[OptimizerGroup]:
    """Groups with the rates and decays of the `train` section.

    A group's rate is `train.lr` times `train.lr_factors[name]`, or times the family's own factor.

    Raises:
        ConfigError: a factor for a group that the model does not have, or below 0; a trainable parameter in no group.
    """
    named = list(model.parameter_groups())
    factors = dict(train.lr_factors or {})
    unknown = [name for name in factors if name not in {group.name for group in named}]
    if unknown:
        raise ConfigError(
            f"train.lr_factors names {unknown[0]!r}, which is no group of {type(model).__name__}; its groups are "
            f"{', '.join(group.name for group in named)}"
        )
    groups = []
    for group in named:
        factor = float(factors.get(group.name, getattr(group, "lr_factor", 1.0)))
        if factor < 0:
            raise ConfigError(f"train.lr_factors[{group.name}]={factor:g}: a factor is 0 (does not learn) or above")
        own = getattr(group, "weight_decay", None)
        decay = float(train.weight_decay if own is None else own)
        if group.parameters:
            groups.append(OptimizerGroup(group.name, tuple(group.parameters), train.lr * factor, decay))
    if train.no_decay_norm:
        groups = [part for group in groups for part in _without_decay_on_vectors(group)]
    covered = {id(parameter) for group in groups for parameter in group.parameters}
    missing = [name for name, p in model.parameters_and_names() if p.requires_grad and id(p) not in covered]
    if missing:
        raise ConfigError(
            f"{len(missing)} trainable parameters stand in no group, first {missing[0]!r}; "
            f"give {type(model).__name__}.parameter_groups a place for them or freeze them"
        )
    return groups


def scaled_rate(train: Any, samples: int) -> tuple[Any, float]:
    """The `train` section with a rate for steps of `samples` samples, and the factor between the two.

    Linear in the samples, as `train.lr_reference_batch` asks, and said; the section itself is returned where that is 0.
    """
    if not train.lr_reference_batch:
        return train, 1.0
    factor = samples / train.lr_reference_batch
    if factor != 1.0:
        _LOG.info(
            "learning rates times %g: a step has %d samples, and the rates are those of %d "
            "(train.lr_reference_batch; 0 takes the rates as they are)",
            factor,
            samples,
            train.lr_reference_batch,
        )
    return replace(train, lr=train.lr * factor), factor


def _without_decay_on_vectors(group: OptimizerGroup) -> list[OptimizerGroup]:
    """Norms and biases, which are the parameters with one axis, go to a group that does not decay."""
    tall = tuple(p for p in group.parameters if p.ndim > 1)
    flat = tuple(p for p in group.parameters if p.ndim <= 1)
    parts = []
    if tall:
        parts.append(OptimizerGroup(group.name, tall, group.lr, group.weight_decay))
    if flat:
        parts.append(OptimizerGroup(f"{group.name} (no decay)", flat, group.lr, 0.0))
    return parts
