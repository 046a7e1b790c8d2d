"""Stochastic gradient descent as PyTorch computes it.

g = g + wd p;  b = mu b + g;  p = p - lr (g + mu b) with Nesterov's momentum, p - lr b without.
"""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import ops

from mindground.engine.optim.base import Optimizer, OptimizerGroup, zeros_like
from mindground.errors import ConfigError

__all__ = ["SGD"]

_plain_one = ops.MultitypeFuncGraph("plain_one")
_momentum_one = ops.MultitypeFuncGraph("momentum_one")


@_plain_one.register("Tuple", "Tensor", "Tensor")
def _step_plainly(scalars: tuple[ms.Tensor | None, ...], parameter: ms.Parameter, gradient: ms.Tensor) -> ms.Tensor:
    scale, rate, decay = scalars
    gradient = _regularised(scale, decay, parameter, gradient)
    return ops.assign(parameter, parameter - gradient * rate)


# MindSpore's ApplyMomentum leaves Nesterov's term out on CPUs, so the formula is written out.
@_momentum_one.register("Bool", "Tensor", "Tuple", "Tensor", "Tensor", "Tensor")
def _step_with_momentum(
    nesterov: bool,
    momentum: ms.Tensor,
    scalars: tuple[ms.Tensor | None, ...],
    parameter: ms.Parameter,
    velocity: ms.Parameter,
    gradient: ms.Tensor,
) -> ms.Tensor:
    scale, rate, decay = scalars
    gradient = _regularised(scale, decay, parameter, gradient)
    moved = velocity * momentum + gradient
    ops.assign(velocity, moved)
    if nesterov:
        moved = gradient + moved * momentum
    return ops.assign(parameter, parameter - moved * rate)


def _regularised(
    scale: ms.Tensor | None, decay: ms.Tensor | None, parameter: ms.Parameter, gradient: ms.Tensor
) -> ms.Tensor:
    gradient = ops.cast(gradient, ms.float32)
    if scale is not None:
        gradient = gradient * scale
    if decay is not None:
        gradient = gradient + parameter * decay
    return gradient


class SGD(Optimizer):
    """Gradient descent, with momentum where `momentum` is above 0.

    Args:
        groups: what is trained; each parameter once.
        momentum: share of the last movement that is kept; 0 keeps no second copy of the weights.
        nesterov: look ahead along the movement.
        ema_decay, buffers: as in `Optimizer`.

    Raises:
        ConfigError: `nesterov` without momentum, or a momentum outside [0, 1).
    """

    def __init__(
        self,
        groups: Sequence[OptimizerGroup],
        momentum: float = 0.0,
        nesterov: bool = False,
        *,
        ema_decay: float = 0.0,
        buffers: Sequence[ms.Parameter] = (),
    ) -> None:
        super().__init__(groups, ema_decay=ema_decay, buffers=buffers)
        if not 0.0 <= momentum < 1.0:
            raise ConfigError(f"train.momentum={momentum}: choose a value from 0 up to, not including, 1")
        if nesterov and momentum == 0:
            raise ConfigError("train.nesterov=true needs momentum; set train.momentum (0.9 is usual)")
        self.moves, self.nesterov = momentum > 0, bool(nesterov)
        self.velocity = zeros_like(self.parameters if self.moves else (), "momentum")
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
            own = (scale if scaled else None, rate, shrink if decay > 0 else None)
            if self.moves:
                self.map(
                    ops.partial(_momentum_one, self.nesterov, self.momentum, own),
                    self.parameters[start:end], self.velocity[start:end], gradients[start:end],
                )  # fmt: skip
            else:
                self.map(ops.partial(_plain_one, own), self.parameters[start:end], gradients[start:end])
        self.follow(ema)
        return factor

    def scalar_values(self, factor: float, scale: float) -> list[float]:
        """Three common numbers, two per group."""
        values = [factor, scale, self.ema_factor]
        for _, _, lr, decay in self.spans:
            values += [factor * lr, decay]
        return values

    def moments(self) -> dict[str, Sequence[ms.Parameter]]:
        """`momentum`: the last movement, where there is momentum."""
        return {"momentum": self.velocity} if self.moves else {}
