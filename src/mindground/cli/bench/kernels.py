"""What the kernels of a network cost by themselves on both sides: products, convolutions, softmax, nothing between.

A network cannot be faster, beside PyTorch, than the kernels that it is made of. The peer's forward pass is watched and
says which kernels with which shapes it takes (`peer_kernels.record`), so that a family lists nothing. Then each side
runs every one of them alone, in turns as in all other tasks.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from mindground.files.atomic import write_json

__all__ = ["Kernel", "OurKernels", "bare_kernels", "read_kernels", "total", "write_kernels"]

_FILE = "kernels.json"
# So many of equal kernels are run one after the other in a call; their time stands for all.
_COPIES = 3


@dataclass(frozen=True)
class Kernel:
    """One kernel of a forward pass.

    Attributes:
        kind: matmul, bmm, conv or softmax.
        shape: matmul (rows, in, out); bmm (groups, rows, inner, columns); softmax (rows, width);
            conv (batch, in, height, width, out, kernel, stride, padding, groups).
        inputs, weights: whether a training step needs the gradient of the first, or of the second operand.
        count: times in a forward pass.
    """

    kind: str
    shape: tuple[int, ...]
    inputs: bool = True
    weights: bool = True
    count: int = 1

    @property
    def copies(self) -> int:
        """Kernels of one call."""
        return min(self.count, _COPIES)

    def operands(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Noise for the first operand and, for all but softmax, one second operand for every copy."""
        s = self.shape
        if self.kind == "softmax":
            shapes = [s] * self.copies
        elif self.kind == "matmul":
            shapes = [s[:2], *([(s[2], s[1])] * self.copies)]
        elif self.kind == "bmm":
            shapes = [s[:3], *([(s[0], s[2], s[3])] * self.copies)]
        else:
            shapes = [s[:4], *([(s[4], s[1] // s[8], s[5], s[5])] * self.copies)]
        return [0.1 * rng.standard_normal(shape, np.float32) for shape in shapes]


def write_kernels(folder: Path, kernels: Sequence[Kernel]) -> None:
    """Leave the list for both sides."""
    write_json(folder / _FILE, [asdict(kernel) for kernel in kernels])


def read_kernels(folder: Path) -> list[Kernel]:
    """The list that `write_kernels` left."""
    return [Kernel(**{**entry, "shape": tuple(entry["shape"])}) for entry in json.loads((folder / _FILE).read_text())]


def total(kernels: Sequence[Kernel], run: Callable[[int, str], Any]) -> dict[str, float]:
    """Seconds of all kernels of a forward pass and of a step, and of every kind.

    Args:
        run: (index, forward or step) -> runs the copies of this kernel and waits for them.
    """
    seconds: dict[str, float] = {}
    for index, kernel in enumerate(kernels):
        for task in ("forward", "step"):
            start = time.perf_counter()
            run(index, task)
            spent = (time.perf_counter() - start) * kernel.count / kernel.copies
            for name in (task, f"{kernel.kind} {task}"):
                seconds[name] = seconds.get(name, 0.0) + spent
    return seconds


class OurKernels:
    """Every kernel as a compiled graph of its own, made of the package's cells for these operations."""

    def __init__(self, kernels: Sequence[Kernel]) -> None:
        import mindspore as ms

        self.list = list(kernels)
        rng = np.random.default_rng(0)
        self._operands = [[ms.Tensor(value) for value in kernel.operands(rng)] for kernel in self.list]
        self._graphs = [_graphs(kernel) for kernel in self.list]

    def kernels(self) -> dict[str, float]:
        """See `total`."""
        return total(self.list, self._run)

    def _run(self, index: int, task: str) -> None:
        forward, backward = self._graphs[index]
        found = forward(*self._operands[index])
        if task == "step" and backward is not None:
            found = backward(*self._operands[index], *found)
        for item in found:
            item.asnumpy()


def _graphs(kernel: Kernel) -> tuple[Any, Any]:
    """Compiled forward pass of all copies, and their gradients (None where a step needs none)."""
    import mindspore as ms
    from mindspore import ops

    operator, copies, soft = _operator(kernel), kernel.copies, kernel.kind == "softmax"

    def one(*operands: ms.Tensor) -> ms.Tensor:
        return operator(*operands)

    def forward(*operands: ms.Tensor) -> Any:
        found = ()
        for copy in range(copies):
            found = found + ((one(operands[copy]) if soft else one(operands[0], operands[1 + copy])),)
        return found

    if not (kernel.inputs or kernel.weights):
        return ms.jit(forward), None
    gradient = ops.GradOperation(get_all=True, sens_param=True)(one)
    takes = (True,) if soft else (kernel.inputs, kernel.weights)

    def backward(*operands: ms.Tensor) -> Any:
        found = ()
        for copy in range(copies):
            given = (operands[copy],) if soft else (operands[0], operands[1 + copy])
            # What comes from above has the shape of the result; the result itself serves.
            values = gradient(*given, operands[-copies + copy])
            for place in range(len(takes)):
                if takes[place]:
                    found = found + (values[place],)
        return found

    return ms.jit(forward), ms.jit(backward)


def _operator(kernel: Kernel) -> Any:
    from mindspore import ops

    from mindground.nn.linear import PlainProduct

    if kernel.kind == "matmul":
        return PlainProduct()
    if kernel.kind == "bmm":
        return ops.BatchMatMul()
    if kernel.kind == "softmax":
        return ops.Softmax(-1)
    out, side, stride, padding, groups = kernel.shape[4:]
    return ops.Conv2D(out, side, pad_mode="pad", pad=(padding,) * 4, stride=stride, group=groups)


def bare_kernels(family: str, folder: Path, repeats: int, warm_up: int = 1) -> dict[str, Any]:
    """Time of both sides in the kernels that the family's network is made of.

    Args:
        folder: with config.json, weights and batch, as `children.prepare` leaves it.

    Returns:
        `forward`, `step` and, for every kind, `<kind> forward` and `<kind> step` -> {ours, peer: seconds; ratio}.
    """
    from mindground.cli.bench.children import SIDES, Child

    children: dict[str, Child] = {}
    try:
        children["record"] = Child("peer", "record", family, folder).ready()
        children["record"].end()
        for side in SIDES:
            children[side] = Child(side, "kernels", family, folder)
        for side in SIDES:
            children[side].ready()
        turns: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for turn in range(warm_up + repeats):
            for side in SIDES if turn % 2 == 0 else reversed(SIDES):
                turns[side].append(children[side].run()["numbers"])
        for side in SIDES:
            children[side].end()
    finally:
        for child in children.values():
            child.stop()
    found = {}
    for name in turns["ours"][0]:
        ours, peer = (median(turn[name] for turn in turns[side][warm_up:]) for side in SIDES)
        found[name] = {"ours": ours, "peer": peer, "ratio": ours / peer}
    return found
