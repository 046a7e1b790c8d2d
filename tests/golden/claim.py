"""Who answers for which case, and how numbers are compared.

A claim is a function (case, mode, checks) registered for the cases that say of themselves what it computes: model,
kind, and what `case.json` and `tensors.npz` hold. It computes with our code in the given mode and hands pairs of ours
and theirs to `checks`. The name of a case's folder plays no part: a sibling of other sizes needs no new claim.
"""

from __future__ import annotations

import fnmatch
import importlib
import pkgutil
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from golden.case import LARGE, ZERO_TOLERANCE, Case, Description, GradientRule

__all__ = [
    "LOSS_TOLERANCE",
    "Checks",
    "Claim",
    "claim",
    "claim_for",
    "load_claims",
    "run_claim",
]

LOSS_TOLERANCE = 1e-4  # outputs and losses, relative to the largest value of the tensor


@dataclass
class Checks:
    """Comparisons of one case in one mode.

    Attributes:
        rule: how gradient norms are compared; the case's own.
    """

    rule: GradientRule = field(default_factory=GradientRule)
    worst: dict[str, float] = field(default_factory=lambda: {"output": 0.0, "loss": 0.0, "grad": 0.0})
    failures: list[str] = field(default_factory=list)
    count: int = 0

    def output(self, name: str, ours: Any, theirs: Any, tolerance: float = LOSS_TOLERANCE) -> None:
        """Compare a tensor; the error is relative to the largest magnitude of the reference."""
        self._relative("output", name, ours, theirs, tolerance)

    def loss(self, name: str, ours: Any, theirs: Any, tolerance: float = LOSS_TOLERANCE) -> None:
        """Compare a loss term."""
        self._relative("loss", name, ours, theirs, tolerance)

    def grad_norms(self, ours: Mapping[str, Any], theirs: Mapping[str, Any], tolerance: float | None = None) -> None:
        """Compare the L2 norm of every gradient of the reference.

        What the case lists as zero (without a list: what is next to nothing beside its largest norm) must be small
        in ours; everything else must agree. A name without a counterpart of ours fails.

        Args:
            ours: gradient by the reference's name, or its norm; 0 for a parameter that does not learn.
            theirs: norm by name.
            tolerance: relative; the case's rule if None.
        """
        norms = {name: float(value) for name, value in theirs.items()}
        largest = max(norms.values(), default=0.0)
        unknown = (self.rule.zeros or frozenset()) - norms.keys()
        if unknown:
            self._fail(f"the case lists {', '.join(sorted(unknown))} as zero and holds no such gradient")
        for name, norm in norms.items():
            self.count += 1
            if name not in ours:
                self._fail(f"gradient of {name}: we have no such parameter")
                continue
            found = float(np.linalg.norm(np.asarray(ours[name], np.float64)))
            if self.rule.is_zero(name, norm, largest):
                allowed = max(self.rule.absolute, ZERO_TOLERANCE) * largest
                if not (found <= allowed and norm <= allowed):
                    values = f"ours {found:.1e}, reference {norm:.1e}"
                    self._fail(f"gradient of {name}: zero in exact arithmetic, allowed {allowed:.1e}; {values}")
            else:
                self._norm(name, found, norm, largest, tolerance)

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

    def _norm(self, name: str, ours: float, theirs: float, largest: float, tolerance: float | None) -> None:
        relative = self.rule.relative if tolerance is None else tolerance
        allowed = relative * theirs + self.rule.absolute * largest
        difference = abs(ours - theirs)
        if allowed > 0:
            self.worst["grad"] = max(self.worst["grad"], relative * difference / allowed)
        if not difference <= allowed:
            self._fail(f"gradient of {name}: norm {ours:.6e}, reference {theirs:.6e}, allowed error {allowed:.1e}")

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
    """A function that answers for the cases that `fits` tells; see `claim`."""

    check: Check
    models: frozenset[str]
    kinds: frozenset[str | None]
    holds: tuple[str, ...]
    lacks: tuple[str, ...]
    where: Callable[[Description], bool] | None
    modes: tuple[str, ...]
    whole: bool
    suite: tuple[str, ...] | None
    unread: Mapping[str, str]

    @property
    def name(self) -> str:
        """Module and function, for reports."""
        return f"{self.check.__module__.removeprefix('golden.claims.')}.{self.check.__name__}"

    @property
    def module(self) -> str:
        """Module of the check; the cases of one module share a process."""
        return self.check.__module__

    def fits(self, case: Description) -> bool:
        """Whether the case describes what this claim computes."""
        return (
            case.meta.get("model") in self.models
            and case.meta.get("kind") in self.kinds
            and all(case.holds(address) for address in self.holds)
            and not any(case.holds(address) for address in self.lacks)
            and (self.where is None or self.where(case))
        )

    def modes_in_suite(self, case: Description, everything: bool = False) -> tuple[str, ...]:
        """Modes that the test suite runs; `tests/golden/run.py` and `everything` run all of them.

        A component is a handful of operators: PyNative compares them, and the graphs that they become part of are
        those of the whole models. At full size a whole model runs as in training, in graph mode.
        """
        if everything or len(self.modes) == 1:
            return self.modes
        if self.suite is not None:
            return self.suite
        if self.whole:
            return self.modes if case.size() <= LARGE else tuple(mode for mode in self.modes if mode == "graph")
        return tuple(mode for mode in self.modes if mode == "pynative")


_CLAIMS: list[Claim] = []


def claim(
    *,
    model: str | Sequence[str],
    kind: str | Sequence[str] | None = None,
    holds: Sequence[str] = (),
    lacks: Sequence[str] = (),
    where: Callable[[Description], bool] | None = None,
    modes: tuple[str, ...] = ("graph", "pynative"),
    whole: bool = False,
    suite: tuple[str, ...] | None = None,
    unread: Mapping[str, str] | None = None,
) -> Callable[[Check], Check]:
    """Register a check for the cases whose own description fits. Two claims must never fit the same case.

    Args:
        model: `model` of `case.json`, or several.
        kind: `kind` of `case.json`, or several; None for cases that state none.
        holds: what the case must have, as `Description.holds` reads it: `output/phi`, `grad_norm/*`, `config.vit`.
        lacks: what it must not have.
        where: any further condition on the description.
        modes: graph, pynative, or host for cases that need NumPy only.
        whole: a whole model, which the suite runs in all modes.
        suite: modes that the suite runs instead of what `whole` and gradients say: graph alone for many steps of
            training, which take minutes operator by operator.
        unread: pattern of entries (`output/x*`) -> reason why the claim does not compare them. Every other entry of
            the case must be read: one that is not is a failure.
    """
    unknown = set(modes) - {"graph", "pynative", "host"}
    if unknown or not modes:
        raise ValueError(f"modes {modes}; choose from graph, pynative, host")
    if suite is not None and not set(suite) <= set(modes):
        raise ValueError(f"the suite cannot run {suite} of modes {modes}")
    empty = [pattern for pattern, reason in (unread or {}).items() if not reason.strip()]
    if empty:
        raise ValueError(f"unread entries {empty} need a reason")
    models = frozenset([model] if isinstance(model, str) else model)
    kinds = frozenset([kind] if kind is None or isinstance(kind, str) else kind)

    def register(check: Check) -> Check:
        made = Claim(check, models, kinds, tuple(holds), tuple(lacks), where, modes, whole, suite, dict(unread or {}))
        _CLAIMS.append(made)
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


def claim_for(case: Description) -> Claim | None:
    """The claim that answers for a case, or None.

    Raises:
        ValueError: several claims fit; each case has one answer, or its unread entries could not be told.
    """
    found = [item for item in _CLAIMS if item.fits(case)]
    if len(found) > 1:
        raise ValueError(f"{case.name} fits {', '.join(item.name for item in found)}; narrow all but one of them")
    return found[0] if found else None


def run_claim(item: Claim, case: Case, mode: str) -> Checks:
    """Run one claim in one mode. An exception counts as a failure, and so does an entry that nobody read."""
    if mode != "host":
        import mindspore as ms

        ms.set_context(mode=ms.GRAPH_MODE if mode == "graph" else ms.PYNATIVE_MODE)
    try:
        checks = Checks(GradientRule.of(case.meta))
    except ValueError as error:
        return Checks(failures=[str(error)])
    try:
        item.check(case, mode, checks)
    except Exception:
        checks.failures.append(traceback.format_exc())
    if checks.count == 0 and not checks.failures:
        checks.failures.append("the claim compared nothing")
    left = [entry for entry in case.unread() if not any(fnmatch.fnmatchcase(entry, pattern) for pattern in item.unread)]
    if left and not checks.failures:
        named = ", ".join(left[:8]) + (f" and {len(left) - 8} more" if len(left) > 8 else "")
        checks.failures.append(f"not compared: {named}; read them, or list them in `unread` with the reason")
    return checks
