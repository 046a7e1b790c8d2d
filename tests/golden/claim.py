"""Who answers for which case, and how numbers are compared.

A claim is a function (case, mode, checks) registered for the case names that fit a pattern. It computes with our
code in the given mode and hands pairs of ours and theirs to `checks`.
"""

from __future__ import annotations

import fnmatch
import importlib
import pkgutil
import re
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from golden.case import Case

__all__ = [
    "LOSS_TOLERANCE",
    "NORM_TOLERANCE",
    "Checks",
    "Claim",
    "claim",
    "claims_for",
    "load_claims",
    "run_claim",
]

LOSS_TOLERANCE = 1e-4  # outputs and losses, relative to the largest value of the tensor
NORM_TOLERANCE = 1e-3  # gradient norms, relative
_NOISE = 1e-6  # reference norms below this are rounding noise
# Softmax does not see a constant added to all keys of a query, so these gradients are zero but for rounding.
_ZERO_GRADIENT = re.compile(r"(^|\.)(key|k_proj)\.bias$")


@dataclass
class Checks:
    """Comparisons of one case in one mode."""

    worst: dict[str, float] = field(default_factory=lambda: {"output": 0.0, "loss": 0.0, "grad": 0.0})
    failures: list[str] = field(default_factory=list)
    count: int = 0

    def output(self, name: str, ours: Any, theirs: Any, tolerance: float = LOSS_TOLERANCE) -> None:
        """Compare a tensor; the error is relative to the largest magnitude of the reference."""
        self._relative("output", name, ours, theirs, tolerance)

    def loss(self, name: str, ours: Any, theirs: Any, tolerance: float = LOSS_TOLERANCE) -> None:
        """Compare a loss term."""
        self._relative("loss", name, ours, theirs, tolerance)

    def grad_norm(self, name: str, ours: float, theirs: float, tolerance: float = NORM_TOLERANCE) -> None:
        """Compare the L2 norm of a gradient. Norms that are zero but for rounding are skipped."""
        if float(theirs) < _NOISE or _ZERO_GRADIENT.search(name):
            self.count += 1
            return
        self._relative("grad", name, ours, theirs, tolerance)

    def grad_norms(
        self, ours: Mapping[str, float], theirs: Mapping[str, Any], tolerance: float = NORM_TOLERANCE
    ) -> None:
        """Compare every reference norm; one without a counterpart of ours fails."""
        for name in theirs:
            if name in ours:
                self.grad_norm(name, ours[name], float(theirs[name]), tolerance)
            else:
                self._fail(f"gradient of {name}: we have no such parameter")

    def exact(self, name: str, ours: Any, theirs: Any) -> None:
        """Compare integers, booleans or text, which must be equal."""
        self.count += 1
        a, b = np.asarray(ours), np.asarray(theirs)
        if a.shape != b.shape:
            self._fail(f"{name}: shape {a.shape}, reference {b.shape}")
        elif not np.array_equal(a, b):
            where = np.argwhere(a != b)[0].tolist() if a.ndim else []
            self._fail(f"{name}: differs from the reference, first at {where}")

    def true(self, name: str, condition: bool, detail: str = "") -> None:
        """Demand something that is not a comparison of arrays."""
        self.count += 1
        if not condition:
            self._fail(f"{name}: {detail or 'does not hold'}")

    def _relative(self, kind: str, name: str, ours: Any, theirs: Any, tolerance: float) -> None:
        self.count += 1
        a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
        if a.shape != b.shape:
            self._fail(f"{name}: shape {a.shape}, reference {b.shape}")
            return
        if b.size == 0:
            return
        finite = np.isfinite(b)
        if not np.array_equal(finite, np.isfinite(a)) or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
            self._fail(f"{name}: not finite in other places than the reference")
            return
        scale = float(np.abs(b[finite]).max(initial=0.0))
        error = float(np.abs(a[finite] - b[finite]).max(initial=0.0)) / (scale if scale > 0 else 1.0)
        self.worst[kind] = max(self.worst[kind], error)
        if not error <= tolerance:
            self._fail(f"{name}: relative error {error:.2e}, allowed {tolerance:.0e}")

    def _fail(self, text: str) -> None:
        self.failures.append(text)


Check = Callable[[Case, str, Checks], None]


@dataclass(frozen=True)
class Claim:
    """A function that answers for all cases whose name fits `pattern`, in each of `modes`."""

    pattern: str
    modes: tuple[str, ...]
    check: Check


_CLAIMS: list[Claim] = []


def claim(*patterns: str, modes: tuple[str, ...] = ("graph", "pynative")) -> Callable[[Check], Check]:
    """Register a check for case names (shell patterns). Modes: graph, pynative, or host for numpy-only cases."""
    unknown = set(modes) - {"graph", "pynative", "host"}
    if unknown or not modes:
        raise ValueError(f"modes {modes}; choose from graph, pynative, host")

    def register(check: Check) -> Check:
        _CLAIMS.extend(Claim(pattern, modes, check) for pattern in patterns)
        return check

    return register


def load_claims() -> dict[str, str]:
    """Import every module of `golden.claims`; returns module name -> traceback of those that fail to import."""
    import golden.claims as package

    broken = {}
    for info in pkgutil.iter_modules(package.__path__):
        try:
            importlib.import_module(f"golden.claims.{info.name}")
        except Exception:
            broken[info.name] = traceback.format_exc()
    return broken


def claims_for(name: str) -> list[Claim]:
    """Claims whose pattern fits a case name, each check once."""
    found: dict[Check, Claim] = {}
    for item in _CLAIMS:
        if fnmatch.fnmatchcase(name, item.pattern):
            found.setdefault(item.check, item)
    return list(found.values())


def run_claim(item: Claim, case: Case, mode: str) -> Checks:
    """Run one claim in one mode; an exception counts as a failure with its traceback."""
    if mode != "host":
        import mindspore as ms

        ms.set_context(mode=ms.GRAPH_MODE if mode == "graph" else ms.PYNATIVE_MODE)
    checks = Checks()
    try:
        item.check(case, mode, checks)
    except Exception:
        checks.failures.append(traceback.format_exc())
    if checks.count == 0 and not checks.failures:
        checks.failures.append("the claim compared nothing")
    return checks
