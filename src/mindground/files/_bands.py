"""The bands of an open raster as red, green and blue of 8 bits, window by window."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mindground.files._tiff import TiffHeader
from mindground.files.pixels import band_numbers, stretch

__all__ = ["BandReading"]

_LOG = logging.getLogger("mindground")
_CMYK = ("cyan", "magenta", "yellow", "black")

Window = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class BandReading:
    """How one file is read.

    Attributes:
        bands: three band numbers from 1 that are red, green and blue; four for CMYK.
        missing: of every band, the value that stands for no data; None where there is none.
        table: (N, 3) uint8 colours of a palette, or None.
        deep: values are stretched.
        levels: the largest value of bands of fewer than 8 bits; 255 otherwise.
        inverted: 0 is white.
        masked: the file holds a mask of its pixels.
    """

    bands: list[int]
    missing: list[float | None]
    table: np.ndarray | None
    deep: bool
    levels: int
    inverted: bool
    masked: bool

    @classmethod
    def of(cls, source: Any, name: str, header: TiffHeader | None, bands: Sequence[int] | None) -> BandReading:
        """Decide for an open file; `bands` are the user's. Raises ImageError for bands that it has not."""
        chosen = _chosen(source, name, bands)
        kinds = [np.dtype(source.dtypes[band - 1]) for band in chosen]
        table = _table(source, chosen[0]) if len(set(chosen)) == 1 else None
        bits = source.tags(chosen[0], ns="IMAGE_STRUCTURE").get("NBITS", "8")
        flags = [flag.name for flag in source.mask_flag_enums[chosen[0] - 1]]
        return cls(
            bands=chosen,
            missing=[_missing(source.nodatavals[band - 1], kind) for band, kind in zip(chosen, kinds, strict=True)],
            table=table,
            deep=table is None and any(kind != np.uint8 for kind in kinds),
            levels=2 ** int(bits) - 1 if bits in ("1", "2", "3", "4", "5", "6", "7") else 255,
            inverted=header is not None and header.photometric == 0 and table is None,
            masked="per_dataset" in flags and "alpha" not in flags,
        )

    def present(self, source: Any, window: Window) -> Iterator[np.ndarray]:
        """The values of every band of a window that are no nodata."""
        inside = self._inside(source, window)
        for band, missing in dict(zip(self.bands, self.missing, strict=True)).items():
            values = source.read(band, window=window)
            if inside is not None:
                values = values[inside]
            yield values if missing is None else values[values != missing]

    def colors(self, source: Any, window: Window, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
        """(H, W, 3) uint8 RGB of a window, and (H, W) bool, False where no band has data."""
        grey = len(set(self.bands)) == 1
        values = source.read(self.bands[:1] if grey else self.bands, window=window)
        valid = self._valid(source, values, window)
        if self.table is not None:
            return self.table[np.minimum(values[0], len(self.table) - 1)], valid
        if self.deep:
            values = np.stack([stretch(band, low, high) for band in values])
        elif self.levels != 255:
            values = (values.astype(np.uint16) * 255 // self.levels).astype(np.uint8)
        if self.inverted:
            values = 255 - values
        if self.deep:
            values[:, ~valid] = 0
        if len(values) == 4:
            values = _from_cmyk(values)
        image = np.empty((*values.shape[1:], 3), np.uint8)
        image[:] = values.transpose(1, 2, 0)
        return image, valid

    def _valid(self, source: Any, values: np.ndarray, window: Window) -> np.ndarray:
        valid = np.zeros(values.shape[1:], bool)
        for band, missing in zip(values, self.missing, strict=False):
            here = np.isfinite(band) if band.dtype.kind == "f" else np.ones(band.shape, bool)
            valid |= here if missing is None else here & (band != missing)
        inside = self._inside(source, window)
        return valid if inside is None else valid & inside

    def _inside(self, source: Any, window: Window) -> np.ndarray | None:
        return source.read_masks(self.bands[0], window=window) != 0 if self.masked else None


def _chosen(source: Any, name: str, bands: Sequence[int] | None) -> list[int]:
    if bands is not None:
        return band_numbers(bands, source.count, name)
    names = [color.name for color in source.colorinterp]
    if all(color in names for color in ("red", "green", "blue")):
        return [names.index(color) + 1 for color in ("red", "green", "blue")]
    if all(color in names for color in _CMYK) and set(source.dtypes) == {"uint8"}:
        return [names.index(color) + 1 for color in _CMYK]
    colors = [number for number, color in enumerate(names, 1) if color != "alpha"] or [1]
    if len(colors) > 4:
        _LOG.warning(
            "%s has %d bands and does not say which are red, green and blue: %s are taken; name them (--bands 4,3,2)",
            *(name, source.count, colors[:3]),
        )
    return colors[:3] if len(colors) >= 3 else [colors[0]] * 3


def _missing(nodata: float | None, kind: np.dtype[Any]) -> float | None:
    """The nodata value as the band's type holds it; None where it holds no such value."""
    if nodata is None or not np.isfinite(nodata):
        return None
    if kind.kind == "f":
        with np.errstate(over="ignore"):
            return float(kind.type(nodata))
    limits = np.iinfo(kind)
    return int(nodata) if float(nodata).is_integer() and limits.min <= nodata <= limits.max else None


def _table(source: Any, band: int) -> np.ndarray | None:
    """The colours of a palette; indexes beyond it are black."""
    if source.colorinterp[band - 1].name != "palette" or source.dtypes[band - 1] not in ("uint8", "uint16"):
        return None
    table = np.zeros((256 if source.dtypes[band - 1] == "uint8" else 65536, 3), np.uint8)
    for index, color in source.colormap(band).items():
        if 0 <= index < len(table):
            table[index] = np.clip(color[:3], 0, 255)
    return table


def _from_cmyk(values: np.ndarray) -> np.ndarray:
    """(4, H, W) uint8 CMYK -> (3, H, W) RGB: what ink leaves of white, as Pillow rounds it."""
    white = 255 - values[3].astype(np.int32)
    ink = values[:3].astype(np.int32) * white + 128
    return np.clip(white - (((ink >> 8) + ink) >> 8), 0, 255).astype(np.uint8)
