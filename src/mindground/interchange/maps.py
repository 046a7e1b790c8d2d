"""GeoJSON, GeoPackage and KML: objects on earth. The rasters that they belong to give the way to pixels and back."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindground.data.formats.fields import RecordError, listing, mapping, plain_text, require
from mindground.data.formats.files import read_json
from mindground.data.formats.rsvg_xml import parse_xml
from mindground.errors import DataError, DatasetNotFoundError, GeoError, one_line, shown
from mindground.files import rasters
from mindground.files.atomic import write_bytes
from mindground.files.scenes import open_scene
from mindground.geo.geojson import coordinate_digits, degrees_of, write_geojson
from mindground.geo.geopackage import Layer, write_geopackage
from mindground.geo.geopackage_reader import read_layers
from mindground.interchange.images import IMAGE_ENDS, image_of
from mindground.interchange.model import Annotations, Context, ExchangeFormat, ImageItems, Item, Notes, make_item
from mindground.interchange.model import polygons_of as polygons
from mindground.interchange.xml_files import MOST_BYTES, add, element_number, xml_bytes
from mindground.structures.outlines import MAX_PARTS

__all__ = ["FORMATS"]

_COLUMNS: dict[str, type] = {"image": str, "category": str, "text": str, "score": float}
_KML = "{http://www.opengis.net/kml/2.2}"
_DEGREES = "EPSG:4326"
_RECTANGLE = 0.06
"""Pixels by which the corners of a shape may miss those of its box: coordinates are kept to a fiftieth of a pixel."""


@dataclass
class _Place:
    """A raster's way from pixels to its own coordinates, and from those of any system to pixels."""

    name: str
    size: tuple[int, int]
    crs: str
    transform: tuple[float, float, float, float, float, float]
    to_degrees: Callable[[np.ndarray], np.ndarray]

    def on_map(self, pixels: np.ndarray) -> np.ndarray:
        a, b, c, d, e, f = self.transform
        return np.stack([a * pixels[:, 0] + b * pixels[:, 1] + c, d * pixels[:, 0] + e * pixels[:, 1] + f], -1)

    def to_pixels(self, points: np.ndarray, crs: str) -> np.ndarray:
        if crs != self.crs:
            warp = rasters.optional("rasterio.warp")
            points = np.stack(warp.transform(crs, self.crs, points[:, 0], points[:, 1])[:2], -1)
        a, b, c, d, e, f = self.transform
        x, y, whole = points[:, 0] - c, points[:, 1] - f, a * e - b * d
        return np.stack([(e * x - b * y) / whole, (a * y - d * x) / whole], -1)


class _Places:
    """The rasters of a folder by the names that features give."""

    def __init__(self, context: Context, where: str) -> None:
        self._folder, self._where = context.images, where
        self._known: dict[str, _Place] = {}

    def find(self, name: str, where: str) -> tuple[str, _Place]:
        """The raster that a feature names; of one that names none, the only one of the folder."""
        if self._folder is None:
            raise DatasetNotFoundError(f"{self._where}: objects on earth need their rasters; give --images")
        folder = self._folder if self._folder.is_dir() else self._folder.parent
        if not name:
            found = [self._folder] if self._folder.is_file() else sorted(p for p in folder.iterdir() if _is_image(p))
            if len(found) != 1:
                raise RecordError(f"{where}: names no image, and {folder} holds {len(found)}; add the property 'image'")
            name = found[0].name
        if name not in self._known:
            path = image_of(name, folder, where)
            if path is None:
                raise DatasetNotFoundError(f"{where}: the raster {shown(name)} is not in {folder}; give its folder")
            self._known[name] = _place(path)
        return name, self._known[name]


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_ENDS and path.is_file() and path.name[0] != "."


def _place(path: Path) -> _Place:
    with open_scene(path) as scene:
        if scene.place is None:
            raise GeoError(f"{path} has no georeference")
        to_degrees = degrees_of(scene.place, str(path))
        return _Place(path.name, scene.size, scene.place.crs, scene.place.transform, to_degrees)


def _property(values: Mapping[Any, Any], *keys: str) -> Any:
    return next((values[key] for key in keys if values.get(key) not in (None, "")), "")


def _item(shape: Any, values: Mapping[Any, Any], place: _Place, crs: str, where: str) -> Item:
    """An object from a shape on earth and its properties."""
    box = values.get("box_pixels")
    try:
        if shape.is_empty:
            raise RecordError(f"{where}: an empty shape")
        rings = [ring for part in getattr(shape, "geoms", [shape]) for ring in _rings(part, where)]
        if len(rings) > MAX_PARTS:
            raise RecordError(f"{where}: a shape of {len(rings)} parts; {MAX_PARTS} are the most that are read")
        pixels = [place.to_pixels(ring, crs) for ring in rings]
    except DataError:
        raise
    except Exception as error:  # GDAL's errors have no common class
        raise RecordError(f"{where}: its shape has no place in {place.name} ({one_line(error)})") from error
    outline = [np.round(ring, 6).reshape(-1).tolist() for ring in pixels]
    found = make_item(
        where,
        box=box if isinstance(box, list) else None,
        outline=outline,
        category=str(_property(values, "category", "class", "label")),
        sentence=_property(values, "text", "sentence", "expression"),
        score=_property(values, "score", "confidence") if _property(values, "score", "confidence") != "" else None,
    )
    boxed = values.get("part") == "box" or _is_box(outline, found.box)
    return Item(found.box, found.category, found.sentence, found.score, None if boxed else found.outline)


def _is_box(outline: list[list[float]], box: tuple[float, ...]) -> bool:
    """Whether a shape is an upright rectangle of pixels: such an object has a box and no mask."""
    if len(outline) != 1 or len(outline[0]) != 8:
        return False
    corners = np.reshape(outline[0], (4, 2))
    edges = np.asarray(box)
    near = [np.abs(corners - edges[list(pair)]).max(1).min() for pair in ((0, 1), (2, 1), (2, 3), (0, 3))]
    return max(near) < _RECTANGLE


def _rings(shape: Any, where: str) -> list[np.ndarray]:
    """One closed ring without its last point; holes are joined to the outline by cuts of no width."""
    if shape.geom_type != "Polygon":
        raise RecordError(f"{where}: a shape of the kind {shown(shape.geom_type)}; polygons are read")
    outer = np.asarray(shape.exterior.coords)[:-1, :2]
    for hole in shape.interiors:
        inner = np.asarray(hole.coords)[:-1, :2]
        outer = np.concatenate([outer, outer[:1], inner, inner[:1], outer[:1]])
    return [outer]


def _shape(item: Item, image: ImageItems, notes: Notes) -> Any:
    """The shape of an object in pixels."""
    geometry, ops = rasters.optional("shapely.geometry"), rasters.optional("shapely.ops")
    rings = polygons(item.outline, image.size, notes)
    if not rings:
        return geometry.box(*item.box)
    parts = [geometry.Polygon(np.reshape(ring, (-1, 2))) for ring in rings]
    if len(parts) == 1 and parts[0].is_valid:
        return parts[0]
    return ops.unary_union([part.buffer(0) for part in parts])


def _from_collection(content: Any, path: Path, context: Context) -> Annotations:
    require(content, ("features",), str(path))
    shapely_shape = rasters.optional("shapely.geometry").shape
    places = _Places(context, str(path))
    images: dict[str, ImageItems] = {}
    for number, feature in enumerate(listing(content, "features", str(path))):
        where = f"{path}: feature {number}"
        require(feature, ("geometry", "properties"), where)
        values = feature["properties"] or {}
        require(values, (), where)
        if feature["geometry"] is None or values.get("part") == "box":
            continue
        mapping(feature, "geometry", where)
        name, place = places.find(plain_text(_property(values, "image"), "'image'", where), where)
        try:
            shape = shapely_shape(feature["geometry"])
        except Exception as error:  # shapely raises what its parts raise
            raise RecordError(f"{where}: its geometry is damaged ({one_line(error)})") from error
        items = images.setdefault(name, ImageItems(name, place.size)).items
        items.append(_item(shape, values, place, _DEGREES, where))
    return Annotations(list(images.values()))


def read_geojson(path: Path, context: Context, notes: Notes) -> Annotations:
    with rasters.gdal_environment():
        return _from_collection(read_json(path), path, context)


def _features(
    found: Annotations, context: Context, path: Path, notes: Notes
) -> list[tuple[_Place, Any, dict[str, Any]]]:
    places = _Places(context, str(path))
    made = []
    for image in found.images:
        if not image.items:
            notes.add("images without objects (a map has objects alone)")
            continue
        _, place = places.find(image.name, image.name)
        for item in image.items:
            values: dict[str, Any] = {"image": image.name, "category": item.category, "text": item.sentence}
            made.append((place, _shape(item, image, notes), values | {"score": item.score}))
    return made


def write_geojson_file(path: Path, found: Annotations, context: Context, notes: Notes) -> list[Path]:
    geometry, shapely = rasters.optional("shapely.geometry"), rasters.optional("shapely")
    with rasters.gdal_environment():
        features = []
        for place, shape, values in _features(found, context, path, notes):
            digits = coordinate_digits(place.to_degrees, place.size)
            degrees = shapely.transform(shape, lambda p, to=place.to_degrees, n=digits: np.round(to(p), n))
            kept = {key: value for key, value in values.items() if value is not None}
            features.append({"type": "Feature", "geometry": geometry.mapping(degrees), "properties": kept})
        return [write_geojson(path, {"type": "FeatureCollection", "features": features})]


def read_gpkg(path: Path, context: Context, notes: Notes) -> Annotations:
    places = _Places(context, str(path))
    images: dict[str, ImageItems] = {}
    with rasters.gdal_environment():
        for where, shape, values, crs in read_layers(path):
            if values.get("part") == "box":
                continue
            name, place = places.find(plain_text(_property(values, "image"), "'image'", where), where)
            items = images.setdefault(name, ImageItems(name, place.size)).items
            items.append(_item(shape, values, place, crs or place.crs, where))
    return Annotations(list(images.values()))


def write_gpkg(path: Path, found: Annotations, context: Context, notes: Notes) -> list[Path]:
    shapely = rasters.optional("shapely")
    by_system: dict[str, list[tuple[Any, dict[str, Any]]]] = {}
    with rasters.gdal_environment():
        for place, shape, values in _features(found, context, path, notes):
            on_map = shapely.transform(shape, place.on_map)
            by_system.setdefault(place.crs, []).append((on_map, values))
        layers = [
            Layer("annotations" if not number else f"annotations_{number + 1}", crs, _COLUMNS, features)
            for number, (crs, features) in enumerate(by_system.items())
        ]
        return [write_geopackage(path, layers)]


def read_kml(path: Path, context: Context, notes: Notes) -> Annotations:
    root = parse_xml(path, MOST_BYTES)
    if root.tag.rpartition("}")[2] != "kml":
        raise DataError(f"{path}: its outermost element is {shown(root.tag)}, not 'kml'; it is no KML file")
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    geometry = rasters.optional("shapely.geometry")
    places = _Places(context, str(path))
    images: dict[str, ImageItems] = {}
    with rasters.gdal_environment():
        for number, mark in enumerate(root.iter("Placemark")):
            where = f"{path}: placemark {number}"
            values: dict[str, Any] = {"name": (mark.findtext("name") or "").strip()}
            for data in mark.iter("Data"):
                values[data.get("name", "")] = (data.findtext("value") or "").strip()
            if values.get("score"):
                values["score"] = element_number(values["score"], where)
            parts = [_kml_polygon(element, where, geometry) for element in mark.iter("Polygon")]
            if not parts:
                notes.add("placemarks without a polygon")
                continue
            name, place = places.find(plain_text(_property(values, "image"), "'image'", where), where)
            shape = geometry.MultiPolygon(parts) if len(parts) > 1 else parts[0]
            items = images.setdefault(name, ImageItems(name, place.size)).items
            items.append(_item(shape, values, place, _DEGREES, where))
    return Annotations(list(images.values()))


def _kml_polygon(element: ElementTree.Element, where: str, geometry: Any) -> Any:
    outer = [_kml_ring(e.text, where) for e in element.findall("outerBoundaryIs/LinearRing/coordinates")]
    inner = [_kml_ring(e.text, where) for e in element.findall("innerBoundaryIs/LinearRing/coordinates")]
    if len(outer) != 1:
        raise RecordError(f"{where}: a polygon has one outer boundary, not {len(outer)}")
    return geometry.Polygon(outer[0], inner)


def _kml_ring(text: str | None, where: str) -> list[tuple[float, float]]:
    points = []
    for part in (text or "").split():
        numbers = part.split(",")
        if len(numbers) not in (2, 3):
            raise RecordError(f"{where}: coordinates are longitude,latitude[,height], not {shown(part)}")
        points.append((element_number(numbers[0], where), element_number(numbers[1], where)))
    if len(points) < 4:
        raise RecordError(f"{where}: a ring has four points or more, the last as the first")
    return points


def write_kml(path: Path, found: Annotations, context: Context, notes: Notes) -> list[Path]:
    shapely = rasters.optional("shapely")
    root = ElementTree.Element("kml", {"xmlns": _KML[1:-1]})
    document = add(root, "Document")
    with rasters.gdal_environment():
        for place, shape, values in _features(found, context, path, notes):
            digits = coordinate_digits(place.to_degrees, place.size)
            degrees = shapely.transform(shape, lambda p, to=place.to_degrees, n=digits: np.round(to(p), n))
            mark = add(document, "Placemark")
            add(mark, "name", values["text"] or values["category"] or "object")
            data = add(mark, "ExtendedData")
            for key, value in values.items():
                if value not in (None, ""):
                    add(add(data, "Data", name=key), "value", value)
            parts = list(getattr(degrees, "geoms", [degrees]))
            parent = add(mark, "MultiGeometry") if len(parts) > 1 else mark
            for part in parts:
                polygon = add(parent, "Polygon")
                for tag, ring in [
                    ("outerBoundaryIs", part.exterior),
                    *(("innerBoundaryIs", r) for r in part.interiors),
                ]:
                    text = " ".join(f"{x:.{digits}f},{y:.{digits}f}" for x, y in np.asarray(ring.coords)[:, :2])
                    add(add(add(polygon, tag), "LinearRing"), "coordinates", text)
    return [write_bytes(path, xml_bytes(root))]


FORMATS = (
    ExchangeFormat(
        "geojson",
        "features in EPSG:4326; needs `--images`, the folder of the rasters, in both directions",
        read_geojson,
        write_geojson_file,
        ".geojson",
        "polygons",
        "property `score`",
        "property `text`",
    ),
    ExchangeFormat(
        "gpkg",
        "GeoPackage, in the coordinate systems of the rasters; needs `--images`",
        read_gpkg,
        write_gpkg,
        ".gpkg",
        "polygons",
        "column `score`",
        "column `text`",
    ),
    ExchangeFormat(
        "kml",
        "KML placemarks; needs `--images`",
        read_kml,
        write_kml,
        ".kml",
        "polygons",
        "data `score`",
        "data `text`",
    ),
)
