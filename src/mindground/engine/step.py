"""One optimiser step: gradients in one compiled graph, a look at the numbers, the update in another.

Between the two graphs stands the only transfer of the step: the loss terms and the squared gradient norm. That is
where a non-finite loss stops the run before it can reach a parameter, and where ranks and micro-batches meet
(`engine.joint_gradients`).

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
from mindground.engine.joint_gradients import DeviceGradients, HostGradients, Joint, flattened
from mindground.engine.optim import Optimizer, clip_factor, sum_of_squares
from mindground.errors import NonFiniteLossError
from mindground.models.base import FromFeatures, GroundingModel
from mindground.nn.batch_norm import restored_buffers
from mindground.nn.kernels import fast_cpu_kernels
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
        self.summed = accumulation == "sum"
        self._joint = self._joining(graph)
        model.set_train(True)
        self._gradients, self._update, self._update_as_is = self._build(graph)

    def _joining(self, graph: bool) -> HostGradients | DeviceGradients:
        """How micro-batches and ranks meet: on the device where its collectives, or one rank alone, allow it."""
        settings = (self.optimizer, self.comm, len(self.names), self.clip_max_norm, self.summed)
        if self.comm.reduces_on_device or (self.comm.size == 1 and not fast_cpu_kernels()):
            return DeviceGradients(*settings, graph=graph)
        return HostGradients(*settings)

    def _build(self, graph: bool) -> tuple[Callable[..., Any], ...]:
        optimizer = self.optimizer
        value_and_grad = ms.value_and_grad(
            _LossCell(self.model, self._kept, self.precision), None, tuple(optimizer.parameters), has_aux=True
        )

        def gradients(scale: ms.Tensor, *arrays: ms.Tensor) -> tuple[Any, ...]:
            (_, terms), grads = value_and_grad(scale, *arrays)
            return ops.concat((terms, sum_of_squares(grads).reshape(1))), grads

        def flat_gradients(scale: ms.Tensor, *arrays: ms.Tensor) -> ms.Tensor:
            (_, terms), grads = value_and_grad(scale, *arrays)
            return flattened(grads, terms)

        # Tensors inside a tuple count as constants of the compiled graph: every step would compile it anew.
        count = len(optimizer.host_scalars(0.0, 0.0))

        def update(*values: ms.Tensor) -> ms.Tensor:
            return optimizer(values[:count], values[count:])

        def update_as_is(*values: ms.Tensor) -> ms.Tensor:
            return optimizer(values[:count], values[count:], False)

        functions = (gradients, update, update_as_is)
        if isinstance(self._joint, DeviceGradients):
            cut = self._joint.cut

            def update_from_buffer(*values: ms.Tensor) -> ms.Tensor:
                return optimizer(values[:count], cut(values[count]))

            functions = (gradients, update, update_from_buffer)
            self._flat = ms.jit(flat_gradients) if graph else flat_gradients
        return tuple(ms.jit(function) for function in functions) if graph else functions

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
        if len(batches) == 1 and self.comm.size == 1:
            joint, update = self._direct(batches[0], step, stop), self._update
        else:
            gradients = self._flat if isinstance(self._joint, DeviceGradients) else self._gradients
            runs = (self._run(gradients, batch, step, micro) for micro, batch in enumerate(batches))
            joint, update = self._joint(runs, len(batches), self.loss_scale, stop), self._update_as_is
        found = {**dict(zip(self.names, joint.terms, strict=True)), "grad_norm": joint.norm, "stop": joint.stop}
        # What is decided here follows from joint numbers, so that all ranks decide alike.
        if not self._usable(joint.terms, joint.norm):
            return {**found, "skipped": 1.0}
        self._check(joint.terms, joint.norm, batches, step)
        update(*self.optimizer.host_scalars(lr_factor, joint.scale), *joint.gradients)
        self.optimizer.updates += 1
        return found

    def _run(self, gradients: Callable[..., Any], batch: Batch, step: int, micro: int) -> Any:
        self.noise.renew(step, micro, self.comm.rank)
        if self.model.staged:
            batch = self._staged(batch, step, micro)
        arrays = batch_tensors(batch, (*self.model.names_from(self._kept), *self.model.target_names))
        return gradients(ms.Tensor(self.loss_scale, ms.float32), *arrays)

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

    def _direct(self, batch: Batch, step: int, stop: bool) -> Joint:
        """One micro-batch on one rank: its gradients go from one graph into the other."""
        tensors, grads = self._run(self._gradients, batch, step, 0)
        numbers = tensors.asnumpy().astype(np.float64)
        norm = float(np.sqrt(numbers[-1])) / self.loss_scale
        scale = clip_factor(norm, self.clip_max_norm, self.summed) / self.loss_scale
        return Joint([float(value) for value in numbers[:-1]], norm, float(stop), scale, grads)

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
        everybody = self.comm.all_gather_object(ids) if self.comm.size > 1 else [ids]
        what = ", ".join(f"{name}={value:.4g}" for name, value in zip(self.names, terms, strict=True))
        where = "; ".join(f"rank {rank}: {', '.join(them)}" for rank, them in enumerate(everybody))
        raise NonFiniteLossError(
            f"the loss or its gradient is not finite at step {step} ({what}, gradient norm {norm:.4g}); samples of "
            f"this step, {where}; no parameter was changed and the last checkpoint stands: look at these samples or "
            "lower the learning rate"
        )
