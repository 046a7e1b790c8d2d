"""`mindground bench`: one process per side and task, driven in turns.

A family is one entry in FAMILIES and two modules:

- ours: `DATASET` (whose published recipe is compared), `OVERRIDES` (dotted keys that the comparison needs),
  `weight_map()` (our names to the ones in the shared file) and `arrays(config, rng)` (one batch by name); where the
  network keeps image and sentence apart, `expressions(count)`. Importing it must not import MindSpore, which changes
  LD_LIBRARY_PATH: a PyTorch process started afterwards was seen to use one thread instead of two;
- the peer, with `peer` the only modules that import PyTorch: `build(config, weights, arrays, training)`, an object with
  `forward()` and `step()` as `worker.Side` has them. They are imported in child processes alone.
"""

from __future__ import annotations

__all__ = ["FAMILIES"]

# Family -> (our module, peer's module).
FAMILIES: dict[str, tuple[str, str]] = {
    "clipvg": ("mindground.cli.bench.clipvg", "mindground.cli.bench.clipvg_peer"),
    "vglaw": ("mindground.cli.bench.vglaw", "mindground.cli.bench.vglaw_peer"),
}
