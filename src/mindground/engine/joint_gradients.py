"""Gradients of several micro-batches and ranks, joined: in host memory, or in one flat buffer on the device.

Both ways mean the same. `mean` averages over micro-batches and ranks, then clips by the norm of the average. `sum` sums
the micro-batches, clips on every rank by its own norm, then averages the ranks (upstream VG-LAW). Behind the gradients
the buffer holds the loss terms, the norm of the rank and the wish to stop, so that one reduction a step carries
everything and all ranks come to the same decisions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import ops

from mindground.engine.optim import Optimizer, clip_factor, sum_of_flat_squares

__all__ = ["DeviceGradients", "HostGradients", "Joint", "flattened"]


@dataclass(frozen=True)
class Joint:
    """What all micro-batches and ranks have together.

    Attributes:
        terms: loss terms, averaged.
        norm: of the gradients before clipping; of `sum` the mean of the ranks' norms. NaN where any is not finite.
        stop: above 0 when any rank was asked to end.
        scale: on the gradients in the update: the clipping that is still to be done.
        gradients: inputs of the update.
    """

    terms: list[float]
    norm: float
    stop: float
    scale: float
    gradients: tuple[ms.Tensor, ...]


class HostGradients:
    """One float32 buffer in host memory: micro-batches are added to it, ranks average it.

    Args:
        optimizer: says which gradients there are.
        comm: `runtime.distributed.Comm`.
        terms: number of loss terms.
        limit: norm above which gradients are scaled down; 0 = off.
        summed: accumulation `sum`.
    """

    def __init__(self, optimizer: Optimizer, comm: Any, terms: int, limit: float, summed: bool) -> None:
        self.comm, self.limit, self.summed = comm, limit, summed
        self.parameters = optimizer.parameters
        self.count = sum(int(parameter.size) for parameter in self.parameters)
        self.terms = terms
        self._buffer: np.ndarray | None = None

    def __call__(
        self, runs: Iterable[tuple[ms.Tensor, tuple[ms.Tensor, ...]]], count: int, loss_scale: float, stop: bool
    ) -> Joint:
        """Join `count` micro-batches of (loss terms and squared norm, gradients)."""
        size = self.count
        if self._buffer is None:
            self._buffer = np.empty(size + self.terms + 2, np.float32)
        buffer = self._buffer
        for number, (numbers, grads) in enumerate(runs):
            _pack(buffer[: size + self.terms], grads, numbers.asnumpy().astype(np.float64)[:-1], add=number > 0)
        buffer[-1] = float(stop)
        buffer[size:-2] /= count
        buffer[:size] *= 1.0 / loss_scale if self.summed else 1.0 / (loss_scale * count)
        norm = _norm(buffer[:size])
        buffer[-2] = norm
        if self.summed:
            buffer[:size] *= clip_factor(norm, self.limit, upstream=True)
        if self.comm.size > 1:
            self.comm.all_reduce_mean_(buffer)
            joint = _norm(buffer[:size])
            norm = joint if not self.summed else float(buffer[-2]) if math.isfinite(joint) else math.nan
        if not self.summed:
            buffer[:size] *= clip_factor(norm, self.limit)
        terms = [float(value) for value in buffer[size:-2]]
        return Joint(terms, norm, float(buffer[-1]), 1.0, self._cut(buffer))

    def _cut(self, buffer: np.ndarray) -> tuple[ms.Tensor, ...]:
        views, offset = [], 0
        for parameter in self.parameters:
            size = int(parameter.size)
            views.append(ms.Tensor.from_numpy(buffer[offset : offset + size].reshape(parameter.shape)))
            offset += size
        return tuple(views)


class DeviceGradients:
    """The same on the device: one addition a micro-batch, one reduction a step, one small transfer to the host.

    Args:
        optimizer, comm, terms, limit, summed: as for `HostGradients`; `comm` reduces on the device.
        graph: compile the pieces.
    """

    def __init__(self, optimizer: Optimizer, comm: Any, terms: int, limit: float, summed: bool, *, graph: bool) -> None:
        self.comm, self.limit, self.summed = comm, limit, summed
        self.terms = terms
        self.count = sum(int(parameter.size) for parameter in optimizer.parameters)
        self.shapes = [tuple(parameter.shape) for parameter in optimizer.parameters]
        pieces: tuple[Callable[..., Any], ...] = (_added, self._finisher(), self._reporter())
        if graph:
            pieces = tuple(ms.jit(piece) for piece in pieces)
        self._add, self._finish, self._report = pieces

    def __call__(self, runs: Iterable[ms.Tensor], count: int, loss_scale: float, stop: bool) -> Joint:
        """Join `count` micro-batches, each a flat tensor of gradients and loss terms (`flattened`)."""
        total: ms.Tensor | None = None
        for flat in runs:
            total = flat if total is None else self._add(total, flat)
        assert total is not None, "a step has at least one micro-batch"
        ranks = self.comm.size
        numbers = (1.0 / loss_scale if self.summed else 1.0 / (loss_scale * count), 1.0 / count, float(stop))
        buffer = self._finish(total, *(ms.Tensor(number, ms.float32) for number in numbers))
        if ranks > 1:
            buffer = self.comm.all_reduce_sum(buffer)
        # The only transfer of the step.
        report = self._report(buffer).asnumpy().astype(np.float64)
        norm = math.sqrt(report[-1]) if report[-1] >= 0 else math.nan
        scale = 1.0
        if self.summed:
            norm = float(report[-3]) if math.isfinite(norm) else math.nan
        else:
            scale = clip_factor(norm, self.limit)
        return Joint([float(value) for value in report[: self.terms]], norm, float(report[-2]), scale, (buffer,))

    def cut(self, buffer: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """The gradients of the buffer, each in its parameter's shape; runs inside the graph of the update."""
        found = []
        offset = 0
        for shape in self.shapes:
            size = 1
            for length in shape:
                size = size * length
            found.append(buffer[offset : offset + size].reshape(shape))
            offset = offset + size
        return tuple(found)

    def _finisher(self) -> Callable[..., ms.Tensor]:
        size, limit, summed, part = self.count, self.limit, self.summed, 1.0 / self.comm.size

        def finish(total: ms.Tensor, scale: ms.Tensor, of_terms: ms.Tensor, stop: ms.Tensor) -> ms.Tensor:
            """Average and clip what this rank has; its share of the joint buffer."""
            gradients = total[:size] * scale
            norm = ops.zeros((1,), ms.float32)
            if summed:
                norm = ops.sqrt(sum_of_flat_squares(gradients)).reshape(1)
                if limit > 0:
                    gradients = gradients * (limit * ops.reciprocal(ops.maximum(norm, ops.full_like(norm, limit))))
            joined = ops.concat((gradients, total[size:] * of_terms, norm, stop.reshape(1)))
            return joined * part

        return finish

    def _reporter(self) -> Callable[[ms.Tensor], ms.Tensor]:
        size = self.count

        def report(buffer: ms.Tensor) -> ms.Tensor:
            """Loss terms, norm, wish to stop, and the squared norm of the joint gradients."""
            return ops.concat((buffer[size:], sum_of_flat_squares(buffer[:size]).reshape(1)))

        return report


def flattened(gradients: tuple[ms.Tensor, ...], terms: ms.Tensor) -> ms.Tensor:
    """Gradients and loss terms as one float32 vector; runs inside the graph of the gradients."""
    pieces = []
    for gradient in gradients:
        pieces.append(ops.cast(gradient, ms.float32).reshape(-1))
    pieces.append(terms)
    return ops.concat(pieces)


def _added(total: ms.Tensor, more: ms.Tensor) -> ms.Tensor:
    return total + more


def _pack(buffer: np.ndarray, grads: Sequence[ms.Tensor], terms: np.ndarray, *, add: bool) -> None:
    offset = 0
    for grad in grads:
        values = grad.asnumpy().reshape(-1)
        stretch = buffer[offset : offset + values.size]
        if add:
            stretch += values
        else:
            stretch[:] = values
        offset += values.size
    if add:
        buffer[offset:] += terms
    else:
        buffer[offset:] = terms


def _norm(values: np.ndarray) -> float:
    # In pieces, so that float32 products are summed in float64 between them.
    pieces = np.array_split(values, max(1, values.size // 65536))
    return math.sqrt(sum(float(np.dot(piece, piece)) for piece in pieces))
