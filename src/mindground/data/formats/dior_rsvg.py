"""DIOR-RSVG (Zhan, Xiong, Yuan, TGRS 2023) and sets of its shape: XML annotations, splits as lists of object numbers.

The numbers mean nothing by themselves: files in ascending order of their names, objects in document order, counted
across files from 0. A reader that lists files in another order reads another split. Layouts:
github.com/ZhanYang-nwpu/RSVG-pytorch and github.com/pyzone49/clip-vg-teledetection.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mindground.data.dataset import Dataset
from mindground.data.formats.fields import Problem, guarded, plain_text
from mindground.data.formats.files import Defect, require_images
from mindground.data.formats.registry import DatasetFormat, Inspection
from mindground.data.formats.rsvg_lists import (
    GENERATIONS,
    check_lists,
    image_disjoint,
    image_numbers,
    leak_lines,
    leak_report,
    read_index_list,
)
from mindground.data.formats.rsvg_xml import RsvgFile, RsvgObject, read_annotation
from mindground.errors import ConfigError, DataError, DatasetNotFoundError
from mindground.structures import Sample

__all__ = [
    "FORMATS",
    "DiorRsvg",
    "inspect_dior_rsvg",
    "legacy_target",
    "load_dior_rsvg",
    "read_annotations",
    "read_dior_rsvg",
]

_LOG = logging.getLogger("mindground")
NAME = "dior_rsvg"
FROM = "https://github.com/ZhanYang-nwpu/RSVG-pytorch (the folder that its README links: DIOR_RSVG)"
DIVISIONS = ("official", "image_disjoint", "msam_image")
# The official lists divide by expression.
SHARED = {"official": ("images", "objects")}
_HOMES = ("", "DIOR_RSVG", "DIOR-RS-VG", "DIOR-RSVG")
_LIST_HOMES = ("", "dior_rs", *_HOMES[1:])
_LISTS = ("train", "val", "test", "train_pseudo")


@dataclass
class DiorRsvg:
    """A whole set: every object under its number, the lists, and what is wrong with either.

    Attributes:
        files: annotation files in the order that numbers the objects.
        images: folder of the images.
        lists: split -> object numbers.
        official: the same by the lists as they are, where `split_by` reads them in another sense; else empty.
        split_by: official, image_disjoint or msam_image.
        generation: which published lists these are; "" for somebody's own set.
        defects: everything found, files first.
    """

    files: Sequence[RsvgFile]
    images: Path
    lists: dict[str, list[int]]
    split_by: str
    generation: str
    defects: list[Defect]
    official: dict[str, list[int]] = field(default_factory=dict)

    @cached_property
    def objects(self) -> list[tuple[RsvgFile, RsvgObject]]:
        """Every object with its file; the place in this list is the object's number."""
        return [(file, item) for file in self.files for item in file.objects]

    @cached_property
    def object_ids(self) -> list[str]:
        """Object of every number: the first number in the file with the same box, so that sentences can share one."""
        first: dict[tuple[Any, ...], int] = {}
        return [
            str(first.setdefault((file.name, item.box or number), number))
            for number, (file, item) in enumerate(self.objects)
        ]

    @cached_property
    def categories(self) -> dict[int, str]:
        """Numbers from 1 -> class names of the whole set, sorted."""
        names = sorted({item.category for _, item in self.objects if item.category})
        return dict(enumerate(names, 1))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the ordered list of `file#object`; of another division than the official one, its name as well."""
        digest = hashlib.sha256()
        for file, item in self.objects:
            digest.update(f"{file.name}#{item.position}\n".encode())
        if self.split_by != DIVISIONS[0]:
            digest.update(self.split_by.encode())
        return digest.hexdigest()

    def leak(self) -> dict[str, Any]:
        """How much of val and test the training has seen (`rsvg_lists.leak_report`)."""
        return leak_report(self.lists, [file.image for file, _ in self.objects], self.object_ids)

    def dataset(self, split: str) -> Dataset:
        """Samples of one split in the order of their numbers; objects without a usable box are left to `defects`."""
        unusable = {number for defect in self.defects if defect.serious for number in defect.numbers or ()}
        labels = {name: number for number, name in self.categories.items()}
        samples = []
        for number in sorted(self.lists[split]):
            file, item = self.objects[number]
            if number in unusable or item.box is None:
                continue
            samples.append(
                Sample(
                    image_path=str(self.images / file.image),
                    sample_id=str(number),
                    image_id=Path(file.image).stem,
                    expression=item.sentence,
                    boxes_xyxy=np.asarray([item.box], np.float32),
                    labels=np.asarray([labels[item.category]], np.int64),
                    size=file.size,
                    object_ids=(self.object_ids[number],),
                    split=split,
                )
            )
        return Dataset(samples, self.categories, NAME, split, self.fingerprint)


@guarded
def read_dior_rsvg(
    root: str,
    split: str,
    split_by: str = "official",
    image_root: str = "",
    *,
    problems: list[str] | None = None,
) -> Dataset:
    """Read one split, after the whole set was verified as far as the split's meaning depends on it.

    Args:
        root: the authors' folder, or one with `dior_rs/<split>.txt` (the fork's `split_root`).
        split: `train`, `val`, `test`, or any other list beside them.
        split_by: `official` takes the lists; `image_disjoint` draws its own, with no image in two splits; `msam_image`
            takes the numbers of the lists for those of images, as MSAM's conversion does.
        image_root: folder that holds `DIOR-RS-VG/` (the fork's `data_root`), or the images; empty = below `root`.
        problems: gets one line a defect that concerns the split, and what cannot be used is left out; None = the
            first raises DataError.

    Raises:
        DatasetNotFoundError: what is missing, where to get it, where it goes.
        DataError: numbering, lists or an object of the split are not to be trusted; file and number are named.
    """
    whole = load_dior_rsvg(root, [split], split_by, image_root, tolerant=problems is not None)
    wanted = set(whole.lists[split])
    bad = [
        defect
        for defect in whole.defects
        if defect.serious and (defect.numbers is None or not wanted.isdisjoint(defect.numbers))
    ]
    if problems is not None:
        problems += [Problem(str(defect), defect.subject, defect.kind) for defect in bad]
    elif bad:
        more = f" ({len(bad) - 1} more like this; " if len(bad) > 1 else " ("
        raise DataError(f"{bad[0]}{more}tools/data_check.py --dataset {NAME} lists them all); nothing is repaired here")
    dataset = whole.dataset(split)
    require_images(dataset, whole.images, NAME, f"JPEGImages from {FROM}")
    counts = "/".join(str(len(whole.lists[part])) for part in _LISTS[:3] if part in whole.lists)
    kind = f"published, {whole.generation}" if whole.generation else f"a set of DIOR-RSVG's shape below {root!r}"
    kind = f"division {split_by}" if split_by != DIVISIONS[0] else kind
    if whole.official:
        kind += f"; the same lists by object, the official division: {_counts(whole.official)}"
    _LOG.info(
        "%s: %d objects in %d files, lists of %s (%s), fingerprint %s",
        *(NAME, len(whole.objects), len(whole.files), counts, kind, whole.fingerprint[:12]),
    )
    return dataset


def load_dior_rsvg(
    root: str, splits: Sequence[str] = (), split_by: str = "official", image_root: str = "", *, tolerant: bool = False
) -> DiorRsvg:
    """Read annotations and lists whole; defects are collected.

    Args:
        root, image_root, split_by: as for `read_dior_rsvg`.
        splits: lists that must exist; train, val, test and train_pseudo are read where they do.
        tolerant: collect files that are not XML as defects as well; they then count no object.

    Raises:
        ConfigError: an unknown division.
        DatasetNotFoundError: no annotations, no such list, no folder of images.
        DataError: an annotation file that cannot be read (unless `tolerant`).
    """
    if split_by not in DIVISIONS:
        raise ConfigError(f"data.splitBy is {split_by!r}; {NAME} is divided by {' or '.join(DIVISIONS)}")
    home = _home(root, image_root)
    files, defects = read_annotations(_xml_files(home / "Annotations"), tolerant=tolerant)
    total = sum(len(file.objects) for file in files)
    if total == 0:
        why = f": {defects[0]}" if defects else ""
        raise DataError(f"{home / 'Annotations'} describes no object{why}; get it again from {FROM}")
    generation, official = "", {}
    if split_by != "image_disjoint":
        lists, found = _official(root, home, splits, total)
        generation, wrong = check_lists(lists, total)
        defects += [*found, *wrong]
        if split_by == "msam_image":
            official, lists = lists, image_numbers(lists, [file.image for file in files for _ in file.objects])
    else:
        lists = image_disjoint([file.image for file in files for _ in file.objects])
        absent = [split for split in splits if split not in lists]
        if absent:
            raise DataError(f"data.splitBy={split_by} has the splits {', '.join(lists)}, not {absent[0]!r}")
    return DiorRsvg(files, _images(home, image_root), lists, split_by, generation, defects, official)


def inspect_dior_rsvg(root: str, splits: Sequence[str], split_by: str = "official", image_root: str = "") -> Inspection:
    """Read splits to the end and tell every defect; arguments as for `load_dior_rsvg`.

    A reader stops at the first defect, because nothing built on it could be trusted.

    Raises:
        ConfigError, DatasetNotFoundError, DataError: there is nothing to inspect.
    """
    whole = load_dior_rsvg(root, splits, split_by, image_root, tolerant=True)
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
    kind = f"division {whole.split_by}" if whole.split_by != DIVISIONS[0] else kind
    lists = ", ".join(f"{split} {count}" for split, count in facts["lists"].items())
    numbering = f"{facts['objects']} objects in {facts['annotation_files']} files"
    lines = [f"numbering: {numbering}, fingerprint {whole.fingerprint[:12]}; lists ({kind}): {lists}"]
    if whole.official:
        facts["official_lists"] = {split: len(numbers) for split, numbers in whole.official.items()}
        lines.append(f"the same lists by object, the official division: {_counts(whole.official)}")
    # A set of this shape with other lists is somebody's own, and so is another division: nobody published its counts.
    published = GENERATIONS.get(whole.generation, {}) if split_by == DIVISIONS[0] else {}
    return Inspection(
        [whole.dataset(split) for split in splits],
        whole.defects,
        facts,
        [*lines, *leak_lines(leak)],
        {split: {"expressions": count} for split, count in published.items()},
        SHARED.get(split_by, ()),
    )


def read_annotations(paths: Sequence[Path], *, tolerant: bool = False) -> tuple[list[RsvgFile], list[Defect]]:
    """Read annotation files in the order given, which is the order that numbers their objects.

    Returns:
        The files, and the defects of files and objects, each object named by its number.

    Raises:
        DataError: a file that is not XML (unless `tolerant`: then it is a defect, and counts no object).
    """
    files: list[RsvgFile] = []
    defects: list[Defect] = []
    count = 0
    for path in paths:
        try:
            file = read_annotation(path)
        except DataError as error:
            if not tolerant:
                raise
            defects.append(Defect("annotation_file", path.name, str(error)))
            continue
        files.append(file)
        numbers = tuple(range(count, count + len(file.objects)))
        count += len(numbers)
        defects += [replace(defect, numbers=numbers) for defect in file.defects]
        for number, item in zip(numbers, file.objects, strict=True):
            subject = f"{file.name} object {number}"
            defects += [Defect(kind, subject, detail, numbers=(number,)) for kind, detail in item.defects]
    guessed = [file for file in files if file.by_position]
    if guessed:
        _LOG.warning(
            "%s: %d objects lack a tag and were read by the position of their fields, first in %s; look at them",
            *(NAME, sum(file.by_position for file in guessed), guessed[0].name),
        )
    return files, defects


def legacy_target(box_xyxy: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """What the fork `clip-vg-teledetection` trains on: xmax and ymax taken for width and height.

    Args:
        box_xyxy: (..., 4) corners in pixels.
        size: (height, width) of the image in pixels.

    Returns:
        (..., 4) float32 `cx, cy, w, h` relative to the image: cx = (xmin + xmax / 2) / width, w = xmax / width, and so
        down the image. Values above 1 are common.
    """
    boxes = np.asarray(box_xyxy, np.float32)
    scale = np.asarray([size[1], size[0]], np.float32)
    low, high = boxes[..., :2] / scale, boxes[..., 2:] / scale
    return np.concatenate([low + high / 2, high], -1)


def _counts(lists: Mapping[str, Sequence[int]]) -> str:
    return ", ".join(f"{split} {len(numbers)}" for split, numbers in lists.items())


def _home(root: str, image_root: str) -> Path:
    tried = [Path(base) / name for base in (root, image_root) if base for name in _HOMES]
    for place in tried:
        if (place / "Annotations").is_dir():
            return place
    raise DatasetNotFoundError(
        f"data.root is {root!r}, and there is no Annotations/ in {', '.join(map(str, tried)) or 'it'}. Get {FROM} and "
        "put Annotations/*.xml, JPEGImages/*.jpg and train.txt, val.txt, test.txt into data.root"
    )


def _xml_files(folder: Path) -> list[Path]:
    """Annotation files in ascending order of their names; what macOS leaves beside them (`._*`) is none."""
    found = sorted(path.name for path in folder.glob("*.xml") if not path.name.startswith("."))
    if not found:
        raise DatasetNotFoundError(f"{folder} holds no .xml file; get {FROM} and put its Annotations there")
    for name in found:
        plain_text(name, "the file name", str(folder))  # the numbering and its fingerprint are over these names
    return [folder / name for name in found]


def _official(root: str, home: Path, splits: Sequence[str], total: int) -> tuple[dict[str, list[int]], list[Defect]]:
    folders = list(dict.fromkeys([*(Path(root) / name for name in _LIST_HOMES if root), home, home / "dior_rs"]))
    wanted = list(dict.fromkeys([*splits, *_LISTS]))
    folder = next((place for place in folders if any((place / f"{name}.txt").is_file() for name in wanted)), None)
    lists: dict[str, list[int]] = {}
    defects: list[Defect] = []
    for name in wanted:
        path = (folder or home) / f"{name}.txt"
        if path.is_file():
            lists[name], found = read_index_list(path, total, name)
            defects += found
        elif name in splits:
            here = ", ".join(sorted(other.name for other in path.parent.glob("*.txt"))) or "no list"
            raise DatasetNotFoundError(
                f"{path} is missing ({here} there). Get the lists from {FROM}, put one object number per line into it, "
                "or use data.splitBy=image_disjoint, which needs no lists"
            )
    return lists, defects


def _images(home: Path, image_root: str) -> Path:
    given = [Path(image_root) / name / "JPEGImages" for name in _HOMES] if image_root else []
    for place in (*given, *([Path(image_root)] if image_root else [home / "JPEGImages"])):
        if place.is_dir():
            return place
    missing = image_root or str(home / "JPEGImages")
    raise DatasetNotFoundError(
        f"the images of {NAME} are missing: {missing} is no folder. Get {FROM} and put its JPEGImages there, or set "
        "data.image_root"
    )


FORMATS = (
    DatasetFormat(
        NAME,
        read_dior_rsvg,
        splits={division: ("val", "test") for division in DIVISIONS},
        takes=("split_by", "image_root"),
        published={
            DIVISIONS[0]: {split: {"expressions": n} for split, n in GENERATIONS["the current release"].items()}
        },
        inspector=inspect_dior_rsvg,
        shared=SHARED,
    ),
)
