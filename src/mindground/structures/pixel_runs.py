"""Masks on scenes that are too large for arrays: runs of pixels along lines, in coordinates of the whole scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Region", "united"]


@dataclass(frozen=True, eq=False)
class Region:
    """A set of pixels of a scene, whose memory grows with its outline and not with its area.

    A pixel has the number `row * (width + 1) + column`; the number in between keeps runs of two lines apart.

    Attributes:
        width: of the scene in pixels.
        starts: (K,) int64, ascending: number of the first pixel of every run.
        ends: (K,) int64: one past its last.
    """

    width: int
    starts: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray, left: int, top: int, width: int) -> Region:
        """The pixels of a mask (H, W) that are not 0, whose upper left corner lies at (left, top) of the scene."""
        padded = np.zeros((mask.shape[0], mask.shape[1] + 2), np.int8)
        padded[:, 1:-1] = mask != 0
        steps = np.diff(padded, axis=1)
        pitch = width + 1
        rows, columns = np.nonzero(steps == 1)
        starts = (rows + top).astype(np.int64) * pitch + columns + left
        rows, columns = np.nonzero(steps == -1)
        return cls(width, starts, (rows + top).astype(np.int64) * pitch + columns + left)

    @property
    def area(self) -> int:
        """Pixels."""
        return int((self.ends - self.starts).sum())

    def box(self) -> np.ndarray:
        """Tight (4,) float64 xyxy box in pixel edges; zeros for an empty region."""
        if not self.starts.size:
            return np.zeros(4)
        rows, first, last = self.runs()
        return np.asarray([first.min(), rows[0], last.max(), rows[-1] + 1], np.float64)

    def runs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Line, first column and one past the last column of every run, in reading order."""
        rows = self.starts // (self.width + 1)
        return rows, self.starts - rows * (self.width + 1), self.ends - rows * (self.width + 1)

    def within(self, left: float, top: float, right: float, bottom: float) -> Region:
        """The part inside a rectangle of pixel edges."""
        rows, first, last = self.runs()
        first, last = np.maximum(first, int(left)), np.minimum(last, int(right))
        keep = (rows >= int(top)) & (rows < int(bottom)) & (first < last)
        base = rows[keep] * (self.width + 1)
        return Region(self.width, base + first[keep], base + last[keep])

    def shared(self, other: Region) -> int:
        """Pixels that both hold."""
        return self.area + other.area - united([self, other]).area

    def mask(self, left: int, top: int, right: int, bottom: int) -> np.ndarray:
        """(bottom - top, right - left) uint8 of a rectangle of the scene."""
        height, width = bottom - top, right - left
        rows, first, last = self.within(left, top, right, bottom).runs()
        steps = np.zeros(height * (width + 1), np.int8)
        base = (rows - top) * (width + 1) - left
        steps[base + first] = 1
        steps[base + last] = -1
        return np.cumsum(steps, dtype=np.int8).reshape(height, width + 1)[:, :width].astype(np.uint8)

    def smaller(self, step: int, size: tuple[int, int]) -> np.ndarray:
        """(H, W) uint8 of the scene reduced `step` to 1: 1 where any pixel of the block belongs to the region.

        Args:
            size: (height, width) of the result.
        """
        rows, first, last = self.runs()
        counts = np.zeros((size[0], size[1] + 1), np.int32)
        inside = rows // step < size[0]
        rows, first, last = rows[inside] // step, first[inside] // step, -(-last[inside] // step)
        np.add.at(counts, (rows, np.minimum(first, size[1])), 1)
        np.add.at(counts, (rows, np.minimum(last, size[1])), -1)
        return (np.cumsum(counts, 1)[:, : size[1]] > 0).astype(np.uint8)


def united(regions: Sequence[Region]) -> Region:
    """All pixels of regions of one scene; the same for any order of them. There is at least one."""
    starts = np.concatenate([region.starts for region in regions])
    ends = np.concatenate([region.ends for region in regions])
    if not starts.size:
        return regions[0]
    order = np.argsort(starts, kind="stable")
    starts, reach = starts[order], np.maximum.accumulate(ends[order])
    first = np.concatenate([[True], starts[1:] > reach[:-1]])
    last = np.concatenate([first[1:], [True]])
    return Region(regions[0].width, starts[first], reach[last])
