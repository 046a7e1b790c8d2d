"""One optimiser step: gradients in one compiled graph, a look at the numbers, the update in another.

Between the two graphs stands the only transfer of the step: the loss terms and the squared gradient norm. That is
where a non-finite loss stops the run before it can reach a parameter, and where ranks and micro-batches meet.

A staged step has two parts before them: `scout`, a graph of its own without gradient, and `assign`, which matches its
outputs to the truth on the host. What frozen encoders compute is computed once and shared by scout and loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindground.engine.forward import Runner, batch_tensors, evaluating
from mindground.engine.optim import Optimizer, clip_factor, sum_of_squares
from mindground.errors import NonFiniteLossError
from mindground.models.base import FromFeatures, GroundingModel
from mindground.nn.batch_norm import restored_buffers
from mindground.nn.noise import StepNoise
from mindground.runtime.precision import in_precision
from mindground.structures import Batch

__all__ = ["TrainStep"]


class _LossCell(nn.Cell):
    """Inputs and targets of a batch -> (total scaled, all terms in one vector)."""

    def __init__(self, model: GroundingModel, kept: Collection[str], precision: str) -> None:
        super().__init__(auto_prefix=False)
        self.model = model
        # The loss sees float32, whatever the network computes in.
        self.network = in_precision(FromFeatures(model, kept) if kept else model, precision)
        self.inputs = len(model.names_from(kept))

    def construct(self, scale: ms.Tensor, *arrays: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        outputs = self.network(*arrays[: self.inputs])
        terms = self.model.loss(outputs, *arrays[self.inputs :])
        flat = []
        for term in terms:
            flat.append(term.astype(ms.float32).reshape(1))
        return terms[0] * scale, ops.concat(flat)


class TrainStep:
    """Callable that takes the micro-batches of one optimiser step and returns its loss terms.

    Args:
        model: in training mode from here on.
        optimizer: over the model's groups.
        comm: `runtime.distributed.Comm`; gradients and terms are averaged over its ranks.
        graph: compile; False runs operator by operator.
        kept: encoders whose features stand in the batches (`engine.features`).
        clip_max_norm: global gradient norm above which gradients are scaled down; 0 = off.
        accumulation: `mean` averages over micro-batches and ranks, then clips; `sum` sums micro-batches, clips on
            every rank, then averages (upstream VG-LAW).
        seed: of dropout and of draws in `assign`.
        precision: float16 scales the loss and skips steps whose gradients overflow.
    """

    def __init__(
        self,
        model: GroundingModel,
        optimizer: Optimizer,
        comm: Any,
        *,
        graph: bool,
        kept: Collection[str] = (),
        clip_max_norm: float = 0.0,
        accumulation: Literal["mean", "sum"] = "mean",
        seed: int = 0,
        precision: str = "float32",
    ) -> None:
        self.model, self.optimizer, self.comm = model, optimizer, comm
        self.clip_max_norm, self.accumulation, self.seed = clip_max_norm, accumulation, seed
        self.precision = precision
        self.names = ("total", *model.term_names)
        # A staged step runs frozen encoders by themselves, once for scout and loss.
        self._alone = [n for n in model.encoders if model.staged and n not in kept and model.is_frozen(n)]
        self._kept = tuple(name for name in model.encoders if name in kept or name in self._alone)
        self._runner = Runner(model, graph=graph, precision=precision)
        self.noise = StepNoise(model, seed)
        self.loss_scale = 2.0**12 if precision == "float16" else 1.0
        self._adapts_scale = precision == "float16"
        self._clean_steps = 0
        self._reducer = comm.reducer(optimizer.parameters) if comm.size > 1 and not self.on_host else None
        self._sizes = [int(parameter.size) for parameter in optimizer.parameters]
        self._buffer: np.ndarray | None = None
        model.set_train(True)
        self._gradients, self._update, self._update_as_is = self._build(graph)

    def _build(self, graph: bool) -> tuple[Callable[..., Any], ...]:
        reducer = self._reducer
        optimizer = self.optimizer
        value_and_grad = ms.value_and_grad(
            _LossCell(self.model, self._kept, self.precision), None, tuple(optimizer.parameters), has_aux=True
        )

        def gradients(scale: ms.Tensor, *arrays: ms.Tensor) -> tuple[Any, ...]:
            (_, terms), grads = value_and_grad(scale, *arrays)
            if reducer is not None:
                grads = reducer(grads)
            return ops.concat((terms, sum_of_squares(grads).reshape(1))), grads

        # Tensors inside a tuple count as constants of the compiled graph: every step would compile it anew.
        count = len(optimizer.host_scalars(0.0, 0.0))

        def update(*values: ms.Tensor) -> ms.Tensor:
            return optimizer(values[:count], values[count:])

        def update_as_is(*values: ms.Tensor) -> ms.Tensor:
            return optimizer(values[:count], values[count:], False)

        functions = (gradients, update, update_as_is)
        return tuple(ms.jit(function) for function in functions) if graph else functions

    @property
    def on_host(self) -> bool:
        """True when gradients meet in host memory: several ranks without collectives of the device.

        `sum` clips on every rank before ranks meet, so its gradients meet there on every device.
        """
        return self.comm.size > 1 and (self.accumulation == "sum" or not self.comm.reduces_on_device)

    def __call__(
        self, batches: Sequence[Batch], lr_factor: float, step: int = 0, *, stop: bool = False
    ) -> dict[str, float]:
        """Average the gradients of `batches` over micro-batches and ranks, clip, update.

        Args:
            batches: the micro-batches of this rank.
            lr_factor: on the groups' learning rates.
            step: number of this step, for dropout and messages.
            stop: this rank was asked to end; the answer is shared so that all ranks end after the same step.

        Returns loss terms by name, `grad_norm` before clipping and `stop` (above 0 when any rank was asked to).

        Raises:
            NonFiniteLossError: a loss or a gradient is not finite; no parameter has changed.
        """
        asked = float(stop)
        if len(batches) == 1 and not self.on_host:
            terms, norm, grads = self._direct(batches[0], step)
            scale = clip_factor(norm, self.clip_max_norm, self.accumulation == "sum") / self.loss_scale
            update = self._update
        else:
            terms, norm, asked, grads = self._gathered(batches, step, asked)
            # Averaged, unscaled and clipped on the host already.
            scale, update = 1.0, self._update_as_is
        if self.comm.size > 1 and not self.on_host:
            # Gradients have met on the device; loss terms and the wish to stop are few numbers.
            shared = self.comm.all_gather_object((stop, terms))
            asked = float(any(wish for wish, _ in shared))
            terms = [float(value) for value in np.mean([theirs for _, theirs in shared], 0)]
        if not self._usable(terms, norm):
            return {**dict(zip(self.names, terms, strict=True)), "grad_norm": norm, "stop": asked, "skipped": 1.0}
        self._check(terms, norm, batches, step)
        update(*self.optimizer.host_scalars(lr_factor, scale), *grads)
        self.optimizer.updates += 1
        return {**dict(zip(self.names, terms, strict=True)), "grad_norm": norm, "stop": asked}

    def _run(self, batch: Batch, step: int, micro: int) -> tuple[np.ndarray, tuple[ms.Tensor, ...]]:
        self.noise.renew(step, micro, self.comm.rank)
        if self.model.staged:
            batch = self._staged(batch, step, micro)
        arrays = batch_tensors(batch, (*self.model.names_from(self._kept), *self.model.target_names))
        numbers, grads = self._gradients(ms.Tensor(self.loss_scale, ms.float32), *arrays)
        return numbers.asnumpy().astype(np.float64), grads

    def _staged(self, batch: Batch, step: int, micro: int) -> Batch:
        """The batch with features of frozen encoders and the arrays that `assign` makes."""
        model = self.model
        arrays = dict(batch.arrays)
        if self._alone:
            with evaluating(model):
                for name in self._alone:
                    arrays.update(zip(model.encoders[name].outputs, self._runner.features(name, arrays), strict=True))
        # The loss graph moves statistics once a step; here they only take part.
        with restored_buffers(model):
            outputs = self._runner.scout(arrays, self._kept)
        rng = np.random.default_rng([self.seed, step, micro, self.comm.rank])
        extra = model.assign(outputs, batch, self.comm, rng)
        return Batch({**arrays, **extra}, batch.samples, batch.geometries, batch.count)

    def _direct(self, batch: Batch, step: int) -> tuple[list[float], float, tuple[ms.Tensor, ...]]:
        numbers, grads = self._run(batch, step, 0)
        norm = float(np.sqrt(numbers[-1])) / self.loss_scale
        return [float(x) for x in numbers[:-1]], norm, grads

    def _gathered(
        self, batches: Sequence[Batch], step: int, stop: float
    ) -> tuple[list[float], float, float, tuple[ms.Tensor, ...]]:
        """One float32 buffer holds all gradients and, at its end, the loss terms and the wish to stop."""
        count, terms = sum(self._sizes), len(self.names)
        if self._buffer is None:
            self._buffer = np.empty(count + terms + 1, np.float32)
        buffer = self._buffer
        for micro, batch in enumerate(batches):
            numbers, grads = self._run(batch, step, micro)
            _pack(buffer[:-1], grads, numbers[:-1], add=micro > 0)
        buffer[-1] = stop
        summed = self.accumulation == "sum"
        buffer[count:-1] /= len(batches)
        buffer[:count] *= 1.0 / self.loss_scale if summed else 1.0 / (self.loss_scale * len(batches))
        norm = _norm(buffer[:count])
        if summed:
            # Upstream's order: sum the micro-batches, clip on every rank, then average the ranks.
            buffer[:count] *= clip_factor(norm, self.clip_max_norm, upstream=True)
        if self.on_host:
            self.comm.all_reduce_mean_(buffer)
        if not summed:
            norm = _norm(buffer[:count])
            buffer[:count] *= clip_factor(norm, self.clip_max_norm)
        elif self.on_host and not math.isfinite(_norm(buffer[:count])):
            norm = math.nan
        return [float(x) for x in buffer[count:-1]], norm, float(buffer[-1]), self._unpack(buffer)

    def _unpack(self, buffer: np.ndarray) -> tuple[ms.Tensor, ...]:
        views, offset = [], 0
        for parameter, size in zip(self.optimizer.parameters, self._sizes, strict=True):
            views.append(ms.Tensor.from_numpy(buffer[offset : offset + size].reshape(parameter.shape)))
            offset += size
        return tuple(views)

    def _usable(self, terms: Sequence[float], norm: float) -> bool:
        """False when float16 gradients overflowed; the loss scale is then halved and the step skipped."""
        if not self._adapts_scale:
            return True
        if math.isfinite(norm) or not all(map(math.isfinite, terms)) or self.loss_scale <= 1.0:
            self._clean_steps += 1
            if self._clean_steps % 1000 == 0:
                self.loss_scale *= 2.0
            return True
        self.loss_scale, self._clean_steps = self.loss_scale / 2.0, 0
        return False

    def _check(self, terms: Sequence[float], norm: float, batches: Sequence[Batch], step: int) -> None:
        if math.isfinite(norm) and all(map(math.isfinite, terms)):
            return
        ids = [sample_id for batch in batches for sample_id in batch.sample_ids()]
        # Averages are the same on every rank, so every rank comes here and the exchange cannot hang.
        everybody = self.comm.all_gather_object(ids) if self.on_host else [ids]
        what = ", ".join(f"{name}={value:.4g}" for name, value in zip(self.names, terms, strict=True))
        where = "; ".join(f"rank {rank}: {', '.join(them)}" for rank, them in enumerate(everybody))
        if not self.on_host:
            where = f"rank {self.comm.rank}: {', '.join(ids)}"
        raise NonFiniteLossError(
            f"the loss or its gradient is not finite at step {step} ({what}, gradient norm {norm:.4g}); samples of "
            f"this step, {where}; no parameter was changed and the last checkpoint stands: look at these samples or "
            "lower the learning rate"
        )


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
