"""From what a format finds in its own files to the report of the data check."""

from __future__ import annotations

from mindground.data.check.checks import ERROR, MIN_BOX_IOU, WARNING, CheckReport, Finding, check_datasets
from mindground.data.formats.registry import Inspection

__all__ = ["check_inspection", "published_lines"]


def check_inspection(
    inspection: Inspection, *, decode_images: bool = True, min_box_iou: float = MIN_BOX_IOU
) -> CheckReport:
    """Check the splits that `DatasetFormat.inspect` (or `data.inspect_dataset`) read.

    Args:
        inspection: splits, and what their format found.
        decode_images, min_box_iou: as for `check_datasets`.
    """
    return check_datasets(
        inspection.datasets,
        published=inspection.published,
        shared=inspection.shared,
        decode_images=decode_images,
        min_box_iou=min_box_iou,
        found=[
            Finding(ERROR if defect.serious else WARNING, defect.kind, defect.split, defect.subject, defect.detail)
            for defect in inspection.defects
        ],
        facts=inspection.facts,
    )


def published_lines(report: CheckReport) -> list[str]:
    """One line for people on every split whose counts are those of the literature; others are findings."""
    lines = []
    for split, counts in sorted(report.published.items()):
        if all(numbers["found"] == numbers["published"] for numbers in counts.values()):
            said = ", ".join(f"{numbers['found']} {what}" for what, numbers in counts.items())
            lines.append(f"{split}: {said}, as published")
    return lines
