"""`mindground bench`: one process per side and task, driven in turns.

A network is compared when it has two modules; nothing lists them. For networks of this package they are
`cli/bench/<name>.py` and `cli/bench/<name>_peer.py`, where the name is that of a family or of one of its forms; for
families of other packages they are `bench` and `bench_peer` in the family's own package:

- ours: `DATASET` (whose published recipe is compared), `OVERRIDES` (dotted keys that the comparison needs), `FAMILY`
  where the name is not the family's, `weight_map()` (our names to the ones in the shared file) and `arrays(config,
  rng)` (one batch by name). `BARE_KERNELS = True` times kernels without being asked, `DECODES = True` both ways to
  write an answer token by token; where the network keeps image and sentence apart, there is `expressions(count)`;
  where it is measured in parts, `TASKS` (task -> its name in the report) and `side(config, folder)`, an object with a
  method for every task that gives outputs. Importing it must not import MindSpore, which changes LD_LIBRARY_PATH: a
  PyTorch process started afterwards was seen to use one thread instead of two;
- the peer, with `peer` and `peer_kernels` the only modules that import PyTorch: `build(config, weights, arrays,
  training)`, an object with `forward()` and `step()` as `worker.Side` has them, or with a method for every one of
  `TASKS`. They are imported in child processes alone.
"""

from __future__ import annotations

import importlib.util
import pkgutil

__all__ = ["compared_families", "recipe_modules"]


def compared_families() -> list[str]:
    """Names of the networks that have both modules, by the alphabet."""
    from mindground.models import families

    here = {info.name for info in pkgutil.iter_modules(__path__)}
    own = {name for name in here if f"{name}_peer" in here}
    return sorted(own | {name for name in families() if recipe_modules(name) is not None})


def recipe_modules(family: str) -> tuple[str, str] | None:
    """Names of a network's module and of its peer's; None where one of them is missing.

    Raises:
        ConfigError: an unknown family, or one that cannot be imported.
    """
    from mindground.models import family_module

    own = (f"{__name__}.{family}", f"{__name__}.{family}_peer")
    if family.isidentifier() and all(importlib.util.find_spec(name) is not None for name in own):
        return own
    module = family_module(family)
    if not hasattr(module, "__path__"):  # a family of one file has no modules
        return None
    other = (f"{module.__name__}.bench", f"{module.__name__}.bench_peer")
    return other if all(importlib.util.find_spec(name) is not None for name in other) else None
