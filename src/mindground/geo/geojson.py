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
from mindground.structures import Prediction

__all__ = ["to_geojson", "write_geojson"]

_LOG = logging.getLogger("mindground")


def to_geojson(
    predictions: Sequence[Prediction],
    raster: GeoImage,
    *,
    image: str = "",
    model: str = "",
    tolerance_pixels: float = 0.5,
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

    Raises:
        GeoError: the raster has no coordinate system, one without a way to EPSG:4326 (a local grid), or numbers that
            are no place; or the extra `geo` is not installed or not usable.
    """
    with gdal_environment():
        return _collection(predictions, raster, image, model, tolerance_pixels)


def _collection(
    predictions: Sequence[Prediction], raster: GeoImage, image: str, model: str, tolerance_pixels: float
) -> dict[str, Any]:
    geometry = optional("shapely.geometry")
    to_degrees = _to_degrees(raster, printable(image, 300) if image else "the raster")
    features, lost = [], 0
    for prediction in predictions:
        masks = prediction.mask_arrays()
        for index, box in enumerate(prediction.boxes_xyxy):
            outline = _written_outline(prediction)
            if outline is None and len(masks):
                outline = _outline(masks[index], tolerance_pixels)
            if outline is None:
                outline = geometry.box(*(float(v) for v in box))
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
            shape = _placed(outline, to_degrees)
            lost += shape is None
            features.append({"type": "Feature", "geometry": shape, "properties": properties})
    if lost:
        _LOG.warning(
            "%s: %d of %d features lie outside of the projection",
            printable(image, 300) or "the raster",
            lost,
            len(features),
        )
    return {"type": "FeatureCollection", "features": features}


def _to_degrees(raster: GeoImage, name: str) -> Callable[[np.ndarray], np.ndarray]:
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


def _placed(outline: Any, to_degrees: Callable[[np.ndarray], np.ndarray]) -> dict[str, Any] | None:
    """A shape in pixels as GeoJSON geometry; None where not every corner has a finite place."""
    geometry, shapely = optional("shapely.geometry"), optional("shapely")
    try:
        shape = shapely.transform(outline, to_degrees)
    except Exception:  # GDAL's errors have no common class
        return None
    west, south, east, north = shape.bounds
    if not np.isfinite([west, south, east, north]).all() or not np.isfinite(shapely.get_coordinates(shape)).all():
        return None
    if min(south, west / 2) < -90.001 or max(north, east / 2) > 90.001:
        return None
    placed: dict[str, Any] = geometry.mapping(shape)
    return placed


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
