"""One answer for a scene from the answers of its tiles: duplicates are dropped, and what a seam cuts is joined.

An answer is *cut* where it touches an edge of its tile that is not an edge of the scene. Answers of different tiles
with the same label are compared in the rectangle that both tiles show:

1. of two whole answers that overlap by at least `SAME` (intersection over union), the better one stays;
2. a cut answer that a whole answer of another tile covers is a part of it, and is dropped;
3. cut answers that share at least `JOIN` of the smaller one there are pieces of one object: their union stays, with the
   highest of their scores;
4. of two answers that overlap by at least `SAME` after that, the better one stays.

Better is the higher score, then the larger area, then the upper, then the left one. Answers of the same tile are never
compared, so that a scene of one tile has what the network answered. The result does not depend on the order in which
tiles are asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mindground.inference.tiles import Tile
from mindground.structures.pixel_runs import Region, united

__all__ = ["JOIN", "SAME", "Found", "merged"]

SAME = 0.5
JOIN = 0.3
_MARGIN = 0.004
"""Of a tile's side: how near an edge counts as touching it; networks place edges with less than a pixel's accuracy."""
_MERGED = -1


@dataclass(frozen=True, eq=False)
class Found:
    """One object that was found, in pixels of the scene.

    Attributes:
        box: (4,) float64 xyxy.
        score, label: as in `Prediction`.
        region: its mask, or None.
        tile: number of the tile, or -1 for one that was joined.
        cut: it touches an inner edge of its tile.
    """

    box: np.ndarray
    score: float
    label: int
    region: Region | None
    tile: int
    cut: bool = False

    @property
    def area(self) -> float:
        """Pixels of the mask, or of the box."""
        if self.region is not None:
            return float(self.region.area)
        return float((self.box[2] - self.box[0]) * (self.box[3] - self.box[1]))

    def order(self) -> tuple[float, ...]:
        """The better one comes first."""
        left, top, right, bottom = (float(edge) for edge in self.box)
        return -self.score, -self.area, top, left, bottom, right, self.label, self.tile


def is_cut(box: np.ndarray, tile: Tile, size: tuple[int, int]) -> bool:
    """Whether a box touches an edge of its tile that is not an edge of the scene of `size` (height, width)."""
    margin = max(1.0, _MARGIN * (tile.right - tile.left))
    return bool(
        (tile.left > 0 and box[0] <= tile.left + margin)
        or (tile.top > 0 and box[1] <= tile.top + margin)
        or (tile.right < size[1] and box[2] >= tile.right - margin)
        or (tile.bottom < size[0] and box[3] >= tile.bottom - margin)
    )


def merged(found: Sequence[Found], tiles: Sequence[Tile]) -> list[Found]:
    """What the tiles of one scene found for one question, merged; the best comes first.

    Args:
        found: from all tiles, in any order.
        tiles: all tiles of the scene, by their number.
    """
    ordered = sorted(found, key=Found.order)
    whole = _without_duplicates([one for one in ordered if not one.cut])
    cut = _uncovered([one for one in ordered if one.cut], whole, tiles)
    return _without_duplicates(sorted([*whole, *_joined(cut, tiles)], key=Found.order))


def _without_duplicates(found: Sequence[Found]) -> list[Found]:
    """`found` is in order, the best first."""
    dropped = np.zeros(len(found), bool)
    for first, second in sorted(_pairs(found, found)):
        if dropped[first] or dropped[second]:
            continue
        a, b = found[first], found[second]
        shared = _shared(a, b)
        dropped[second] = shared >= SAME * (a.area + b.area - shared)
    return [one for one, out in zip(found, dropped, strict=True) if not out]


def _uncovered(cut: Sequence[Found], whole: Sequence[Found], tiles: Sequence[Tile]) -> list[Found]:
    dropped = np.zeros(len(cut), bool)
    for first, second in _pairs(cut, whole):
        if dropped[first]:
            continue
        piece, other = cut[first], whole[second]
        part = _within(piece, _common(piece, other, tiles))
        if part is None or part.area < SAME * piece.area:
            continue
        dropped[first] = _shared(part, other) >= SAME * part.area
    return [one for one, out in zip(cut, dropped, strict=True) if not out]


def _joined(cut: Sequence[Found], tiles: Sequence[Tile]) -> list[Found]:
    parent = list(range(len(cut)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for first, second in _pairs(cut, cut):
        if first > second or root(first) == root(second):
            continue
        zone = _common(cut[first], cut[second], tiles)
        a, b = _within(cut[first], zone), _within(cut[second], zone)
        if a is None or b is None:
            continue
        shared = _shared(a, b)
        if shared > 0 and shared >= JOIN * min(a.area, b.area):
            parent[max(root(first), root(second))] = min(root(first), root(second))
    groups: dict[int, list[Found]] = {}
    for index, one in enumerate(cut):
        groups.setdefault(root(index), []).append(one)
    return [_union(group) for group in groups.values()]


def _union(group: Sequence[Found]) -> Found:
    """Pieces of one object; the first is the best."""
    if len(group) == 1:
        return group[0]
    boxes = np.stack([one.box for one in group])
    box = np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])
    regions = [one.region for one in group if one.region is not None]
    return replace(group[0], box=box, region=united(regions) if regions else None, tile=_MERGED)


def _pairs(first: Sequence[Found], second: Sequence[Found]) -> Iterator[tuple[int, int]]:
    """Indexes of answers with the same label, of different tiles, whose boxes overlap.

    Of one list with itself each pair comes once, the smaller index first.
    """
    same = first is second
    if not first or not second:
        return
    boxes = np.stack([one.box for one in second])
    labels = np.asarray([one.label for one in second])
    numbers = np.asarray([one.tile for one in second])
    order = np.argsort(boxes[:, 0], kind="stable")
    lefts = boxes[order, 0]
    widest = float((boxes[:, 2] - boxes[:, 0]).max())
    for index, one in enumerate(first):
        low = np.searchsorted(lefts, one.box[0] - widest, "left")
        near = order[low : np.searchsorted(lefts, one.box[2], "left")]
        near = near[near > index] if same else near
        hit = (boxes[near, 2] > one.box[0]) & (boxes[near, 1] < one.box[3]) & (boxes[near, 3] > one.box[1])
        hit &= (labels[near] == one.label) & ((numbers[near] != one.tile) | (one.tile == _MERGED))
        yield from ((index, int(other)) for other in np.sort(near[hit]))


def _common(a: Found, b: Found, tiles: Sequence[Tile]) -> tuple[int, int, int, int]:
    """The rectangle that the tiles of both show."""
    one, other = tiles[a.tile], tiles[b.tile]
    left, top = max(one.left, other.left), max(one.top, other.top)
    return left, top, min(one.right, other.right), min(one.bottom, other.bottom)


def _within(one: Found, zone: tuple[int, int, int, int]) -> Found | None:
    """The part of an answer inside a rectangle; None where there is none."""
    box = np.concatenate([np.maximum(one.box[:2], zone[:2]), np.minimum(one.box[2:], zone[2:])])
    if (box[2:] <= box[:2]).any():
        return None
    region = None if one.region is None else one.region.within(*zone)
    if region is not None and not region.area:
        return None
    return replace(one, box=box, region=region)


def _shared(a: Found, b: Found) -> float:
    """Pixels that both hold: of their masks where both have one, otherwise of their boxes."""
    if a.region is not None and b.region is not None:
        return float(a.region.shared(b.region))
    sides = np.minimum(a.box[2:], b.box[2:]) - np.maximum(a.box[:2], b.box[:2])
    return float(np.maximum(sides, 0).prod())
