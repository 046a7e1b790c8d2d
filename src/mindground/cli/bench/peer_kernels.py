"""Which kernels a PyTorch network is made of, and what they cost PyTorch by themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from mindground.cli.bench.kernels import Kernel, total

__all__ = ["PeerKernels", "record"]


class _Watch(TorchDispatchMode):
    """Counts kernels by kind, shape and the gradients that their operands need."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[tuple[str, tuple[int, ...], bool, bool]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._note(func.overloadpacket.__name__, args)
        return func(*args, **(kwargs or {}))

    def _note(self, name: str, args: Any) -> None:
        if name in ("addmm", "baddbmm"):
            args = args[1:]
        if name in ("mm", "addmm"):
            a, b = args[:2]
            self._add("matmul", (*a.shape, b.shape[1]), a, b)
        elif name in ("bmm", "baddbmm"):
            a, b = args[:2]
            self._add("bmm", (*a.shape, b.shape[2]), a, b)
        elif name == "_softmax":
            x = args[0]
            self._add("softmax", (x.numel() // x.shape[-1], x.shape[-1]), x, None)
        elif name == "convolution" and len(args[3]) == 2 and not args[6]:
            x, weight, _, stride, padding, *_, groups = args[:9]
            side = (weight.shape[0], weight.shape[2], int(stride[0]), int(padding[0]), int(groups))
            self._add("conv", (*x.shape, *side), x, weight)
        elif name == "convolution" and len(args[3]) == 1 and args[1].shape[2] == 1 and args[8] == 1:
            # A convolution of one pixel along one axis is the product of every position with the weights.
            x, weight = args[:2]
            self._add("matmul", (x.shape[0] * x.shape[2], x.shape[1], weight.shape[0]), x, weight)
        elif name.startswith("_scaled_dot_product"):
            q, k, v = args[:3]
            groups, rows, columns = q.shape[0] * q.shape[1], q.shape[2], k.shape[2]
            self._add("bmm", (groups, rows, q.shape[3], columns), q, k)
            self._add("softmax", (groups * rows, columns), q, None)
            self._add("bmm", (groups, rows, columns, v.shape[3]), q, v)

    def _add(self, kind: str, shape: tuple[int, ...], a: torch.Tensor, b: torch.Tensor | None) -> None:
        key = (kind, tuple(int(n) for n in shape), bool(a.requires_grad), b is not None and bool(b.requires_grad))
        self.found[key] += 1


def record(run: Callable[[], Any]) -> list[Kernel]:
    """The kernels that a call runs; it must keep track of gradients."""
    watch = _Watch()
    with torch.enable_grad(), watch:
        run()
    return [Kernel(*key, count) for key, count in watch.found.items()]


class PeerKernels:
    """Every kernel as a call of PyTorch."""

    def __init__(self, kernels: Sequence[Kernel]) -> None:
        self.list = list(kernels)
        rng = np.random.default_rng(0)
        self._operands = []
        for kernel in self.list:
            tensors = [torch.from_numpy(value) for value in kernel.operands(rng)]
            for place, tensor in enumerate(tensors):
                first = place == 0 or kernel.kind == "softmax"
                tensor.requires_grad_(kernel.inputs if first else kernel.weights)
            self._operands.append(tensors)

    def kernels(self) -> dict[str, float]:
        """See `kernels.total`."""
        return total(self.list, self._run)

    def _run(self, index: int, task: str) -> None:
        kernel, operands = self.list[index], self._operands[index]
        learns = task == "step" and (kernel.inputs or kernel.weights)
        with torch.set_grad_enabled(learns):
            found = []
            for copy in range(kernel.copies):
                given = (operands[copy],) if kernel.kind == "softmax" else (operands[0], operands[1 + copy])
                found.append((_apply(kernel, given), given))
        if learns:
            for result, given in found:
                torch.autograd.grad(result, [item for item in given if item.requires_grad], result.detach())


def _apply(kernel: Kernel, given: tuple[torch.Tensor, ...]) -> torch.Tensor:
    if kernel.kind == "matmul":
        return functional.linear(*given)
    if kernel.kind == "bmm":
        return torch.bmm(*given)
    if kernel.kind == "softmax":
        return torch.softmax(given[0], -1)
    stride, padding, groups = kernel.shape[6:]
    return functional.conv2d(given[0], given[1], None, stride, padding, 1, groups)
