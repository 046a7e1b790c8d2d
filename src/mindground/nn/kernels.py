"""Which form of a block to build: the one that is fast on CPUs, or native kernels for accelerators."""

from __future__ import annotations

from mindground.runtime.device import fast_cpu_kernels

__all__ = ["fast_cpu_kernels"]
