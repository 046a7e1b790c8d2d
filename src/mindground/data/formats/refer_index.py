"""The index that users of the `refer` API know, over refs(<splitBy>).p and instances.json.

Same names, same answers, two differences: `getRefIds(image_ids=...)` and `getAnnIds(ref_ids=...)`
do what they say (upstream's return nested lists and ignore the argument), and `getMask` is binary. Each of the four
look-ups also takes the ids of the other three kinds. Scores of captions (BLEU, CIDEr, METEOR) are not part of it.
Source of the behaviour: github.com/lichengunc/refer (Kazemzadeh et al., EMNLP 2014; Yu et al., ECCV 2016); golden
case refer-tiny.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mindground.data.formats.fields import (
    Reading,
    RecordError,
    clean_segmentation,
    four_numbers,
    identity,
    integer,
    listing,
    optional_size,
    plain_text,
    require,
    split_name,
    text,
)
from mindground.data.formats.files import read_json
from mindground.data.formats.refer_masks import fitted
from mindground.errors import DataError, shown
from mindground.structures.overlap import part_counts
from mindground.structures.sample import Overlap

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
        raise RecordError(f"the id {shown(key)} stands at more than one {what}; ids must be unique, get the file again")
    table[key] = record


class Refer:
    """All references of one data set.

    Attributes:
        Refs, Anns, Imgs, Cats, Sents: id -> record (Cats: id -> name).
        imgToRefs, imgToAnns, catToRefs: id -> list of records.
        refToAnn, annToRef, sentToRef: id -> record. sentToTokens: id -> list of words.
    """

    def __init__(
        self,
        refs: Sequence[Mapping[str, Any]],
        instances: Mapping[str, Any],
        source: str = "refs",
        *,
        problems: list[str] | None = None,
    ) -> None:
        """Index plain records; `source` names them in errors.

        Args:
            refs, instances: what the two files hold.
            source: name of the references for errors.
            problems: gets one line a record that cannot be used, which is then left out; None = it raises DataError.

        Raises:
            DataError: a record lacks a key or holds what does not belong there, or points to an image or annotation
                that does not exist.
        """
        if not isinstance(refs, Sequence) or isinstance(refs, (str, bytes)):
            raise DataError(f"{source} must hold a list of references, not a {type(refs).__name__}")
        where = f"the instances of {source}"
        require(instances, ("images", "annotations", "categories"), where)
        reading = Reading(problems)
        self.Anns: dict[Any, Mapping[str, Any]] = {}
        self.Imgs: dict[Any, Mapping[str, Any]] = {}
        self.Cats: dict[int, str] = {}
        self.imgToAnns: dict[Any, list[Mapping[str, Any]]] = {}
        self._index_images(listing(instances, "images", where), source, reading)
        self._index_annotations(listing(instances, "annotations", where), source, reading)
        for position, category in enumerate(listing(instances, "categories", where)):
            named = f"category {position} of {source}"
            with reading.record(named):
                require(category, ("id", "name"), named)
                self.Cats[integer(category, "id", named)] = text(category, "name", named)
        self.data: dict[str, list[Mapping[str, Any]]] = {
            "refs": [],
            "images": list(self.Imgs.values()),
            "annotations": list(self.Anns.values()),
            "categories": list(instances["categories"]),
        }
        self._index_refs(refs, source, reading)

    def _index_images(self, images: Sequence[Any], source: str, reading: Reading) -> None:
        for position, image in enumerate(images):
            where = f"image {position} of {source}"
            with reading.record(where):
                require(image, ("id", "file_name"), where)
                text(image, "file_name", where, empty=False)
                optional_size(image.get("height"), image.get("width"), where)
                _put(self.Imgs, identity(image, "id", where), image, f"image of {source}")

    def _index_annotations(self, annotations: Sequence[Any], source: str, reading: Reading) -> None:
        for position, annotation in enumerate(annotations):
            where = f"annotation {position} of {source}"
            with reading.record(where):
                require(annotation, ("id", "image_id"), where)
                image = identity(annotation, "image_id", where)
                _put(self.Anns, identity(annotation, "id", where), annotation, f"annotation of {source}")
                self.imgToAnns.setdefault(image, []).append(annotation)

    def _index_refs(self, refs: Sequence[Any], source: str, reading: Reading) -> None:
        self.Refs: dict[Any, Mapping[str, Any]] = {}
        self.Sents: dict[Any, Mapping[str, Any]] = {}
        self.imgToRefs: dict[Any, list[Mapping[str, Any]]] = {}
        self.catToRefs: dict[Any, list[Mapping[str, Any]]] = {}
        self.refToAnn: dict[Any, Mapping[str, Any]] = {}
        self.annToRef: dict[Any, Mapping[str, Any]] = {}
        self.sentToRef: dict[Any, Mapping[str, Any]] = {}
        self.sentToTokens: dict[Any, list[str]] = {}
        for position, ref in enumerate(refs):
            with reading.record(f"reference {position} of {source}"):
                self._index_ref(ref, position, source)

    def _index_ref(self, ref: Any, position: int, source: str) -> None:
        require(ref, REF_KEYS, f"reference {position} of {source}")
        number = identity(ref, "ref_id", f"reference {position} of {source}")
        where = f"reference {shown(number)} of {source}"
        image, annotation = identity(ref, "image_id", where), identity(ref, "ann_id", where)
        category = integer(ref, "category_id", where)
        split_name(ref, "split", where)
        if annotation not in self.Anns or image not in self.Imgs:
            raise RecordError(
                f"{where} points to annotation {shown(annotation)} in image {shown(image)}, "
                "and instances.json lacks one of them; take both files from the same release"
            )
        sentences = [_sentence(sentence, where) for sentence in listing(ref, "sentences", where)]
        _put(self.Refs, number, ref, f"reference of {source}")
        self.data["refs"].append(ref)
        self.imgToRefs.setdefault(image, []).append(ref)
        self.catToRefs.setdefault(category, []).append(ref)
        self.refToAnn[number] = self.Anns[annotation]
        self.annToRef[annotation] = ref
        for identifier, sentence, tokens in sentences:
            self.Sents[identifier] = sentence
            self.sentToRef[identifier] = ref
            self.sentToTokens[identifier] = tokens

    @classmethod
    def from_folder(cls, folder: str | Path, split_by: str, *, problems: list[str] | None = None) -> Refer:
        """Read `refs(<split_by>).p` and `instances.json`; a pickle that asks for code is refused.

        `problems` is as for the constructor.
        """
        from mindground.files.pickles import read_plain_pickle

        path = Path(folder) / f"refs({split_by}).p"
        instances = read_json(Path(folder) / "instances.json")
        return cls(read_plain_pickle(path), instances, str(path), problems=problems)

    def getRefIds(  # noqa: N802
        self, image_ids: Any = (), cat_ids: Any = (), ref_ids: Any = (), split: str = "", *, ann_ids: Any = ()
    ) -> list[Any]:
        """Ids of the references that satisfy every condition given; file order.

        Raises:
            DataError: no reference has this split.
        """
        refs = self._refs(image_ids, cat_ids, ref_ids, ann_ids)
        if split:
            known = sorted({ref["split"] for ref in self.data["refs"]})
            if not any(in_split(name, split) for name in known):
                raise DataError(f"there is no split {split!r} in these references; they hold {', '.join(known)}")
            refs = [ref for ref in refs if in_split(ref["split"], split)]
        return [ref["ref_id"] for ref in refs]

    def getAnnIds(  # noqa: N802
        self, image_ids: Any = (), cat_ids: Any = (), ref_ids: Any = (), *, ann_ids: Any = ()
    ) -> list[Any]:
        """Ids of the annotations that satisfy every condition given, referred to or not; file order."""
        images, categories, wanted = (set(_several(values)) for values in (image_ids, cat_ids, ann_ids))
        chosen = _several(ref_ids)
        if chosen:
            referred = {self.Refs[number]["ann_id"] for number in chosen}
            wanted = wanted & referred if wanted else referred
            if not wanted:
                return []
        if len(images) == 1:
            among: Iterable[Mapping[str, Any]] = self.imgToAnns.get(next(iter(images)), ())
        else:
            among = self.data["annotations"]
        return [
            annotation["id"]
            for annotation in among
            if (not images or annotation["image_id"] in images)
            and (not categories or annotation.get("category_id") in categories)
            and (not wanted or annotation["id"] in wanted)
        ]

    def getImgIds(self, ref_ids: Any = (), *, cat_ids: Any = (), ann_ids: Any = ()) -> list[Any]:  # noqa: N802
        """Ids of the images of what satisfies every condition given, each once; of all images without a condition.

        References are looked at where `ref_ids` is given, annotations otherwise.
        """
        if not any(map(_several, (ref_ids, cat_ids, ann_ids))):
            return list(self.Imgs)
        return list(dict.fromkeys(item["image_id"] for item in self._matching(ref_ids, (), cat_ids, ann_ids)))

    def getCatIds(self, ref_ids: Any = (), *, image_ids: Any = (), ann_ids: Any = ()) -> list[Any]:  # noqa: N802
        """Ids of the categories of what satisfies every condition given, each once; of all without a condition.

        References are looked at where `ref_ids` is given, annotations otherwise.
        """
        if not any(map(_several, (ref_ids, image_ids, ann_ids))):
            return list(self.Cats)
        found = (item.get("category_id") for item in self._matching(ref_ids, image_ids, (), ann_ids))
        return [number for number in dict.fromkeys(found) if number is not None]

    def _refs(self, image_ids: Any, cat_ids: Any, ref_ids: Any, ann_ids: Any) -> list[Mapping[str, Any]]:
        images, categories, wanted, annotations = (
            set(_several(values)) for values in (image_ids, cat_ids, ref_ids, ann_ids)
        )
        among = self.imgToRefs.get(next(iter(images)), []) if len(images) == 1 else self.data["refs"]
        return [
            ref
            for ref in among
            if (not images or ref["image_id"] in images)
            and (not categories or ref["category_id"] in categories)
            and (not wanted or ref["ref_id"] in wanted)
            and (not annotations or ref["ann_id"] in annotations)
        ]

    def _matching(self, ref_ids: Any, image_ids: Any, cat_ids: Any, ann_ids: Any) -> list[Mapping[str, Any]]:
        if _several(ref_ids):
            unknown = next((number for number in _several(ref_ids) if number not in self.Refs), None)
            if unknown is not None:
                raise KeyError(unknown)
            order = {number: place for place, number in enumerate(_several(ref_ids))}
            return sorted(
                self._refs(image_ids, cat_ids, ref_ids, ann_ids), key=lambda ref: order[ref["ref_id"]]
            )  # as asked for
        return self.loadAnns(self.getAnnIds(image_ids, cat_ids, ann_ids=ann_ids))

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
        where = f"the annotation of reference {shown(ref_id)}"
        require(self.refToAnn[ref_id], ("bbox",), where)
        return four_numbers(self.refToAnn[ref_id]["bbox"], "'bbox' is [x, y, width, height] in pixels", where)

    def getMask(self, ref: Mapping[str, Any], overlap: Overlap = "union") -> dict[str, Any]:  # noqa: N802
        """The region of a reference.

        Args:
            ref: its record.
            overlap: what pixels are that several parts cover: of the region, or background as for LAVT and RMSIN.

        Returns:
            `mask`: (H, W) uint8 of 0 and 1; `area`: its pixels, each counted once; `area_of_parts`: the
            number upstream calls area, where pixels that two parts share count twice. A mask of nearly the image's
            size is resized to it.
        """
        image, annotation = self.Imgs[ref["image_id"]], self.refToAnn[ref["ref_id"]]
        require(image, ("height", "width"), f"image {image['id']}")
        size = optional_size(image["height"], image["width"], f"image {image['id']}")
        if size is None:
            raise DataError(f"image {image['id']} has no height or no width, so no mask of it can be drawn")
        where = f"annotation {shown(annotation['id'])}"
        outline = fitted(clean_segmentation(annotation.get("segmentation"), where), size, where, Reading())
        counts = part_counts(outline, size)
        mask = (counts == 1 if overlap == "upstream" else counts > 0).astype(np.uint8)
        return {"mask": mask, "area": int(np.count_nonzero(mask)), "area_of_parts": int(counts.sum(dtype=np.int64))}


def _sentence(sentence: Any, where: str) -> tuple[Any, Mapping[str, Any], list[str]]:
    """Id, record and words of one sentence of a reference."""
    named = f"a sentence of {where}"
    require(sentence, ("sent_id", "sent"), named)
    said = text(sentence, "sent", named)
    tokens = sentence.get("tokens")
    if tokens is not None and not isinstance(tokens, (list, tuple)):
        raise RecordError(f"{named}: 'tokens' is a list of words, not {shown(tokens)}")
    words = said.split() if tokens is None else [plain_text(word, "a token", named) for word in tokens]
    return identity(sentence, "sent_id", named), sentence, words
