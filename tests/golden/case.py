"""A reference case: a folder with `case.json` (model, configuration, names of the reference's state dict) and
`tensors.npz` (input/*, output/*, loss/*, grad_norm/* of the reference run).

Weights are not stored: every entry is drawn from a generator seeded by its name, so that a case of a full-size model
is a few kilobytes and still exercises every entry of a real checkpoint.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["LARGE", "Case", "Description", "GradientRule", "describe", "draw", "find_cases", "load_case"]

# A case of more values than this is of full size: it gets a process of its own, because MindSpore keeps the memory
# that it once took, and the suite runs it only where a change can reach it.
LARGE = 20_000_000

NORM_TOLERANCE = 1e-3  # gradient norms, relative
# Where a case has no list of its own: what lies below this part of the largest norm is zero in exact arithmetic. The
# reference's rounding ends at 1e-8, the smallest true norm of all cases without a list is 2e-5 of the largest.
ZERO_PART = 1e-6
ZERO_TOLERANCE = 2e-5  # how large a gradient that is zero may be in float32, as a part of the largest norm

_RULE = re.compile(r"\|a-b\| <= ([\d.e-]+)\*b \+ ([\d.e-]+)\*max\(all\)")


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


@dataclass(frozen=True)
class GradientRule:
    """How gradient norms of a case are compared: |ours - theirs| <= relative * theirs + absolute * largest norm.

    Attributes:
        relative: part of the reference's norm.
        absolute: part of the case's largest norm; 0 unless the case states one.
        zeros: names that are zero in exact arithmetic, or None where the case has no list.
    """

    relative: float = NORM_TOLERANCE
    absolute: float = 0.0
    zeros: frozenset[str] | None = None

    @classmethod
    def of(cls, meta: Mapping[str, Any]) -> GradientRule:
        """The rule that a `case.json` states (`zero_gradient` or `zero_grad`, `compare`).

        Raises:
            ValueError: `compare` is written in a way that this does not read, or both lists are there.
        """
        lists = [meta[key] for key in ("zero_gradient", "zero_grad") if key in meta]
        if len(lists) > 1:
            raise ValueError("a case has zero_gradient and zero_grad; one list must say which gradients are zero")
        zeros = frozenset(lists[0]) if lists else None
        if "compare" not in meta:
            return cls(zeros=zeros)
        stated = _RULE.search(meta["compare"])
        if stated is None:
            raise ValueError(f"no rule for gradient norms in compare={meta['compare']!r}; extend golden.case._RULE")
        # Not wider than the tolerance of all other cases.
        return cls(min(NORM_TOLERANCE, float(stated[1])), float(stated[2]), zeros)

    def is_zero(self, name: str, norm: float, largest: float) -> bool:
        """Whether a norm of the reference stands for zero: by the case's list, else by its size."""
        return name in self.zeros if self.zeros is not None else norm <= ZERO_PART * largest


class _Read(Mapping[str, np.ndarray]):
    """A mapping that remembers what was asked of it, so that what nobody compared can be named."""

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


@dataclass(frozen=True)
class Description:
    """What a case says about itself, without its numbers.

    Attributes:
        name: of the folder; says nothing about who answers for the case.
        meta: `case.json`.
        entries: names in `tensors.npz`, with their prefix.
    """

    name: str
    folder: Path
    meta: Mapping[str, Any]
    entries: frozenset[str]

    def holds(self, address: str) -> bool:
        """Whether the case has something: an entry (`output/phi`, `grad_norm/*`) or a key (`optimizer`, `config.vit`).

        A `*` at the end stands for any rest of an entry's name.
        """
        if "/" in address:
            if address.endswith("*"):
                return any(entry.startswith(address[:-1]) for entry in self.entries)
            return address in self.entries
        value: Any = self.meta
        for key in address.split("."):
            if not isinstance(value, Mapping) or key not in value:
                return False
            value = value[key]
        return True

    def size(self) -> int:
        """Number of values in the state dict."""
        return sum(int(np.prod(shape)) for _, shape, _ in self.meta.get("state_dict", []))


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

    def state_dict(self) -> dict[str, np.ndarray]:
        """Reference state dict under the reference's names; entries of kind "buffer" are left out."""
        return {name: draw(name, shape, kind, self.salt) for name, shape, kind in self.entries if kind != "buffer"}

    def unread(self) -> list[str]:
        """Results of the reference that nobody asked for so far, with their prefix."""
        groups = {"output": self.outputs, "loss": self.losses, "grad_norm": self.grad_norms}
        return [f"{prefix}/{key}" for prefix, group in groups.items() for key in group.unread()]


def _meta(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "case.json").read_text(encoding="utf-8"))


def describe(folder: str | Path) -> Description:
    """Read what one case folder says about itself; quick, no array is read."""
    folder = Path(folder)
    entries: frozenset[str] = frozenset()
    if (folder / "tensors.npz").exists():
        with np.load(folder / "tensors.npz") as archive:
            entries = frozenset(archive.files)
    return Description(folder.name, folder, _meta(folder), entries)


def load_case(folder: str | Path) -> Case:
    """Read one case folder; a case without `tensors.npz` holds its numbers in `case.json` alone."""
    folder = Path(folder)
    tensors: dict[str, np.ndarray] = {}
    if (folder / "tensors.npz").exists():
        with np.load(folder / "tensors.npz") as archive:
            tensors = {key: archive[key] for key in archive.files}
    return Case(folder.name, folder, _meta(folder), tensors)


def find_cases(root: str | Path) -> list[Path]:
    """Case folders directly below `root`, sorted by name."""
    return sorted(path.parent for path in Path(root).glob("*/case.json"))
