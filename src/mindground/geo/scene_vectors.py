"""Answers about a scene as vectors: outlines in pixels, GeoJSON in degrees, GeoPackage in the scene's own system."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from mindground.errors import GeoError, printable
from mindground.files.rasters import gdal_environment, optional
from mindground.files.scenes import Georeference
from mindground.geo.geojson import coordinate_digits, degrees_of, feature_parts, placed
from mindground.geo.geopackage import Layer
from mindground.structures.pixel_runs import Region

__all__ = ["VectorAnswer", "region_outline", "scene_geojson", "scene_layer"]

_LOG = logging.getLogger("mindground")
_STRIP_PIXELS = 1 << 24
_COLUMNS: dict[str, type] = {
    **{"text": str, "score": float, "label": int, "image": str, "model": str, "part": str, "area_m2": float},
    **{"left": float, "top": float, "right": float, "bottom": float},
}


class VectorAnswer(Protocol):
    """What of an answer is written; `inference.scene.SceneAnswer` is one."""

    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def boxes_xyxy(self) -> np.ndarray: ...
    @property
    def scores(self) -> np.ndarray: ...
    @property
    def labels(self) -> np.ndarray: ...
    @property
    def regions(self) -> tuple[Region, ...]: ...
    @property
    def expression(self) -> str | None: ...


def region_outline(region: Region, tolerance: float = 0.5) -> Any:
    """A region's outline in pixels of the scene, valid, and simplified by at most `tolerance` pixels; None if empty.

    A large one is drawn in strips, so that memory holds some megabytes of pixels.
    """
    if not region.area:
        return None
    features, shapely = optional("rasterio.features"), optional("shapely")
    geometry = optional("shapely.geometry")
    left, top, right, bottom = (int(edge) for edge in region.box())
    rows = max(1, _STRIP_PIXELS // (right - left))
    parts = []
    for start in range(top, bottom, rows):
        mask = region.mask(left, start, right, min(bottom, start + rows))
        for part, value in features.shapes(mask, mask != 0):
            if value:
                parts.append(shapely.transform(geometry.shape(part), lambda corners, y=start: corners + (left, y)))
    outline = optional("shapely.ops").unary_union(parts).simplify(tolerance, preserve_topology=True)
    return outline if outline.is_valid else outline.buffer(0)


def scene_geojson(
    answers: Sequence[VectorAnswer], place: Georeference, *, image: str = "", model: str = "", geometry: str = "mask"
) -> dict[str, Any]:
    """Answers about one scene as a GeoJSON FeatureCollection in EPSG:4326; see `geo.to_geojson`. Raises GeoError."""
    with gdal_environment():
        name = printable(image, 300) or "the scene"
        to_degrees = degrees_of(place, name)
        features, lost = [], 0
        for size, shape, properties in _parts(answers, image, model, geometry):
            made = placed(shape, to_degrees, coordinate_digits(to_degrees, size))
            lost += made["geometry"] is None
            properties["box_pixels"] = [properties.pop(edge) for edge in ("left", "top", "right", "bottom")]
            if geometry != "both":
                del properties["part"]
            features.append({"type": "Feature", **made, "properties": properties | made["properties"]})
        if lost:
            _LOG.warning("%s: %d of %d features lie outside of the projection", name, lost, len(features))
        return {"type": "FeatureCollection", "features": features}


def scene_layer(
    name: str,
    answers: Sequence[VectorAnswer],
    place: Georeference | None,
    *,
    image: str = "",
    model: str = "",
    geometry: str = "mask",
) -> Layer:
    """Answers about one scene as a layer in the scene's own coordinate system; in pixels where it has none.

    Without a coordinate system y grows downward, as rows do, and `area_m2` is empty.
    """
    with gdal_environment():
        placing = place is not None and bool(place.crs) and not place.problem
        try:
            to_degrees = degrees_of(place, printable(image, 300)) if placing and place is not None else None
        except GeoError:
            to_degrees = None
        features = []
        for _, shape, properties in _parts(answers, image, model, geometry):
            area = placed(shape, to_degrees)["properties"]["area_m2"] if to_degrees is not None else None
            if placing and place is not None:
                shape = optional("shapely").transform(shape, lambda corners: on_map(corners, place))
            features.append((shape, properties | {"area_m2": area}))
    return Layer(name, place.crs if placing and place is not None else "", _COLUMNS, features)


def on_map(pixels: np.ndarray, place: Georeference) -> np.ndarray:
    """(N, 2) columns and rows -> (N, 2) coordinates of the scene's system."""
    a, b, c, d, e, f = place.transform
    column, row = pixels[:, 0], pixels[:, 1]
    return np.stack([a * column + b * row + c, d * column + e * row + f], -1)


def _parts(
    answers: Sequence[VectorAnswer], image: str, model: str, geometry: str
) -> Iterator[tuple[tuple[int, int], Any, dict[str, Any]]]:
    """Size of the scene, shape in pixels and properties of every feature."""
    for answer in answers:
        for index, box in enumerate(answer.boxes_xyxy):
            outline = None
            if answer.regions and geometry != "box":
                outline = region_outline(answer.regions[index])
            edges = dict(zip(("left", "top", "right", "bottom"), (round(float(v), 3) for v in box), strict=True))
            for part, shape in feature_parts(outline, box, geometry):
                yield (
                    answer.size,
                    shape,
                    {
                        "text": answer.expression or "",
                        "score": round(float(answer.scores[index]), 6),
                        "label": int(answer.labels[index]),
                        "image": image,
                        "model": model,
                        "part": part if geometry == "both" else "",
                        **edges,
                    },
                )
