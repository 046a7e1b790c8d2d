"""What every optimiser shares: groups, the average of the weights, the numbers of a step, saving and loading."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindground.errors import CheckpointError, ConfigError

__all__ = ["Optimizer", "OptimizerGroup", "zeros_like"]

# A loop over hundreds of parameters nests that many calls when it is compiled and passes MindSpore's limit of 1000;
# these are mapped instead.
_average_one = ops.MultitypeFuncGraph("average_one")


@dataclass(frozen=True)
class OptimizerGroup:
    """Parameters that share a learning rate and a weight decay.

    Attributes:
        name: for logs and messages.
        parameters: each stands in one group only.
        lr: learning rate before the schedule's factor.
        weight_decay: coefficient; what it multiplies is the optimiser's own.
    """

    name: str
    parameters: tuple[ms.Parameter, ...]
    lr: float
    weight_decay: float


@_average_one.register("Tensor", "Tensor", "Tensor")
def _towards(ema: ms.Tensor, average: ms.Parameter, current: ms.Parameter) -> ms.Tensor:
    # The cast leaves float32 as it is. It cuts the average of an integer to an integer, as PyTorch's copy does.
    return ops.assign(average, ops.cast(average * ema + current * (1.0 - ema), average.dtype))


class Optimizer(nn.Cell):
    """Base of all optimisers; `engine.step.TrainStep` works with every subclass.

    A subclass defines `construct(scalars, gradients, scaled)`, `scalar_values` and `moments`. All that changes from
    step to step reaches `construct` as a Tensor, so the update is compiled once.

    Args:
        groups: what is trained; each parameter once.
        ema_decay: above 0, an exponential average of parameters and buffers is kept as well.
        buffers: state without gradient that the average covers too (BatchNorm statistics).

    Attributes:
        parameters: of all groups, in their order; `construct` takes gradients in this order.
        buffers: as given where an average is kept, else empty.
        average, buffer_average: averages of `parameters` and `buffers`; empty where none are kept.
        groups_by_name: name -> (learning rate, weight decay).
        decays: weight decay of every parameter.
        updates: number of updates made so far.

    Raises:
        ConfigError: no parameter, or one that stands in two groups.
    """

    def __init__(
        self, groups: Sequence[OptimizerGroup], *, ema_decay: float = 0.0, buffers: Sequence[ms.Parameter] = ()
    ) -> None:
        super().__init__(auto_prefix=False)
        trained = [parameter for group in groups for parameter in group.parameters]
        if not trained or len({id(parameter) for parameter in trained}) != len(trained):
            raise ConfigError("parameter groups must name every trained parameter once; one is empty or repeats")
        if not 0.0 <= ema_decay < 1.0:
            raise ConfigError(
                f"train.ema_decay={ema_decay}: choose a value from 0 (no average) up to, not including, 1"
            )
        self.groups_by_name = {group.name: (group.lr, group.weight_decay) for group in groups}
        self.decays = tuple(float(group.weight_decay) for group in groups for _ in group.parameters)
        # (first parameter, one past the last, rate, decay) of every group.
        ends = np.cumsum([len(group.parameters) for group in groups])
        self.spans = tuple(
            (int(end) - len(group.parameters), int(end), float(group.lr), float(group.weight_decay))
            for group, end in zip(groups, ends, strict=True)
        )
        self.ema_decay = float(ema_decay)
        self.parameters = ms.ParameterTuple(trained)
        averaged = self.ema_decay > 0
        self.buffers = ms.ParameterTuple(list(buffers) if averaged else [])
        self.average = ms.ParameterTuple(
            [_copy_of(p, f"optimizer.{i}.ema", ms.float32) for i, p in enumerate(trained)] if averaged else []
        )
        self.buffer_average = ms.ParameterTuple(
            [_copy_of(p, f"optimizer.buffer.{i}.ema", p.dtype) for i, p in enumerate(self.buffers)]
        )
        self.map = ops.HyperMap()
        self.updates = 0

    @abstractmethod
    def scalar_values(self, factor: float, scale: float) -> list[float]:
        """Numbers of the update after `self.updates` earlier ones, in the order in which `construct` reads them."""

    @abstractmethod
    def moments(self) -> dict[str, Sequence[ms.Parameter]]:
        """What the optimiser remembers of every parameter: kind -> tensors in the order of `parameters`."""

    @property
    def ema_factor(self) -> float:
        """Weight of the average in the coming update: small at the start, so that it forgets the initial values."""
        return min(self.ema_decay, (self.updates + 1) / (self.updates + 10))

    def follow(self, ema: ms.Tensor) -> None:
        """Move the averages towards the values of now; runs inside `construct`, after the update."""
        if self.ema_decay > 0:
            self.map(ops.partial(_average_one, ema), self.average, self.parameters)
            if len(self.buffer_average) > 0:
                self.map(ops.partial(_average_one, ema), self.buffer_average, self.buffers)

    def host_scalars(self, factor: float, scale: float) -> tuple[ms.Tensor, ...]:
        """Inputs of `construct` for the update after `self.updates` earlier ones.

        Args:
            factor: of the schedule, on every group's rate.
            scale: on the gradients (clipping, loss scale).
        """
        return tuple(ms.Tensor(value, ms.float32) for value in self.scalar_values(factor, scale))

    def state(self, names: Mapping[int, str]) -> dict[str, np.ndarray]:
        """Moments as `<kind>/<name>` and averages, those of buffers among them, as `ema/<name>`.

        Args:
            names: id(parameter) -> its name; also of the buffers where an average is kept.
        """
        return {key: tensor.asnumpy() for key, tensor in self._entries(names)}

    def load_state(self, arrays: Mapping[str, np.ndarray], names: Mapping[int, str], updates: int) -> None:
        """Take back what `state` gave. Raises CheckpointError when an entry is missing or has another shape."""
        for key, tensor in self._entries(names):
            if key not in arrays or tuple(arrays[key].shape) != tuple(tensor.shape):
                raise CheckpointError(
                    f"the checkpoint has no optimiser entry {key!r} of shape {tuple(tensor.shape)}; "
                    "it belongs to another model or setting: start anew or name the right one"
                )
            tensor.set_data(ms.Tensor(np.array(arrays[key], ms.dtype_to_nptype(tensor.dtype))))
        self.updates = int(updates)

    def _entries(self, names: Mapping[int, str]) -> list[tuple[str, ms.Parameter]]:
        entries = []
        for kind, tensors in self.moments().items():
            pairs = zip(self.parameters, tensors, strict=True)
            entries += [(f"{kind}/{names[id(parameter)]}", tensor) for parameter, tensor in pairs]
        for owners, tensors in ((self.parameters, self.average), (self.buffers, self.buffer_average)):
            pairs = zip(owners, tensors, strict=True) if tensors else ()
            entries += [(f"ema/{names[id(owner)]}", tensor) for owner, tensor in pairs]
        return entries


def zeros_like(parameters: Sequence[ms.Parameter], name: str) -> ms.ParameterTuple:
    """A float32 zero of every parameter's shape, to remember something by; `optimizer.<place>.<name>`."""
    return ms.ParameterTuple(
        [
            ms.Parameter(ms.Tensor(np.zeros(p.shape, np.float32)), name=f"optimizer.{i}.{name}", requires_grad=False)
            for i, p in enumerate(parameters)
        ]
    )


def _copy_of(parameter: ms.Parameter, name: str, dtype: ms.Type) -> ms.Parameter:
    values = np.array(parameter.asnumpy(), ms.dtype_to_nptype(dtype))
    return ms.Parameter(ms.Tensor(values), name=name, requires_grad=False)
