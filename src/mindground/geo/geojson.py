"""Predictions of a georeferenced raster as GeoJSON in EPSG:4326."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mindground.errors import GeoError, one_line, printable
from mindground.files.atomic import write_text
from mindground.files.rasters import GeoImage, gdal_environment, optional, proj_advice
from mindground.files.scenes import Georeference
from mindground.geo.areas import ground_area
from mindground.structures import Prediction

__all__ = ["GEOMETRIES", "coordinate_digits", "degrees_of", "feature_parts", "placed", "to_geojson", "write_geojson"]

_LOG = logging.getLogger("mindground")

GEOMETRIES = ("mask", "box", "both")
"""What the shape of a feature is: the mask (the box where there is none), the box, or one feature for each."""


def to_geojson(
    predictions: Sequence[Prediction],
    raster: GeoImage,
    *,
    image: str = "",
    model: str = "",
    tolerance_pixels: float = 0.5,
    geometry: str = "mask",
) -> dict[str, Any]:
    """Predictions of one raster as a GeoJSON FeatureCollection in EPSG:4326.

    A contour that a network wrote as vertices (`extras["polygon"]`) is the polygon itself, with the probabilities of
    its tokens. Any other mask becomes a (multi)polygon along pixel edges, simplified by at most `tolerance_pixels`; a
    box without a mask becomes a rectangle. A feature outside of what its projection covers has no geometry (null, as
    GeoJSON has it), and a warning says how many these are.

    Args:
        predictions: boxes and masks in pixels of the raster.
        raster: what `read_geotiff` gave.
        image, model: names for the properties of every feature.
        tolerance_pixels: largest distance between a mask's outline and its polygon.
        geometry: one of `GEOMETRIES`. Of "both" the property `part` says which of the two a feature is.

    Every feature has `area_m2`, the area of its shape on the ellipsoid of WGS 84. Coordinates have as many decimals as
    a fiftieth of a pixel needs.

    Raises:
        GeoError: the raster has no coordinate system, one without a way to EPSG:4326 (a local grid), or numbers that
            are no place; or the extra `geo` is not installed or not usable.
    """
    with gdal_environment():
        return _collection(predictions, raster, image, model, tolerance_pixels, geometry)


def _collection(
    predictions: Sequence[Prediction], raster: GeoImage, image: str, model: str, tolerance_pixels: float, geometry: str
) -> dict[str, Any]:
    name = printable(image, 300) if image else "the raster"
    to_degrees = degrees_of(raster, name)
    digits = coordinate_digits(to_degrees, (raster.image.shape[0], raster.image.shape[1]))
    features: list[dict[str, Any]] = []
    lost = 0
    for prediction in predictions:
        masks = prediction.mask_arrays()
        for index, box in enumerate(prediction.boxes_xyxy):
            written = _written_outline(prediction)
            properties = {
                "text": prediction.expression or "",
                "score": round(float(prediction.scores[index]), 6),
                "label": int(prediction.labels[index]) if prediction.labels is not None else 0,
                "image": image,
                "model": model,
                "box_pixels": [round(float(v), 3) for v in box],
            }
            parts = prediction.extras.get("token_probabilities")
            if parts:
                properties["token_probabilities"] = {
                    name: np.round(np.asarray(part, np.float64), 6).tolist() for name, part in parts.items()
                }
            outline = written
            if outline is None and len(masks):
                outline = _outline(masks[index], tolerance_pixels)
            for part, shape in feature_parts(outline, box, geometry):
                feature = placed(shape, to_degrees, digits)
                lost += feature["geometry"] is None
                named = {"part": part} if geometry == "both" else {}
                features.append(
                    {"type": "Feature", **feature, "properties": properties | named | feature["properties"]}
                )
    if lost:
        _LOG.warning("%s: %d of %d features lie outside of the projection", name, lost, len(features))
    return {"type": "FeatureCollection", "features": features}


def feature_parts(outline: Any, box: Sequence[float] | np.ndarray, geometry: str) -> list[tuple[str, Any]]:
    """What features an object gets: ("mask" or "box", its shape in pixels).

    Args:
        outline: of the mask, or None.
        geometry: one of `GEOMETRIES`.
    """
    frame = optional("shapely.geometry").box(*(float(v) for v in box))
    if geometry == "box" or outline is None:
        return [("box", frame)]
    return [("mask", outline)] if geometry == "mask" else [("mask", outline), ("box", frame)]


def coordinate_digits(to_degrees: Callable[[np.ndarray], np.ndarray], size: tuple[int, int]) -> int:
    """Decimals of degrees that a fiftieth of a pixel at the middle of a raster needs: from 5 to 10."""
    middle = np.asarray([size[1], size[0]]) / 2
    try:
        ends = to_degrees(np.stack([middle, middle + 1]))
    except Exception:  # GDAL's errors have no common class
        return 7
    pixel = float(np.abs(ends[1] - ends[0]).max())
    return int(np.clip(np.ceil(-np.log10(pixel / 50)), 5, 10)) if np.isfinite(pixel) and pixel > 0 else 7


def degrees_of(raster: GeoImage | Georeference, name: str) -> Callable[[np.ndarray], np.ndarray]:
    """(N, 2) pixels -> (N, 2) longitude and latitude, as GeoJSON orders them. Raises GeoError, see `to_geojson`."""
    if raster.problem:
        raise GeoError(f"{name}: {raster.problem}")
    if not raster.crs:
        raise GeoError(f"{name} has no coordinate system")
    a, b, c, d, e, f = raster.transform
    if not np.isfinite(raster.transform).all() or a * e == b * d:
        raise GeoError(f"{name} has the transform {list(raster.transform)}, which places no pixel")
    crs, warp = optional("rasterio.crs"), optional("rasterio.warp")
    try:
        crs.CRS.from_epsg(4326)
    except Exception as error:  # errors of PROJ come in several classes
        raise GeoError(
            f"{name}: the coordinate library finds no database ({one_line(error)}); {proj_advice()}"
        ) from error

    def to_degrees(pixels: np.ndarray) -> np.ndarray:
        column, row = pixels[:, 0], pixels[:, 1]
        x, y = a * column + b * row + c, d * column + e * row + f
        return np.stack(warp.transform(raster.crs, "EPSG:4326", x, y)[:2], -1)

    try:
        to_degrees(np.zeros((1, 2)))
    except Exception as error:
        if "utside" not in str(error):  # of the projection's domain: of this point and perhaps not of others
            reason = one_line(error)
            raise GeoError(f"{name}: its coordinate system has no way to longitude and latitude ({reason})") from error
    return to_degrees


def placed(outline: Any, to_degrees: Callable[[np.ndarray], np.ndarray], digits: int = 10) -> dict[str, Any]:
    """A shape in pixels as `geometry` (null where not every corner has a finite place) and `properties` (`area_m2`)."""
    geometry, shapely = optional("shapely.geometry"), optional("shapely")
    nothing: dict[str, Any] = {"geometry": None, "properties": {"area_m2": None}}
    try:
        shape = shapely.transform(outline, to_degrees)
    except Exception:  # GDAL's errors have no common class
        return nothing
    west, south, east, north = shape.bounds
    if not np.isfinite([west, south, east, north]).all() or not np.isfinite(shapely.get_coordinates(shape)).all():
        return nothing
    if min(south, west / 2) < -90.001 or max(north, east / 2) > 90.001:
        return nothing
    area = round(ground_area(shape), 3)
    short = shapely.transform(shape, lambda corners: np.round(corners, digits))
    return {"geometry": geometry.mapping(short), "properties": {"area_m2": area}}


def _written_outline(prediction: Prediction) -> Any:
    """The polygon of vertices that a network wrote, made valid; None where there is none or it encloses nothing."""
    points = np.asarray(prediction.extras.get("polygon", ()), np.float64).reshape(-1, 2)
    if len(points) < 3:
        return None
    outline = optional("shapely.geometry").Polygon(points)
    outline = outline if outline.is_valid else outline.buffer(0)
    return None if outline.is_empty else outline


def _outline(mask: np.ndarray, tolerance: float) -> Any:
    """A mask's outline in pixel coordinates, valid and simplified; None for an empty mask."""
    features = optional("rasterio.features")
    geometry = optional("shapely.geometry")
    union = optional("shapely.ops").unary_union
    parts = [geometry.shape(part) for part, value in features.shapes(mask.astype(np.uint8), mask != 0) if value]
    if not parts:
        return None
    outline = union(parts).simplify(tolerance, preserve_topology=True)
    return outline if outline.is_valid else outline.buffer(0)


def write_geojson(path: str | Path, collection: dict[str, Any]) -> Path:
    """Write a FeatureCollection as UTF-8 text and return the path.

    Raises:
        GeoError: it holds a number that is not finite, which JSON cannot say.
        WriteError: the file cannot be written.
    """
    try:
        text = json.dumps(collection, indent=1, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise GeoError(f"{printable(path, 300)}: a coordinate or a score is not finite") from error
    return write_text(path, text + "\n")
