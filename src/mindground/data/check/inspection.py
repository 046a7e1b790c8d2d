"""The splits of a data set for the data check, with what only their format can find.

A reader stops at the first defect, because nothing built on it could be trusted. Here DIOR-RSVG is read to the end and
every defect becomes a finding; other formats are read as for a training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mindground.data import build_dataset, usual_split_by
from mindground.data.check.checks import ERROR, WARNING, Finding
from mindground.data.dataset import Dataset
from mindground.data.formats.dior_rsvg import load_dior_rsvg
from mindground.data.formats.rsvg_lists import leak_lines

if TYPE_CHECKING:
    from mindground.config import DataConfig

__all__ = ["Inspection", "inspect_splits"]


@dataclass
class Inspection:
    """What `check_datasets` takes, and lines for people.

    Attributes:
        datasets: one per split; of broken samples nothing but their finding is left.
        findings: the format's own.
        facts: JSON-able facts about the set as a whole.
        lines: the same for people.
    """

    datasets: list[Dataset]
    findings: list[Finding] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)


def inspect_splits(config: DataConfig, splits: Sequence[str]) -> Inspection:
    """Read splits for the check.

    Raises:
        MindGroundError: files are missing, or of a format that is read as for a training and cannot be.
    """
    if config.dataset != "dior_rsvg":
        return Inspection([build_dataset(config, split) for split in splits])
    whole = load_dior_rsvg(config.root, splits, usual_split_by(config), config.image_root, tolerant=True)
    findings = [
        Finding(ERROR if defect.serious else WARNING, defect.kind, defect.split, defect.subject, defect.detail)
        for defect in whole.defects
    ]
    leak = whole.leak()
    facts: dict[str, Any] = {
        "objects": len(whole.objects),
        "annotation_files": len(whole.files),
        "lists": {split: len(numbers) for split, numbers in whole.lists.items()},
        "release": whole.generation,
        "fingerprint": whole.fingerprint,
        "leak": leak,
    }
    kind = f"published, {whole.generation}" if whole.generation else "not the published ones"
    kind = f"drawn, {whole.split_by}" if whole.split_by != "official" else kind
    lists = ", ".join(f"{split} {count}" for split, count in facts["lists"].items())
    numbering = f"{facts['objects']} objects in {facts['annotation_files']} files"
    lines = [f"numbering: {numbering}, fingerprint {whole.fingerprint[:12]}; lists ({kind}): {lists}"]
    return Inspection([whole.dataset(split) for split in splits], findings, facts, [*lines, *leak_lines(leak)])
