"""The index that users of the `refer` API know, over refs(<splitBy>).p and instances.json.

Same names, same answers, two differences: `getRefIds(image_ids=...)` and `getAnnIds(ref_ids=...)`
do what they say (upstream's return nested lists and ignore the argument), and `getMask` is binary.
Source of the behaviour: github.com/lichengunc/refer (Kazemzadeh et al., EMNLP 2014; Yu et al., ECCV 2016); golden
case refer-tiny.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mindground.data.formats.files import clean_segmentation, read_json, require
from mindground.errors import DataError
from mindground.structures import decode_segmentation

__all__ = ["Refer", "in_split"]

REF_KEYS = ("ref_id", "ann_id", "image_id", "category_id", "split", "sentences")


def in_split(ref_split: str, split: str) -> bool:
    """Whether a ref of `ref_split` belongs to the asked `split`, by the refer API's rules.

    testA, testB and testC take every split with that letter (testAB belongs to both), test takes
    every split that contains "test", all others are taken by their exact name.
    """
    if split in ("testA", "testB", "testC"):
        return split[-1] in ref_split
    if split == "test":
        return "test" in ref_split
    return ref_split == split


def _several(values: Any) -> list[Any]:
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        return [values]
    return list(values)


def _put(table: dict[Any, Any], key: Any, record: Any, what: str) -> None:
    if key in table:
        raise DataError(f"the id {key!r} stands at more than one {what}; ids must be unique, get the file again")
    table[key] = record


class Refer:
    """All references of one data set.

    Attributes:
        Refs, Anns, Imgs, Cats, Sents: id -> record (Cats: id -> name).
        imgToRefs, imgToAnns, catToRefs: id -> list of records.
        refToAnn, annToRef, sentToRef: id -> record. sentToTokens: id -> list of words.
    """

    def __init__(self, refs: Sequence[Mapping[str, Any]], instances: Mapping[str, Any], source: str = "refs") -> None:
        """Index plain records; `source` names them in errors.

        Raises:
            DataError: a record lacks a key, or points to an image or annotation that does not exist.
        """
        if not isinstance(refs, Sequence) or isinstance(refs, (str, bytes)):
            raise DataError(f"{source} must hold a list of references, not a {type(refs).__name__}")
        require(instances, ("images", "annotations", "categories"), f"the instances of {source}")
        self.data = {"refs": list(refs), **{key: instances[key] for key in ("images", "annotations", "categories")}}
        self.Anns: dict[int, Mapping[str, Any]] = {}
        self.Imgs: dict[int, Mapping[str, Any]] = {}
        self.Cats: dict[int, str] = {}
        self.imgToAnns: dict[int, list[Mapping[str, Any]]] = {}
        for image in instances["images"]:
            require(image, ("id", "file_name"), f"an image of {source}")
            _put(self.Imgs, image["id"], image, f"image of {source}")
        for annotation in instances["annotations"]:
            require(annotation, ("id", "image_id", "bbox"), f"an annotation of {source}")
            _put(self.Anns, annotation["id"], annotation, f"annotation of {source}")
            self.imgToAnns.setdefault(annotation["image_id"], []).append(annotation)
        for category in instances["categories"]:
            require(category, ("id", "name"), f"a category of {source}")
            self.Cats[category["id"]] = category["name"]
        self._index_refs(source)

    def _index_refs(self, source: str) -> None:
        self.Refs: dict[int, Mapping[str, Any]] = {}
        self.Sents: dict[int, Mapping[str, Any]] = {}
        self.imgToRefs: dict[int, list[Mapping[str, Any]]] = {}
        self.catToRefs: dict[int, list[Mapping[str, Any]]] = {}
        self.refToAnn: dict[int, Mapping[str, Any]] = {}
        self.annToRef: dict[int, Mapping[str, Any]] = {}
        self.sentToRef: dict[int, Mapping[str, Any]] = {}
        self.sentToTokens: dict[int, list[str]] = {}
        for ref in self.data["refs"]:
            require(ref, REF_KEYS, f"a reference of {source}")
            number = ref["ref_id"]
            if ref["ann_id"] not in self.Anns or ref["image_id"] not in self.Imgs:
                raise DataError(
                    f"reference {number} of {source} points to annotation {ref['ann_id']} in image {ref['image_id']}, "
                    "and instances.json lacks one of them; take both files from the same release"
                )
            _put(self.Refs, number, ref, f"reference of {source}")
            self.imgToRefs.setdefault(ref["image_id"], []).append(ref)
            self.catToRefs.setdefault(ref["category_id"], []).append(ref)
            self.refToAnn[number] = self.Anns[ref["ann_id"]]
            self.annToRef[ref["ann_id"]] = ref
            for sentence in ref["sentences"]:
                require(sentence, ("sent_id", "sent"), f"a sentence of reference {number} of {source}")
                self.Sents[sentence["sent_id"]] = sentence
                self.sentToRef[sentence["sent_id"]] = ref
                self.sentToTokens[sentence["sent_id"]] = list(sentence.get("tokens", sentence["sent"].split()))

    @classmethod
    def from_folder(cls, folder: str | Path, split_by: str) -> Refer:
        """Read `refs(<split_by>).p` and `instances.json`; a pickle that asks for code is refused."""
        from mindground.files.pickles import read_plain_pickle

        path = Path(folder) / f"refs({split_by}).p"
        return cls(read_plain_pickle(path), read_json(Path(folder) / "instances.json"), str(path))

    def getRefIds(  # noqa: N802
        self, image_ids: Any = (), cat_ids: Any = (), ref_ids: Any = (), split: str = ""
    ) -> list[int]:
        """Ids of the references that satisfy every condition given; file order.

        Raises:
            DataError: no reference has this split.
        """
        images, categories, wanted = (set(_several(values)) for values in (image_ids, cat_ids, ref_ids))
        refs = [
            ref
            for ref in self.data["refs"]
            if (not images or ref["image_id"] in images)
            and (not categories or ref["category_id"] in categories)
            and (not wanted or ref["ref_id"] in wanted)
        ]
        if split:
            known = sorted({ref["split"] for ref in self.data["refs"]})
            if not any(in_split(name, split) for name in known):
                raise DataError(f"there is no split {split!r} in these references; they hold {', '.join(known)}")
            refs = [ref for ref in refs if in_split(ref["split"], split)]
        return [ref["ref_id"] for ref in refs]

    def getAnnIds(self, image_ids: Any = (), cat_ids: Any = (), ref_ids: Any = ()) -> list[int]:  # noqa: N802
        """Ids of the annotations that satisfy every condition given; file order."""
        images, categories = set(_several(image_ids)), set(_several(cat_ids))
        referred = {self.Refs[number]["ann_id"] for number in _several(ref_ids)}
        return [
            annotation["id"]
            for annotation in self.data["annotations"]
            if (not images or annotation["image_id"] in images)
            and (not categories or annotation.get("category_id") in categories)
            and (not referred or annotation["id"] in referred)
        ]

    def getImgIds(self, ref_ids: Any = ()) -> list[int]:  # noqa: N802
        """Ids of the images of these references, each once; of all images when none is named."""
        chosen = _several(ref_ids)
        return list(dict.fromkeys(self.Refs[number]["image_id"] for number in chosen)) if chosen else list(self.Imgs)

    def getCatIds(self) -> list[int]:  # noqa: N802
        """Ids of all categories."""
        return list(self.Cats)

    def loadRefs(self, ref_ids: Any) -> list[Mapping[str, Any]]:  # noqa: N802
        """Records of these references."""
        return [self.Refs[number] for number in _several(ref_ids)]

    def loadAnns(self, ann_ids: Any) -> list[Mapping[str, Any]]:  # noqa: N802
        """Records of these annotations."""
        return [self.Anns[number] for number in _several(ann_ids)]

    def loadImgs(self, image_ids: Any) -> list[Mapping[str, Any]]:  # noqa: N802
        """Records of these images."""
        return [self.Imgs[number] for number in _several(image_ids)]

    def loadCats(self, cat_ids: Any) -> list[str]:  # noqa: N802
        """Names of these categories."""
        return [self.Cats[number] for number in _several(cat_ids)]

    def getRefBox(self, ref_id: int) -> list[float]:  # noqa: N802
        """Box of a reference as the file has it: left, top, width, height in pixels."""
        return [float(value) for value in self.refToAnn[ref_id]["bbox"]]

    def getMask(self, ref: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802
        """The region of a reference.

        Returns:
            `mask`: (H, W) uint8 of 0 and 1; `area`: its pixels, each counted once; `area_of_parts`: the
            number upstream calls area, where pixels that two parts share count twice.
        """
        image, annotation = self.Imgs[ref["image_id"]], self.refToAnn[ref["ref_id"]]
        require(image, ("height", "width"), f"image {image['id']}")
        segmentation = clean_segmentation(annotation.get("segmentation"), f"annotation {annotation['id']}")
        size = (int(image["height"]), int(image["width"]))
        mask = decode_segmentation(segmentation, size)
        parts = [segmentation] if isinstance(segmentation, Mapping) else list(segmentation or ())
        total = sum(int(np.count_nonzero(decode_segmentation([part], size))) for part in parts)
        return {"mask": mask, "area": int(np.count_nonzero(mask)), "area_of_parts": total}
