"""Instance sets of remote sensing with the file names that RSPrompter published: NWPU VHR-10, SSDD, WHU buildings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mindground.data.dataset import Dataset
from mindground.data.formats.coco import read_coco
from mindground.data.formats.registry import Counts, DatasetFormat

__all__ = ["FORMATS"]

# (images, objects) of the published splits.
_NWPU: Counts = {"train": {"images": 520, "objects": 3178}, "val": {"images": 130, "objects": 743}}
_SSDD: Counts = {"train": {"images": 928, "objects": 2102}, "val": {"images": 232, "objects": 484}}
_WHU: Counts = {"train": {"images": 4736}, "val": {"images": 1036}, "test": {"images": 2416}}


def _reader(pattern: str, folders: tuple[str, ...]) -> Callable[..., Dataset]:
    """Reader of a set.

    Args:
        pattern: name of the annotation file of a split; a COCO set under its usual names is read as well.
        folders: of the images below the root; the first that is there is taken.
    """

    def read(root: str, split: str, image_root: str = "", *, problems: list[str] | None = None) -> Dataset:
        path = Path(root) / "annotations" / pattern.format(split)
        if not (root and path.is_file()):
            return read_coco(root, split, image_root, problems=problems)
        places = [Path(root) / folder.format(split) for folder in folders]
        images = image_root or str(next((place for place in places if place.is_dir()), places[0]))
        dataset = read_coco(str(path), split, images, problems=problems)
        dataset.name = Path(root).resolve().name
        return dataset

    return read


def _format(
    name: str, pattern: str, folders: tuple[str, ...], splits: tuple[str, ...], published: Counts
) -> DatasetFormat:
    return DatasetFormat(
        name, _reader(pattern, folders), kinds=("instances",), splits={"": splits}, published={"": published}
    )


FORMATS = (
    _format("nwpu", "NWPU_instances_{}.json", ("imgs", "images", "images/{}"), ("val",), _NWPU),
    _format("ssdd", "SSDD_instances_{}.json", ("imgs", "images", "images/{}"), ("val",), _SSDD),
    # The published configurations train on `train` and report `test`.
    _format("whu", "WHU_building_{}.json", ("imgs/{}/image", "{}/image", "images/{}", "images"), ("val", "test"), _WHU),
)
