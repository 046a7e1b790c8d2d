"""What the data check says: findings, and the report of a data set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mindground.errors import as_sentence
from mindground.files.atomic import write_bytes

__all__ = ["ERROR", "WARNING", "CheckReport", "Finding", "write_report"]

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True, order=True)
class Finding:
    """One defect: its level, kind, split, the sample (or image, or sentence) it is about, and the facts."""

    level: str
    kind: str
    split: str
    subject: str
    detail: str

    def __post_init__(self) -> None:
        # Names and ids of the files under check come to terminals this way.
        object.__setattr__(self, "subject", as_sentence(self.subject))
        object.__setattr__(self, "detail", as_sentence(self.detail))

    def as_dict(self) -> dict[str, str]:
        """Plain values for JSON."""
        return {
            "level": self.level,
            "kind": self.kind,
            "split": self.split,
            "subject": self.subject,
            "detail": self.detail,
        }


@dataclass
class CheckReport:
    """Counts of every split, and all findings in a fixed order.

    `fingerprints` holds, by split, the SHA-256 of its image names, sentences and object ids in their order.
    `facts` is what a format adds about the set as a whole (fingerprint, leak between splits). `published` holds, by
    split, every count that was compared with the literature: {what: {"found": n, "published": n}}.
    """

    dataset: str
    splits: dict[str, dict[str, int]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    facts: Mapping[str, Any] = field(default_factory=dict)
    published: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)

    @property
    def errors(self) -> int:
        """How many findings are errors."""
        return sum(finding.level == ERROR for finding in self.findings)

    def kinds(self) -> dict[str, int]:
        """How often each kind of defect occurs."""
        names = sorted({finding.kind for finding in self.findings})
        return {name: sum(finding.kind == name for finding in self.findings) for name in names}

    def as_dict(self) -> dict[str, Any]:
        """The report as it is written: sorted, without times or machine names."""
        return {
            "schema": 2,
            "dataset": self.dataset,
            "splits": {name: self.splits[name] for name in sorted(self.splits)},
            "published": {name: self.published[name] for name in sorted(self.published)},
            "fingerprints": {name: self.fingerprints[name] for name in sorted(self.fingerprints)},
            **self.facts,
            "errors": self.errors,
            "warnings": len(self.findings) - self.errors,
            "kinds": self.kinds(),
            "findings": [finding.as_dict() for finding in sorted(self.findings)],
        }


def write_report(path: Path, report: CheckReport) -> None:
    """Write the report as JSON, atomically."""
    write_bytes(path, (json.dumps(report.as_dict(), indent=2, ensure_ascii=False) + "\n").encode())
