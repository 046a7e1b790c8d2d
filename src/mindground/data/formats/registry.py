"""The data sets that can be read: each names its usual divisions into splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["FORMATS", "DatasetFormat"]


@dataclass(frozen=True)
class DatasetFormat:
    """One value of `data.dataset`.

    Attributes:
        name: as configurations write it.
        splits: `data.splitBy` -> splits to evaluate; the first division is the usual one.
    """

    name: str
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"": ("val",)})


FORMATS: dict[str, DatasetFormat] = {
    item.name: item
    for item in (
        DatasetFormat("refcoco", {"unc": ("val", "testA", "testB"), "google": ("val", "test")}),
        DatasetFormat("refcoco+", {"unc": ("val", "testA", "testB")}),
        DatasetFormat("refcocog", {"umd": ("val", "test"), "google": ("val",)}),
        DatasetFormat("refclef", {"berkeley": ("val", "test"), "unc": ("val", "testA", "testB", "testC")}),
        DatasetFormat("dior_rsvg", {"official": ("val", "test"), "image_disjoint": ("val", "test")}),
        DatasetFormat("unc", {"": ("val", "testA", "testB")}),
        DatasetFormat("unc+", {"": ("val", "testA", "testB")}),
        DatasetFormat("gref", {"": ("val",)}),
        DatasetFormat("gref_umd", {"": ("val", "test")}),
        DatasetFormat("referit", {"": ("val", "test")}),
        DatasetFormat("flickr", {"": ("val", "test")}),
        DatasetFormat("jsonl"),
        DatasetFormat("coco"),
        DatasetFormat("synthetic"),
    )
}
