"""A reference case: a folder with `case.json` (model, configuration, names of the reference's state dict) and
`tensors.npz` (input/*, output/*, loss/*, grad_norm/* of the reference run).

Weights are not stored: every entry is drawn from a generator seeded by its name, so that a case of a full-size model
is a few kilobytes and still exercises every entry of a real checkpoint.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Case", "draw", "find_cases", "load_case"]


def draw(name: str, shape: Sequence[int], kind: str, salt: str = "") -> np.ndarray:
    """Value of one state-dict entry. kind: weight | norm | bias | mean | var | const:<value>."""
    if kind.startswith("const:"):
        return np.full(tuple(shape), float(kind[6:]), np.float32)
    generator = np.random.Generator(np.random.PCG64(zlib.crc32((salt + name).encode())))
    x = generator.standard_normal(tuple(shape), dtype=np.float32)
    if kind == "weight":
        fan_in = np.prod(shape[1:]) if len(shape) > 1 else np.prod(shape)
        return x / np.float32(np.sqrt(max(1, int(fan_in))))
    if kind == "norm":
        return 1 + np.float32(0.1) * x
    if kind == "bias":
        return np.float32(0.02) * x
    if kind == "mean":
        return np.float32(0.1) * x
    if kind == "var":
        return 1 + np.float32(0.1) * np.abs(x)
    raise ValueError(f"unknown kind {kind!r} for {name}")


class _Read(Mapping[str, np.ndarray]):
    """A mapping that remembers what was asked of it, so that a report can name what nobody compared."""

    def __init__(self, values: dict[str, np.ndarray]) -> None:
        self._values = values
        self.seen: set[str] = set()

    def __getitem__(self, key: str) -> np.ndarray:
        value = self._values[key]
        self.seen.add(key)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def unread(self) -> list[str]:
        return sorted(set(self._values) - self.seen)


@dataclass
class Case:
    """One reference case; `inputs`, `outputs`, `losses`, `grad_norms` map names to arrays."""

    name: str
    folder: Path
    meta: dict[str, Any]
    tensors: dict[str, np.ndarray]
    inputs: _Read = field(init=False)
    outputs: _Read = field(init=False)
    losses: _Read = field(init=False)
    grad_norms: _Read = field(init=False)

    def __post_init__(self) -> None:
        for attribute, prefix in (
            ("inputs", "input/"),
            ("outputs", "output/"),
            ("losses", "loss/"),
            ("grad_norms", "grad_norm/"),
        ):
            group = {key[len(prefix) :]: value for key, value in self.tensors.items() if key.startswith(prefix)}
            setattr(self, attribute, _Read(group))

    @property
    def config(self) -> dict[str, Any]:
        """Configuration of the reference model."""
        return self.meta.get("config", {})

    @property
    def salt(self) -> str:
        """Text that goes in front of every name when values are drawn."""
        return self.meta.get("salt", "")

    @property
    def entries(self) -> list[list[Any]]:
        """[name, shape, kind] of every state-dict entry."""
        return self.meta.get("state_dict", [])

    def size(self) -> int:
        """Number of values in the state dict."""
        return sum(int(np.prod(shape)) for _, shape, _ in self.entries)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Reference state dict under the reference's names; entries of kind "buffer" are left out."""
        return {name: draw(name, shape, kind, self.salt) for name, shape, kind in self.entries if kind != "buffer"}


def load_case(folder: str | Path) -> Case:
    """Read one case folder; a case without `tensors.npz` holds its numbers in `case.json` alone."""
    folder = Path(folder)
    meta = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    tensors: dict[str, np.ndarray] = {}
    if (folder / "tensors.npz").exists():
        with np.load(folder / "tensors.npz") as archive:
            tensors = {key: archive[key] for key in archive.files}
    return Case(folder.name, folder, meta, tensors)


def find_cases(root: str | Path) -> list[Path]:
    """Case folders directly below `root`, sorted by name."""
    return sorted(path.parent for path in Path(root).glob("*/case.json"))
