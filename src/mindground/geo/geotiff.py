"""Maps of numbers as GeoTIFF (extra `geo`)."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np

from mindground.errors import one_line, printable
from mindground.files.atomic import write_bytes
from mindground.files.rasters import GeoImage, gdal_environment, optional

__all__ = ["write_geotiff"]

_LOG = logging.getLogger("mindground")


def write_geotiff(path: str | Path, values: np.ndarray, raster: GeoImage | None = None) -> Path:
    """Write one band of float32, compressed without loss, and return the path.

    Args:
        values: (H, W) float32 in pixels of the raster; it is changed: pixels that have no data there become NaN, which
            the file names as its nodata value.
        raster: whose transform and coordinate system the file gets. Without it, or where it has none, the file has no
            place on earth, and a warning says so.

    Raises:
        GeoError: the extra `geo` is not installed.
        WriteError: the file cannot be written.
    """
    rasterio, crs = optional("rasterio"), None
    profile = {"driver": "GTiff", "count": 1, "dtype": "float32", "nodata": float("nan"), "BIGTIFF": "IF_SAFER"}
    profile |= {"height": values.shape[0], "width": values.shape[1], "compress": "deflate", "predictor": 3}
    reason = "the image has no georeference" if raster is None else raster.problem
    if raster is not None:
        values[~raster.valid] = np.nan
        profile["transform"] = optional("rasterio.transform").Affine(*raster.transform)
        try:
            crs = optional("rasterio.crs").CRS.from_wkt(raster.crs) if raster.crs else None
        except Exception as error:  # errors of PROJ come in several classes
            reason = one_line(error)
    if crs is None:
        _LOG.warning(
            "%s is written without coordinate system: %s", printable(path, 300), reason or "the image has none"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with gdal_environment(), rasterio.MemoryFile() as memory:
            with memory.open(crs=crs, **profile) as target:
                target.write(values, 1)
            return write_bytes(path, memory.read())
