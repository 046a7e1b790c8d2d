"""Vector features as GeoPackage, in the coordinate system of their raster; written with SQLite alone."""

from __future__ import annotations

import sqlite3
import struct
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindground.errors import GeoError, one_line, printable
from mindground.files.atomic import write_bytes
from mindground.files.rasters import gdal_environment, optional

__all__ = ["Layer", "write_geopackage"]

_APPLICATION_ID, _VERSION = 0x47504B47, 10300
_UNKNOWN_CARTESIAN = -1
_OWN_SYSTEM = 100_000
_TYPES = {int: "INTEGER", float: "REAL", str: "TEXT"}
_WGS84 = (
    'GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],PRIMEM["Greenwich",0],'
    'UNIT["degree",0.0174532925199433],AUTHORITY["EPSG","4326"]]'
)
_SCHEMA = """
CREATE TABLE gpkg_spatial_ref_sys (srs_name TEXT NOT NULL, srs_id INTEGER NOT NULL PRIMARY KEY,
  organization TEXT NOT NULL, organization_coordsys_id INTEGER NOT NULL, definition TEXT NOT NULL, description TEXT);
CREATE TABLE gpkg_contents (table_name TEXT NOT NULL PRIMARY KEY, data_type TEXT NOT NULL, identifier TEXT UNIQUE,
  description TEXT DEFAULT '', last_change DATETIME NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
  min_x DOUBLE, min_y DOUBLE, max_x DOUBLE, max_y DOUBLE, srs_id INTEGER,
  CONSTRAINT fk_gc_r_srs_id FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys(srs_id));
CREATE TABLE gpkg_geometry_columns (table_name TEXT NOT NULL, column_name TEXT NOT NULL,
  geometry_type_name TEXT NOT NULL, srs_id INTEGER NOT NULL, z TINYINT NOT NULL, m TINYINT NOT NULL,
  CONSTRAINT pk_geom_cols PRIMARY KEY (table_name, column_name),
  CONSTRAINT fk_gc_tn FOREIGN KEY (table_name) REFERENCES gpkg_contents(table_name),
  CONSTRAINT fk_gc_srs FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys(srs_id));
"""


@dataclass(frozen=True)
class Layer:
    """Features of one coordinate system.

    Attributes:
        name: of the table: letters, digits and underscores.
        crs: WKT, or empty.
        columns: name -> int, float or str.
        features: (shape in units of `crs`, a value or None for every column).
    """

    name: str
    crs: str
    columns: Mapping[str, type]
    features: Sequence[tuple[Any, Mapping[str, Any]]]


def write_geopackage(path: str | Path, layers: Sequence[Layer]) -> Path:
    """Write a GeoPackage and return its path.

    Raises:
        GeoError: a coordinate system that cannot be described, or the extra `geo` is missing.
        WriteError: the file cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="mindground") as folder:
        place = Path(folder, "made.gpkg")
        database = sqlite3.connect(place)
        try:
            with database:
                _fill(database, layers, printable(path, 300))
        finally:
            database.close()
        return write_bytes(path, place.read_bytes())


def _fill(database: sqlite3.Connection, layers: Sequence[Layer], name: str) -> None:
    database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    database.execute(f"PRAGMA user_version = {_VERSION}")
    database.executescript(_SCHEMA)
    systems = [
        ("Undefined Cartesian", -1, "NONE", -1, "undefined", "undefined Cartesian coordinate reference system"),
        ("Undefined geographic", 0, "NONE", 0, "undefined", "undefined geographic coordinate reference system"),
        ("WGS 84 geodetic", 4326, "EPSG", 4326, _WGS84, "longitude/latitude on the WGS 84 ellipsoid"),
    ]
    database.executemany("INSERT INTO gpkg_spatial_ref_sys VALUES (?, ?, ?, ?, ?, ?)", systems)
    known: dict[str, int] = {}
    for layer in layers:
        if layer.crs not in known:
            known[layer.crs] = _system(database, layer.crs, len(known), name)
        _layer(database, layer, known[layer.crs])


def _system(database: sqlite3.Connection, crs: str, count: int, name: str) -> int:
    """The number of a coordinate system, which is noted where it is not yet."""
    if not crs:
        return _UNKNOWN_CARTESIAN
    with gdal_environment():
        try:
            made = optional("rasterio.crs").CRS.from_wkt(crs)
            number, text = made.to_epsg(), _definition(made)
        except GeoError:
            raise
        except Exception as error:  # errors of PROJ come in several classes
            raise GeoError(f"{name}: the coordinate system cannot be written ({one_line(error)})") from error
    organization, identity = ("EPSG", int(number)) if number else ("NONE", _OWN_SYSTEM + count)
    title = text.split('"')[1] if '"' in text else "coordinate system of the raster"
    database.execute(
        "INSERT OR IGNORE INTO gpkg_spatial_ref_sys VALUES (?, ?, ?, ?, ?, ?)",
        (title, identity, organization, identity, text, None),
    )
    return identity


def _definition(crs: Any) -> str:
    try:
        return str(crs.to_wkt(version="WKT1_GDAL"))
    except Exception:  # a system that the older form cannot say
        return str(crs.to_wkt())


def _layer(database: sqlite3.Connection, layer: Layer, system: int) -> None:
    columns = "".join(f', "{column}" {_TYPES[kind]}' for column, kind in layer.columns.items())
    database.execute(f'CREATE TABLE "{layer.name}" (fid INTEGER PRIMARY KEY AUTOINCREMENT, geom GEOMETRY{columns})')
    boxes = [shape.bounds for shape, _ in layer.features if shape is not None and not shape.is_empty]
    extent = (
        [min(box[0] for box in boxes), min(box[1] for box in boxes)]
        + [max(box[2] for box in boxes), max(box[3] for box in boxes)]
        if boxes
        else [None] * 4
    )
    database.execute(
        "INSERT INTO gpkg_contents (table_name, data_type, identifier, min_x, min_y, max_x, max_y, srs_id) "
        "VALUES (?, 'features', ?, ?, ?, ?, ?, ?)",
        (layer.name, layer.name, *extent, system),
    )
    database.execute("INSERT INTO gpkg_geometry_columns VALUES (?, 'geom', 'GEOMETRY', ?, 0, 0)", (layer.name, system))
    marks = ", ".join("?" * (1 + len(layer.columns)))
    names = "".join(f', "{column}"' for column in layer.columns)
    database.executemany(
        f'INSERT INTO "{layer.name}" (geom{names}) VALUES ({marks})',
        [(_blob(shape, system), *(row.get(column) for column in layer.columns)) for shape, row in layer.features],
    )


def _blob(shape: Any, system: int) -> bytes | None:
    """A shape in the binary form of GeoPackage: a header with its extent, then little-endian WKB."""
    if shape is None:
        return None
    west, south, east, north = shape.bounds
    # Flags: little-endian, with an extent of x and y.
    header = struct.pack("<2sBBi4d", b"GP", 0, 0b11, system, west, east, south, north)
    return header + optional("shapely").to_wkb(shape, byte_order=1)
