"""Scenes: images of any size, read in windows, so that memory holds one window and never the whole raster.

A TIFF is read by rasterio with the checks and the rules of `files.rasters`: bands, palettes, the stretch of more than 8
bits (one range for the whole scene), nodata. Other formats, TIFFs that an EXIF orientation turns, and TIFFs whose
blocks are too large to be read again for every window, are decoded whole, up to `MAX_PIXELS`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mindground.errors import ImageError, one_line, printable
from mindground.files import rasters
from mindground.files._bands import BandReading
from mindground.files._tiff import TIFF_MAGIC, TiffHeader, read_header
from mindground.files.images import read_image
from mindground.files.pixels import array_to_rgb8, stretch_range
from mindground.files.regular import check_regular

__all__ = ["MAX_SCENE_PIXELS", "Georeference", "Scene", "array_scene", "ground_sample_distance", "open_scene"]

_LOG = logging.getLogger("mindground")

MAX_SCENE_PIXELS = 2**34
"""Pixels of one scene, 131,072 x 131,072: a file of a few bytes may claim any size, and time grows with it."""
_BLOCK_BYTES = 64 << 20
_STRIP_VALUES = 1 << 24
_METRES_OF_A_DEGREE = 111_319.49


@dataclass(frozen=True)
class Georeference:
    """Where a scene lies.

    Attributes:
        transform: as `GeoImage.transform`.
        crs: coordinate reference system as WKT; empty where there is none.
        problem: why the coordinate system of the file cannot be used; empty where it can.
    """

    transform: tuple[float, float, float, float, float, float]
    crs: str = ""
    problem: str = ""


class _Pixels(Protocol):
    def __call__(self, left: int, top: int, right: int, bottom: int) -> tuple[np.ndarray, np.ndarray]: ...


@dataclass(frozen=True)
class Scene:
    """An open scene.

    Attributes:
        name: for messages and results.
        size: (height, width) in pixels.
        read: (left, top, right, bottom) in whole pixels inside the scene -> (H, W, 3) uint8 RGB, and (H, W) bool,
            False where the file says that there is no data.
        place: its georeference, or None.
        notes: the conversion of the bands.
    """

    name: str
    size: tuple[int, int]
    read: _Pixels
    place: Georeference | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    def overview(self, most: int = 1600) -> tuple[np.ndarray, int]:
        """Every n-th pixel of every n-th line: (H, W, 3) uint8 with sides of at most `most`, and n."""
        height, width = self.size
        step = max(1, -(-max(height, width) // most))
        rows = max(1, _STRIP_VALUES // max(1, width) // step) * step
        parts = [
            self.read(0, top, width, min(height, top + rows))[0][::step, ::step].copy()
            for top in range(0, height, rows)
        ]
        return np.concatenate(parts), step


def array_scene(array: Any, name: str = "the array") -> Scene:
    """An array (see `files.pixels.array_to_rgb8`) as a scene without a place."""
    return _whole(name, array_to_rgb8(array), None)


@contextmanager
def open_scene(path: str | Path, bands: Sequence[int] | None = None) -> Iterator[Scene]:
    """Open an image of any size.

    Args:
        path: of a regular file.
        bands: as `files.rasters.read_geotiff`.

    Raises:
        ImageError: it cannot be read, has no such band, or is larger than `MAX_SCENE_PIXELS` (`MAX_PIXELS` where it
            has to be decoded whole); also later, from `Scene.read`.
    """
    name = printable(path, 300)
    check_regular(path, limit=None)
    with open(path, "rb") as file:
        tiff = file.read(4) in TIFF_MAGIC
        file.seek(0)
        header = read_header(file) if tiff else None
    turned = header is not None and not header.georeferenced and header.orientation not in (0, 1)
    if not (tiff and rasters.has_rasterio()) or turned:
        yield _whole(name, read_image(path, bands=bands), None)
        return
    with ExitStack() as stack:
        try:
            scene = _opened(name, path, stack.enter_context(rasters.opened(path)), header, bands)
        except ImageError:
            raise
        except Exception as error:  # GDAL's errors have no common class
            raise ImageError(
                f"{name} cannot be read as a raster: {one_line(error)}; check that the file is whole"
            ) from error
        yield scene


def _opened(name: str, path: str | Path, source: Any, header: TiffHeader | None, bands: Sequence[int] | None) -> Scene:
    _check(name, source, header)
    if _block_bytes(source) <= _BLOCK_BYTES:
        return _windowed(name, source, header, bands)
    image = rasters.read_geotiff(path, bands)
    place = Georeference(image.transform, image.crs, image.problem)
    return _whole(name, image.image, place, image.valid, image.notes)


def ground_sample_distance(place: Georeference | None, size: tuple[int, int]) -> float | None:
    """Metres of one pixel at the middle of the scene: the root of its area on the ground. None where it is not known.

    Degrees are taken as those of a sphere; the length of other units is what the coordinate system says.
    """
    if place is None or not place.crs or not np.isfinite(place.transform).all():
        return None
    a, b, _, d, e, f = place.transform
    try:
        with rasters.gdal_environment():
            crs = rasters.optional("rasterio.crs").CRS.from_wkt(place.crs)
            geographic, unit = bool(crs.is_geographic), _METRES_OF_A_DEGREE
            if not geographic:
                unit = float(crs.linear_units_factor[1])
        if geographic:
            latitude = d * size[1] / 2 + e * size[0] / 2 + f
            unit *= math.sqrt(max(0.0, math.cos(math.radians(latitude))))
    except Exception:  # errors of PROJ come in several classes, and a local system has no unit
        return None
    metres = math.sqrt(abs(a * e - b * d)) * unit
    return metres if math.isfinite(metres) and metres > 0 else None


def _whole(
    name: str,
    image: np.ndarray,
    place: Georeference | None,
    valid: np.ndarray | None = None,
    notes: dict[str, Any] | None = None,
) -> Scene:
    there = np.ones(image.shape[:2], bool) if valid is None else valid

    def read(left: int, top: int, right: int, bottom: int) -> tuple[np.ndarray, np.ndarray]:
        return image[top:bottom, left:right], there[top:bottom, left:right]

    return Scene(name, (image.shape[0], image.shape[1]), read, place, notes or {})


def _check(name: str, source: Any, header: TiffHeader | None) -> None:
    rasters.check_kind(name, source, header)
    if source.width * source.height > MAX_SCENE_PIXELS:
        raise ImageError(
            f"{name} has {source.width} x {source.height} pixels, more than {MAX_SCENE_PIXELS}; cut it into scenes"
        )


def _block_bytes(source: Any) -> int:
    rows, columns = source.block_shapes[0]
    together = 1 if source.profile.get("interleave") == "band" else source.count
    return int(rows) * int(columns) * together * max(np.dtype(kind).itemsize for kind in source.dtypes)


def _windowed(name: str, source: Any, header: TiffHeader | None, bands: Sequence[int] | None) -> Scene:
    reading = BandReading.of(source, name, header, bands)
    low, high = 0.0, 255.0
    if reading.deep:
        _LOG.info("%s: the range of its values is being determined", name)
        low, high = stretch_range(
            part for window in rasters.windows(source) for part in reading.present(source, window)
        )
    crs, problem = rasters.crs_of(source)
    a, b, c, d, e, f = (float(v) for v in tuple(source.transform)[:6])
    placed = bool(crs or problem) or (a, b, c, d, e, f) != (1, 0, 0, 0, 1, 0)

    def read(left: int, top: int, right: int, bottom: int) -> tuple[np.ndarray, np.ndarray]:
        try:
            return reading.colors(source, ((top, bottom), (left, right)), low, high)
        except Exception as error:  # as above
            raise ImageError(
                f"{name} cannot be read at column {left}, row {top}: {one_line(error)}; check that the file is whole"
            ) from error

    _LOG.info("%s: bands %s, values %s become 0..255", name, reading.bands, [low, high])
    return Scene(
        name,
        (source.height, source.width),
        read,
        Georeference((a, b, c, d, e, f), crs, problem) if placed else None,
        {"bands": reading.bands, "range": [low, high]},
    )
