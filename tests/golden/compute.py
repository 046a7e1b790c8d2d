"""What most claims do: fill a model with a case's weights, run it, take gradient norms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from golden.case import Case
from mindground.weights.load import load_into, parameter_shapes
from mindground.weights.maps import WeightMap

__all__ = ["Apply", "fill", "loss_and_gradients", "to_numpy", "weighted_sum"]


class Apply(nn.Cell):
    """A Cell around a function (or bound method) of tensors, so that graph mode compiles it as a whole.

    Calling functional operators one by one under GRAPH_MODE, outside a Cell, corrupts MindSpore 2.7.2's heap: the
    process dies when it ends.

    Args:
        function: a `def` or method; not a lambda.
        constants: further positional arguments that are no tensors, given after the inputs.
    """

    def __init__(self, function: Callable[..., Any], *constants: Any) -> None:
        super().__init__()
        self.function = function
        self.constants = constants

    def construct(self, *inputs: Any) -> Any:
        return self.function(*inputs, *self.constants)


def fill(model: nn.Cell, case: Case, weight_map: WeightMap, allow_missing: Sequence[str] = ()) -> None:
    """Load a case's state dict through a weight map; anything unexplained raises."""
    adapted = weight_map.to_ours(case.state_dict(), parameter_shapes(model))
    load_into(model, adapted, allow_missing=allow_missing)


def to_numpy(value: Any) -> np.ndarray:
    """Tensor -> numpy array."""
    return value.asnumpy() if isinstance(value, ms.Tensor) else np.asarray(value)


class _WeightedSum(nn.Cell):
    def __init__(self, model: nn.Cell, weights: Sequence[np.ndarray]) -> None:
        super().__init__()
        self.model = model
        self.weights = tuple(ms.Tensor(np.asarray(weight, np.float32)) for weight in weights)

    def construct(self, *inputs: Any) -> ms.Tensor:
        outputs = self.model(*inputs)
        if isinstance(outputs, ms.Tensor):
            outputs = (outputs,)
        total = ops.sum(outputs[0] * self.weights[0])
        for index in range(1, len(self.weights)):
            total = total + ops.sum(outputs[index] * self.weights[index])
        return total


def weighted_sum(model: nn.Cell, weights: Sequence[np.ndarray]) -> nn.Cell:
    """Cell that returns sum_i sum(output_i * weights_i), the scalar most cases differentiate."""
    cell = _WeightedSum(model, weights)
    cell.set_train(model.training)
    return cell


def loss_and_gradients(
    scalar: nn.Cell | Callable[..., ms.Tensor], model: nn.Cell, inputs: Sequence[ms.Tensor]
) -> tuple[float, dict[str, np.ndarray]]:
    """Value of a scalar and its gradient by every parameter of `model`, under our names.

    A parameter that does not learn has the gradient 0, which a reference that differentiates it does not accept.
    """
    named = {name: item for name, item in model.parameters_and_names() if item.requires_grad}
    function = ms.value_and_grad(scalar, None, list(named.values()))
    value, gradients = function(*inputs)
    found = {name: gradient.asnumpy() for name, gradient in zip(named, gradients, strict=True)}
    rest = {name: item for name, item in model.parameters_and_names() if name not in named}
    found |= {name: np.zeros(item.shape, np.float32) for name, item in rest.items()}
    return float(value.asnumpy()), found
