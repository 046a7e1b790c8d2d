"""BatchNorm as PyTorch computes it, and the handling of its statistics: averaging over ranks, freezing, restoring.

Statistics are state without gradient ("buffers"). They belong to checkpoints and to averages of the weights, and differ
between ranks unless they are synchronised: `train.batch_norm` says how.

| kind | in training |
|---|---|
| local | every rank normalises by its own batch; the running statistics are averaged before evaluations and saves |
| sync | all ranks normalise by the joint batch, where collectives run inside the compiled step |
| frozen | the running statistics are used for normalisation and never change |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import mindspore as ms
import numpy as np
from mindspore import nn, ops
from mindspore.ops.operations import _grad_ops

from mindground.errors import ConfigError, DeviceError
from mindground.nn.kernels import fast_cpu_kernels

__all__ = [
    "KINDS",
    "BatchNorm2d",
    "average_buffers",
    "batch_norms",
    "buffers",
    "restored_buffers",
    "set_batch_norm",
]

KINDS = ("local", "sync", "frozen")
# BatchNorm3d holds a BatchNorm2d.
_MINDSPORES = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)
_FLOATS = (ms.float16, ms.float32, ms.float64, ms.bfloat16)


class _ExactBatch(nn.Cell):
    """Normalisation by statistics of the batch that are summed row by row, then over rows.

    MindSpore's kernel sums each channel in one go on a CPU. Where many values are near the mean (padding), they vanish
    beside the sum so far, and the variance comes out too small by 1e-5 of itself: enough to change the sign of a value
    in front of an activation.
    """

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.normalise = ops.BatchNorm(is_training=False, epsilon=eps)
        self.gradient = _grad_ops.BatchNormGrad(is_training=True, epsilon=eps)

    def _mean(self, x: ms.Tensor) -> ms.Tensor:
        batch, channels, height, width = x.shape
        rows = ops.matmul(x.reshape((-1, width)), ops.ones((width, 1), x.dtype))
        return rows.reshape((batch, channels, height)).sum((0, 2)) * (1.0 / (batch * height * width))

    def construct(self, x: ms.Tensor, gamma: ms.Tensor, beta: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor]:
        """x (B, C, H, W) -> the normalised map, mean (C) and variance (C) of the batch."""
        mean = self._mean(x)
        variance = self._mean(ops.square(x - mean.reshape((1, -1, 1, 1))))
        return self.normalise(x, gamma, beta, mean, variance)[0], mean, variance

    def bprop(
        self,
        x: ms.Tensor,
        gamma: ms.Tensor,
        beta: ms.Tensor,
        out: tuple[ms.Tensor, ms.Tensor, ms.Tensor],
        dout: tuple[ms.Tensor, ms.Tensor, ms.Tensor],
    ) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor]:
        _, mean, variance = out
        d_x, d_gamma, d_beta = self.gradient(dout[0], x, gamma, mean, variance, variance)[:3]
        return d_x, d_gamma, d_beta


class BatchNorm2d(nn.Cell):
    """Normalisation of every channel over batch and pixels.

    Training normalises by the mean and the biased variance of the batch, and updates the running mean and the
    running unbiased variance with them. Evaluation normalises by the running statistics.

    Args:
        channels: C.
        eps: added to the variance.
        momentum: weight of the batch in the new running statistics (PyTorch's meaning; MindSpore's is 1 - this).
        kind: local or frozen; sync needs the ranks and is chosen by `set_batch_norm`.
        exact: sum the statistics of a batch without loss on CPUs, too, for some percent of time.
    """

    # Attributes that hold state without gradient; `buffers` reads this of every Cell that has it.
    buffer_names: ClassVar[tuple[str, ...]] = ("moving_mean", "moving_variance")

    def __init__(
        self, channels: int, eps: float = 1e-5, momentum: float = 0.1, kind: str = "local", exact: bool = False
    ) -> None:
        super().__init__()
        if kind not in ("local", "frozen"):
            raise ValueError(f"BatchNorm2d of kind {kind!r}; choose local or frozen, or call set_batch_norm for sync")
        self.eps, self.momentum, self.kind = float(eps), float(momentum), kind
        self.gamma = ms.Parameter(ms.Tensor(np.ones(channels, np.float32)), name="gamma")
        self.beta = ms.Parameter(ms.Tensor(np.zeros(channels, np.float32)), name="beta")
        self.moving_mean = ms.Parameter(
            ms.Tensor(np.zeros(channels, np.float32)), name="moving_mean", requires_grad=False
        )
        self.moving_variance = ms.Parameter(
            ms.Tensor(np.ones(channels, np.float32)), name="moving_variance", requires_grad=False
        )
        self.by_batch = ops.BatchNorm(is_training=True, epsilon=self.eps, momentum=self.momentum)
        self.by_running = ops.BatchNorm(is_training=False, epsilon=self.eps)
        self.exact = exact and fast_cpu_kernels()
        if self.exact:
            self.exactly = _ExactBatch(self.eps)
        self.ranks = 1
        self.all_reduce: Callable[[ms.Tensor], ms.Tensor] = _identity

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(B, C, H, W) -> the same shape.

        Raises:
            ValueError: training on one value per channel, which has no variance.
        """
        if not self.training or self.kind == "frozen":
            return self.by_running(x, self.gamma, self.beta, self.moving_mean, self.moving_variance)[0]
        if x.shape[0] * x.shape[2] * x.shape[3] * self.ranks == 1:
            raise ValueError("BatchNorm in training needs more than one value per channel; use a larger batch or image")
        if self.ranks > 1:
            return self._by_all_ranks(x)
        if self.exact:
            y, mean, variance = self.exactly(x, self.gamma, self.beta)
            self._follow(mean, variance, x.shape[0] * x.shape[2] * x.shape[3])
            return y
        return self.by_batch(x, self.gamma, self.beta, self.moving_mean, self.moving_variance)[0]

    def _follow(self, mean: ms.Tensor, variance: ms.Tensor, count: int) -> None:
        """Move the running statistics towards mean and biased variance (C) of `count` values."""
        kept = 1.0 - self.momentum
        update = ops.stop_gradient(mean) * self.momentum
        ops.assign(self.moving_mean, self.moving_mean * kept + update)
        update = ops.stop_gradient(variance) * (self.momentum * count / (count - 1))
        ops.assign(self.moving_variance, self.moving_variance * kept + update)

    def _by_all_ranks(self, x: ms.Tensor) -> ms.Tensor:
        """Normalise with sums over all ranks, which hold batches of equal shape. All-reduce has its own gradient."""
        wide = ops.cast(x, ms.float32)
        count = x.shape[0] * x.shape[2] * x.shape[3] * self.ranks
        # The mean first: a sum of squares loses precision where the mean is large compared with the deviation.
        mean = self.all_reduce(wide.sum((0, 2, 3))) / count
        centred = wide - mean.reshape(1, -1, 1, 1)
        variance = self.all_reduce(ops.square(centred).sum((0, 2, 3))) / count
        self._follow(mean, variance, count)
        scale = (self.gamma * ops.rsqrt(variance + self.eps)).reshape(1, -1, 1, 1)
        return ops.cast(centred * scale + self.beta.reshape(1, -1, 1, 1), x.dtype)


def _identity(values: ms.Tensor) -> ms.Tensor:
    return values


def batch_norms(model: nn.Cell) -> dict[str, nn.Cell]:
    """Every BatchNorm of a model by name, ours and MindSpore's."""
    return {name: cell for name, cell in model.cells_and_names() if isinstance(cell, (BatchNorm2d, *_MINDSPORES))}


def buffers(model: nn.Cell) -> dict[str, ms.Parameter]:
    """State without gradient by parameter name: BatchNorm statistics, and what a Cell lists in `buffer_names`."""
    found: dict[int, ms.Parameter] = {}
    for _, cell in model.cells_and_names():
        listed = BatchNorm2d.buffer_names if isinstance(cell, _MINDSPORES) else getattr(cell, "buffer_names", ())
        found.update({id(getattr(cell, name)): getattr(cell, name) for name in listed})
    return {name: parameter for name, parameter in model.parameters_and_names() if id(parameter) in found}


def set_batch_norm(model: nn.Cell, kind: str, comm: Any | None = None) -> None:
    """Choose what all BatchNorms of a model do in training; call it before the model is compiled.

    Args:
        kind: local, sync or frozen.
        comm: `distributed.Comm`, for sync; one rank, or None, makes sync the same as local.

    Raises:
        ConfigError: an unknown kind, a model without BatchNorm, or MindSpore's own layers with sync on several ranks.
        DeviceError: sync where no collective runs inside the compiled step (several ranks on CPUs).
    """
    if kind not in KINDS:
        raise ConfigError(f"train.batch_norm={kind!r} is unknown; choose one of {', '.join(KINDS)}")
    cells = batch_norms(model)
    if not cells and kind != "local":
        raise ConfigError(f"train.batch_norm={kind}: {type(model).__name__} has no BatchNorm; set it to local")
    ranks = comm.size if comm is not None and kind == "sync" else 1
    if comm is not None and ranks > 1 and not comm.reduces_on_device:
        raise DeviceError(
            f"train.batch_norm=sync cannot work with {ranks} ranks on CPUs: their collectives run outside the compiled "
            "step; choose local (statistics are averaged before evaluations and saves) or frozen, or start one process"
        )
    for name, cell in cells.items():
        if isinstance(cell, BatchNorm2d):
            cell.kind, cell.ranks = kind, ranks
            cell.all_reduce = comm.graph_all_reduce() if comm is not None and ranks > 1 else _identity
        elif ranks > 1 and not isinstance(cell, nn.SyncBatchNorm):
            raise ConfigError(
                f"train.batch_norm=sync: {name} is MindSpore's own {type(cell).__name__}; build it as "
                "mindground.nn.batch_norm.BatchNorm2d, or choose local or frozen"
            )
        else:
            cell.use_batch_statistics = False if kind == "frozen" else None


def average_buffers(model: nn.Cell, comm: Any, also: Sequence[ms.Parameter] = ()) -> None:
    """Give every rank the mean of all ranks' statistics; call before every evaluation and every save, on all ranks.

    Args:
        comm: `distributed.Comm`.
        also: further tensors to average, such as the optimiser's `buffer_average`. Integers are not averaged:
            they count steps, which are equal on all ranks.
    """
    if comm.size == 1:
        return
    tensors = [tensor for tensor in (*buffers(model).values(), *also) if tensor.dtype in _FLOATS]
    if not tensors:
        return
    joined = np.concatenate([np.asarray(tensor.asnumpy(), np.float32).reshape(-1) for tensor in tensors])
    comm.all_reduce_mean_(joined)
    ends = np.cumsum([tensor.size for tensor in tensors])
    for tensor, end in zip(tensors, ends, strict=True):
        values = joined[end - tensor.size : end].reshape(tensor.shape)
        # `set_data` does not reach a graph that is compiled already; `assign` does, in both modes.
        ops.assign(tensor, ms.Tensor(values).astype(tensor.dtype))


@contextmanager
def restored_buffers(model: nn.Cell) -> Iterator[None]:
    """Restore the statistics at the end of the block, also after forward passes in training mode."""
    tensors = list(buffers(model).values())
    # A copy: `asnumpy` may return a view of the parameter's memory.
    kept = [np.array(tensor.asnumpy()) for tensor in tensors]
    try:
        yield
    finally:
        for tensor, values in zip(tensors, kept, strict=True):
            ops.assign(tensor, ms.Tensor(values))
