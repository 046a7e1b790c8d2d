"""Which form of a block to build: the reformulated one for CPUs, or native kernels for accelerators."""

from __future__ import annotations

__all__ = ["fast_cpu_kernels"]


def fast_cpu_kernels() -> bool:
    """Whether the selected device wants the CPU formulations; asked once per Cell, when it is built."""
    try:
        from mindground.device import fast_cpu_kernels as selected
    except ImportError:
        return True
    return selected()
