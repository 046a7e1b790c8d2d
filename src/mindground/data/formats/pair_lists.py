"""RefCOCO, RefCOCO+, RefCOCOg, ReferIt and Flickr30k Entities as the lists that TransVG, Pseudo-Q and CLIP-VG publish.

A split is `<root>/<dataset>/<dataset>_<split>.pth`: a Python list saved by PyTorch, one tuple a sentence. Only plain
values are read from it. Layout of the lists: github.com/linhuixiao/CLIP-VG.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindground.data.dataset import Dataset
from mindground.data.formats.fields import Reading, RecordError, four_numbers, guarded, plain_text
from mindground.data.formats.files import require_images
from mindground.data.formats.image_names import ImageNames
from mindground.data.formats.refer import REFCOCO, REFCOCO_PLUS, REFCOCOG_GOOGLE, REFCOCOG_UMD
from mindground.data.formats.registry import Counts, DatasetFormat
from mindground.errors import DataError, DatasetNotFoundError, shown
from mindground.structures import Sample

__all__ = ["FORMATS", "PAIR_LISTS", "read_pair_list"]

LISTS_FROM = "https://github.com/linhuixiao/CLIP-VG (README: annotations and pseudo-labels)"


@dataclass(frozen=True)
class _Layout:
    """How one of the sets lies on disk.

    Attributes:
        images: its images, below `data.image_root`.
        source: where they are published.
        length: values of a tuple.
        corners: True where the last two numbers of a box are its right bottom corner, else width and height.
        joined: `trainval` is train and val one after the other, else a file of its own.
    """

    images: str
    source: str
    length: int
    corners: bool
    joined: bool = True


_COCO = _Layout(
    "other/images/mscoco/images/train2014", "http://images.cocodataset.org/zips/train2014.zip", 5, corners=False
)
PAIR_LISTS: Mapping[str, _Layout] = {
    "unc": _COCO,
    "unc+": _COCO,
    "gref": _COCO,
    "gref_umd": _COCO,
    "referit": _Layout(
        "referit/images",
        "the saiapr_tc-12 archive named at https://github.com/lichengunc/refer (all images in one folder)",
        length=5,
        corners=True,
        joined=False,
    ),
    "flickr": _Layout(
        "Flickr30k/flickr30k-images",
        "Flickr30k, on request at https://shannon.cs.illinois.edu/DenotationGraph/",
        3,
        True,
    ),
}


@guarded
def read_pair_list(
    root: str, dataset: str, split: str, image_root: str = "", *, problems: list[str] | None = None
) -> Dataset:
    """Read one split.

    Boxes are cut to whole pixels first, then width and height are added, as the published readers do.

    Args:
        root: folder that holds `<dataset>/` (upstream's `split_root`), or the lists themselves.
        dataset: a key of `PAIR_LISTS`.
        split: `train`, `val`, `trainval`, `testA`, `train_pseudo`, ... or any other list by the rest of its name, such
            as `train_pseudo_refine_0_5`, or `train_separate/<file>` for a folder of sources.
        image_root: upstream's `data_root`, or the folder of the images; empty = below `root`.
        problems: gets one line an item that cannot be used, which is then left out; None = it raises DataError.

    Raises:
        DatasetNotFoundError: what is missing, where to get it, where it goes.
        DataError: an item that is not what the set holds; file and place are named.
        UnsafeFileError: the file asks for code to be run; nothing of it was run.
    """
    layout = PAIR_LISTS[dataset]
    own = _path(root, dataset, split)
    parts = [split] if own.is_file() or split != "trainval" or not layout.joined else ["train", "val"]
    reading = Reading(problems)
    found: list[tuple[str, _Pair]] = []
    for part in parts:
        path = _path(root, dataset, part)
        if not path.is_file():
            raise _not_found(path, root, dataset, part)
        found += _pairs(path, part, layout, reading)
    images = ImageNames(
        _images(root, image_root, layout, dataset, next((pair.image for _, pair in found), "")), reading
    )
    samples = []
    for name, pair in found:
        with reading.record(pair.where):
            samples.append(_sample(pair, name, images, split))
    reading.tell(str(own))
    require_images(samples, images.folder, dataset, layout.source)
    return Dataset(samples, {}, dataset, split)


def _path(root: str, dataset: str, split: str) -> Path:
    """Where the list of a split lies, or should lie."""
    below, flat = Path(root) / dataset, Path(root)
    names = [below / f"{dataset}_{split}.pth", flat / f"{dataset}_{split}.pth", below / f"{split}.pth"]
    return next((path for path in names if path.is_file()), names[0])


def _not_found(path: Path, root: str, dataset: str, split: str) -> DatasetNotFoundError:
    folder = path.parent if path.parent.is_dir() else Path(root or ".")
    known = sorted(found.name for found in folder.glob("*.pth"))[:12] if root and folder.is_dir() else []
    has = f" ({folder} holds {', '.join(known)})" if known else ""
    return DatasetNotFoundError(
        f"data.root is {root!r}, and {path} is missing{has}. Get the lists of {dataset} from {LISTS_FROM} and put "
        f"them there; split {split!r} is the file {path.name}"
    )


@dataclass(frozen=True)
class _Pair:
    """One item of a list, checked: image, corners in whole pixels, sentence, and where it stands."""

    image: str
    box: tuple[int, int, int, int]
    text: str
    where: str


def _pairs(path: Path, part: str, layout: _Layout, reading: Reading) -> list[tuple[str, _Pair]]:
    """The items of one list with their names."""
    from mindground.files.plain_torch import read_plain_torch

    content = read_plain_torch(path)
    if not isinstance(content, list):
        raise DataError(f"{path} holds a {type(content).__name__}, not a list of pairs; it is of another kind")
    found = []
    for place, item in enumerate(content):
        where = f"{path} item {place}"
        with reading.record(where):
            found.append((f"{part}-{place}", _pair(item, layout, where)))
    return found


def _pair(item: Any, layout: _Layout, where: str) -> _Pair:
    # Lists that keep what a curriculum left out have the reliability of each pair appended.
    if not isinstance(item, (tuple, list)) or len(item) not in (layout.length, layout.length + 1):
        size = f"{len(item)} values" if isinstance(item, (tuple, list)) else type(item).__name__
        raise RecordError(
            f"{where} has {size}; one of {layout.length} is wanted (another data set, or not such a list)"
        )
    image, box, text = (item[0], item[2], item[3]) if layout.length == 5 else item[:3]
    if not isinstance(image, str) or not image or not isinstance(text, str):
        raise RecordError(f"{where}: image {shown(image)} and sentence {shown(text)} must be text")
    name = plain_text(image, "the image's name", where)
    return _Pair(name, _box(box, layout, where), plain_text(text, "the sentence", where), where)


def _box(box: Any, layout: _Layout, where: str) -> tuple[int, int, int, int]:
    left, top, third, fourth = (int(n) for n in four_numbers(box, "the box is four numbers of pixels", where))
    return (left, top, third, fourth) if layout.corners else (left, top, left + third, top + fourth)


def _sample(pair: _Pair, name: str, images: ImageNames, split: str) -> Sample:
    return Sample(
        image_path=images.path(pair.image, pair.where),
        sample_id=name,
        image_id=pair.image,
        expression=pair.text,
        boxes_xyxy=np.asarray([pair.box], np.float32),
        # The lists number no objects; one box of one image is one object.
        object_ids=(f"{pair.image}:{','.join(map(str, pair.box))}",),
        split=split,
    )


def _images(root: str, image_root: str, layout: _Layout, dataset: str, first: str) -> Path:
    base = Path(image_root or root)
    below = base / layout.images
    if below.is_dir():
        return below
    # The folder of the images itself; an image of the list lies in it.
    if first and os.path.isfile(base / first):
        return base
    raise DatasetNotFoundError(
        f"the images of {dataset} are missing: {below} is no folder, and {shown(first)} is not in {base}. Get "
        f"{layout.source} and unpack it to {below}, or set data.image_root to the folder of the images"
    )


def _reader(name: str) -> Callable[..., Dataset]:
    def read(root: str, split: str, image_root: str = "", *, problems: list[str] | None = None) -> Dataset:
        return read_pair_list(root, name, split, image_root, problems=problems)

    return read


def _expressions(counts: Counts) -> Counts:
    """The lists hold the sentences of the published splits; what they do with images is their own."""
    return {split: {"expressions": numbers["expressions"]} for split, numbers in counts.items()}


# Expressions of ReferIt's splits as papers count them.
_REFERIT: Counts = {"train": {"expressions": 54127}, "val": {"expressions": 5842}, "test": {"expressions": 60103}}
_TESTS: Mapping[str, tuple[tuple[str, ...], Counts]] = {
    "unc": (("val", "testA", "testB"), _expressions(REFCOCO)),
    "unc+": (("val", "testA", "testB"), _expressions(REFCOCO_PLUS)),
    "gref": (("val",), _expressions(REFCOCOG_GOOGLE)),
    "gref_umd": (("val", "test"), _expressions(REFCOCOG_UMD)),
    "referit": (("val", "test"), _REFERIT),
    "flickr": (("val", "test"), {}),
}
FORMATS = tuple(
    DatasetFormat(
        name,
        _reader(name),
        splits={"": splits},
        published={"": counts},
        shared={"": ("images",)} if name == "gref" else {},  # RefCOCOg as Google divides it: by object
    )
    for name, (splits, counts) in _TESTS.items()
)
