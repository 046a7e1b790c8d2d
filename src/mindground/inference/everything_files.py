"""The everything mode on image files: folders of PNG masks with a table, or run lengths as JSON."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mindground.errors import DataError, printable
from mindground.files.atomic import atomic_file, write_json, write_text
from mindground.files.images import read_image
from mindground.files.jpegs import warn_of_damage
from mindground.files.outputs import check_outputs, guarded, refuse_output
from mindground.structures import decode_segmentation
from mindground.visualize.drawing import save_png
from mindground.visualize.segments import draw_segments

__all__ = [
    "COLUMNS",
    "RLE_FORMS",
    "EverythingResults",
    "each_image",
    "everything_files",
    "unique_stems",
    "write_masks",
    "write_rle",
]

_LOG = logging.getLogger("mindground")

RLE_FORMS = ("sa1b", "records")
COLUMNS = (
    *("id", "area", "bbox_x0", "bbox_y0", "bbox_w", "bbox_h", "point_input_x", "point_input_y", "predicted_iou"),
    *("stability_score", "crop_box_x0", "crop_box_y0", "crop_box_w", "crop_box_h"),
)
"""Columns of `metadata.csv`, those of segment-anything's `scripts/amg.py`."""

Records = Sequence[Mapping[str, Any]]


@dataclass
class EverythingResults:
    """What was written.

    Attributes:
        files: in order.
        counts: path of an image, as `printable` gives it -> number of its masks.
        failures: the same -> why it could not be used.
    """

    files: list[Path] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def everything_files(
    find: Callable[[np.ndarray], Records],
    images: Sequence[Path],
    out: str | Path,
    *,
    rle: str = "",
    bands: Sequence[int] | None = None,
    overwrite: bool = False,
    inputs: Sequence[str | Path] = (),
) -> EverythingResults:
    """Write all masks of every image, and a figure `<image>.png` of them, to `out`.

    Without `rle`, `<image>/0.png`, `<image>/1.png` and so on are masks of 0 and 255 and `<image>/metadata.csv` is their
    table, written last. An image that cannot be read is reported and the others go on.

    Args:
        find: (H, W, 3) uint8 RGB -> records with `segmentation` as COCO RLE.
        images: paths, see `find_images`.
        out: folder of the results.
        rle: `sa1b` writes `<image>.json` as SA-1B has it (`image` and `annotations`), `records` the plain list of
            `amg.py --convert-to-rle`.
        bands: of the files, as `files.images.read_image`.
        overwrite: replace earlier results; the images, and `inputs`, are not replaced all the same.
        inputs: further files that this call reads, such as the checkpoint.

    Raises:
        WriteError: a result cannot be written, or must not replace what is there.
    """
    if rle and rle not in RLE_FORMS:
        raise ValueError(f"rle={rle!r} is none of {', '.join(RLE_FORMS)}")
    results, out = EverythingResults(), Path(out)
    names = unique_stems(images)
    firsts = [out / f"{name}.json" if rle else out / name / "metadata.csv" for name in names.values()]
    with guarded([*images, *inputs], overwrite=overwrite):
        check_outputs([*firsts, *(out / f"{name}.png" for name in names.values())])
        for number, (path, name) in enumerate(names.items(), 1):
            with each_image(path, results.failures):
                pixels = read_image(path, bands=bands)
                warn_of_damage(path)
                records = find(pixels)
                results.counts[printable(path)] = len(records)
                if rle:
                    size = (pixels.shape[0], pixels.shape[1])
                    results.files.append(write_rle(out / f"{name}.json", records, size, path.name, number, rle))
                else:
                    results.files += write_masks(out / name, records)
                figure = draw_segments(pixels, [record["segmentation"] for record in records])
                results.files.append(save_png(out / f"{name}.png", figure))
    return results


@contextmanager
def each_image(path: Path, failures: dict[str, str]) -> Iterator[None]:
    """Note in `failures` what costs one image alone, and go on."""
    try:
        yield
    except (DataError, MemoryError) as error:
        reason = str(error)
        if isinstance(error, MemoryError):
            reason = f"{path}: there is not enough memory for this image; cut it into tiles"
        elif str(path) not in reason:
            reason = f"{path}: {reason}"  # of a network, which knows no names
        failures[printable(path)] = printable(reason)
        _LOG.error("%s", printable(reason))


def write_masks(folder: Path, records: Records) -> list[Path]:
    """One PNG of 0 and 255 for every record, and `metadata.csv` after them. Raises WriteError.

    Masks that an earlier run has left beyond the last number are removed.
    """
    files, lines = [], [",".join(COLUMNS)]
    for index, record in enumerate(records):
        segmentation = record["segmentation"]
        mask = decode_segmentation(segmentation, tuple(segmentation["size"]))
        with atomic_file(folder / f"{index}.png") as stream:
            Image.fromarray(mask * np.uint8(255)).save(stream, format="PNG")
        files.append(folder / f"{index}.png")
        point = record["point_coords"][0]
        values = [index, record["area"], *record["bbox"], *point, record["predicted_iou"], record["stability_score"]]
        lines.append(",".join(map(str, [*values, *record["crop_box"]])))
    left = len(records)
    while (folder / f"{left}.png").is_file():
        refuse_output(folder / f"{left}.png")
        (folder / f"{left}.png").unlink()
        left += 1
    return [*files, write_text(folder / "metadata.csv", "\n".join(lines) + "\n")]


def write_rle(path: Path, records: Records, size: tuple[int, int], file_name: str, image_id: int, form: str) -> Path:
    """The records as JSON in one of `RLE_FORMS`. `size` is (height, width) of the image. Raises WriteError."""
    plain = [dict(record) for record in records]
    if form == "records":
        return write_json(path, plain, indent=None)
    image = {"image_id": image_id, "width": size[1], "height": size[0], "file_name": printable(file_name)}
    annotations = [{"id": index, **record} for index, record in enumerate(plain, 1)]
    return write_json(path, {"image": image, "annotations": annotations}, indent=None)


def unique_stems(images: Sequence[Path]) -> dict[Path, str]:
    """A name for every image; those of `a.jpg` and `b/a.png` must not be the same."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in images:
        name, number = path.stem, 2
        while name in taken:
            name, number = f"{path.stem}-{number}", number + 1
        taken.add(name)
        names[path] = name
    return names
