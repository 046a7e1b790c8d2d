"""What happened to every tensor while weights were loaded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mindground.errors import WeightsError

__all__ = ["LoadReport", "first_few", "matches"]

_SHOWN = 10
# Of one kind of problem, in the table of a refused load; characters of one line.
_LISTED, _LONGEST = 40, 200


def first_few(items: Iterable[str], count: int = _SHOWN) -> str:
    """The first names of a list, and how many more there are."""
    names = list(items)
    rest = len(names) - count
    return ", ".join(names[:count]) + (f", ... and {rest} more" if rest > 0 else "")


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of the regular expressions describes the whole name."""
    return any(re.fullmatch(pattern, name) for pattern in patterns)


@dataclass
class LoadReport:
    """The report on one load.

    Attributes:
        loaded: our names that received their tensor.
        missing: our names for which the file has nothing (they keep their initial values).
        unexpected: names in the file that belong to no parameter.
        mismatched: our name -> why the tensor does not fit (shape or kind of number).
        reshaped: our name -> what an adapter did to make it fit.
        converted: our name -> change of number format, such as `float16 -> float32`.
        ignored: name in the file -> why it is not used.
        expected_missing: our name -> why this source lacks it.
        unfilled: those of them whose initial values are random (`weights.maps.Adapted`).
        source: what was loaded, for messages.
    """

    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: dict[str, str] = field(default_factory=dict)
    reshaped: dict[str, str] = field(default_factory=dict)
    converted: dict[str, str] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    expected_missing: dict[str, str] = field(default_factory=dict)
    unfilled: list[str] = field(default_factory=list)
    source: str = "weights"

    def unexplained_missing(self, allow_missing: Sequence[str] = ()) -> list[str]:
        """Missing names that neither the source's map nor the caller allows."""
        return [name for name in self.missing if name not in self.expected_missing and not matches(name, allow_missing)]

    def summary(self) -> str:
        """One line of counts."""
        return (
            f"{self.source}: {len(self.loaded)} loaded, {len(self.missing)} missing, "
            f"{len(self.unexpected)} unexpected, {len(self.mismatched)} do not fit, "
            f"{len(self.reshaped)} reshaped, {len(self.ignored)} ignored"
        )

    def table(self) -> str:
        """The whole report as lines of text; names with the same reason are grouped."""
        lines = [self.summary()]
        lines += [f"  reshaped    {name}: {note}" for name, note in self.reshaped.items()]
        lines += _grouped("converted", self.converted)
        lines += _grouped("ignored", self.ignored)
        reasons = {name: self.expected_missing.get(name, "keeps its initial value") for name in self.missing}
        lines += _grouped("missing", reasons)
        lines += [f"  unexpected  {name}" for name in self.unexpected]
        lines += [f"  unfit       {name}: {why}" for name, why in self.mismatched.items()]
        return "\n".join(lines)

    def problems(self, allow_missing: Sequence[str] = (), allow_unexpected: Sequence[str] = ()) -> str:
        """The lines of the report that `check` refuses: what does not fit, is missing or is left over."""
        unfit = [f"{name}: {why}" for name, why in self.mismatched.items()]
        missing = self.unexplained_missing(allow_missing)
        unexpected = [name for name in self.unexpected if not matches(name, allow_unexpected)]
        lines = [self.summary()]
        for label, entries in (("unfit", unfit), ("missing", missing), ("unexpected", unexpected)):
            # Names come out of the file: they are shown without control characters, and not at length.
            lines += [f"  {label:<11} {repr(entry[:_LONGEST])[1:-1]}" for entry in entries[:_LISTED]]
            if len(entries) > _LISTED:
                lines.append(f"  {label:<11} ... and {len(entries) - _LISTED} more")
        return "\n".join(lines)

    def check(self, allow_missing: Sequence[str] = (), allow_unexpected: Sequence[str] = ()) -> None:
        """Refuse a load that leaves something unexplained.

        Args:
            allow_missing: regular expressions of our names that may keep their initial values.
            allow_unexpected: regular expressions of names in the file that may be left out.

        Raises:
            WeightsError: something is missing, left over or does not fit; the first ten names of each are listed.
        """
        problems = []
        missing = self.unexplained_missing(allow_missing)
        unexpected = [name for name in self.unexpected if not matches(name, allow_unexpected)]
        if self.mismatched:
            details = first_few(f"{name} ({why})" for name, why in self.mismatched.items())
            problems.append(f"{len(self.mismatched)} do not fit: {details}")
        if missing:
            problems.append(f"{len(missing)} parameters of the model are not in the file: {first_few(missing)}")
        if unexpected:
            problems.append(f"{len(unexpected)} tensors of the file belong to no parameter: {first_few(unexpected)}")
        if problems:
            raise WeightsError(
                f"{self.source} does not match the model ({len(self.loaded)} tensors would fit): "
                + "; ".join(problems)
                + ". Check that the model section describes this file (size, depth, image size) or use another file"
            )


def _grouped(label: str, reasons: Mapping[str, str]) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        by_reason.setdefault(reason, []).append(name)
    return [f"  {label:<11} {reason}: {len(names)} ({first_few(names, 3)})" for reason, names in by_reason.items()]
