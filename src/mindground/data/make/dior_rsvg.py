"""Any referring set as a folder of DIOR-RSVG's shape: XML annotations, images, lists of object numbers.

For trying DIOR-RSVG recipes on other images. One sentence is one `object` element; an object with four sentences
stands four times in its file, as in DIOR-RSVG, where sentences share objects.
"""

from __future__ import annotations

import os
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mindground.data.dataset import Dataset
from mindground.data.formats.rsvg_lists import divide, image_disjoint
from mindground.errors import DataError
from mindground.files.atomic import write_bytes
from mindground.files.images import read_image
from mindground.files.outputs import refuse_output
from mindground.structures import Sample

__all__ = ["Division", "Placement", "RsvgReport", "write_dior_rsvg"]

Division = Literal["expression", "image", "keep"]
Placement = Literal["copy", "hardlink", "symlink"]


@dataclass
class RsvgReport:
    """What was written: annotation files, objects, objects by list, and how much boxes were rounded (pixels)."""

    files: int
    objects: int
    lists: dict[str, int]
    largest_rounding: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Entry:
    sample: Sample
    category: str
    corners: tuple[int, int, int, int]
    rounding: float


def write_dior_rsvg(
    out: Path,
    datasets: Sequence[Dataset],
    *,
    division: Division = "expression",
    placement: Placement = "copy",
    seed: int = 0,
) -> RsvgReport:
    """Write `Annotations/*.xml`, `JPEGImages/*` and the index lists below `out`.

    Args:
        out: a new folder, or one that an earlier call wrote from the same images.
        datasets: one per split; every sample has a sentence and one box.
        division: `expression` draws train, val and test by sentence in the official proportions, as DIOR-RSVG does;
            `image` by image; `keep` takes the splits of the samples, one list each.
        placement: how the images come into `JPEGImages`; their files keep their names and contents.
        seed: draws the division.

    Raises:
        DataError: a sample without exactly one box inside its image, two images of one name, or an `out` with
            other annotation files, which would shift the numbers.
    """
    by_file = _gather(datasets)
    names = sorted(by_file)
    _require_free(out, names)
    entries = [entry for name in names for entry in by_file[name]]
    for name in names:
        _place(Path(by_file[name][0].sample.image_path), out / "JPEGImages", placement)
        write_bytes(out / "Annotations" / name, _annotation(by_file[name]))
    lists = _lists(names, by_file, division, seed)
    for stale in {"train", "val", "test"} - set(lists):  # of an earlier call with another division
        (out / f"{stale}.txt").unlink(missing_ok=True)
    for split, numbers in lists.items():
        write_bytes(out / f"{split}.txt", "".join(f"{number}\n" for number in numbers).encode())
    rounding = max(entry.rounding for entry in entries)
    counts = {split: len(numbers) for split, numbers in lists.items()}
    return RsvgReport(len(names), len(entries), counts, round(rounding, 3))


def _gather(datasets: Sequence[Dataset]) -> dict[str, list[_Entry]]:
    by_file: dict[str, list[_Entry]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for dataset in datasets:
        for sample in dataset:
            path = sample.image_path
            if path not in sizes:
                height, width = sample.size or read_image(path).shape[:2]
                sizes[path] = (int(height), int(width))
            label = int(sample.labels[0]) if len(sample.labels) else 0
            category = dataset.categories.get(label, "object")
            entries = by_file.setdefault(f"{Path(path).stem}.xml", [])
            if entries and entries[0].sample.image_path != path:
                raise DataError(
                    f"{entries[0].sample.image_path} and {path} would both be called {Path(path).stem}; rename one"
                )
            entries.append(_entry(sample, category, sizes[path]))
    if not by_file:
        raise DataError("the set to convert holds no sample; name another one")
    return by_file


def _entry(sample: Sample, category: str, size: tuple[int, int]) -> _Entry:
    if not sample.expression or len(sample.boxes_xyxy) != 1:
        raise DataError(
            f"sample {sample.sample_id!r} has {len(sample.boxes_xyxy)} boxes and the sentence {sample.expression!r}; "
            "one of each is wanted"
        )
    exact = [float(value) for value in sample.boxes_xyxy[0]]
    left, top, right, bottom = (round(value) for value in exact)
    if not (0 <= left < right <= size[1] and 0 <= top < bottom <= size[0]):
        raise DataError(
            f"sample {sample.sample_id!r} has the box {exact}, in whole pixels not inside its image of "
            f"{size[1]} x {size[0]}; run tools/data_check.py"
        )
    corners = (left, top, right, bottom)
    rounding = max(abs(value - whole) for value, whole in zip(exact, corners, strict=True))
    return _Entry(replace(sample, size=size), category, corners, rounding)


def _annotation(entries: Sequence[_Entry]) -> bytes:
    root = ElementTree.Element("annotation")
    first = entries[0].sample
    height, width = first.size or (0, 0)

    def add(parent: ElementTree.Element, tag: str, text: object = None) -> ElementTree.Element:
        element = ElementTree.SubElement(parent, tag)
        element.text = None if text is None else str(text)
        return element

    add(root, "filename", Path(first.image_path).name)
    add(add(root, "source"), "database", "converted by MindGround")
    size = add(root, "size")
    for tag, value in (("width", width), ("height", height), ("depth", 3)):
        add(size, tag, value)
    add(root, "segmented", 0)
    for entry in entries:
        item = add(root, "object")
        add(item, "name", entry.category)
        add(item, "pose", "Unspecified")
        box = add(item, "bndbox")
        for tag, number in zip(("xmin", "ymin", "xmax", "ymax"), entry.corners, strict=True):
            add(box, tag, number)
        add(item, "description", entry.sample.expression)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


def _lists(
    names: Sequence[str], by_file: dict[str, list[_Entry]], division: Division, seed: int
) -> dict[str, list[int]]:
    images = [name for name in names for _ in by_file[name]]
    if division == "image":
        return image_disjoint(images, seed)
    if division == "expression":
        units = [f"{name}#{position}" for name in names for position in range(len(by_file[name]))]
        parts = divide(units, [1] * len(units), seed)
        found: tuple[str, ...] = ("train", "val", "test")
    else:
        parts = [entry.sample.split for name in names for entry in by_file[name]]
        found = tuple(dict.fromkeys(parts))
    return {part: [number for number, own in enumerate(parts) if own == part] for part in found}


def _require_free(out: Path, names: Sequence[str]) -> None:
    folder = out / "Annotations"
    others = sorted({path.name for path in folder.glob("*.xml")} - set(names)) if folder.is_dir() else []
    if others:
        raise DataError(
            f"{folder} holds {len(others)} files that are not of this set ({others[0]}); they would shift the numbers: "
            "choose another --out"
        )


def _place(source: Path, folder: Path, how: Placement) -> None:
    """Bring one image into the folder; what an earlier call left there is replaced."""
    target = folder / source.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if target.exists() and target.resolve() == source.resolve() and not target.is_symlink():
            return
        if not target.exists() or not target.samefile(source):
            refuse_output(target)
        target.unlink(missing_ok=True)
        if how == "copy":
            shutil.copyfile(source, target)
        elif how == "hardlink":
            os.link(source, target)
        else:
            target.symlink_to(source.resolve())
    except OSError as error:
        raise DataError(
            f"{source} could not be brought to {target} ({error.strerror or error}); free some space, "
            "or choose another --pictures"
        ) from error
