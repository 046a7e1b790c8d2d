"""Outlines of objects as annotation files write them, checked before any of their numbers reaches C code.

The C functions of pycocotools read what they are given: a coordinate that is no number, a run length that does not add
up to the image, or a size of zero ends the interpreter or never ends. Every outline passes `check_outline` first, and
run lengths are expanded here, in NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from mindground.errors import DataError, shown
from mindground.structures.mask_file import MaskFile

__all__ = [
    "MAX_COORDINATE",
    "MAX_PIXELS",
    "MAX_SIDE",
    "Outline",
    "Parts",
    "Segmentation",
    "check_outline",
    "check_size",
    "outline_box",
    "run_lengths",
]

# One object's outline as COCO writes it: polygons, an RLE (compressed or not), or nothing.
Parts = Sequence[Sequence[float] | Mapping[str, Any]] | Mapping[str, Any] | None
# The same, or the file of its mask.
Segmentation = Parts | MaskFile

MAX_COORDINATE = 1e6
"""Pixels: no coordinate of a polygon is further from the image's corner."""
MAX_SIDE = 100_000
"""Pixels of one side of an annotated image or mask."""
MAX_PIXELS = 128_000_000
"""Pixels of an annotated image or mask; `files.images` reads none that is larger.

A small file of one colour decodes to any size. Decoding takes up to seven bytes a pixel, so this stays below 1 GB."""
MAX_PARTS = 10_000
"""Polygons and run lengths of one object: the time to unite them grows with their number."""
MAX_LENGTH = 4e6
"""Pixels of all polygons of one object together: drawing one takes memory for every pixel of its edges."""
_PLAIN = frozenset({int, float})
_WIDEST = 7  # characters of one run length: seven of five bits hold every 32-bit number


class Outline(NamedTuple):
    """What `check_outline` found.

    Attributes:
        segmentation: polygons (lists of x, y, x, y, ...) and RLE objects, one RLE object, or None where there is none.
        dropped: parts that enclose nothing (fewer than three points) and were left out.
    """

    segmentation: Parts
    dropped: int = 0


def check_outline(segmentation: Any, size: tuple[int, int] | None = None) -> Outline:
    """Check one outline from a file.

    Understood are a list of polygons [x, y, x, y, ...], one such polygon without its outer list, polygons as lists of
    points [[x, y], ...], RLE objects with compressed or plain counts, a list of them, and nothing (None or an empty
    list). Parts that enclose nothing are left out.

    Args:
        segmentation: what the file holds.
        size: (height, width) of the image where it is known; an RLE must have it.

    Raises:
        DataError: it is something else, a number is not finite or beyond `MAX_COORDINATE`, or the counts of an RLE do
            not add up to its size.
    """
    if segmentation is None:
        return Outline(None)
    if isinstance(segmentation, Mapping):
        return Outline(_check_rle(segmentation, size))
    parts = segmentation.tolist() if isinstance(segmentation, np.ndarray) else segmentation
    if not isinstance(parts, Sequence) or isinstance(parts, (str, bytes)):
        raise DataError(f"a mask is a list of polygons or an RLE object, not {shown(segmentation)}")
    if len(parts) == 0:
        return Outline(None)
    if len(parts) > MAX_PARTS and not _is_number(parts[0]):
        raise DataError(f"a mask of {len(parts)} parts; {MAX_PARTS} are the most that are read")
    if _is_number(parts[0]):
        parts = [parts]  # one polygon without its outer list, as some exporters write it
    elif len(parts) >= 3 and all(_is_point(part) for part in parts):
        parts = [_flattened(parts)]
    kept: list[Any] = []
    most = 0.0
    for part in parts:
        if isinstance(part, Mapping):
            kept.append(_check_rle(part, size))
            continue
        points, far = _points(part)
        if len(points) < 6:
            continue
        most += 2.0 * far  # an edge is no longer than both its ends are far from the corner
        kept.append(points)
    if most > MAX_LENGTH and (length := sum(_length(part) for part in kept if type(part) is list)) > MAX_LENGTH:
        raise DataError(f"polygons of {length:.3g} pixels in all; {MAX_LENGTH:.0f} are the most that are drawn")
    return Outline(kept or None, len(parts) - len(kept))


def check_size(size: Any, what: str) -> tuple[int, int]:
    """(height, width) as plain numbers.

    Raises:
        DataError: they are not two whole numbers of 1 to `MAX_SIDE` pixels, or more than `MAX_PIXELS` in all.
    """
    if isinstance(size, (list, tuple)) and len(size) == 2 and all(_is_whole(n) and 1 <= n <= MAX_SIDE for n in size):
        height, width = int(size[0]), int(size[1])
        if height * width <= MAX_PIXELS:
            return height, width
    raise DataError(
        f"{what} is [height, width] in pixels, two whole numbers of at most {MAX_SIDE} and {MAX_PIXELS} pixels in all, "
        f"not {shown(size)}"
    )


def run_lengths(rle: Mapping[str, Any]) -> np.ndarray:
    """(K,) int64 lengths of the runs of 0, 1, 0, ... of an RLE object, down the columns; they add up to its size.

    Raises:
        DataError: they do not, or they cannot be read.
    """
    height, width = check_size(rle["size"], "the size of an RLE")
    given = rle["counts"]
    if isinstance(given, (str, bytes)):
        counts = _decompressed(given)
    elif isinstance(given, (list, tuple)) and all(map(_is_whole, given)):
        total = sum(given)
        if total != height * width or min(given) < 0:  # before NumPy: a number may have thousands of digits
            raise DataError(f"an RLE of size {height} x {width} has counts of {shown(total)} pixels")
        counts = np.asarray(given, np.int64)
    else:
        raise DataError(f"the counts of an RLE are text or whole numbers, not {shown(given)}")
    if counts.size == 0 or counts.min() < 0 or int(counts.sum()) != height * width:
        raise DataError(f"an RLE of size {height} x {width} has counts of {int(counts.sum())} pixels, or negative ones")
    return counts


def outline_box(segmentation: Segmentation) -> list[float] | None:
    """Box [left, top, right, bottom] in pixels around a checked outline, without drawing it; None where it is empty.

    The file of a mask is read.
    """
    if not segmentation:
        return None
    if isinstance(segmentation, MaskFile):
        mask = segmentation.pixels()
        down, across = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if down.size == 0:
            return None
        return [float(n) for n in (across[0], down[0], across[-1] + 1, down[-1] + 1)]
    boxes: list[tuple[float, float, float, float]] = []
    for part in [segmentation] if isinstance(segmentation, Mapping) else segmentation:
        if isinstance(part, Mapping):
            around = _runs_box(run_lengths(part), int(part["size"][0]))
            boxes += [around] if around is not None else []
        else:
            boxes.append((min(part[0::2]), min(part[1::2]), max(part[0::2]), max(part[1::2])))
    if not boxes:
        return None
    columns = list(zip(*boxes, strict=True))
    return [float(min(columns[0])), float(min(columns[1])), float(max(columns[2])), float(max(columns[3]))]


def _runs_box(counts: np.ndarray, height: int) -> tuple[int, int, int, int] | None:
    ends = np.cumsum(counts)[1::2]
    starts = ends - counts[1::2]
    starts, last = starts[ends > starts], ends[ends > starts] - 1
    if starts.size == 0:
        return None
    left, right = starts // height, last // height
    whole = bool((left != right).any())  # a run that goes on in the next column passes the last and the first line
    top = 0 if whole else int((starts % height).min())
    bottom = height if whole else int((last % height).max()) + 1
    return int(left.min()), top, int(right.max()) + 1, bottom


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _is_point(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and _is_number(value[0]) and _is_number(value[1])


def _flattened(points: Sequence[Sequence[float]]) -> list[float]:
    return [value for point in points for value in point]


def _points(part: Any) -> tuple[Sequence[float], float]:
    """One polygon as x, y, x, y, ... with the sum of the distances from the axes.

    Its numbers are finite, and an even count where they are six or more.
    """
    if type(part) is list and _PLAIN.issuperset(map(type, part)):
        values = part
    else:
        values = part.tolist() if isinstance(part, np.ndarray) else part
        if not isinstance(values, (list, tuple)):
            raise DataError(f"a mask part is a polygon [x, y, x, y, ...] or an RLE object, not {shown(part)}")
        if values and all(map(_is_point, values)):
            values = _flattened(values)
        if not all(map(_is_number, values)):
            wrong = next(value for value in values if not _is_number(value))
            raise DataError(f"a polygon is [x, y, x, y, ...] in pixels, and one holds {shown(wrong)}")
    if len(values) % 2 and len(values) >= 6:
        raise DataError(f"a polygon is [x, y, x, y, ...], and one has {len(values)} numbers; an even count is wanted")
    # First the bounds, as a whole number may be too large for a sum with floats; NaN shows in the sum alone.
    if values and not (-MAX_COORDINATE <= min(values) and max(values) <= MAX_COORDINATE):
        raise DataError(_beyond(values))
    far = sum(map(abs, values))
    if not far <= MAX_COORDINATE * len(values):
        raise DataError(_beyond(values))
    return values if values is part else [float(value) for value in values], far


def _beyond(values: Sequence[float]) -> str:
    wrong = next((value for value in values if not -MAX_COORDINATE <= value <= MAX_COORDINATE), values[0])
    return f"a polygon has the coordinate {shown(wrong)}; finite ones of at most {MAX_COORDINATE:.0f} pixels are read"


def _length(points: Sequence[float]) -> float:
    """Pixels of the edges: the longer side of every one, as they are drawn."""
    columns, rows = [*points[0::2], points[0]], [*points[1::2], points[1]]
    edges = zip(pairwise(columns), pairwise(rows), strict=True)
    return float(sum(max(abs(b - a), abs(d - c)) for (a, b), (c, d) in edges))


def _check_rle(rle: Mapping[str, Any], size: tuple[int, int] | None) -> Mapping[str, Any]:
    missing = [key for key in ("size", "counts") if key not in rle]
    if missing:
        raise DataError(f"an RLE needs 'size' and 'counts'; this one lacks {' and '.join(map(repr, missing))}")
    run_lengths(rle)
    if size is not None and tuple(rle["size"]) != tuple(size):
        raise DataError(f"an RLE of size {tuple(rle['size'])} belongs to an image of size {tuple(size)}")
    # Text is what JSON can hold; pycocotools itself gives bytes.
    return {**rle, "counts": rle["counts"].decode("ascii")} if isinstance(rle["counts"], bytes) else rle


def _decompressed(counts: str | bytes) -> np.ndarray:
    """Run lengths of COCO's compressed form: five bits a character, the sixth says that more follow, lowest first.

    From the fourth on, a number is the difference to the one two places before.
    """
    try:
        raw = counts.encode("ascii") if isinstance(counts, str) else counts
    except UnicodeEncodeError as error:
        raise DataError(f"the counts {shown(counts)} of an RLE are no ASCII text") from error
    codes = np.frombuffer(raw, np.uint8).astype(np.int64) - 48
    if codes.size == 0 or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise DataError(f"the counts {shown(counts)} of an RLE are damaged or cut short")
    ends = np.flatnonzero((codes & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    widths = ends - starts + 1
    if widths.max() > _WIDEST:
        raise DataError(f"the counts {shown(counts)} of an RLE hold a number of {int(widths.max())} characters")
    places = np.arange(codes.size) - np.repeat(starts, widths)
    values = np.add.reduceat((codes & 31) << (5 * places), starts)
    values -= np.where(codes[ends] & 16, np.left_shift(1, 5 * widths), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
