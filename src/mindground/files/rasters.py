"""Rasters of the kind TIFF: 8-bit RGB images, with their georeference where they have one.

`read_geotiff` needs the extra `geo` (rasterio), which is imported only when a raster is read; `is_geotiff` works
without it. The raster is read in windows of rows, so that memory holds one 8-bit RGB copy and never the file's own
bands. Files beside the raster (`.msk`, `.ovr`, `.aux.xml`, `.tfw`) are not opened, and no driver but GDAL's GeoTIFF
driver is used: nothing in a file can name another file or an address.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from mindground.errors import GeoError, ImageError, one_line, printable
from mindground.files._bands import BandReading
from mindground.files._tiff import TiffHeader, read_header
from mindground.files.pixels import check_size, stretch_range
from mindground.files.regular import check_regular

__all__ = [
    "GeoImage",
    "check_kind",
    "crs_of",
    "gdal_environment",
    "has_rasterio",
    "is_geotiff",
    "opened",
    "optional",
    "proj_advice",
    "read_geotiff",
    "windows",
]

_LOG = logging.getLogger("mindground")

_WINDOW_ROWS = 512
_MAX_BANDS, _MAX_BLOCK_BYTES = 4096, 2**30
_WINDOW_VALUES = 2**22
_REAL = frozenset("uint8 int8 uint16 int16 uint32 int32 uint64 int64 float16 float32 float64".split())
# No side file is looked for, none is written, no address is opened; a few blocks are kept.
_SAFE = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GTIFF_GEOREF_SOURCES": "INTERNAL",
    "GDAL_CACHEMAX": 64,
    "GDAL_NUM_THREADS": "1",
}


@dataclass
class GeoImage:
    """A raster as an RGB image, and its georeference.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        transform: six numbers (a, b, c, d, e, f): x = a * column + b * row + c, y = d * column + e * row + f,
            pixel corners, in the units of `crs`.
        crs: coordinate reference system as WKT; empty when the file has none, or `problem` says why it is unknown.
        valid: (H, W) bool, False where all bands that were read have no data.
        notes: the conversion of the bands, for the result file.
        problem: why the coordinate system of the file cannot be used; empty where it can.
    """

    image: np.ndarray
    transform: tuple[float, float, float, float, float, float]
    crs: str
    valid: np.ndarray
    notes: dict[str, Any] = field(default_factory=dict)
    problem: str = ""


def optional(module: str) -> ModuleType:
    """Import a library of the extra `geo`.

    Raises:
        GeoError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise GeoError(
            f"georeferenced rasters need {module.split('.')[0]}, which is not installed ({error}); "
            "install the extra 'geo': pip install -e '.[geo]'"
        ) from error


def has_rasterio() -> bool:
    """Whether the extra `geo` is there to read TIFFs."""
    return importlib.util.find_spec("rasterio") is not None


def is_geotiff(path: str | Path) -> bool:
    """True for a TIFF that carries a georeference; does not need the extra."""
    try:
        check_regular(path, limit=None)
        with open(path, "rb") as file:
            header = read_header(file)
    except (ImageError, OSError):
        return False
    return header is not None and header.georeferenced


def read_geotiff(path: str | Path, bands: Sequence[int] | None = None) -> GeoImage:
    """Read a TIFF as 8-bit RGB, pixels as stored, and keep its georeference.

    Rules: without `bands`, the bands that the file names red, green and blue, otherwise 1, 2, 3; fewer than three
    (alpha not counted): band 1 as grey. Palettes are expanded, CMYK is converted. 8-bit values are not changed; deeper
    ones are stretched as `files.pixels` says, without those that equal the file's nodata value. A pixel has no data
    where all bands that are read equal nodata or are not finite, or the mask inside the file leaves it out; of more
    than 8 bits it becomes black, of 8 bits it keeps its values.

    Args:
        bands: three band numbers from 1 that are red, green and blue, or one that is grey.
    Raises:
        GeoError: the extra `geo` is not installed.
        ImageError: the file cannot be read, is too large, or has no such band.
    """
    optional("rasterio")
    name = printable(path, 300)
    check_regular(path, limit=None)
    with open(path, "rb") as file:
        header = read_header(file)
    if header is not None:
        _check_header(name, header)
    try:
        with opened(path) as source:
            _check_source(name, source)
            return _read(source, name, header, bands)
    except ImageError:
        raise
    except Exception as error:  # GDAL's errors have no common class, and which of them a damaged file meets is open
        raise ImageError(
            f"{name} cannot be read as a raster: {one_line(error)}; check that the file is whole"
        ) from error


def proj_advice() -> str:
    """What to do where the coordinate library finds no usable database."""
    given = [f"{key}={printable(os.environ[key], 300)}" for key in ("PROJ_DATA", "PROJ_LIB") if os.environ.get(key)]
    if given:
        return f"{' and '.join(given)} name the database of another installation; unset PROJ_DATA and PROJ_LIB"
    return "set PROJ_DATA to the proj_data folder of rasterio, or install rasterio anew"


@contextmanager
def gdal_environment() -> Iterator[None]:
    """GDAL without side files, and its messages as exceptions and log records, not as lines on the terminal."""
    # Records still reach the handlers of the user; without any, Python would print them.
    log = logging.getLogger("rasterio")
    if not log.handlers:
        log.addHandler(logging.NullHandler())
    with optional("rasterio").Env(**_SAFE):
        yield


@contextmanager
def opened(path: str | Path) -> Iterator[Any]:
    """A TIFF, open by GDAL's GeoTIFF driver and nothing else (`gdal_environment`).

    Raises:
        GeoError: the extra `geo` is not installed.
        ImageError: the name is an address to GDAL. What GDAL itself raises passes through.
    """
    rasterio = optional("rasterio")
    absolute = os.path.abspath(path)
    if absolute.startswith("/vsi"):
        raise ImageError(f"{printable(path, 300)} has a name that GDAL reads as an address; move the file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with gdal_environment(), rasterio.open(absolute, driver="GTiff", sharing=False) as source:
            yield source


def _check_header(name: str, header: TiffHeader) -> None:
    check_size(name, header.width, header.height, deep=header.bits > 8)
    _check_colours(name, header)


def _check_colours(name: str, header: TiffHeader) -> None:
    if header.samples > _MAX_BANDS:
        raise ImageError(f"{name} has {header.samples} bands, more than {_MAX_BANDS}; take out those that are needed")
    if header.photometric in (8, 9, 10):
        raise ImageError(f"{name} has colours in L*a*b*, which are not converted; save it as RGB")


def check_kind(name: str, source: Any, header: TiffHeader | None) -> None:
    """The checks of an open raster that do not concern its size. Raises ImageError."""
    if header is not None:
        _check_colours(name, header)
    if not all(kind in _REAL for kind in source.dtypes):
        raise ImageError(f"{name} holds {', '.join(sorted(set(source.dtypes)))} numbers; save it as real numbers")


def _check_source(name: str, source: Any) -> None:
    check_kind(name, source, None)
    check_size(name, source.width, source.height, deep=set(source.dtypes) != {"uint8"})
    rows, columns = source.block_shapes[0]
    together = 1 if source.profile.get("interleave") == "band" else source.count
    if rows * columns * together * max(np.dtype(kind).itemsize for kind in source.dtypes) > _MAX_BLOCK_BYTES:
        raise ImageError(f"{name} is stored in blocks of {columns} x {rows} pixels; save it in smaller tiles")


def _read(source: Any, name: str, header: TiffHeader | None, bands: Sequence[int] | None) -> GeoImage:
    reading = BandReading.of(source, name, header, bands)
    parts = list(windows(source))
    low, high = 0.0, 255.0
    if reading.deep:
        low, high = stretch_range(part for window in parts for part in reading.present(source, window))
    image = np.empty((source.height, source.width, 3), np.uint8)
    valid = np.empty((source.height, source.width), bool)
    for window in parts:
        rows = slice(*window[0])
        image[rows], valid[rows] = reading.colors(source, window, low, high)
    crs, problem = crs_of(source)
    a, b, c, d, e, f = (float(v) for v in tuple(source.transform)[:6])
    notes = {"bands": reading.bands, "range": [low, high]}
    _LOG.info("%s: bands %s, values %s become 0..255", name, notes["bands"], notes["range"])
    return GeoImage(image, (a, b, c, d, e, f), crs, valid, notes, problem)


def windows(source: Any) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Windows of whole rows, and of whole blocks, so that no block is decoded twice."""
    block = source.block_shapes[0][0]
    rows = max(1, min(_WINDOW_ROWS, _WINDOW_VALUES // source.width) // block) * block
    for top in range(0, source.height, rows):
        yield (top, min(source.height, top + rows)), (0, source.width)


def crs_of(source: Any) -> tuple[str, str]:
    """The coordinate system as WKT, and why it is not known where the file has one that cannot be read."""
    try:
        return (source.crs.to_wkt() if source.crs else ""), ""
    except Exception as error:  # errors of PROJ come in several classes
        return "", f"its coordinate system cannot be read ({one_line(error)}); {proj_advice()}"
