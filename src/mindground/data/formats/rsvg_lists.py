"""The index lists of DIOR-RSVG: which object numbers belong to which split, and what the splits share.

A list holds object numbers, one per line, ascending. Two generations of lists were published over one numbering;
their lengths tell them apart. Both divide by expression, so that images occur on both sides; `image_disjoint`
divides by image.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mindground.data.formats.files import Defect
from mindground.errors import DataError, shown
from mindground.files.text import read_lines

__all__ = [
    "GENERATIONS",
    "PUBLISHED_OBJECTS",
    "check_lists",
    "divide",
    "image_disjoint",
    "image_numbers",
    "leak_report",
    "leak_lines",
    "read_index_list",
]

PUBLISHED_OBJECTS = 38320
# Lengths of the published lists (github.com/ZhanYang-nwpu/RSVG-pytorch, its present and its first commit).
GENERATIONS: Mapping[str, Mapping[str, int]] = {
    "the current release": {"train": 26991, "val": 3829, "test": 7500},
    "the first release of 2022": {"train": 15328, "val": 3832, "test": 19160},
}
_SHARES = tuple(count / PUBLISHED_OBJECTS for count in GENERATIONS["the current release"].values())
_PARTS = ("train", "val", "test")


def read_index_list(path: Path, total: int, split: str) -> tuple[list[int], list[Defect]]:
    """Numbers of one list, and the first defect of each kind with its line.

    Args:
        path: one object number per line.
        total: how many objects there are; numbers run from 0 to total - 1.
        split: name for the defects.

    Returns:
        The numbers that name an object, each once, in file order; defects.
    """
    numbers: list[int] = []
    seen: set[int] = set()
    first: dict[str, tuple[int, str]] = {}
    count: dict[str, int] = {}
    last = -1
    for line, raw in enumerate(read_lines(path, errors="replace"), 1):
        text = raw.strip()
        if not text:
            continue
        problem = ""
        if not re.fullmatch(r"\d{1,9}", text):
            problem, detail = "list_format", f"{text[:40]!r} is no object number"
        elif len(text) > 1 and text.startswith("0"):
            problem, detail = "list_format", f"{text!r} looks like a file's number; a list holds object numbers"
        elif int(text) >= total:
            problem, detail = "list_range", f"number {text} is beyond the last object, {total - 1}"
        elif int(text) in seen:
            problem, detail = "list_duplicate", f"number {text} stands here a second time"
        elif int(text) < last:
            problem, detail = "list_unsorted", f"{text} follows {last}; lists ascend, this one may be of another set"
        if problem:
            first.setdefault(problem, (line, detail))
            count[problem] = count.get(problem, 0) + 1
        if problem in ("", "list_unsorted"):
            last = int(text)
            seen.add(last)
            numbers.append(last)
    defects = []
    for kind, (line, detail) in first.items():
        more = f" ({count[kind] - 1} more such lines)" if count[kind] > 1 else ""
        defects.append(Defect(kind, f"{path.name} line {line}", detail + more, split))
    return numbers, defects


def check_lists(lists: Mapping[str, Sequence[int]], total: int) -> tuple[str, list[Defect]]:
    """Do the lists fit together and to the number of objects?

    Args:
        lists: split -> numbers; `train`, `val` and `test` are compared, others are somebody's own.
        total: objects in all annotation files.

    Returns:
        Name of the published generation, or "" for a set that is not the published one; defects.
    """
    lengths = {split: len(lists[split]) for split in _PARTS if split in lists}
    said = ", ".join(f"{split} {count}" for split, count in lengths.items())
    of = {
        split: name for split, count in lengths.items() for name, known in GENERATIONS.items() if known[split] == count
    }
    defects = _overlaps(lists)
    if len(set(of.values())) > 1:
        mix = " and ".join(f"{split}.txt is of {name}" for split, name in of.items())
        detail = f"{mix} ({said}); take all lists from one release, or test samples are trained on"
        return "", [Defect("list_generation", "index lists", detail), *defects]
    whole = len(of) == len(lengths) > 0
    if whole and len(lengths) > 1 and total != PUBLISHED_OBJECTS:
        detail = (
            f"the lists are the published ones ({said}) and count {PUBLISHED_OBJECTS} objects, the annotation files "
            f"hold {total}; files are missing or were added, and every number behind them means another object"
        )
        return "", [Defect("count", "Annotations", detail), *defects]
    published = whole and total == PUBLISHED_OBJECTS
    if total == PUBLISHED_OBJECTS and not whole:
        detail = f"lists of {said} are of no known release; figures cannot be compared with published ones"
        defects.append(Defect("count", "index lists", detail, serious=False))
    left = total - len({number for split in lengths for number in lists[split]})
    if len(lengths) == len(_PARTS) and left:
        detail = f"{left} of {total} objects are in none of train.txt, val.txt and test.txt"
        defects.append(Defect("uncovered", "index lists", detail, serious=False))
    return (next(iter(of.values())) if published else ""), defects


def _overlaps(lists: Mapping[str, Sequence[int]]) -> list[Defect]:
    pairs = [("train", "val"), ("train", "test"), ("val", "test"), ("train_pseudo", "val"), ("train_pseudo", "test")]
    defects = []
    for first, second in pairs:
        shared = sorted(set(lists.get(first, ())) & set(lists.get(second, ())))
        if shared:
            some = ", ".join(map(str, shared[:5])) + (", ..." if len(shared) > 5 else "")
            detail = f"{len(shared)} numbers stand in both lists ({some}); they may be of two releases"
            defects.append(Defect("list_overlap", f"{first}.txt and {second}.txt", detail, f"{first}+{second}"))
    return defects


def divide(units: Sequence[str], weights: Sequence[int], seed: int = 0) -> list[str]:
    """train, val or test for every unit, in the official proportions of the weights (70.4, 10.0 and 19.6 %).

    The order of the units' hashes decides, so the division depends on their names and the seed alone.

    Args:
        units: names (images, or expressions).
        weights: how many expressions each stands for.
        seed: another seed gives another division.
    """
    order = sorted(range(len(units)), key=lambda place: hashlib.sha256(f"{seed}:{units[place]}".encode()).digest())
    total, done = sum(weights), 0.0
    parts = [""] * len(units)
    for place in order:
        middle = (done + weights[place] / 2) / max(1, total)
        done += weights[place]
        parts[place] = (
            _PARTS[0] if middle < _SHARES[0] else _PARTS[1] if middle < _SHARES[0] + _SHARES[1] else _PARTS[2]
        )
    return parts


def image_disjoint(images: Sequence[str], seed: int = 0) -> dict[str, list[int]]:
    """Lists under which no image is in two splits.

    Args:
        images: image of every object, in the order of the numbers.
        seed: another seed gives another division.

    Returns:
        train, val, test -> ascending object numbers.
    """
    numbers: dict[str, list[int]] = {}
    for number, image in enumerate(images):
        numbers.setdefault(image, []).append(number)
    names = sorted(numbers)
    lists: dict[str, list[int]] = {part: [] for part in _PARTS}
    for name, part in zip(names, divide(names, [len(numbers[name]) for name in names], seed), strict=True):
        lists[part] += numbers[name]
    return {part: sorted(found) for part, found in lists.items()}


def image_numbers(lists: Mapping[str, Sequence[int]], images: Sequence[str]) -> dict[str, list[int]]:
    """The lists as MSAM's `xml2instances.py` reads them: their numbers name images, each with all its objects.

    Numbers that name no image are of no use there. It is not the official division: figures cannot be compared.

    Args:
        lists: split -> numbers.
        images: image of every object, in the order of the object numbers; its name is a number (`00017.jpg`).

    Returns:
        Split -> ascending object numbers.

    Raises:
        DataError: an image whose name is no number.
    """
    objects: dict[int, list[int]] = {}
    for number, image in enumerate(images):
        stem = Path(image).stem
        if not re.fullmatch(r"[0-9]{1,9}", stem):
            raise DataError(f"data.splitBy=msam_image divides by the numbers of images, and {shown(image)} has none")
        objects.setdefault(int(stem), []).append(number)
    return {split: sorted(n for name in set(names) for n in objects.get(name, ())) for split, names in lists.items()}


def leak_report(lists: Mapping[str, Sequence[int]], images: Sequence[str], objects: Sequence[str]) -> dict[str, Any]:
    """How much of val and test the training has seen, counted exactly.

    Args:
        lists: split -> object numbers.
        images: image of every number.
        objects: object (image and box) of every number.

    Returns:
        For val and test, where they and train exist: `expressions`; `on_train_images`, `on_train_objects` (the very
        box is trained on with another sentence) and `train_neighbours` (number - 1 or + 1 is in train), each as
        {count, share}; and `images` with {count, of, share}.
    """
    train = set(lists.get("train", ()))
    seen = {images[number] for number in train}
    boxes = {objects[number] for number in train}
    report: dict[str, Any] = {}
    for split in ("val", "test"):
        numbers = lists.get(split, ())
        if not numbers or not train:
            continue
        total = len(numbers)
        here = {images[number] for number in numbers}
        shared = len(here & seen)
        report[split] = {
            "expressions": total,
            "on_train_images": _share(sum(images[number] in seen for number in numbers), total),
            "on_train_objects": _share(sum(objects[number] in boxes for number in numbers), total),
            "train_neighbours": _share(sum(n - 1 in train or n + 1 in train for n in numbers), total),
            "images": {"count": shared, "of": len(here), "share": round(shared / len(here), 6)},
        }
    return report


def _share(count: int, total: int) -> dict[str, Any]:
    return {"count": count, "share": round(count / total, 6)}


def leak_lines(report: Mapping[str, Any]) -> list[str]:
    """One line a split for people."""
    lines = []
    for split, values in report.items():
        images, objects, near = (
            f"{100 * values[key]['share']:.1f} %" for key in ("on_train_images", "on_train_objects", "train_neighbours")
        )
        lines.append(
            f"leak: {values['on_train_images']['count']} of {values['expressions']} {split} expressions ({images}) "
            f"lie on images that occur in train; {objects} ask for an object of train, {near} have a neighbouring "
            "number in train"
        )
    return lines
