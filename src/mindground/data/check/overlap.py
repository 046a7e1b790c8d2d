"""What the splits of a data set share: images, objects, sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mindground.data.check.findings import ERROR, WARNING, Finding
from mindground.data.dataset import Dataset
from mindground.structures import Sample

__all__ = ["overlap", "plain"]


def overlap(
    first: Dataset, second: Dataset, contents: Mapping[str, Mapping[str, str]], by_design: Sequence[str]
) -> Iterable[Finding]:
    """What two splits share: images (by id, and by content under any name), objects, sentences."""
    splits = f"{first.split}+{second.split}"
    for what, shared in (
        ("images", list(_shared_images(first, second, contents, splits))),
        ("objects", list(_shared_objects(first, second, contents, splits))),
    ):
        if what in by_design and shared:
            example = min(shared)
            detail = f"{example.subject} and others: splits of this division share {what} by design"
            yield Finding(WARNING, example.kind, splits, f"{len(shared)} of them", detail)
        else:
            yield from shared
    yield from _repeated_ids(first, second, contents, splits)
    texts = {plain(text) for text in first.sentences()} & {plain(text) for text in second.sentences()}
    if texts:
        # Short sentences come back everywhere ("the ship"); one finding says how much of a split that is.
        share = sum(plain(text) in texts for text in second.sentences()) / max(1, len(second.sentences()))
        detail = f"{len(texts)} different sentences are in both splits, {100 * share:.1f} % of {second.split}"
        yield Finding(WARNING, "sentence_overlap", splits, f"{len(texts)} sentences", detail)


def _by_content(dataset: Dataset, contents: Mapping[str, Mapping[str, str]]) -> dict[str, list[Sample]]:
    """Samples by what their image shows: the digest of the file, or its path where there is no file.

    An id alone does not say so: exports number the images of every split from 1.
    """
    found: dict[str, list[Sample]] = {}
    for sample in dataset:
        found.setdefault(contents[dataset.split].get(sample.image_path, sample.image_path), []).append(sample)
    return found


def _shared_images(
    first: Dataset, second: Dataset, contents: Mapping[str, Mapping[str, str]], splits: str
) -> Iterable[Finding]:
    here, there = _by_content(first, contents), _by_content(second, contents)
    for content in here.keys() & there.keys():
        one, other = here[content][0], there[content][0]
        if one.image_id == other.image_id:
            yield Finding(ERROR, "image_overlap", splits, one.image_id, "this image id is in both splits")
        else:
            names = Path(one.image_path).name, Path(other.image_path).name
            detail = f"{names[0]} and {names[1]} are the same image"
            yield Finding(ERROR, "image_overlap", splits, names[0], detail)


def _repeated_ids(
    first: Dataset, second: Dataset, contents: Mapping[str, Mapping[str, str]], splits: str
) -> Iterable[Finding]:
    """Ids that stand for different files: numbers that restart in every split, or parts of one image."""
    paths = {sample.image_id: sample.image_path for sample in first}
    known, other = contents[first.split], contents[second.split]
    shared = {
        sample.image_id: (paths[sample.image_id], sample.image_path)
        for sample in second
        if sample.image_id in paths
        and known.get(paths[sample.image_id], paths[sample.image_id]) != other.get(sample.image_path, sample.image_path)
    }
    if shared:
        name = min(shared)
        one, two = (Path(path).name for path in shared[name])
        detail = f"{name} is {one} and {two}; where these show one place, the splits overlap"
        yield Finding(WARNING, "image_id", splits, f"{len(shared)} image ids in both splits", detail)


def _shared_objects(
    first: Dataset, second: Dataset, contents: Mapping[str, Mapping[str, str]], splits: str
) -> Iterable[Finding]:
    here, there = _by_content(first, contents), _by_content(second, contents)
    for content in here.keys() & there.keys():
        objects = {(s.image_id, name) for s in here[content] for name in s.object_ids}
        for image, name in objects & {(s.image_id, name) for s in there[content] for name in s.object_ids}:
            detail = f"this object of image {image} is in both splits"
            yield Finding(ERROR, "object_overlap", splits, f"object {name}", detail)


def plain(text: str) -> str:
    """A sentence as it is compared: small letters, single blanks."""
    return " ".join(text.lower().split())
