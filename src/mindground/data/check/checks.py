"""What is wrong with a data set before a training finds out: every defect, not the first one.

Errors are what a training or an honest evaluation cannot live with (an image that cannot be read,
a box outside, an image in two splits); warnings are what one should know of. The report is stable:
the same files give the same JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mindground.data.check.findings import ERROR, WARNING, CheckReport, Finding, write_report
from mindground.data.check.overlap import overlap, plain
from mindground.data.dataset import Dataset
from mindground.data.formats.registry import Counts
from mindground.errors import DataError, ImageError
from mindground.structures import MaskFile, Sample, Segmentation, box_iou, decode_segmentation, mask_box

__all__ = ["ERROR", "WARNING", "CheckReport", "Finding", "check_datasets", "check_object", "write_report"]

# Outlines are drawn by hand and boxes rounded: one pixel beyond the edge is no defect.
SLACK = 1.0
FULL_MASK = 0.99
MIN_BOX_IOU = 0.5


def check_datasets(
    datasets: Sequence[Dataset],
    *,
    published: Counts | None = None,
    shared: Sequence[str] = (),
    decode_images: bool = True,
    min_box_iou: float = MIN_BOX_IOU,
    found: Iterable[Finding] = (),
    facts: Mapping[str, Any] | None = None,
) -> CheckReport:
    """Check the splits of one data set, each by itself and against each other.

    Args:
        datasets: one per split.
        published: counts of the literature by split; a split that is not among them is compared with nothing.
        shared: `images`, `objects`: what the splits share by design, which is then worth a warning only.
        decode_images: read every image whole; without it, only that the file is there and not empty.
        min_box_iou: a box and the box around its mask must overlap at least so much.
        found: what the format's own check found already (`data.check.inspection`).
        facts: what it tells about the set as a whole.
    """
    report = CheckReport(datasets[0].name if datasets else "", findings=list(found), facts=dict(facts or {}))
    contents: dict[str, dict[str, str]] = {}
    for dataset in datasets:
        report.splits[dataset.split] = _counts(dataset)
        report.fingerprints[dataset.split] = _fingerprint(dataset)
        report.findings += _check_ids(dataset)
        report.findings += _check_sentences(dataset)
        sizes, digests, found = _check_images(dataset, decode_images)
        contents[dataset.split] = digests
        report.findings += found
        report.findings += _check_objects(dataset, sizes, min_box_iou)
        report.findings += _compare(report, dataset, (published or {}).get(dataset.split, {}))
    for first in range(len(datasets)):
        for second in range(first + 1, len(datasets)):
            report.findings += overlap(datasets[first], datasets[second], contents, shared)
    report.findings = sorted(set(report.findings))
    return report


def _compare(report: CheckReport, dataset: Dataset, published: Mapping[str, int]) -> Iterable[Finding]:
    """Notes the counts that the literature gives for a split; those that differ are findings."""
    for what, number in published.items():
        found = report.splits[dataset.split][what]
        report.published.setdefault(dataset.split, {})[what] = {"found": found, "published": number}
        if found != number:
            detail = (
                f"{found} {what}, the literature counts {number}; scores on a set of your own, or on a part, cannot be "
                "compared with published ones"
            )
            yield Finding(WARNING, "count", dataset.split, f"{dataset.name} {what}", detail)


def _counts(dataset: Dataset) -> dict[str, int]:
    return {
        "images": len({sample.image_id for sample in dataset}),
        "objects": len({name for sample in dataset for name in sample.object_ids}),
        "expressions": len(dataset.sentences()),
        "samples": len(dataset),
    }


def _fingerprint(dataset: Dataset) -> str:
    """The same for the same samples in the same order, wherever the files lie."""
    digest = hashlib.sha256()
    for sample in dataset:
        entry = [Path(sample.image_path).name, sample.expression, list(sample.object_ids)]
        digest.update(json.dumps(entry).encode() + b"\n")
    return digest.hexdigest()


def _check_ids(dataset: Dataset) -> Iterable[Finding]:
    samples: set[str] = set()
    objects: dict[str, tuple[str, bytes]] = {}
    paths: dict[str, str] = {}
    for sample in dataset:
        if sample.sample_id in samples:
            detail = "two samples have this id"
            yield Finding(ERROR, "duplicate_id", dataset.split, sample.sample_id, detail)
        samples.add(sample.sample_id)
        if paths.setdefault(sample.image_id, sample.image_path) != sample.image_path:
            detail = f"image id {sample.image_id} means {paths[sample.image_id]} and {sample.image_path}"
            yield Finding(ERROR, "duplicate_id", dataset.split, sample.sample_id, detail)
        if len(sample.object_ids) != len(sample.boxes_xyxy):
            detail = f"{len(sample.object_ids)} object ids for {len(sample.boxes_xyxy)} boxes"
            yield Finding(ERROR, "object_ids", dataset.split, sample.sample_id, detail)
            continue
        for name, box in zip(sample.object_ids, sample.boxes_xyxy, strict=True):
            # Sentences share an object; one id for two places is another matter.
            if objects.setdefault(name, (sample.image_id, box.tobytes())) != (sample.image_id, box.tobytes()):
                detail = f"object id {name} has two boxes or lies in two images"
                yield Finding(ERROR, "duplicate_id", dataset.split, sample.sample_id, detail)
        if len(set(sample.object_ids)) < len(sample.object_ids):
            detail = "two objects of this sample have one id"
            yield Finding(ERROR, "duplicate_id", dataset.split, sample.sample_id, detail)


def _check_sentences(dataset: Dataset) -> Iterable[Finding]:
    asked: dict[tuple[str, str], tuple[str, ...]] = {}
    for sample in dataset:
        if sample.expression is None:
            continue
        text = plain(sample.expression)
        if not text:
            yield Finding(ERROR, "empty_sentence", dataset.split, sample.sample_id, "the sentence has no words")
        elif asked.setdefault((sample.image_id, text), sample.object_ids) != sample.object_ids:
            detail = f"{sample.expression!r} also stands for another object of image {sample.image_id}"
            yield Finding(WARNING, "ambiguous_sentence", dataset.split, sample.sample_id, detail)
        if len(sample.boxes_xyxy) == 0:
            yield Finding(ERROR, "no_object", dataset.split, sample.sample_id, "a sentence without an object")


def _check_images(dataset: Dataset, decode: bool) -> tuple[dict[str, tuple[int, int]], dict[str, str], list[Finding]]:
    """Sizes by path, digest of the content by path, findings; every image is opened once."""
    from mindground.data.orientation import as_annotated
    from mindground.files.images import read_image
    from mindground.files.jpegs import jpeg_damage
    from mindground.files.regular import digest_of

    sizes: dict[str, tuple[int, int]] = {}
    digests: dict[str, str] = {}
    found: list[Finding] = []
    annotated: dict[str, set[tuple[int, int]]] = {}
    asked: dict[str, list[str]] = {}
    for sample in dataset:
        annotated.setdefault(sample.image_path, set())
        asked.setdefault(sample.image_path, []).append(sample.sample_id)
        if sample.size is not None:
            annotated[sample.image_path].add(sample.size)
    for name, claims in annotated.items():
        path = Path(name)
        if not os.path.isfile(name):  # which answers for a name that is too long, too
            more = f" and {len(asked[name]) - 1} more" if len(asked[name]) > 1 else ""
            detail = f"{name} does not exist (sample {asked[name][0]}{more})"
            found.append(Finding(ERROR, "missing_image", dataset.split, path.name, detail))
            continue
        try:
            digests[name] = digest_of(name)
        except ImageError as error:
            found.append(Finding(ERROR, "unreadable_image", dataset.split, path.name, str(error)))
            continue
        if not decode:
            if os.path.getsize(name) == 0:
                found.append(Finding(ERROR, "unreadable_image", dataset.split, path.name, f"{name} is empty"))
            continue
        try:
            image = read_image(name)
            shapes = {claim: as_annotated(image, name, claim).shape[:2] for claim in claims}
        except ImageError as error:
            found.append(Finding(ERROR, "unreadable_image", dataset.split, path.name, str(error)))
            continue
        sizes[name] = (image.shape[0], image.shape[1])
        if damage := jpeg_damage(name):
            detail = f"parts of it may show wrong colours ({damage}); fetch it again"
            found.append(Finding(WARNING, "damaged_image", dataset.split, path.name, detail))
        # Annotations may be made on the pixels as stored, before EXIF data turn them: training reads them so.
        for claim in sorted(claim for claim, shape in shapes.items() if claim != shape):
            real = "x".join(map(str, sizes[name]))
            detail = f"annotated as {claim[0]}x{claim[1]}, the file is {real} (height x width)"
            found.append(Finding(ERROR, "size", dataset.split, path.name, detail))
    return sizes, digests, found


def _check_objects(dataset: Dataset, sizes: Mapping[str, tuple[int, int]], min_box_iou: float) -> Iterable[Finding]:
    done: set[tuple[Any, ...]] = set()
    for sample in dataset:
        size = sample.size or sizes.get(sample.image_path)
        for position, box in enumerate(sample.boxes_xyxy):
            known = position < len(sample.object_ids)
            name = sample.object_ids[position] if known else f"{sample.sample_id}.{position}"
            key = (sample.image_id, name, box.tobytes())
            if key not in done:
                done.add(key)
                yield from check_object(sample, position, f"object {name}", size, dataset.split, min_box_iou)


def check_object(
    sample: Sample,
    position: int,
    name: str,
    size: tuple[int, int] | None,
    split: str = "",
    min_box_iou: float = MIN_BOX_IOU,
) -> Iterable[Finding]:
    """What is wrong with one object: its box, its outline, and the two together.

    Args:
        position: of the object in the sample.
        name: of the object in findings.
        size: (height, width) of the image; None = unknown, and only the box is looked at.
        split: named in findings.
        min_box_iou: as for `check_datasets`.
    """
    box, outline = sample.boxes_xyxy[position], sample.segmentations[position]
    shown = [round(float(value), 2) for value in box]
    if not np.isfinite(box).all() or box[2] <= box[0] or box[3] <= box[1]:
        yield Finding(ERROR, "empty_box", split, name, f"box {shown} encloses nothing")
        return
    if size is None:
        return
    if box.min() < -SLACK or box[2] > size[1] + SLACK or box[3] > size[0] + SLACK:
        yield Finding(ERROR, "box_outside", split, name, f"box {shown} in an image of {size[0]}x{size[1]}")
    if outline is None:
        return
    yield from _check_mask(box, outline, name, size, split, min_box_iou)


def _check_mask(
    box: np.ndarray, outline: Segmentation, name: str, size: tuple[int, int], split: str, min_box_iou: float
) -> Iterable[Finding]:
    if _beyond(outline, size):
        yield Finding(ERROR, "mask_outside", split, name, f"a polygon leaves the image of {size[0]}x{size[1]}")
    try:
        if isinstance(outline, MaskFile) and (shape := outline.pixels().shape) != tuple(size):
            detail = f"{outline.path} is {shape[0]}x{shape[1]} (height x width), its image {size[0]}x{size[1]}"
            yield Finding(WARNING, "mask_size", split, name, f"{detail}; the mask is resized to it")
        mask = decode_segmentation(outline, size)
    except (DataError, ValueError, TypeError) as error:
        yield Finding(ERROR, "mask_format", split, name, str(error))
        return
    if not mask.any():
        yield Finding(ERROR, "empty_mask", split, name, "the mask covers no pixel")
        return
    if mask.mean() > FULL_MASK:
        yield Finding(WARNING, "full_mask", split, name, f"the mask covers {100 * mask.mean():.1f} % of the image")
    overlap = float(box_iou(box, mask_box(mask)))
    if overlap < min_box_iou:
        given, around = ([round(float(value), 2) for value in values] for values in (box, mask_box(mask)))
        detail = f"box {given} and the box around its mask {around} overlap by {overlap:.2f}"
        yield Finding(ERROR, "box_mask", split, name, detail)


def _beyond(outline: Segmentation, size: tuple[int, int]) -> bool:
    if outline is None or isinstance(outline, (Mapping, MaskFile)):
        return False
    for part in outline:
        if isinstance(part, Mapping) or len(part) < 2:
            continue
        columns, rows = np.asarray(part[0::2], np.float64), np.asarray(part[1::2], np.float64)
        low = min(columns.min(), rows.min())
        if low < -SLACK or columns.max() > size[1] + SLACK or rows.max() > size[0] + SLACK:
            return True
    return False
