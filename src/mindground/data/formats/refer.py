"""RefCOCO, RefCOCO+, RefCOCOg, RefClef (ReferItGame) and RRSIS-D from the files their authors publish.

One sample per sentence, in file order. Boxes and outlines come from instances.json, or from the
cache that tools/preprocess.py writes; outlines stay polygons or RLE until a mask is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mindground.data.dataset import Dataset
from mindground.data.formats.fields import (
    Reading,
    RecordError,
    clean_segmentation,
    corners,
    four_numbers,
    guarded,
    identity,
    integer,
    listing,
    mapping,
    optional_size,
    plain_text,
    require,
    split_name,
    text,
)
from mindground.data.formats.files import read_json, require_images
from mindground.data.formats.image_names import ImageNames
from mindground.data.formats.refer_images import image_file, image_folder, images_from
from mindground.data.formats.refer_index import Refer, in_split
from mindground.data.formats.refer_masks import fitted, mask_file, mask_folder
from mindground.data.formats.registry import Counts, DatasetFormat
from mindground.errors import DataError, DatasetNotFoundError, shown
from mindground.structures import Sample, Segmentation, xywh_to_xyxy
from mindground.structures.sample import Overlap

__all__ = [
    "FORMATS",
    "REFCOCO",
    "REFCOCOG_GOOGLE",
    "REFCOCOG_UMD",
    "REFCOCO_PLUS",
    "REFER_DATASETS",
    "RRSISD",
    "Refer",
    "cache_path",
    "image_folder",
    "preprocess",
    "read_refer",
]

ANNOTATIONS_FROM = "https://github.com/lichengunc/refer (data: refcoco.zip, refcoco+.zip, refcocog.zip, refclef.zip)"
RRSISD_ANNOTATIONS = "https://github.com/Lsan2401/RMSIN (RRSIS-D: refs(unc).p and instances.json)"


def _counts(**splits: tuple[int, int]) -> Counts:
    return {split: {"expressions": expressions, "images": images} for split, (expressions, images) in splits.items()}


# (expressions, images) of the published splits: the counts that papers repeat, and the catalogue of TensorFlow Datasets
# (ref_coco). Nobody publishes those of RefClef's files: they differ a little from the papers' ReferIt.
REFCOCO = _counts(train=(120624, 16994), val=(10834, 1500), testA=(5657, 750), testB=(5095, 750))
REFCOCO_PLUS = _counts(train=(120191, 16992), val=(10758, 1500), testA=(5726, 750), testB=(4889, 750))
REFCOCOG_UMD = _counts(train=(80512, 21899), val=(4896, 1300), test=(9602, 2600))
REFCOCOG_GOOGLE = _counts(train=(85474, 24698), val=(9536, 4650))
# Expressions of RRSIS-D: one of each object, 17,402 in all.
RRSISD: Counts = {"train": {"expressions": 12181}, "val": {"expressions": 1740}, "test": {"expressions": 3481}}


@guarded
def read_refer(
    root: str,
    dataset: str,
    split_by: str,
    split: str,
    image_root: str = "",
    mask_path: str = "",
    *,
    mask_overlap: Overlap = "union",
    sentence: Literal["sent", "raw"] = "sent",
    problems: list[str] | None = None,
) -> Dataset:
    """Read one split.

    Args:
        root: folder that holds `<dataset>/` (or the annotation files themselves) and the image folders.
        dataset: refcoco | refcoco+ | refcocog | refclef | rrsisd.
        split_by: unc | google | umd | berkeley: the file `refs(<split_by>).p`.
        split: `train`, `val`, `test`, `testA`, ... by the refer API's rules.
        image_root: folder of the images; empty = the usual places below `root`.
        mask_path: folder with `<dataset>(<split_by>)/<ref_id>.npy` masks to use in place of the
            outlines of instances.json; empty = the outlines.
        mask_overlap: what pixels are that several parts of one outline cover: of the object, or background as for
            LAVT and RMSIN.
        sentence: which text of a sentence: `sent` (lower case, without punctuation), or `raw` (as it was written; LAVT
            and RMSIN read it).
        problems: gets one line a record that cannot be used, which is then left out; None = it raises DataError.

    Raises:
        DatasetNotFoundError: what is missing, where to get it, where it goes.
        DataError: the files contradict each other, or no reference has this split.
    """
    folder = _annotation_folder(root, dataset, split_by)
    reading = Reading(problems)
    images = ImageNames(image_folder(root, dataset, image_root), reading)
    place = _Place(dataset, images, mask_folder(mask_path, dataset, split_by), reading, mask_overlap, sentence)
    source = folder / f"refs({split_by}).p"
    samples: list[Sample] = []
    if source.is_file():
        refer = Refer.from_folder(folder, split_by, problems=problems)
        categories: Mapping[int, str] = refer.Cats
        for number in refer.getRefIds(split=split):
            with reading.record(f"reference {shown(number)} of {source}"):
                samples += _of_reference(refer, number, folder, place)
    else:
        source = cache_path(folder, dataset, split_by)
        if sentence == "raw":
            raise DataError(
                f"data.refer.sentence=raw needs refs({split_by}).p: the cache {source} holds `sent` alone; put the "
                "original there, or set it to sent"
            )
        categories, items = _read_cache(source, split)
        for where, name, position, item, image in items:
            with reading.record(where):
                samples.append(_of_item(item, f"{name}-{position}", name, image, where, place))
    reading.tell(str(source))
    require_images(samples, images.folder, dataset, images_from(dataset))
    return Dataset(samples, categories, dataset, split)


@dataclass(frozen=True)
class _Place:
    """Where images and masks of one data set are, and where errors go."""

    dataset: str
    images: ImageNames
    masks: Path | None
    reading: Reading
    overlap: Overlap
    sentence: Literal["sent", "raw"]

    def outline(self, given: Any, size: tuple[int, int] | None, number: Any, where: str) -> Segmentation:
        """The mask file of a reference, or its outline; an RLE of nearly the image's size is brought to it."""
        if self.masks is not None:
            return mask_file(self.masks, number, where)
        outline = clean_segmentation(given, where, None, self.reading)
        return outline if size is None else fitted(outline, size, where, self.reading)


def _of_reference(refer: Refer, number: Any, folder: Path, place: _Place) -> list[Sample]:
    """One sample a sentence of one reference."""
    ref, annotation = refer.Refs[number], refer.refToAnn[number]
    image = refer.Imgs[ref["image_id"]]
    where = f"annotation {shown(annotation['id'])} of {folder}"
    size = optional_size(image.get("height"), image.get("width"), f"image {shown(ref['image_id'])} of {folder}")
    named = f"{where}, image {shown(image['file_name'])}"
    outline = place.outline(annotation.get("segmentation"), size, number, named)
    box = corners(annotation.get("bbox"), outline, where)
    if box is None:
        raise RecordError(f"{where} has neither bbox nor segmentation")
    path = image_file(place.images, image["file_name"], ref["image_id"], place.dataset, where)
    return [
        Sample(
            image_path=path,
            sample_id=str(sentence["sent_id"]),
            image_id=str(ref["image_id"]),
            expression=text(sentence, place.sentence, f"a sentence of reference {shown(number)} of {folder}"),
            boxes_xyxy=_float32_corners(annotation.get("bbox"), box),
            segmentations=(outline,),
            labels=np.asarray([integer(ref, "category_id", where)], np.int64),
            size=size,
            object_ids=(str(ref["ann_id"]),),
            split=ref["split"],
            overlap=place.overlap,
        )
        for sentence in ref["sentences"]
    ]


def _float32_corners(bbox: Any, box: list[float]) -> np.ndarray:
    """(1, 4) float32; width and height are added in float32, as the published readers do."""
    if bbox is None or len(bbox) == 0:
        return np.asarray([box], np.float32)
    return xywh_to_xyxy(np.asarray([bbox], np.float32).reshape(1, 4))


@guarded
def preprocess(root: str, dataset: str, split_by: str) -> dict[str, Any]:
    """What tools/preprocess.py keeps: upstream's items and index, plus outline, size and ids of each item.

    Returns:
        `items`: {split: [{bbox (xywh), phrase, ref_id, image_id, category_id, attributes, ...}]}, one item per
        sentence in file order; `index`: {category: {id: name}, image: {id: file name}}.
    """
    folder = _annotation_folder(root, dataset, split_by)
    if not (folder / f"refs({split_by}).p").is_file():
        raise DatasetNotFoundError(f"{folder} holds only a cache; put refs({split_by}).p and instances.json there")
    refer = Refer.from_folder(folder, split_by)
    items: dict[str, list[dict[str, Any]]] = {}
    used: dict[int, str] = {}
    for ref in refer.data["refs"]:
        image, annotation = refer.Imgs[ref["image_id"]], refer.refToAnn[ref["ref_id"]]
        where = f"annotation {shown(annotation['id'])} of {folder}"
        size = optional_size(image.get("height"), image.get("width"), where)
        outline = clean_segmentation(annotation.get("segmentation"), where)
        around = corners(annotation.get("bbox"), outline, where)
        if around is None:
            raise DataError(f"{where} has neither bbox nor segmentation")
        left, top, right, bottom = around
        # The file's own numbers where it has them: a difference of sums would be another float.
        given = annotation.get("bbox") or [left, top, right - left, bottom - top]
        used[ref["image_id"]] = str(image["file_name"])
        for sentence in ref["sentences"]:
            items.setdefault(str(ref["split"]), []).append(
                {
                    "bbox": [float(value) for value in given],
                    "phrase": str(sentence["sent"]),
                    "ref_id": ref["ref_id"],
                    "image_id": ref["image_id"],
                    "category_id": ref["category_id"],
                    "attributes": None,
                    "sent_id": sentence["sent_id"],
                    "ann_id": ref["ann_id"],
                    "size": None if size is None else list(size),
                    "segmentation": outline,
                }
            )
    return {"items": items, "index": {"category": dict(refer.Cats), "image": used}}


def cache_path(folder: Path, dataset: str, split_by: str) -> Path:
    """Where the cache of a data set lies: `<folder>/<dataset>(<split_by>).json` (or upstream's `.pkl`)."""
    plain = folder / f"{dataset}({split_by}).json"
    pickled = plain.with_suffix(".pkl")
    return pickled if pickled.is_file() and not plain.is_file() else plain


_Item = tuple[str, str, int, Mapping[str, Any], Any]


def _read_cache(path: Path, split: str) -> tuple[dict[int, str], Iterator[_Item]]:
    """Categories, and of every item of the split: its place, its split, its number, itself, its image's name."""
    from mindground.files.pickles import read_plain_pickle

    content = read_plain_pickle(path) if path.suffix == ".pkl" else read_json(path)
    require(content, ("items", "index"), str(path))
    items, index = mapping(content, "items", str(path)), mapping(content, "index", str(path))
    require(index, ("category", "image"), f"{path}: index")
    categories = mapping(index, "category", f"{path}: index")
    names = {str(key): name for key, name in mapping(index, "image", f"{path}: index").items()}
    known = [split_name({"a split": name}, "a split", str(path)) for name in items]
    chosen = [name for name in known if in_split(name, split)]
    if not chosen:
        raise DataError(f"there is no split {split!r} in {path}; it holds {shown(', '.join(sorted(known)))}")

    def each() -> Iterator[_Item]:
        for name in chosen:
            for position, item in enumerate(listing(items, name, str(path))):
                image = item.get("image_id") if isinstance(item, Mapping) else None
                yield f"{path}: item {position} of {name}", name, position, item, names.get(str(image))

    where = f"{path}: categories"
    numbered = {integer({"an id": key}, "an id", where): text(categories, key, where) for key in categories}
    return numbered, each()


def _of_item(item: Any, name: str, split: str, image: Any, where: str, place: _Place) -> Sample:
    require(item, ("bbox", "phrase", "ref_id", "image_id", "category_id"), where)
    number, image_id = identity(item, "ref_id", where), identity(item, "image_id", where)
    if image is None:
        raise RecordError(
            f"{where} is about image {shown(image_id)}, which the index lacks; run tools/preprocess.py again"
        )
    given = item.get("size")
    if given is not None and (not isinstance(given, (list, tuple)) or len(given) != 2):
        raise RecordError(f"{where}: 'size' is [height, width] in pixels, not {shown(given)}")
    size = None if given is None else optional_size(given[0], given[1], where)
    four_numbers(item["bbox"], "'bbox' is [x, y, width, height] in pixels", where)
    return Sample(
        image_path=image_file(place.images, image, image_id, place.dataset, where),
        sample_id=str(identity(item, "sent_id", where)) if "sent_id" in item else name,
        image_id=str(image_id),
        expression=plain_text(item["phrase"], "'phrase'", where),
        boxes_xyxy=_float32_corners(item["bbox"], []),
        segmentations=(place.outline(item.get("segmentation"), size, number, where),),
        labels=np.asarray([integer(item, "category_id", where)], np.int64),
        size=size,
        # Upstream's items name the reference only; it has exactly one object.
        object_ids=(str(identity(item, "ann_id", where)) if "ann_id" in item else f"ref{number}",),
        split=split,
        overlap=place.overlap,
    )


def _annotation_folder(root: str, dataset: str, split_by: str) -> Path:
    refs = f"refs({split_by}).p"
    tried = [Path(root) / dataset, Path(root)] if root else []
    for folder in tried:
        if (folder / refs).is_file() and (folder / "instances.json").is_file():
            return folder
    for folder in tried:
        if cache_path(folder, dataset, split_by).is_file():
            return folder
    wanted = f"{root or '<data.root>'}/{dataset}"
    source = RRSISD_ANNOTATIONS if dataset == "rrsisd" else ANNOTATIONS_FROM
    here = [path.name for folder in tried[:1] if folder.is_dir() for path in sorted(folder.iterdir())]
    raise DatasetNotFoundError(
        f"data.root is {root!r}, and {wanted} lacks {refs} and instances.json"
        f"{'; it holds ' + ', '.join(here[:12]) if here else ''}. "
        f"Get them from {source} and put them at {wanted}/{refs} and {wanted}/instances.json"
    )


def _reader(name: str) -> Callable[..., Dataset]:
    def read(
        root: str,
        split: str,
        split_by: str,
        image_root: str = "",
        mask_path: str = "",
        *,
        problems: list[str] | None = None,
        **settings: Any,
    ) -> Dataset:
        return read_refer(root, name, split_by, split, image_root, mask_path, problems=problems, **settings)

    return read


def _format(name: str, splits: Mapping[str, tuple[str, ...]], **more: Any) -> DatasetFormat:
    takes = ("split_by", "image_root", "mask_path")
    return DatasetFormat(name, _reader(name), splits=splits, takes=takes, section="refer", **more)


FORMATS = (
    _format("refcoco", {"unc": ("val", "testA", "testB"), "google": ("val", "test")}, published={"unc": REFCOCO}),
    _format("refcoco+", {"unc": ("val", "testA", "testB")}, published={"unc": REFCOCO_PLUS}),
    _format(
        "refcocog",
        {"umd": ("val", "test"), "google": ("val",)},
        published={"umd": REFCOCOG_UMD, "google": REFCOCOG_GOOGLE},
        shared={"google": ("images",)},  # divided by object
    ),
    _format("rrsisd", {"unc": ("val", "test")}, published={"unc": RRSISD}),
    _format("refclef", {"berkeley": ("val", "test"), "unc": ("val", "testA", "testB", "testC")}),
)
REFER_DATASETS = tuple(item.name for item in FORMATS)
