"""Machinery of tools/benchmark.py: one process per side and task, driven in turns.

A family is one entry in FAMILIES and two modules:

- ours: `CONFIG` (file under configs/), `OVERRIDES` (dotted keys that the comparison needs), `weight_map()` (our names
  to the ones in the shared file) and `arrays(config, rng)` (one batch by name); where the network keeps image and
  sentence apart, `expressions(count)`. Importing it must not import MindSpore, which changes LD_LIBRARY_PATH: a PyTorch
  process started afterwards was seen to use one thread instead of two;
- the peer, the only place that imports PyTorch: `build(config, weights, arrays, training)`, an object with `forward()`
  and `step()` as `_benchmark.worker.Side` has them.
"""

from __future__ import annotations

__all__ = ["FAMILIES"]

# Family -> (our module, peer's module).
FAMILIES: dict[str, tuple[str, str]] = {
    "clipvg": ("_benchmark.clipvg", "_benchmark.clipvg_peer"),
    "vglaw": ("_benchmark.vglaw", "_benchmark.vglaw_peer"),
}
