"""RefSegRS and RISBench: a text file of image names and expressions, and one mask image per line.

No mask is opened when a split is read: boxes are those around the masks and are computed when they are asked for
(`structures.MaskedSample`). A family that answers with masks reads every mask anyway when its sample's turn comes. The
data check opens all of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindground.data.dataset import Dataset
from mindground.data.formats.fields import Reading, RecordError, guarded, plain_text
from mindground.data.formats.files import read_file
from mindground.data.formats.refer import read_refer
from mindground.data.formats.registry import Counts, DatasetFormat
from mindground.errors import DataError, DatasetNotFoundError, shown
from mindground.files.mask_images import read_mask
from mindground.structures import MaskedSample, MaskFile, Sample

__all__ = ["FORMATS", "PHRASE_LISTS", "read_phrase_list"]

MAX_LIST_BYTES = 2**28
MAX_EXPRESSION = 10_000
_ENDINGS = frozenset({".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".ppm", ".pgm"})


@dataclass(frozen=True)
class _Layout:
    """Where a published archive has its parts.

    Attributes:
        folders: folders below `data.root` that the archive makes; the root itself comes last.
        images, masks: names of the two folders, the published one first.
        source: where to get it.
        refer: the set is also distributed as a REFER set, in a folder of this name or in the root.
    """

    folders: tuple[str, ...]
    images: tuple[str, ...]
    masks: tuple[str, ...]
    source: str
    refer: str = ""


PHRASE_LISTS = {
    "refsegrs": _Layout(
        ("RefSegRS", "refsegrs"),
        ("images", "image"),
        ("masks", "mask"),
        "RefSegRS, named at https://github.com/zhu-xlab/rrsis",
    ),
    "risbench": _Layout(
        ("RISBench_dataset", "RISBench", "risbench"),
        ("img_rgb", "images"),
        ("mask", "masks"),
        "RISBench, named at https://github.com/HIT-SIRS/CroBIM",
        refer="risbench",
    ),
}


class _Folder:
    """The images of one folder by name and by name without its ending; listed once, nothing else is ever opened.

    What is no ordinary file (a folder, a pipe, a device behind a link) is not among them, so a line cannot name it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._names: set[str] = set()
        self._stems: dict[str, list[str]] = {}
        with os.scandir(path) as entries:
            for entry in entries:
                stem, ending = os.path.splitext(entry.name)
                if ending.lower() in _ENDINGS and not entry.name.startswith(".") and entry.is_file():
                    self._names.add(entry.name)
                    self._stems.setdefault(stem, []).append(entry.name)

    def find(self, word: str, where: str, kind: str) -> str:
        """File name of an image that is named with or without its ending, or with that of its image.

        Raises:
            RecordError: there is none, or there are several.
        """
        if word in self._names:
            return word
        stem, ending = os.path.splitext(word)
        found = self._stems.get(word) or (self._stems.get(stem, []) if ending.lower() in _ENDINGS else [])
        if len(found) == 1:
            return found[0]
        if found:
            raise RecordError(f"{where}: {shown(word)} may be {shown(sorted(found))} of {self.path}; keep one", kind)
        raise RecordError(f"{where}: {self.path} holds no image {shown(word)}; fetch the set again", kind)


@guarded
def read_phrase_list(
    root: str,
    dataset: str,
    split: str,
    image_root: str = "",
    mask_path: str = "",
    *,
    problems: list[str] | None = None,
    **refer: Any,
) -> Dataset:
    """Read one split.

    Args:
        root: folder that holds the archive's folder or its parts.
        dataset: a key of `PHRASE_LISTS`.
        split: `train`, `val`, `test`: the file `output_phrase_<split>.txt`, each line `<image> <expression>`.
        image_root, mask_path: folders of images and masks; empty = those beside the lists.
        refer: `mask_overlap` and `sentence` of `read_refer`, where the folder holds a REFER set; lists have one text.
        problems: gets one line a record that cannot be used, which is then left out, and every mask is opened; None =
            such a record raises DataError, and masks are opened when they are asked for.

    Returns:
        One sample a line. Its box is the one around its mask.

    Raises:
        DatasetNotFoundError: what is missing, where to get it, where it goes.
        DataError: a line that names no image or mask, or has no expression.
    """
    layout = PHRASE_LISTS[dataset]
    if layout.refer and _is_refer(root, layout.refer):
        return read_refer(root, layout.refer, "unc", split, image_root, mask_path, problems=problems, **refer)
    folder = _folder(root, dataset, split, layout)
    path = folder / f"output_phrase_{split}.txt"
    images = _part(folder, image_root, layout.images, layout, "data.image_root")
    masks = _part(folder, mask_path, layout.masks, layout, "data.mask_path")
    reading = Reading(problems)
    samples: list[Sample] = []
    for number, raw in enumerate(read_file(path, MAX_LIST_BYTES).removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        where = f"{path} line {number}"
        if not raw.strip():
            if raw or number == 1:
                reading.note("lines without text are left out", where)
            continue
        with reading.record(where):
            sample = _sample(raw, number, split, images, masks, where)
            if problems is not None:
                _open_mask(sample, where)
            samples.append(sample)
    reading.tell(str(path))
    return Dataset(samples, {}, dataset, split)


def _sample(raw: bytes, number: int, split: str, images: _Folder, masks: _Folder, where: str) -> MaskedSample:
    if len(raw) > MAX_EXPRESSION:
        raise RecordError(f"{where} has {len(raw)} bytes; an expression has at most {MAX_EXPRESSION}")
    try:
        line = raw.decode().strip()
    except UnicodeDecodeError as error:
        raise RecordError(f"{where} is no UTF-8 text ({shown(raw[:60])}); save the list as UTF-8") from error
    word, _, rest = line.partition(" ") if "\t" not in line else line.partition("\t")
    expression = plain_text(rest.strip(), "the expression", where, empty=True)
    if not expression or "\0" in line:
        raise RecordError(f"{where} is '<image> <expression>', not {shown(line)}")
    image = images.find(word, where, "missing_image")
    mask = masks.find(image, where, "missing_mask")
    return MaskedSample(
        image_path=str(images.path / image),
        sample_id=str(number),
        image_id=image,
        expression=expression,
        segmentations=(MaskFile(str(masks.path / mask), read_mask),),
        object_ids=(mask,),
        split=split,
    )


def _open_mask(sample: Sample, where: str) -> None:
    """What a training would find out when the sample's turn comes."""
    try:
        empty = not sample.boxes_xyxy.any()
    except DataError as error:
        raise RecordError(f"{where}: {error}", "mask_format") from error
    if empty:
        raise RecordError(f"{where}: the mask of image {shown(sample.image_id)} covers no pixel", "empty_mask")


def _is_refer(root: str, name: str) -> bool:
    """Whether the set lies here as a REFER set."""
    wanted = ("refs(unc).p", "instances.json")
    return any(all((folder / file).is_file() for file in wanted) for folder in (Path(root) / name, Path(root)))


def _folder(root: str, dataset: str, split: str, layout: _Layout) -> Path:
    tried = [*(Path(root) / name for name in layout.folders), Path(root)] if root else []
    for folder in tried:
        if (folder / f"output_phrase_{split}.txt").is_file():
            return folder
    known = sorted(path.name for folder in tried if folder.is_dir() for path in folder.glob("output_phrase_*.txt"))
    has = f"; there are {', '.join(known[:6])}" if known else ""
    raise DatasetNotFoundError(
        f"data.root is {root!r}, and no output_phrase_{split}.txt of {dataset} is in it or in {layout.folders[0]}/ "
        f"below it{has}. Get {layout.source}, and put {layout.images[0]}/, {layout.masks[0]}/ and the lists together"
    )


def _part(folder: Path, given: str, names: Sequence[str], layout: _Layout, key: str) -> _Folder:
    tried = [Path(given)] if given else [folder / name for name in names]
    for folder in tried:
        if folder.is_dir():
            return _Folder(folder)
    raise DatasetNotFoundError(
        f"none of {', '.join(map(str, tried))} is a folder. Get {layout.source} and unpack it there, or set {key}"
    )


def _reader(name: str) -> Callable[..., Dataset]:
    def read(
        root: str,
        split: str,
        image_root: str = "",
        mask_path: str = "",
        *,
        problems: list[str] | None = None,
        **refer: Any,
    ) -> Dataset:
        return read_phrase_list(root, name, split, image_root, mask_path, problems=problems, **refer)

    return read


def _counts(train: int, val: int, test: int) -> Counts:
    return {"train": {"expressions": train}, "val": {"expressions": val}, "test": {"expressions": test}}


# Expressions of the published splits, 4,420 and 52,472 in all.
_PUBLISHED = {"refsegrs": _counts(2172, 431, 1817), "risbench": _counts(26300, 10013, 16159)}
FORMATS = tuple(
    DatasetFormat(
        name,
        _reader(name),
        splits={"": ("val", "test")},
        takes=("image_root", "mask_path"),
        section="refer" if PHRASE_LISTS[name].refer else "",
        published={"": _PUBLISHED[name]},
    )
    for name in PHRASE_LISTS
)
