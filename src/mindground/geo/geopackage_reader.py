"""Features of GeoPackages of others: SQLite, opened so that nothing in the file runs and nothing is written.

Tables alone are read, never views or triggers, whose text is code; the file is opened as one that does not change, so
that no journal beside it is looked at; the work of every statement is bounded.
"""

from __future__ import annotations

import re
import sqlite3
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from mindground.errors import DataError, one_line, shown
from mindground.files.rasters import optional
from mindground.files.regular import check_regular

__all__ = ["read_layers"]

_MAGIC = b"SQLite format 3\0"
_NAME = re.compile(r"[^\x00-\x1f\"]{1,200}")
_ENVELOPES = (0, 32, 48, 48, 64)
_STEPS, _MOST_STEPS = 10_000, 200_000
"""Virtual machine steps between two looks at the clock of a statement, and how many looks it has."""
_MOST_BLOB = 64 << 20
_MOST_DEFINITION = 100_000


def read_layers(path: Path) -> Iterator[tuple[str, Any, Mapping[str, Any], str]]:
    """Every feature of every table of features: file and feature, shape, its columns, and its system as WKT.

    Raises:
        DataError: no GeoPackage, or a damaged one. GeoError: the extra `geo` is missing.
    """
    check_regular(path, limit=None)
    with path.open("rb") as file:
        if file.read(16) != _MAGIC:
            raise DataError(f"{path}: is no GeoPackage; name a .gpkg file")
    optional("shapely")
    address = f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1"
    try:
        database = sqlite3.connect(address, uri=True)
    except sqlite3.Error as error:
        raise DataError(f"{path}: cannot be opened ({one_line(error)})") from error
    try:
        yield from _layers(database, path)
    except (sqlite3.Error, UnicodeDecodeError, struct.error, OverflowError) as error:
        raise DataError(f"{path}: is damaged, or no GeoPackage ({one_line(error)}); export it again") from error
    finally:
        database.close()


def _layers(database: sqlite3.Connection, path: Path) -> Iterator[tuple[str, Any, Mapping[str, Any], str]]:
    left = [_MOST_STEPS]

    def spent() -> bool:
        left[0] -= 1
        return left[0] < 0

    if hasattr(database, "setlimit"):  # since Python 3.11
        database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_BLOB)
    database.set_progress_handler(spent, _STEPS)
    for pragma in ("trusted_schema = OFF", "query_only = ON", "cell_size_check = ON"):
        database.execute(f"PRAGMA {pragma}")
    tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    for needed in ("gpkg_geometry_columns", "gpkg_spatial_ref_sys"):
        if needed not in tables:
            raise DataError(f"{path}: has no table {needed}; it is no GeoPackage with features")
    columns = database.execute("SELECT table_name, column_name, srs_id FROM gpkg_geometry_columns").fetchall()
    for table, column, system in columns:
        if table not in tables or not isinstance(column, str) or not _NAME.fullmatch(str(table)):
            raise DataError(f"{path}: names the table {shown(table)}, which it has not")
        yield from _features(database, path, table, column, _definition(database, path, system))


def _definition(database: sqlite3.Connection, path: Path, system: Any) -> str:
    if system in (0, -1):
        return ""
    row = database.execute("SELECT definition FROM gpkg_spatial_ref_sys WHERE srs_id = ?", (system,)).fetchone()
    if row is None or not isinstance(row[0], str) or len(row[0]) > _MOST_DEFINITION:
        raise DataError(f"{path}: does not describe its coordinate system {shown(system)}")
    return "" if row[0] == "undefined" else row[0]


def _features(
    database: sqlite3.Connection, path: Path, table: str, column: str, crs: str
) -> Iterator[tuple[str, Any, Mapping[str, Any], str]]:
    # Columns that are stored: a generated one is an expression, which the file's author chose.
    listed = database.execute(f'PRAGMA table_xinfo("{table}")').fetchall()
    names = [str(entry[1]) for entry in listed if entry[6] == 0 and _NAME.fullmatch(str(entry[1]))]
    if column not in names:
        raise DataError(f"{path}: the table {shown(table)} has no column {shown(column)}")
    wanted = ", ".join(f'"{name}"' for name in names)
    cursor = database.execute(f'SELECT {wanted} FROM "{table}"')
    for number, row in enumerate(cursor):
        values = dict(zip(names, row, strict=True))
        blob = values.pop(column)
        where = f"{path}: {shown(table)}, feature {number}"
        if blob is not None:
            plain = {key: value for key, value in values.items() if isinstance(value, (str, int, float))}
            yield where, _shape(blob, where), plain, crs


def _shape(blob: Any, where: str) -> Any:
    """The shape of a blob: a header, an envelope, then WKB. Raises DataError."""
    if not isinstance(blob, bytes) or blob[:2] != b"GP" or len(blob) < 9 or len(blob) > _MOST_BLOB:
        raise DataError(f"{where}: its geometry is none of a GeoPackage")
    kind = (blob[3] >> 1) & 7
    if kind >= len(_ENVELOPES):
        raise DataError(f"{where}: its geometry has an envelope of an unknown kind")
    shapely = optional("shapely")
    try:
        shape = shapely.from_wkb(blob[8 + _ENVELOPES[kind] :])
        finite = np.isfinite(shapely.get_coordinates(shape)).all()
    except Exception as error:  # shapely raises what its parts raise
        raise DataError(f"{where}: its geometry is damaged ({one_line(error)})") from error
    if not finite:
        raise DataError(f"{where}: its geometry holds a coordinate that is not finite")
    return shape
