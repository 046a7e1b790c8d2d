"""A mask that lies in an image file of its own: named when a data set is read, decoded when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from mindground.errors import DataError, shown

__all__ = ["SIZE_TOLERANCE", "MaskFile", "nearest_mask", "nearly"]

SIZE_TOLERANCE = 0.05
"""A mask that misses a side of the image by more than this share of it is another image's."""


@dataclass(frozen=True)
class MaskFile:
    """One object's mask in an image file.

    Attributes:
        path: of the file.
        read: path -> (H, W) array whose pixels above 0 belong to the object. It is handed in, because files are
            decoded elsewhere (`files.mask_images.read_mask`), and raises errors that name the file.
    """

    path: str
    read: Callable[[str], np.ndarray] = field(compare=False, repr=False)

    def pixels(self, size: tuple[int, int] | None = None) -> np.ndarray:
        """(H, W) uint8 of 0 and 1; resized (nearest) to an image of nearly the mask's `size` (height, width).

        Raises:
            DataError: the file cannot be read as a mask, or its size is not near `size`.
        """
        mask = np.asarray(self.read(self.path))
        if mask.ndim != 2 or mask.size == 0:
            raise DataError(f"{shown(self.path, 240)} has shape {mask.shape}; a mask is (height, width)")
        mask = (mask != 0).astype(np.uint8)
        if size is None or mask.shape == tuple(size):
            return mask
        if not nearly(mask.shape, size):
            raise DataError(
                f"{shown(self.path, 240)} is {mask.shape[1]} x {mask.shape[0]}, its image {size[1]} x {size[0]}; "
                "take both from one release"
            )
        return nearest_mask(mask, size)


def nearly(size: tuple[int, ...], wanted: tuple[int, int]) -> bool:
    """True where no side misses the wanted one by more than `SIZE_TOLERANCE` of it."""
    return all(abs(there - side) <= SIZE_TOLERANCE * side for there, side in zip(size, wanted, strict=True))


def nearest_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) -> `size` (height, width): pixel i takes pixel floor(i * old / new), as OpenCV's nearest neighbour."""
    rows, columns = (np.arange(new) * old // new for new, old in zip(size, mask.shape, strict=True))
    return np.ascontiguousarray(mask[rows[:, None], columns[None]])
