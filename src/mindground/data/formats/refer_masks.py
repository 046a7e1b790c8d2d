"""Masks of referring sets that need more than drawing: `.npy` files, and run lengths of another size than the image."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mindground.data.formats.fields import Reading, RecordError
from mindground.errors import DatasetNotFoundError, shown
from mindground.files.npy import read_npy
from mindground.structures import Segmentation, decode_segmentation, encode_mask
from mindground.structures.mask_file import MaskFile, nearest_mask, nearly
from mindground.structures.outlines import MAX_PIXELS

__all__ = ["fitted", "mask_file", "mask_folder"]


def mask_folder(mask_path: str, dataset: str, split_by: str) -> Path | None:
    """Folder of the mask files of one division; None where `data.mask_path` is empty.

    Raises:
        DatasetNotFoundError: there is none.
    """
    if not mask_path:
        return None
    folder = Path(mask_path) / f"{dataset}({split_by})"
    if not folder.is_dir():
        raise DatasetNotFoundError(
            f"data.mask_path is {mask_path!r}, and {folder} with one <ref_id>.npy per reference is missing; "
            "put it there, or leave data.mask_path empty to use the outlines of instances.json"
        )
    return folder


def mask_file(masks: Path, number: Any, where: str) -> Segmentation:
    """The mask of the reference `number`, as an RLE.

    Raises:
        DataError: it is missing, damaged, no (H, W) array, or the id can be no file name.
    """
    name = f"{number}.npy"
    if "/" in name or "\\" in name or "\0" in name:
        raise RecordError(f"{where}: the id {shown(number)} of the reference can be no file name")
    path = masks / name
    if not os.path.isfile(path):
        raise RecordError(f"{path} is missing; every reference needs its mask, or leave data.mask_path empty")
    mask = read_npy(path, max_bytes=8 * MAX_PIXELS)
    if mask.ndim != 2 or not 0 < mask.size <= MAX_PIXELS:
        raise RecordError(f"{path} has shape {mask.shape}; a mask is (H, W), of at most {MAX_PIXELS} pixels")
    return encode_mask(mask)


def fitted(outline: Segmentation, size: tuple[int, int], where: str, reading: Reading) -> Segmentation:
    """Outlines whose RLEs have the image's size: those that miss it by up to 5 % of a side are resized to it.

    RRSIS-D has masks of 800 x 800 for a few images of 800 x 787.

    Raises:
        RecordError: an RLE of a size that is not near the image's.
    """
    if isinstance(outline, MaskFile):
        return outline
    parts = [outline] if isinstance(outline, Mapping) else outline or ()
    wrong = [part for part in parts if isinstance(part, Mapping) and tuple(part["size"]) != size]
    if not wrong:
        return outline
    resized: list[Any] = []
    for part in parts:
        if isinstance(part, Mapping) and tuple(part["size"]) != size:
            height, width = part["size"]
            if not nearly((height, width), size):
                raise RecordError(
                    f"{where}: an RLE of size {height} x {width} belongs to an image of size {size[0]} x {size[1]}",
                    "mask_format",
                )
            drawn = decode_segmentation(part, (height, width))
            part = encode_mask(nearest_mask(drawn, size))
        resized.append(part)
    reading.note("masks of another size than their image are resized to it", where, "mask_size", by_name=True)
    return resized
