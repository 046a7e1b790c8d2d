"""RMSProp as PyTorch computes it.

g = g + wd p;  v = a v + (1-a) g^2;  b = mu b + g / (sqrt(v) + eps);  p = p - lr b
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mindspore as ms
from mindspore import ops

from mindground.engine.optim.base import Optimizer, OptimizerGroup, zeros_like
from mindground.errors import ConfigError

__all__ = ["RMSProp"]

_plain_one = ops.MultitypeFuncGraph("rmsprop_plain_one")
_moving_one = ops.MultitypeFuncGraph("rmsprop_moving_one")


@_plain_one.register("Tuple", "Tensor", "Tensor", "Tensor")
def _step_plainly(
    scalars: tuple[ms.Tensor | None, ...], parameter: ms.Parameter, second: ms.Parameter, gradient: ms.Tensor
) -> ms.Tensor:
    return ops.assign(parameter, parameter - _divided(scalars, parameter, second, gradient) * scalars[1])


@_moving_one.register("Tensor", "Tuple", "Tensor", "Tensor", "Tensor", "Tensor")
def _step_with_momentum(
    momentum: ms.Tensor,
    scalars: tuple[ms.Tensor | None, ...],
    parameter: ms.Parameter,
    velocity: ms.Parameter,
    second: ms.Parameter,
    gradient: ms.Tensor,
) -> ms.Tensor:
    moved = velocity * momentum + _divided(scalars, parameter, second, gradient)
    ops.assign(velocity, moved)
    return ops.assign(parameter, parameter - moved * scalars[1])


def _divided(scalars: tuple[Any, ...], parameter: ms.Parameter, second: ms.Parameter, gradient: ms.Tensor) -> ms.Tensor:
    """Gradient over the root of its mean square, which is moved on."""
    scale, _, decay, alpha, eps = scalars
    gradient = ops.cast(gradient, ms.float32)
    if scale is not None:
        gradient = gradient * scale
    if decay is not None:
        gradient = gradient + parameter * decay
    square = second * alpha + ops.square(gradient) * (1.0 - alpha)
    ops.assign(second, square)
    return gradient / (ops.sqrt(square) + eps)


class RMSProp(Optimizer):
    """Gradients over the root of their mean square, with momentum where `momentum` is above 0.

    Args:
        groups: what is trained; each parameter once.
        alpha: decay rate of the mean square.
        eps: added to its root.
        momentum: share of the last movement that is kept.
        ema_decay, buffers: as in `Optimizer`.

    Raises:
        ConfigError: a momentum outside [0, 1).
    """

    def __init__(
        self,
        groups: Sequence[OptimizerGroup],
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        *,
        ema_decay: float = 0.0,
        buffers: Sequence[ms.Parameter] = (),
    ) -> None:
        super().__init__(groups, ema_decay=ema_decay, buffers=buffers)
        if not 0.0 <= momentum < 1.0:
            raise ConfigError(f"train.momentum={momentum}: choose a value from 0 up to, not including, 1")
        self.moves = momentum > 0
        self.second = zeros_like(self.parameters, "v")
        self.velocity = zeros_like(self.parameters if self.moves else (), "momentum")
        self.alpha, self.eps = ms.Tensor(float(alpha), ms.float32), ms.Tensor(float(eps), ms.float32)
        self.momentum = ms.Tensor(float(momentum), ms.float32)

    def construct(
        self, scalars: tuple[ms.Tensor, ...], gradients: tuple[ms.Tensor, ...], scaled: bool = True
    ) -> ms.Tensor:
        """One update. `scalars` come from `host_scalars`; returns the learning-rate factor.

        Args:
            scaled: False leaves the gradients as they are, for a caller who has applied the scale already.
        """
        factor, scale, ema = scalars[:3]
        for index in range(len(self.spans)):
            start, end, _, decay = self.spans[index]
            rate, shrink = scalars[3 + 2 * index : 5 + 2 * index]
            own = (scale if scaled else None, rate, shrink if decay > 0 else None, self.alpha, self.eps)
            if self.moves:
                self.map(
                    ops.partial(_moving_one, self.momentum, own),
                    self.parameters[start:end], self.velocity[start:end], self.second[start:end], gradients[start:end],
                )  # fmt: skip
            else:
                self.map(
                    ops.partial(_plain_one, own),
                    self.parameters[start:end], self.second[start:end], gradients[start:end],
                )  # fmt: skip
        self.follow(ema)
        return factor

    def scalar_values(self, factor: float, scale: float) -> list[float]:
        """Three common numbers, two per group."""
        values = [factor, scale, self.ema_factor]
        for _, _, lr, decay in self.spans:
            values += [factor * lr, decay]
        return values

    def moments(self) -> dict[str, Sequence[ms.Parameter]]:
        """`v`: mean squares; `momentum`: the last movement, where there is momentum."""
        return {"v": self.second, **({"momentum": self.velocity} if self.moves else {})}
