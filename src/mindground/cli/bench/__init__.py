"""`mindground bench`: one process per side and task, driven in turns.

A family is compared when it has two modules; nothing lists them. For families of this package they are
`cli/bench/<family>.py` and `cli/bench/<family>_peer.py`, for families of other packages `bench` and `bench_peer` in the
family's own package:

- ours: `DATASET` (whose published recipe is compared), `OVERRIDES` (dotted keys that the comparison needs),
  `weight_map()` (our names to the ones in the shared file) and `arrays(config, rng)` (one batch by name); where the
  network keeps image and sentence apart, `expressions(count)`; where it is measured in parts, `TASKS` (task -> its name
  in the report) and `side(config, folder)`, an object with a method for every task that gives outputs. Importing it
  must not import MindSpore, which changes LD_LIBRARY_PATH: a PyTorch process started afterwards was seen to use one
  thread instead of two;
- the peer, with `peer` the only modules that import PyTorch: `build(config, weights, arrays, training)`, an object with
  `forward()` and `step()` as `worker.Side` has them, or with a method for every one of `TASKS`. They are imported in
  child processes alone.
"""

from __future__ import annotations

import importlib.util

__all__ = ["compared_families", "recipe_modules"]


def compared_families() -> list[str]:
    """Names of the families that have both modules, by the alphabet."""
    from mindground.models import families

    return [name for name in families() if recipe_modules(name) is not None]


def recipe_modules(family: str) -> tuple[str, str] | None:
    """Names of a family's module and of its peer's; None where one of them is missing.

    Raises:
        ConfigError: an unknown family, or one that cannot be imported.
    """
    from mindground.models import family_module

    module = family_module(family)
    places = [(f"{__name__}.{family}", f"{__name__}.{family}_peer")]
    if hasattr(module, "__path__"):  # a family of one file has no modules
        places.append((f"{module.__name__}.bench", f"{module.__name__}.bench_peer"))
    for ours, peer in places:
        if all(importlib.util.find_spec(name) is not None for name in (ours, peer)):
            return ours, peer
    return None
