"""Call a network, or named pieces of it, with batches: compiled once in graph mode, NumPy in and out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import mindspore as ms
import numpy as np

from mindground.errors import DataError
from mindground.models.base import FromFeatures, GroundingModel
from mindground.runtime.precision import in_precision
from mindground.runtime.threads import one_at_a_time
from mindground.structures import Batch

__all__ = ["Runner", "batch_tensors", "evaluating", "to_numpy"]


def batch_tensors(batch: Batch, names: Sequence[str]) -> tuple[ms.Tensor, ...]:
    """The named arrays of a batch as tensors. Raises DataError when nothing made one of them."""
    return _tensors(batch.arrays, names)


def _tensors(arrays: Mapping[str, Any], names: Sequence[str]) -> tuple[ms.Tensor, ...]:
    missing = [name for name in names if name not in arrays]
    if missing:
        raise DataError(
            f"the batch has no array {missing[0]!r}; this model needs it, transform and targets make {list(arrays)}"
        )
    return tuple(_tensor(arrays[name]) for name in names)


def _tensor(value: Any) -> ms.Tensor:
    return value if isinstance(value, ms.Tensor) else ms.Tensor(value)


def to_numpy(value: ms.Tensor) -> np.ndarray:
    """A tensor as an array; half types come as float32."""
    return value.astype(ms.float32).asnumpy() if value.dtype in (ms.float16, ms.bfloat16) else value.asnumpy()


@contextmanager
def evaluating(model: GroundingModel) -> Iterator[None]:
    """The model is in evaluation mode inside the block and in its former mode afterwards."""
    training = model.training
    model.set_train(False)
    try:
        yield
    finally:
        model.set_train(training)


class Runner:
    """Named pieces of a model, each compiled by itself when it is first called.

    A piece is compiled in the mode (training or evaluation) in which the model is at that moment; callers hold the
    model in evaluation mode (`evaluating`).

    Args:
        model: the network.
        graph: compile; False runs operator by operator.
        precision: in which pieces compute; what they give is float32.
    """

    def __init__(self, model: GroundingModel, *, graph: bool, precision: str = "float32") -> None:
        self.model, self.graph, self.precision = model, graph, precision
        self._pieces: dict[Any, Callable[..., Any]] = {}

    def __call__(self, piece: str, *inputs: Any) -> tuple[ms.Tensor, ...]:
        """Call the model's method `piece` with tensors or arrays; always a tuple of tensors."""
        return self._run(piece, lambda: getattr(self.model, piece), inputs)

    def network(self, arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The whole network -> {output name: array}; features in `arrays` take the place of their encoder's inputs."""
        model = self.model
        kept = tuple(
            name for name, encoder in model.encoders.items() if all(output in arrays for output in encoder.outputs)
        )
        build = (lambda: FromFeatures(model, kept)) if kept else (lambda: model)
        outputs = self._run(("network", kept), build, _tensors(arrays, model.names_from(kept)))
        return {name: to_numpy(value) for name, value in zip(model.output_names, outputs, strict=True)}

    def scout(self, arrays: Mapping[str, Any], kept: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
        """`scout` of a staged model -> {name: array}, from kept features of the encoders in `kept`."""
        model = self.model
        build = (lambda: FromFeatures(model, kept, "scout")) if model.encoders else (lambda: model.scout)
        outputs = self._run(("scout", kept), build, _tensors(arrays, model.names_from(kept)))
        return {name: to_numpy(value) for name, value in zip(model.scout_names, outputs, strict=True)}

    def features(self, encoder: str, arrays: Mapping[str, Any]) -> tuple[ms.Tensor, ...]:
        """What an encoder gives: taken from `arrays` where it stands there, computed otherwise."""
        part = self.model.encoders[encoder]
        if all(name in arrays for name in part.outputs):
            return _tensors(arrays, part.outputs)
        return self(f"encode_{encoder}", *_tensors(arrays, part.inputs))

    def _run(self, key: Any, build: Callable[[], Callable[..., Any]], inputs: Sequence[Any]) -> tuple[ms.Tensor, ...]:
        with one_at_a_time():
            if key not in self._pieces:
                self._pieces[key] = self._compiled(build())
            outputs = self._pieces[key](*map(_tensor, inputs))
        return outputs if isinstance(outputs, tuple) else (outputs,)

    def _compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        function = in_precision(function, self.precision)

        def piece(*inputs: ms.Tensor) -> Any:
            return function(*inputs)

        return ms.jit(piece) if self.graph else piece
