"""Names and order of DarkNet's weights: SeqTR's files, and `.weights` files, which hold numbers without names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np

from mindground.errors import WeightsError
from mindground.files.darknet import VALUES
from mindground.weights.maps import Adapted, WeightMap

__all__ = ["DARKNET_MAP", "conv_unit_rules", "network_order"]

_LEAVES = ("bn.beta", "bn.gamma", "bn.moving_mean", "bn.moving_variance", "conv.weight")
_MISSING = "the file ends before this layer, which keeps its start values"
_UNIT = re.compile(
    r"(?P<prefix>(?:.*\.)?)layers\.(?P<layer>\d+)\.(?:blocks\.(?P<block>\d+)\.(?P<half>\d+)\.)?conv\.weight"
)


def conv_unit_rules(theirs: str, ours: str) -> tuple[tuple[str, str], ...]:
    """Rules of a convolution with BatchNorm."""
    pairs = (
        ("conv.weight", "conv.weight"),
        ("bn.weight", "bn.gamma"),
        ("bn.bias", "bn.beta"),
        ("bn.running_mean", "bn.moving_mean"),
        ("bn.running_var", "bn.moving_variance"),
    )
    return tuple((f"{theirs}.{a}", f"{ours}.{b}") for a, b in pairs)


def network_order(shapes: Mapping[str, tuple[int, ...]], prefix: str = "") -> Iterator[tuple[int, str]]:
    """(module, name without its leaf) of every convolution below a prefix, in the order of the network."""
    found = []
    for name in shapes:
        match = _UNIT.fullmatch(name)
        if match and match["prefix"] == prefix:
            place = (int(match["layer"]), int(match["block"] or 0), int(match["half"] or 0))
            found.append((place, name.removesuffix("conv.weight")))
    for place, name in sorted(found):
        yield place[0], name


class _DarknetMap(WeightMap):
    """`.weights` files: one long row of numbers, taken in the order of the network."""

    def to_ours(
        self, tensors: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]] | None = None
    ) -> Adapted:
        """See `WeightMap.to_ours`; the file may end at the end of a module, and may go on behind the last one.

        Raises:
            WeightsError: it ends in the middle of a module.
        """
        if VALUES not in tensors or shapes is None:
            return Adapted(unexpected=list(tensors))
        result = Adapted(unexpected=[name for name in tensors if name != VALUES])
        values, at, missing_from = tensors[VALUES], 0, None
        for module, name in network_order(shapes, self.prefix):
            whole = sum(int(np.prod(shapes[name + leaf])) for leaf in _LEAVES)
            if missing_from is None and at == values.size:
                missing_from = module
            if missing_from is not None:
                if module == missing_from and any(
                    done.startswith(f"{self.prefix}layers.{module}.") for done in result.tensors
                ):
                    raise WeightsError(self._cut(values.size, module))
                result.missing |= {name + leaf: _MISSING for leaf in _LEAVES}
                result.unfilled.append(name + _LEAVES[-1])
                continue
            if at + whole > values.size:
                raise WeightsError(self._cut(values.size, module))
            for leaf in _LEAVES:
                shape = tuple(shapes[name + leaf])
                count = int(np.prod(shape))
                result.tensors[name + leaf] = values[at : at + count].reshape(shape)
                at += count
        result.renamed[VALUES] = f"{self.prefix}layers"
        if at < values.size:
            result.ignored[VALUES] = f"{values.size - at} of {values.size} numbers lie behind the layers that are read"
        return result

    def _cut(self, count: int, module: int) -> str:
        return (
            f"{self.name}: {count} numbers end in the middle of module {module}; the file is cut off or belongs to "
            "another network: download it again"
        )


DARKNET_MAP: WeightMap = _DarknetMap("DarkNet .weights", rules=(), backbone="")
