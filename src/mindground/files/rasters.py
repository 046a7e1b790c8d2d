"""Satellite and aerial rasters: GeoTIFF files as 8-bit RGB images with their georeference.

`read_geotiff` needs the extra `geo` (rasterio), which is imported only when a raster is read; `is_geotiff` works
without it. The raster is read in windows of rows, so that memory holds one 8-bit RGB copy and never the file's own
bands.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from mindground.errors import ImageError, MindGroundError

__all__ = ["GeoImage", "is_geotiff", "optional", "read_geotiff"]

_LOG = logging.getLogger("mindground")
_GEO_TAGS = (33550, 33922, 34264, 34735)  # pixel scale, tie points, transformation, GeoKey directory
_WINDOW_ROWS = 512


@dataclass
class GeoImage:
    """A raster as an RGB image, and its georeference.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        transform: six numbers (a, b, c, d, e, f): x = a * column + b * row + c, y = d * column + e * row + f,
            pixel corners, in the units of `crs`.
        crs: coordinate reference system as WKT; empty when the file has none.
        valid: (H, W) bool, False where the file has no data.
        notes: the conversion of the bands, for the result file.
    """

    image: np.ndarray
    transform: tuple[float, float, float, float, float, float]
    crs: str
    valid: np.ndarray
    notes: dict[str, Any] = field(default_factory=dict)


def optional(module: str) -> ModuleType:
    """Import a library of the extra `geo`.

    Raises:
        MindGroundError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MindGroundError(
            f"georeferenced rasters need {module.split('.')[0]}, which is not installed ({error}); "
            "install the extra 'geo': pip install -e '.[geo]'"
        ) from error


def is_geotiff(path: str | Path) -> bool:
    """True for a TIFF that carries a georeference; does not need the extra."""
    try:
        with open(path, "rb") as file:
            if file.read(4) not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
                return False
        with Image.open(path) as image:
            if isinstance(image, TiffImageFile):
                return any(tag in image.tag_v2 for tag in _GEO_TAGS)
    except (OSError, AttributeError, SyntaxError, ValueError):
        pass
    # Pillow cannot read it (unusual band types). It may still be a TIFF that rasterio can read.
    return Path(path).suffix.lower() in (".tif", ".tiff") and Path(path).is_file()


def read_geotiff(
    path: str | Path, bands: Sequence[int] | None = None, percentiles: tuple[float, float] = (2.0, 98.0)
) -> GeoImage:
    """Read a raster as 8-bit RGB and keep its georeference.

    Args:
        bands: three (or one) band numbers from 1; by default 1, 2, 3, or band 1 three times.
        percentiles: range of a band's valid values that is stretched to 0..255 where the file is not 8-bit.
    Raises:
        MindGroundError: the extra `geo` is not installed.
        ImageError: the file cannot be read, or has no such band.
    """
    rasterio = optional("rasterio")
    try:
        with rasterio.open(path) as source:
            chosen = _bands(path, source.count, bands)
            ranges = _ranges(source, chosen, percentiles)
            image = np.zeros((source.height, source.width, 3), np.uint8)
            valid = np.ones((source.height, source.width), bool)
            for top in range(0, source.height, _WINDOW_ROWS):
                rows = min(_WINDOW_ROWS, source.height - top)
                window = ((top, top + rows), (0, source.width))
                values = source.read(chosen, window=window)
                valid[top : top + rows] = source.dataset_mask(window=window) != 0
                for channel, (band, (low, high)) in enumerate(zip(values, ranges, strict=True)):
                    image[top : top + rows, :, channel] = _stretch(band, low, high)
            image[~valid] = 0
            crs = source.crs.to_wkt() if source.crs else ""
            a, b, c, d, e, f = (float(v) for v in tuple(source.transform)[:6])
    except rasterio.errors.RasterioError as error:
        raise ImageError(f"{path} cannot be read as a raster: {error}; check that the file is whole") from error
    notes = {"bands": list(chosen), "ranges": [[float(low), float(high)] for low, high in ranges]}
    _LOG.info("%s: bands %s, values %s stretched to 0..255", path, notes["bands"], notes["ranges"])
    return GeoImage(image, (a, b, c, d, e, f), crs, valid, notes)


def _bands(path: str | Path, count: int, bands: Sequence[int] | None) -> list[int]:
    chosen = list(bands) if bands else ([1, 2, 3] if count >= 3 else [1])
    if len(chosen) == 1:
        chosen = chosen * 3
    if len(chosen) != 3 or min(chosen) < 1 or max(chosen) > count:
        raise ImageError(f"{path} has {count} bands; choose one or three of them, not {chosen}")
    return chosen


def _ranges(source: Any, bands: Sequence[int], percentiles: tuple[float, float]) -> list[tuple[float, float]]:
    """The values of every band that become 0 and 255; 8-bit files are not changed."""
    ranges = []
    for band in bands:
        if source.dtypes[band - 1] == "uint8":
            ranges.append((0.0, 255.0))
            continue
        step = max(1, int(np.sqrt(source.height * source.width / 1e6)))  # a million values are enough
        shape = (max(1, source.height // step), max(1, source.width // step))
        values = source.read(band, out_shape=shape, masked=True).compressed().astype(np.float64)
        values = values[np.isfinite(values)]
        low, high = np.percentile(values, percentiles) if values.size else (0.0, 1.0)
        ranges.append((float(low), float(high if high > low else low + 1)))
    return ranges


def _stretch(band: np.ndarray, low: float, high: float) -> np.ndarray:
    if band.dtype == np.uint8 and (low, high) == (0.0, 255.0):
        return band
    values = np.nan_to_num(band.astype(np.float32), nan=low, posinf=high, neginf=low)
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)
