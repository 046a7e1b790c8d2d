"""A small set of DIOR-RSVG's shape for the tests."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

FILES = {"00003": 3, "00010": 1, "00001": 2, "11726": 2}


def xml(stem: str, count: int) -> str:
    """A file of `count` objects whose boxes and sentences carry their place."""
    objects = "".join(
        f"<object><name>ship</name><pose>Unspecified</pose><bndbox><xmin>{k + 1}</xmin><ymin>2</ymin>"
        f"<xmax>{k + 20}</xmax><ymax>30</ymax></bndbox><description>ship {k} of {stem}</description></object>"
        for k in range(count)
    )
    size = "<size><width>60</width><height>40</height><depth>3</depth></size>"
    return f"<annotation><filename>{stem}.jpg</filename>{size}{objects}</annotation>"


def make_set(root: Path, lists: dict[str, list[int]] | None = None) -> Path:
    """Eight objects in four files; numbers 0-1 in 00001, 2-4 in 00003, 5 in 00010, 6-7 in 11726."""
    (root / "Annotations").mkdir(parents=True)
    (root / "JPEGImages").mkdir()
    for number, (stem, count) in enumerate(FILES.items()):
        (root / "Annotations" / f"{stem}.xml").write_text(xml(stem, count))
        image = np.random.default_rng(number).integers(0, 255, (40, 60, 3), np.uint8)
        cv2.imwrite(str(root / "JPEGImages" / f"{stem}.jpg"), image)
    for name, numbers in (lists or {"train": [0, 2, 3, 6], "val": [1, 5], "test": [4, 7]}).items():
        (root / f"{name}.txt").write_text("".join(f"{number}\n" for number in numbers))
    return root


def change(root: Path, stem: str, old: str, new: str) -> None:
    """Replace the first place of `old` in an annotation."""
    path = root / "Annotations" / f"{stem}.xml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
