"""RefCOCO, RefCOCO+, RefCOCOg and RefClef (ReferItGame) from the files their authors publish.

One sample per sentence, in file order. Boxes and outlines come from instances.json, or from the
cache that tools/preprocess.py writes; outlines stay polygons or RLE until a mask is needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mindground.data.dataset import Dataset
from mindground.data.formats.files import clean_segmentation, read_json, require, require_images
from mindground.data.formats.refer_index import Refer, in_split
from mindground.data.formats.registry import Counts, DatasetFormat
from mindground.errors import DataError, DatasetNotFoundError
from mindground.structures import Sample, Segmentation, encode_mask, xywh_to_xyxy

__all__ = [
    "FORMATS",
    "REFCOCO",
    "REFCOCOG_GOOGLE",
    "REFCOCOG_UMD",
    "REFCOCO_PLUS",
    "REFER_DATASETS",
    "Refer",
    "cache_path",
    "image_folder",
    "preprocess",
    "read_refer",
]

COCO_FOLDERS = ("images/mscoco/images/train2014", "images/coco/images/train2014", "images/train2014", "images")
CLEF_FOLDERS = ("images/saiapr_tc-12", "images/saiaprtc12", "saiapr_tc-12", "saiaprtc12", "images")
ANNOTATIONS_FROM = "https://github.com/lichengunc/refer (data: refcoco.zip, refcoco+.zip, refcocog.zip, refclef.zip)"
COCO_FROM = "http://images.cocodataset.org/zips/train2014.zip"
CLEF_FROM = "the saiapr_tc-12 archive named at https://github.com/lichengunc/refer"


def _counts(**splits: tuple[int, int]) -> Counts:
    return {split: {"expressions": expressions, "images": images} for split, (expressions, images) in splits.items()}


# (expressions, images) of the published splits: the counts that papers repeat, and the catalogue of TensorFlow Datasets
# (ref_coco). Nobody publishes those of RefClef's files: they differ a little from the papers' ReferIt.
REFCOCO = _counts(train=(120624, 16994), val=(10834, 1500), testA=(5657, 750), testB=(5095, 750))
REFCOCO_PLUS = _counts(train=(120191, 16992), val=(10758, 1500), testA=(5726, 750), testB=(4889, 750))
REFCOCOG_UMD = _counts(train=(80512, 21899), val=(4896, 1300), test=(9602, 2600))
REFCOCOG_GOOGLE = _counts(train=(85474, 24698), val=(9536, 4650))


def read_refer(
    root: str, dataset: str, split_by: str, split: str, image_root: str = "", mask_path: str = ""
) -> Dataset:
    """Read one split.

    Args:
        root: folder that holds `<dataset>/` (or the annotation files themselves) and the image folders.
        dataset: refcoco | refcoco+ | refcocog | refclef.
        split_by: unc | google | umd | berkeley: the file `refs(<split_by>).p`.
        split: `train`, `val`, `test`, `testA`, ... by the refer API's rules.
        image_root: folder of the images; empty = the usual places below `root`.
        mask_path: folder with `<dataset>(<split_by>)/<ref_id>.npy` masks to use in place of the
            outlines of instances.json; empty = the outlines.

    Raises:
        DatasetNotFoundError: what is missing, where to get it, where it goes.
        DataError: the files contradict each other, or no reference has this split.
    """
    folder = _annotation_folder(root, dataset, split_by)
    images = image_folder(root, dataset, image_root)
    masks = _mask_folder(mask_path, dataset, split_by)
    cache = cache_path(folder, dataset, split_by)
    if not (folder / f"refs({split_by}).p").is_file():
        return _read_cache(cache, dataset, split, images, masks)
    refer = Refer.from_folder(folder, split_by)
    samples: list[Sample] = []
    for number in refer.getRefIds(split=split):
        ref, annotation = refer.Refs[number], refer.refToAnn[number]
        image = refer.Imgs[ref["image_id"]]
        outline = clean_segmentation(annotation.get("segmentation"), f"annotation {annotation['id']} of {folder}")
        size = (int(image["height"]), int(image["width"])) if "height" in image and "width" in image else None
        for sentence in ref["sentences"]:
            samples.append(
                Sample(
                    image_path=_image_file(images, str(image["file_name"]), ref["image_id"], dataset),
                    sample_id=str(sentence["sent_id"]),
                    image_id=str(ref["image_id"]),
                    expression=str(sentence["sent"]),
                    boxes_xyxy=xywh_to_xyxy(np.asarray([annotation["bbox"]], np.float32)),
                    segmentations=(_outline(outline, masks, number),),
                    labels=np.asarray([ref["category_id"]], np.int64),
                    size=size,
                    object_ids=(str(ref["ann_id"]),),
                    split=str(ref["split"]),
                )
            )
    require_images(samples, images, dataset, CLEF_FROM if dataset == "refclef" else COCO_FROM)
    return Dataset(samples, refer.Cats, dataset, split)


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
        used[ref["image_id"]] = str(image["file_name"])
        for sentence in ref["sentences"]:
            items.setdefault(str(ref["split"]), []).append(
                {
                    "bbox": [float(value) for value in annotation["bbox"]],
                    "phrase": str(sentence["sent"]),
                    "ref_id": ref["ref_id"],
                    "image_id": ref["image_id"],
                    "category_id": ref["category_id"],
                    "attributes": None,
                    "sent_id": sentence["sent_id"],
                    "ann_id": ref["ann_id"],
                    "size": [int(image["height"]), int(image["width"])] if "height" in image else None,
                    "segmentation": annotation.get("segmentation"),
                }
            )
    return {"items": items, "index": {"category": dict(refer.Cats), "image": used}}


def cache_path(folder: Path, dataset: str, split_by: str) -> Path:
    """Where the cache of a data set lies: `<folder>/<dataset>(<split_by>).json` (or upstream's `.pkl`)."""
    plain = folder / f"{dataset}({split_by}).json"
    pickled = plain.with_suffix(".pkl")
    return pickled if pickled.is_file() and not plain.is_file() else plain


def _read_cache(path: Path, dataset: str, split: str, images: Path, masks: Path | None) -> Dataset:
    from mindground.files.pickles import read_plain_pickle

    content = read_plain_pickle(path) if path.suffix == ".pkl" else read_json(path)
    require(content, ("items", "index"), str(path))
    require(content["index"], ("category", "image"), f"{path}: index")
    names = {str(key): str(name) for key, name in content["index"]["image"].items()}
    categories = {int(key): str(name) for key, name in content["index"]["category"].items()}
    chosen = [name for name in content["items"] if in_split(str(name), split)]
    if not chosen:
        raise DataError(f"there is no split {split!r} in {path}; it holds {', '.join(sorted(content['items']))}")
    samples = []
    for name in chosen:
        for position, item in enumerate(content["items"][name]):
            where = f"{path}: item {position} of {name}"
            require(item, ("bbox", "phrase", "ref_id", "image_id", "category_id"), where)
            if str(item["image_id"]) not in names:
                raise DataError(
                    f"{where} is about image {item['image_id']}, which the index lacks; run tools/preprocess.py again"
                )
            size, outline = item.get("size"), clean_segmentation(item.get("segmentation"), where)
            samples.append(
                Sample(
                    image_path=_image_file(images, names[str(item["image_id"])], item["image_id"], dataset),
                    sample_id=str(item.get("sent_id", f"{name}-{position}")),
                    image_id=str(item["image_id"]),
                    expression=str(item["phrase"]),
                    boxes_xyxy=xywh_to_xyxy(np.asarray([item["bbox"]], np.float32)),
                    segmentations=(_outline(outline, masks, item["ref_id"]),),
                    labels=np.asarray([item["category_id"]], np.int64),
                    size=(int(size[0]), int(size[1])) if size else None,
                    # Upstream's items name the reference only; it has exactly one object.
                    object_ids=(str(item.get("ann_id", f"ref{item['ref_id']}")),),
                    split=str(name),
                )
            )
    require_images(samples, images, dataset, CLEF_FROM if dataset == "refclef" else COCO_FROM)
    return Dataset(samples, categories, dataset, split)


def _annotation_folder(root: str, dataset: str, split_by: str) -> Path:
    refs = f"refs({split_by}).p"
    tried = [Path(root) / dataset, Path(root)] if root else []
    for folder in tried:
        if (folder / refs).is_file() and (folder / "instances.json").is_file():
            return folder
    for folder in tried:
        if cache_path(folder, dataset, split_by).is_file():
            return folder
    home = f"{root or '<data.root>'}/{dataset}"
    here = [path.name for folder in tried[:1] if folder.is_dir() for path in sorted(folder.iterdir())]
    raise DatasetNotFoundError(
        f"data.root is {root!r}, and {home} lacks {refs} and instances.json"
        f"{'; it holds ' + ', '.join(here[:12]) if here else ''}. "
        f"Get them from {ANNOTATIONS_FROM} and put them at {home}/{refs} and {home}/instances.json"
    )


def image_folder(root: str, dataset: str, image_root: str = "") -> Path:
    """Folder of the images: `image_root`, else the first usual place below `root` that exists.

    Raises:
        DatasetNotFoundError: none of the places exists.
    """
    below = CLEF_FOLDERS if dataset == "refclef" else COCO_FOLDERS
    tried = [Path(image_root)] if image_root else [Path(root) / name for name in below]
    for folder in tried:
        if folder.is_dir():
            return folder
    archive = CLEF_FROM if dataset == "refclef" else COCO_FROM
    raise DatasetNotFoundError(
        f"the images of {dataset} are missing: none of {', '.join(map(str, tried))} is a folder. "
        f"Get {archive} and unpack it to {tried[0]}, or set data.image_root"
    )


def _image_file(folder: Path, file_name: str, image_id: Any, dataset: str) -> str:
    """The image's own file name (a ref's carries an object suffix); RefClef also lies flat as <image_id>.jpg."""
    path = os.path.join(folder, *file_name.replace("\\", "/").split("/"))
    if dataset != "refclef" or os.path.isfile(path):
        return path
    flat = (os.path.join(folder, f"{image_id}.jpg"), os.path.join(folder, os.path.basename(path)))
    nested = os.path.join(folder, f"{int(image_id) // 1000:02d}", "images", f"{image_id}.jpg")
    return next((name for name in (*flat, nested) if os.path.isfile(name)), path)


def _mask_folder(mask_path: str, dataset: str, split_by: str) -> Path | None:
    if not mask_path:
        return None
    folder = Path(mask_path) / f"{dataset}({split_by})"
    if not folder.is_dir():
        raise DatasetNotFoundError(
            f"data.mask_path is {mask_path!r}, and {folder} with one <ref_id>.npy per reference is missing; "
            "put it there, or leave data.mask_path empty to use the outlines of instances.json"
        )
    return folder


def _outline(outline: Segmentation, masks: Path | None, ref_id: Any) -> Segmentation:
    if masks is None:
        return outline
    path = masks / f"{ref_id}.npy"
    try:
        mask = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; every reference needs its mask, or leave data.mask_path empty") from error
    except (ValueError, OSError) as error:
        raise DataError(f"{path} is not a plain (H, W) array ({error}); write it with numpy.save") from error
    if mask.ndim != 2:
        raise DataError(f"{path} has shape {mask.shape}; a mask is (H, W)")
    return encode_mask(mask)


def _reader(name: str) -> Callable[..., Dataset]:
    def read(root: str, split: str, split_by: str, image_root: str = "", mask_path: str = "") -> Dataset:
        return read_refer(root, name, split_by, split, image_root, mask_path)

    return read


def _format(name: str, splits: Mapping[str, tuple[str, ...]], **more: Any) -> DatasetFormat:
    takes = ("split_by", "image_root", "mask_path")
    return DatasetFormat(name, _reader(name), splits=splits, takes=takes, **more)


FORMATS = (
    _format("refcoco", {"unc": ("val", "testA", "testB"), "google": ("val", "test")}, published={"unc": REFCOCO}),
    _format("refcoco+", {"unc": ("val", "testA", "testB")}, published={"unc": REFCOCO_PLUS}),
    _format(
        "refcocog",
        {"umd": ("val", "test"), "google": ("val",)},
        published={"umd": REFCOCOG_UMD, "google": REFCOCOG_GOOGLE},
        shared={"google": ("images",)},  # divided by object
    ),
    _format("refclef", {"berkeley": ("val", "test"), "unc": ("val", "testA", "testB", "testC")}),
)
REFER_DATASETS = tuple(item.name for item in FORMATS)
