"""Predictions of a georeferenced raster as GeoJSON in EPSG:4326."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mindground.errors import ImageError
from mindground.files.atomic import write_json
from mindground.files.rasters import GeoImage, optional
from mindground.structures import Prediction

__all__ = ["to_geojson", "write_geojson"]


def to_geojson(
    predictions: Sequence[Prediction],
    raster: GeoImage,
    *,
    image: str = "",
    model: str = "",
    tolerance_pixels: float = 0.5,
) -> dict[str, Any]:
    """Predictions of one raster as a GeoJSON FeatureCollection in EPSG:4326.

    A mask becomes a (multi)polygon along pixel edges, simplified by at most `tolerance_pixels`; a box
    without a mask becomes a rectangle.

    Args:
        predictions: boxes and masks in pixels of the raster.
        raster: what `read_geotiff` gave.
        image, model: names for the properties of every feature.
        tolerance_pixels: largest distance between a mask's outline and its polygon.

    Raises:
        ImageError: the raster has no coordinate system.
        MindGroundError: the extra `geo` is not installed.
    """
    geometry = optional("shapely.geometry")
    shapely, warp = optional("shapely"), optional("rasterio.warp")
    if not raster.crs:
        raise ImageError(f"{image or 'the raster'} has no coordinate system, so it cannot be written as GeoJSON")
    a, b, c, d, e, f = raster.transform

    def to_degrees(pixels: np.ndarray) -> np.ndarray:
        column, row = pixels[:, 0], pixels[:, 1]
        x, y = a * column + b * row + c, d * column + e * row + f
        return np.stack(warp.transform(raster.crs, "EPSG:4326", x, y)[:2], -1)  # longitude first, as in GeoJSON

    features = []
    for prediction in predictions:
        masks = prediction.mask_arrays()
        for index, box in enumerate(prediction.boxes_xyxy):
            outline = _outline(masks[index], tolerance_pixels) if len(masks) else None
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
            shape = geometry.mapping(shapely.transform(outline, to_degrees))
            features.append({"type": "Feature", "geometry": shape, "properties": properties})
    return {"type": "FeatureCollection", "features": features}


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
    """Write a FeatureCollection as UTF-8 text and return the path. Raises WriteError."""
    return write_json(path, collection, indent=1)
