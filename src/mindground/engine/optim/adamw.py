"""AdamW and Adam as PyTorch computes them, and AdamW as MindSpore's AdamWeightDecay does, on fused kernels.

m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2;  p = p (1 - lr wd) - lr m' / (sqrt(v') + eps)
with m' = m/(1-b1^t), v' = v/(1-b2^t) when the bias is corrected and m' = m, v' = v when it is not (VG-LAW's upstream).
Adam adds wd p to g instead of shrinking p. AMSGrad puts the largest v so far in the place of v (SeqTR's upstream).
The Adam kernels leave eps outside the correction, so they are given eps sqrt(1-b2^t); the result is the same formula.

On CPUs small parameters take the AdamWeightDecay kernel, p = p - lr (m / (sqrt(v) + eps) + wd p), which knows no
correction: lr sqrt(1-b2^t) / (1-b1^t), eps sqrt(1-b2^t) and wd (1-b1^t) / sqrt(1-b2^t) make it the same formula
again. It runs on one thread, at a third of Adam's speed on large tensors, but it is one kernel instead of three that
split their work: on a busy machine the update of a small network is several times faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import mindspore as ms
import numpy as np
from mindspore import ops

from mindground.engine.optim.base import Optimizer, OptimizerGroup, zeros_like
from mindground.runtime.device import fast_cpu_kernels

__all__ = ["Adam", "AdamW"]

_update_one = ops.MultitypeFuncGraph("update_one")
_amsgrad_one = ops.MultitypeFuncGraph("amsgrad_one")
# Parameters below this size are updated by one kernel on one thread.
_FUSED_BELOW = 1 << 18


@_update_one.register("Function", "Function", "Number", "Bool", "Bool", "Tuple", "Tensor", "Tensor", "Tensor", "Tensor")
def _decay_and_step(
    adam: ops.Primitive,
    fused: ops.Primitive,
    fused_below: int,
    decays: bool,
    decoupled: bool,
    scalars: tuple[ms.Tensor | None, ...],
    parameter: ms.Parameter,
    first: ms.Parameter,
    second: ms.Parameter,
    gradient: ms.Tensor,
) -> ms.Tensor:
    scale, power1, power2, beta1, beta2, eps, rate, decay, fused_rate, fused_decay = scalars
    gradient = ops.cast(gradient, ms.float32)
    if scale is not None:
        gradient = gradient * scale
    if decays and not decoupled:
        gradient = gradient + parameter * decay
    if parameter.size < fused_below:
        fused(parameter, first, second, fused_rate, beta1, beta2, eps, fused_decay, gradient)
    else:
        if decays and decoupled:
            ops.assign(parameter, parameter * decay)
        adam(parameter, first, second, power1, power2, rate, beta1, beta2, eps, gradient)
    return rate


@_amsgrad_one.register("Function", "Bool", "Bool", "Tuple", "Tensor", "Tensor", "Tensor", "Tensor", "Tensor")
def _decay_and_step_by_the_largest(
    kernel: ops.Primitive,
    decays: bool,
    decoupled: bool,
    scalars: tuple[ms.Tensor | None, ...],
    parameter: ms.Parameter,
    first: ms.Parameter,
    second: ms.Parameter,
    largest: ms.Parameter,
    gradient: ms.Tensor,
) -> ms.Tensor:
    scale, power1, power2, beta1, beta2, eps, rate, decay, _, _ = scalars
    gradient = ops.cast(gradient, ms.float32)
    if scale is not None:
        gradient = gradient * scale
    if decays:
        if decoupled:
            ops.assign(parameter, parameter * decay)
        else:
            gradient = gradient + parameter * decay
    kernel(parameter, first, second, largest, power1, power2, rate, beta1, beta2, eps, gradient)
    return rate


class AdamW(Optimizer):
    """Decoupled weight decay with a rate and a decay for every group.

    Args:
        groups: what is trained; each parameter once.
        betas: decay rates of the two moments.
        eps: added to the root of the second moment.
        bias_correction: as in PyTorch; False as in MindSpore's AdamWeightDecay.
        ema_decay: above 0, an exponential average of the parameters is kept as well.
        amsgrad: divide by the root of the largest second moment so far.
        buffers: state without gradient that the average covers too.
    """

    decoupled: ClassVar[bool] = True

    def __init__(
        self,
        groups: Sequence[OptimizerGroup],
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        bias_correction: bool = True,
        ema_decay: float = 0.0,
        *,
        amsgrad: bool = False,
        buffers: Sequence[ms.Parameter] = (),
    ) -> None:
        super().__init__(groups, ema_decay=ema_decay, buffers=buffers)
        self.betas, self.eps, self.bias_correction = (float(betas[0]), float(betas[1])), float(eps), bias_correction
        self.amsgrad = bool(amsgrad)
        self.first = zeros_like(self.parameters, "m")
        self.second = zeros_like(self.parameters, "v")
        self.largest = zeros_like(self.parameters if amsgrad else (), "vmax")
        self.adam = ops.ApplyAdamWithAmsgradV2() if amsgrad else ops.Adam()
        self.fused = ops.AdamWeightDecay()
        self.fused_below = _FUSED_BELOW if fast_cpu_kernels() else 0
        self.beta1 = ms.Tensor(self.betas[0], ms.float32)
        self.beta2 = ms.Tensor(self.betas[1], ms.float32)

    def construct(
        self, scalars: tuple[ms.Tensor, ...], gradients: tuple[ms.Tensor, ...], scaled: bool = True
    ) -> ms.Tensor:
        """One update. `scalars` come from `host_scalars`; returns the learning-rate factor.

        Everything that changes from step to step is a Tensor, so the graph is compiled once.

        Args:
            scaled: False leaves the gradients as they are, for a caller who has applied the scale already.
        """
        factor, scale, power1, power2, eps, ema = scalars[:6]
        common = (scale if scaled else None, power1, power2, self.beta1, self.beta2, eps)
        for index in range(len(self.spans)):
            start, end, _, decay = self.spans[index]
            own = scalars[6 + 4 * index : 10 + 4 * index]
            if self.amsgrad:
                self.map(
                    ops.partial(_amsgrad_one, self.adam, decay > 0, self.decoupled, common + own),
                    self.parameters[start:end], self.first[start:end], self.second[start:end],
                    self.largest[start:end], gradients[start:end],
                )  # fmt: skip
            else:
                self.map(
                    ops.partial(
                        _update_one, self.adam, self.fused, self.fused_below, decay > 0, self.decoupled, common + own
                    ),
                    self.parameters[start:end], self.first[start:end], self.second[start:end], gradients[start:end],
                )  # fmt: skip
        self.follow(ema)
        return factor

    def scalar_values(self, factor: float, scale: float) -> list[float]:
        """Six common numbers, four per group: rate, factor or coefficient of the decay, and both for the fused form."""
        power1 = power2 = 0.0
        if self.bias_correction:
            power1, power2 = self.betas[0] ** (self.updates + 1), self.betas[1] ** (self.updates + 1)
        root = float(np.sqrt(1.0 - power2))
        correction = root / (1.0 - power1)
        values = [factor, scale, power1, power2, self.eps * root, self.ema_factor]
        for _, _, lr, decay in self.spans:
            rate = factor * lr
            if self.decoupled:
                values += [rate, 1.0 - rate * decay, rate * correction, decay / correction]
            else:
                values += [rate, decay, rate * correction, 0.0]
        return values

    def moments(self) -> dict[str, Sequence[ms.Parameter]]:
        """`m`, `v`, and `vmax` where the largest second moment is kept."""
        moments = {"m": self.first, "v": self.second}
        return {**moments, "vmax": self.largest} if self.amsgrad else moments


class Adam(AdamW):
    """Adam with the weight decay inside the gradient (L2), as torch.optim.Adam; arguments as `AdamW`."""

    decoupled: ClassVar[bool] = False
