"""AdamW as PyTorch computes it, and as MindSpore's AdamWeightDecay does, on fused kernels.

m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2;  p = p (1 - lr wd) - lr m' / (sqrt(v') + eps)
with m' = m/(1-b1^t), v' = v/(1-b2^t) when the bias is corrected and m' = m, v' = v when it is not (VG-LAW's upstream).
The Adam kernel leaves eps outside the correction, so eps sqrt(1-b2^t) is handed to it; the result is the same formula.

On CPUs small parameters take the AdamWeightDecay kernel, p = p - lr (m / (sqrt(v) + eps) + wd p), which knows no
correction: lr sqrt(1-b2^t) / (1-b1^t), eps sqrt(1-b2^t) and wd (1-b1^t) / sqrt(1-b2^t) make it the same formula
again. It runs on one thread, at a third of Adam's speed on large tensors, but it is one kernel instead of three that
split their work: on a busy machine the update of a small network is several times faster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindground.errors import CheckpointError, ConfigError
from mindground.models.base import GroundingModel, ParameterGroup
from mindground.runtime.device import fast_cpu_kernels

__all__ = ["AdamW", "build_optimizer", "clip_factor", "scaled_rates", "sum_of_squares"]

# A loop over hundreds of parameters nests that many calls when it is compiled and passes MindSpore's limit of 1000;
# these are mapped instead.
_update_one = ops.MultitypeFuncGraph("update_one")
_average_one = ops.MultitypeFuncGraph("average_one")
_square_one = ops.MultitypeFuncGraph("square_one")
_squares = ops.HyperMap()
# Below this size a plain reduction costs nothing.
_LARGE = 1 << 16
# Length of the rows that joined small gradients are summed in; one long row would lose digits.
_ROW = 256
# Parameters below this size are updated by one kernel on one thread.
_FUSED_BELOW = 1 << 18


@_update_one.register("Function", "Function", "Number", "Bool", "Tuple", "Tensor", "Tensor", "Tensor", "Tensor")
def _decay_and_step(
    adam: ops.Primitive,
    fused: ops.Primitive,
    fused_below: int,
    decays: bool,
    scalars: tuple[ms.Tensor | None, ...],
    parameter: ms.Parameter,
    first: ms.Parameter,
    second: ms.Parameter,
    gradient: ms.Tensor,
) -> ms.Tensor:
    scale, power1, power2, beta1, beta2, eps, rate, keep, fused_rate, fused_decay = scalars
    gradient = ops.cast(gradient, ms.float32)
    if scale is not None:
        gradient = gradient * scale
    if parameter.size < fused_below:
        fused(parameter, first, second, fused_rate, beta1, beta2, eps, fused_decay, gradient)
    else:
        if decays:
            ops.assign(parameter, parameter * keep)
        adam(parameter, first, second, power1, power2, rate, beta1, beta2, eps, gradient)
    return rate


@_average_one.register("Tensor", "Tensor", "Tensor")
def _towards(ema: ms.Tensor, average: ms.Parameter, parameter: ms.Parameter) -> ms.Tensor:
    return ops.assign(average, average * ema + parameter * (1.0 - ema))


@_square_one.register("Tensor")
def _values_of_equal_norm(gradient: ms.Tensor) -> ms.Tensor:
    """A small gradient as one row; of a large one its norm alone."""
    gradient = ops.cast(gradient, ms.float32)
    if gradient.ndim <= 1 or gradient.size < _LARGE:
        return gradient.reshape(-1)
    return ops.sqrt(_sum_of_rows(ops.square(gradient).reshape(gradient.shape[0], -1))).reshape(1)


def _sum_of_rows(values: ms.Tensor) -> ms.Tensor:
    return ops.matmul(values, ops.ones((values.shape[1], 1), ms.float32)).sum()


class AdamW(nn.Cell):
    """Decoupled weight decay with a rate and a decay for every group.

    Args:
        groups: what is trained; each parameter once.
        betas: decay rates of the two moments.
        eps: added to the root of the second moment.
        bias_correction: as in PyTorch; False as in MindSpore's AdamWeightDecay.
        ema_decay: above 0, an exponential average of the parameters is kept as well.
    """

    def __init__(
        self,
        groups: Sequence[ParameterGroup],
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        bias_correction: bool = True,
        ema_decay: float = 0.0,
    ) -> None:
        super().__init__(auto_prefix=False)
        trained = [parameter for group in groups for parameter in group.parameters]
        if not trained or len({id(parameter) for parameter in trained}) != len(trained):
            raise ConfigError("parameter groups must name every trained parameter once; one is empty or repeats")
        self.groups_by_name = {group.name: (group.lr, group.weight_decay) for group in groups}
        self.rates = tuple(float(group.lr) for group in groups for _ in group.parameters)
        self.decays = tuple(float(group.weight_decay) for group in groups for _ in group.parameters)
        # (first parameter, one past the last, rate, decay) of every group.
        ends = np.cumsum([len(group.parameters) for group in groups])
        self.spans = tuple(
            (int(end) - len(group.parameters), int(end), float(group.lr), float(group.weight_decay))
            for group, end in zip(groups, ends, strict=True)
        )
        self.betas, self.eps, self.bias_correction = (float(betas[0]), float(betas[1])), float(eps), bias_correction
        self.ema_decay = float(ema_decay)
        self.parameters = ms.ParameterTuple(trained)
        self.first = ms.ParameterTuple(_zeros_like(p, f"optimizer.{i}.m") for i, p in enumerate(trained))
        self.second = ms.ParameterTuple(_zeros_like(p, f"optimizer.{i}.v") for i, p in enumerate(trained))
        self.average = ms.ParameterTuple(
            [_copy_of(p, f"optimizer.{i}.ema") for i, p in enumerate(trained)] if ema_decay > 0 else []
        )
        self.adam = ops.Adam()
        self.fused = ops.AdamWeightDecay()
        self.fused_below = _FUSED_BELOW if fast_cpu_kernels() else 0
        self.map = ops.HyperMap()
        self.beta1 = ms.Tensor(self.betas[0], ms.float32)
        self.beta2 = ms.Tensor(self.betas[1], ms.float32)
        self.updates = 0

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
            self.map(
                ops.partial(_update_one, self.adam, self.fused, self.fused_below, decay > 0, common + own),
                self.parameters[start:end], self.first[start:end], self.second[start:end], gradients[start:end],
            )  # fmt: skip
        if self.ema_decay > 0:
            self.map(ops.partial(_average_one, ema), self.average, self.parameters)
        return factor

    def host_scalars(self, factor: float, scale: float) -> tuple[ms.Tensor, ...]:
        """Inputs of `construct` for the update after `self.updates` earlier ones: six common ones, four per group."""
        power1 = power2 = 0.0
        if self.bias_correction:
            power1, power2 = self.betas[0] ** (self.updates + 1), self.betas[1] ** (self.updates + 1)
        ema = min(self.ema_decay, (self.updates + 1) / (self.updates + 10))
        root = float(np.sqrt(1.0 - power2))
        correction = root / (1.0 - power1)
        values = [factor, scale, power1, power2, self.eps * root, ema]
        for _, _, lr, decay in self.spans:
            rate = factor * lr
            values += [rate, 1.0 - rate * decay, rate * correction, decay / correction]
        return tuple(ms.Tensor(value, ms.float32) for value in values)

    def state(self, names: Mapping[int, str]) -> dict[str, np.ndarray]:
        """Moments and average as `m/<name>`, `v/<name>`, `ema/<name>`; `names` maps id(parameter) to its name."""
        arrays: dict[str, np.ndarray] = {}
        for kind, tensors in (("m", self.first), ("v", self.second), ("ema", self.average)):
            for parameter, tensor in zip(self.parameters if tensors else (), tensors, strict=True):
                arrays[f"{kind}/{names[id(parameter)]}"] = tensor.asnumpy()
        return arrays

    def load_state(self, arrays: Mapping[str, np.ndarray], names: Mapping[int, str], updates: int) -> None:
        """Take back what `state` gave. Raises CheckpointError when an entry is missing or has another shape."""
        for kind, tensors in (("m", self.first), ("v", self.second), ("ema", self.average)):
            for parameter, tensor in zip(self.parameters if tensors else (), tensors, strict=True):
                key = f"{kind}/{names[id(parameter)]}"
                if key not in arrays or tuple(arrays[key].shape) != tuple(tensor.shape):
                    raise CheckpointError(
                        f"the checkpoint has no optimiser entry {key!r} of shape {tuple(tensor.shape)}; "
                        "it belongs to another model or setting: start anew or name the right one"
                    )
                tensor.set_data(ms.Tensor(np.array(arrays[key], np.float32)))
        self.updates = int(updates)


def _zeros_like(parameter: ms.Parameter, name: str) -> ms.Parameter:
    return ms.Parameter(ms.Tensor(np.zeros(parameter.shape, np.float32)), name=name, requires_grad=False)


def _copy_of(parameter: ms.Parameter, name: str) -> ms.Parameter:
    return ms.Parameter(ms.Tensor(parameter.asnumpy().astype(np.float32)), name=name, requires_grad=False)


def build_optimizer(model: GroundingModel, train: Any) -> AdamW:
    """AdamW over the model's own groups.

    Raises:
        ConfigError: the groups do not cover every trainable parameter exactly once.
    """
    groups = [group for group in model.parameter_groups(train) if group.parameters]
    if train.no_decay_norm:
        groups = [part for group in groups for part in _without_decay_on_vectors(group)]
    covered = {id(parameter) for group in groups for parameter in group.parameters}
    missing = [name for name, p in model.parameters_and_names() if p.requires_grad and id(p) not in covered]
    if missing:
        raise ConfigError(
            f"{len(missing)} trainable parameters stand in no group, first {missing[0]!r}; "
            f"give {type(model).__name__}.parameter_groups a place for them or freeze them"
        )
    return AdamW(groups, (train.beta1, train.beta2), train.eps, train.bias_correction, train.ema_decay)


def scaled_rates(train: Any, rows: int) -> tuple[Any, float]:
    """The `train` section with rates for steps of `rows` rows, and the factor between the two.

    Linear in the rows, as `train.lr_reference_batch` asks; the section itself is returned where that is 0.
    """
    if not train.lr_reference_batch:
        return train, 1.0
    factor = rows / train.lr_reference_batch
    rates = {name: getattr(train, name) * factor for name in ("lr_base", "lr_visual", "lr_lang")}
    return replace(train, **rates), factor


def _without_decay_on_vectors(group: ParameterGroup) -> list[ParameterGroup]:
    """Norms and biases, which are the parameters with one axis, go to a group that does not decay."""
    tall = tuple(p for p in group.parameters if p.ndim > 1)
    flat = tuple(p for p in group.parameters if p.ndim <= 1)
    parts = []
    if tall:
        parts.append(ParameterGroup(group.name, tall, group.lr, group.weight_decay))
    if flat:
        parts.append(ParameterGroup(f"{group.name} (no decay)", flat, group.lr, 0.0))
    return parts


def clip_factor(norm: float, limit: float, upstream: bool = False) -> float:
    """Factor on all gradients so that their global norm is at most `limit` (0 = do not clip).

    PyTorch adds 1e-6 to the norm; VG-LAW's upstream divides by max(norm, limit).
    """
    if limit <= 0:
        return 1.0
    return limit / max(norm, limit) if upstream else min(1.0, limit / (norm + 1e-6))


def sum_of_squares(gradients: tuple[ms.Tensor, ...]) -> ms.Tensor:
    """Sum of the squares of all values, float32 scalar; runs inside a graph.

    A wide reduction costs 4 to 6 times a product with a column of ones here, and L2Loss loses four digits. Small
    gradients are joined first, so that hundreds of them cost one kernel each.
    """
    joined = ops.concat(_squares(_square_one, gradients))
    missing = -joined.shape[0] % _ROW
    if missing > 0:
        joined = ops.concat((joined, ops.zeros((missing,), ms.float32)))
    return _sum_of_rows(ops.square(joined).reshape(-1, _ROW))
