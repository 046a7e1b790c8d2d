"""Tiles of a scene: where they lie."""

from __future__ import annotations

from dataclasses import dataclass

from mindground.errors import ConfigError

__all__ = ["DEFAULT_OVERLAP", "MAX_TILES", "Tile", "Tiling"]

DEFAULT_OVERLAP = 0.25
MAX_TILES = 1_000_000
_SMALLEST, _LARGEST = 16, 8192
_LEAST_OVERLAP, _MOST_OVERLAP = 0.02, 0.9


@dataclass(frozen=True)
class Tile:
    """One window of a scene.

    Attributes:
        number: from 0, in reading order.
        left, top, right, bottom: edges in whole pixels of the scene.
    """

    number: int
    left: int
    top: int
    right: int
    bottom: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(left, top, right, bottom)."""
        return self.left, self.top, self.right, self.bottom


@dataclass(frozen=True)
class Tiling:
    """How a scene is cut.

    All tiles have the same size, unless the scene itself is smaller: those at the right and lower border are moved
    inward, and nothing is padded.

    Attributes:
        tile: side in pixels of the scene.
        overlap: share of a tile's side that two neighbours have in common at least. An object that is no larger than
            this is whole in one tile.
        offset: (x, y) by which the grid is shifted; the answers do not depend on it where the network sees the same in
            every tile.

    Raises:
        ConfigError: a tile or an overlap that is too small or too large.
    """

    tile: int
    overlap: float = DEFAULT_OVERLAP
    offset: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if not _SMALLEST <= self.tile <= _LARGEST:
            raise ConfigError(f"a tile of {self.tile} pixels; choose {_SMALLEST} to {_LARGEST}")
        if not _LEAST_OVERLAP <= self.overlap <= _MOST_OVERLAP:
            raise ConfigError(
                f"an overlap of {self.overlap:g}; choose a share of the tile from {_LEAST_OVERLAP} to {_MOST_OVERLAP}, "
                "as what a seam cuts is joined by what both tiles show"
            )

    @property
    def step(self) -> int:
        """Pixels from one tile to the next."""
        return max(1, self.tile - max(2, round(self.tile * self.overlap)))

    def tiles(self, size: tuple[int, int]) -> list[Tile]:
        """The tiles of a scene of `size` (height, width), in reading order. Raises ConfigError where they are many."""
        count = self._count(size[1]) * self._count(size[0])
        if count > MAX_TILES:
            raise ConfigError(f"{count} tiles, more than {MAX_TILES}; choose larger ones, or cut the scene")
        columns, rows = self._edges(size[1], self.offset[0]), self._edges(size[0], self.offset[1])
        edges = [(left, top) for top in rows for left in columns]
        return [
            Tile(number, left, top, min(size[1], left + self.tile), min(size[0], top + self.tile))
            for number, (left, top) in enumerate(edges)
        ]

    def _count(self, length: int) -> int:
        return 2 + max(0, length - self.tile) // self.step

    def _edges(self, length: int, offset: int) -> list[int]:
        last = max(0, length - self.tile)
        inner = range(offset % self.step, last, self.step)
        return sorted({0, *inner, last})
