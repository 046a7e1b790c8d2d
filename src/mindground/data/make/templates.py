"""Pseudo pairs from detections alone: "left ship", "ship on the left", "white tank in the front".

The rules are Pseudo-Q's, as CLIP-VG uses them for its first source, with boxes and class names in place of a
detector's and an attribute detector's output; docs/curriculum.md says rule by rule what is theirs. The sentences are
*not* checked for being true of one object alone: they are the noisy, plentiful kind that a self-paced curriculum thins
out. `expressions.py` makes the careful kind.

    words    per class with two or more boxes: left, right, middle, center by the centres' x when they spread over more
             than 50 pixels; top, bottom by their y; behind, front by area when smallest / largest < 0.4
    choice   the three most confident objects of an image, people first; at most six sentences
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mindground.data.formats.fields import identity, plain_text, require
from mindground.data.formats.files import read_json
from mindground.data.formats.jsonl import relative_to, write_description, write_jsonl
from mindground.data.make.clipping import clip_box
from mindground.data.make.expressions import spoken_name
from mindground.data.make.labels import LabelledImage, Labels, read_labels
from mindground.data.make.splits import check_name, split_of
from mindground.errors import DataError, DatasetNotFoundError, shown
from mindground.structures import box_iou

__all__ = ["Detection", "TemplateReport", "TemplateRules", "make_template_source", "place_words", "template_pairs"]

PEOPLE = frozenset("person man woman boy girl child people pedestrian rider player".split())
# Words of place -> the phrase that may follow the class; the others only stand beside it.
_PHRASES = {
    "left": "on the left",
    "right": "on the right",
    "middle": "in the middle",
    "center": "in the center",
    "front": "in the front",
    "behind": "in the behind",
}
_SIZES = {"behind": "small", "front": "large"}


@dataclass(frozen=True)
class Detection:
    """One detected or annotated object: id, class name, (4,) xyxy box in pixels, confidence, perhaps an attribute."""

    object_id: str
    name: str
    box: tuple[float, float, float, float]
    score: float = 1.0
    attribute: str = ""

    @property
    def area(self) -> float:
        """Of the box, in pixels."""
        return max(0.0, self.box[2] - self.box[0]) * max(0.0, self.box[3] - self.box[1])

    @property
    def centre(self) -> tuple[float, float]:
        """x, y of the box's centre."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


@dataclass(frozen=True)
class TemplateRules:
    """Numbers of the rules.

    Attributes:
        min_share: boxes with a smaller share of the image are dropped. Upstream 1/64; 0 here, because objects seen
            from above are small.
        nms_iou: of two boxes with more overlap the less confident is dropped.
        spread: pixels over which the centres of a class must spread before place words are used.
        depth_ratio, front_ratio: area ratios of "behind" and "front".
        objects, sentences: of one image at most.
        from_above: "small" and "large" before the class in place of "behind" and "front".
    """

    min_share: float = 0.0
    nms_iou: float = 0.4
    spread: float = 50.0
    depth_ratio: float = 0.4
    front_ratio: float = 0.8
    objects: int = 3
    sentences: int = 6
    from_above: bool = False


@dataclass
class TemplateReport:
    """What was made of one file."""

    split: str
    images: int = 0
    detections: int = 0
    small: int = 0
    overlapping: int = 0
    objects: int = 0
    expressions: int = 0
    without_expression: int = 0
    rules: TemplateRules = field(default_factory=TemplateRules)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def place_words(group: Sequence[Detection], size: tuple[int, int], rules: TemplateRules) -> list[list[str]]:
    """Words for each object of one class in an image of `size` (height, width).

    The outermost two of a direction always get its words; of the others those beyond three quarters and before one
    quarter of the image do when they are more than one, else they are in the middle (of the horizontal direction; a
    middle of the vertical one has no word).
    """
    words: list[list[str]] = [[] for _ in group]
    if len(group) < 2:
        return words
    for axis, (low, high), middle in ((0, ("left", "right"), ["middle", "center"]), (1, ("top", "bottom"), [])):
        # The extent of this direction. Upstream's vertical test compares with the width.
        extent = size[1] if axis == 0 else size[0]
        values = np.asarray([item.centre[axis] for item in group])
        if values.max() - values.min() <= rules.spread:
            continue
        first, last = int(values.argmin()), int(values.argmax())
        for index, value in enumerate(values):
            many = len(group) > 3 or axis == 1
            if index == last or (many and index != first and value > 0.75 * extent):
                words[index].append(high)
            elif index == first or (many and value < 0.25 * extent):
                words[index].append(low)
            else:
                words[index].extend(middle)
    areas = np.asarray([item.area for item in group])
    largest = areas.max()
    if largest > 0 and areas.min() / largest < rules.depth_ratio:
        for index, ratio in enumerate(areas / largest):
            if len(group) > 3:
                depth = "behind" if ratio < rules.depth_ratio else "front" if ratio > rules.front_ratio else ""
            else:
                depth = "behind" if index == int(areas.argmin()) else "front" if index == int(areas.argmax()) else ""
            if depth:
                words[index].append(depth)
    return words


def _sentences(item: Detection, words: Sequence[str], unique: bool, rules: TemplateRules) -> list[str]:
    name = spoken_name(item.name)
    thing = f"{spoken_name(item.attribute)} {name}" if item.attribute else name
    # A bare class that several boxes share says nothing about which is meant; upstream makes it all the same.
    made = [thing] if unique else []
    for word in words:
        if rules.from_above and word in _SIZES:
            made.append(f"{_SIZES[word]} {thing}")
            continue
        made += [f"{word} {thing}", f"{thing} {word}"]
        if word in _PHRASES:
            made.append(f"{thing} {_PHRASES[word]}")
    return made


def template_pairs(
    detections: Sequence[Detection], size: tuple[int, int], rng: np.random.Generator, rules: TemplateRules
) -> list[tuple[Detection, str]]:
    """Pseudo pairs of one image of `size` (height, width); `detections` were filtered (`_filtered`) before."""
    groups: dict[str, list[Detection]] = {}
    for item in detections:
        groups.setdefault(spoken_name(item.name), []).append(item)
    candidates: list[tuple[Detection, list[str]]] = []
    for group in groups.values():
        attributes = [item.attribute for item in group]
        for item, words in zip(group, place_words(group, size, rules), strict=True):
            unique = len(group) == 1 or (item.attribute != "" and attributes.count(item.attribute) == 1)
            candidates.append((item, _sentences(item, words, unique, rules)))
    ranked = sorted(
        candidates, key=lambda pair: (spoken_name(pair[0].name) not in PEOPLE, -pair[0].score, -pair[0].area)
    )
    pairs = [(item, text) for item, sentences in ranked[: rules.objects] for text in dict.fromkeys(sentences)]
    if len(pairs) > rules.sentences:
        pairs = [pairs[index] for index in sorted(rng.choice(len(pairs), rules.sentences, replace=False))]
    return pairs


def _filtered(
    detections: Sequence[Detection], size: tuple[int, int], rules: TemplateRules, report: TemplateReport
) -> list[Detection]:
    """Large enough, and no two of them nearly the same; in the order of confidence, larger ones first where equal."""
    least = rules.min_share * size[0] * size[1]
    kept: list[Detection] = []
    for item in sorted(detections, key=lambda item: (-item.score, -item.area)):
        left, top, right, bottom = clip_box(item.box, size)
        if right <= left or bottom <= top or item.area < least:
            report.small += 1
        elif kept and box_iou(np.asarray([other.box for other in kept]), np.asarray(item.box)).max() > rules.nms_iou:
            report.overlapping += 1
        else:
            kept.append(item)
    return kept


def make_template_source(
    coco_file: Path,
    images: Path,
    out: Path,
    *,
    detections: Path | None = None,
    split: str = "",
    seed: int = 0,
    min_score: float = 0.0,
    rules: TemplateRules | None = None,
) -> TemplateReport:
    """Write `<split>.jsonl` and `dataset.json` below `out`, one record per object with its sentences.

    Args:
        coco_file: COCO instances; an annotation may have `score` (1 where it has none) and `attribute`.
        images: folder of the images; must exist.
        detections: a detector's results as COCO writes them (`[{image_id, category_id, bbox, score}, ...]`), used in
            place of the file's annotations.
        split: its name; empty = from the file's name.
        seed: draws the sentences of images that have too many; an image's draw depends on its name alone.
        min_score: less confident detections are left out.

    Raises:
        DatasetNotFoundError, DataError.
    """
    if not images.is_dir():
        raise DatasetNotFoundError(f"--images {images} is not a folder; name the one that holds the images")
    labels, rules = read_labels(coco_file, images), rules or TemplateRules()
    found = _by_image(labels, coco_file, detections, min_score)
    report = TemplateReport(check_name(split or split_of(coco_file), "--split"), rules=rules)
    records: list[dict[str, Any]] = []
    for image in labels.images:
        rng = np.random.default_rng([seed, zlib.crc32(image.name.encode("utf-8", "surrogatepass"))])
        here = found.get(image.key, [])
        report.images += 1
        report.detections += len(here)
        pairs = template_pairs(_filtered(here, image.size, rules, report), image.size, rng, rules)
        report.without_expression += not pairs
        report.expressions += len(pairs)
        made = _records(image, relative_to(image.path, images), pairs, report.split)
        report.objects += len(made)
        records += made
    if not records:
        raise DataError(f"{coco_file}: no object got a sentence; lower --min-score or --min-share, or check its boxes")
    write_jsonl(out / f"{report.split}.jsonl", records)
    write_description(out, out.resolve().name, labels.categories, relative_to(images, out))
    return report


def _records(
    image: LabelledImage, name: str, pairs: Sequence[tuple[Detection, str]], split: str
) -> list[dict[str, Any]]:
    by_object: dict[Detection, list[str]] = {}
    for item, text in pairs:
        by_object.setdefault(item, []).append(text)
    return [
        {
            "id": f"{split}-{image.key}-{item.object_id}",
            "image": name,
            "image_id": image.key,
            "size": list(image.size),
            "sentences": sentences,
            "box": list(clip_box(item.box, image.size)),
            "category": item.name,
            "object_id": item.object_id,
            "split": split,
            "meta": {"score": item.score},
        }
        for item, sentences in by_object.items()
    ]


def _by_image(labels: Labels, coco_file: Path, detections: Path | None, min_score: float) -> dict[str, list[Detection]]:
    found: dict[str, list[Detection]] = {}
    if detections is None:
        for image in labels.images:
            for item in image.objects:
                score = _score(item.raw, f"{coco_file}: annotation {item.key}")
                if not item.crowd and score >= min_score:
                    attribute = _attribute(item.raw, f"{coco_file}: annotation {item.key}")
                    made = Detection(item.key, labels.categories[item.category], item.box, score, attribute)
                    found.setdefault(image.key, []).append(made)
        return found
    items = read_json(detections)
    if not isinstance(items, list):
        raise DataError(f"{detections} must be a list of detections, as COCO results are")
    known = {image.key for image in labels.images}
    for position, item in enumerate(items):
        place = f"{detections}: detection {position}"
        require(item, ("image_id", "category_id", "bbox"), place)
        image_key, category = str(item["image_id"]), item["category_id"]
        if image_key not in known or not isinstance(category, int) or category not in labels.categories:
            raise DataError(
                f"{place} belongs to image {shown(item['image_id'])}, category {shown(category)}; one is unknown"
            )
        score = _score(item, place)
        if not item.get("iscrowd") and score >= min_score:
            name = str(identity(item, "id", place)) if "id" in item else str(position)
            box, attribute = _corners(item["bbox"], place), _attribute(item, place)
            made = Detection(name, labels.categories[category], box, score, attribute)
            found.setdefault(image_key, []).append(made)
    return found


def _attribute(item: Mapping[str, Any], place: str) -> str:
    """The word that a sentence gets, such as a colour; null is none."""
    return plain_text(item.get("attribute") or "", "'attribute'", place)


def _score(item: Mapping[str, Any], place: str) -> float:
    score = item.get("score", 1.0)
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not abs(score) < 1e9:
        raise DataError(f"{place} has the score {shown(score)}; it is a number")
    return float(score)


def _corners(box: Any, place: str) -> tuple[float, float, float, float]:
    numbers = isinstance(box, list) and len(box) == 4 and all(isinstance(value, (int, float)) for value in box)
    if not numbers or not all(abs(value) < 1e9 for value in box):
        raise DataError(f"{place} has the bbox {shown(box)}; it is [x, y, width, height]")
    left, top, width, height = (float(value) for value in box)
    return left, top, left + width, top + height
