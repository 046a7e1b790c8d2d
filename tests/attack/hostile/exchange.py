"""Annotations of other tools: values of other types at every place, XML that expands, GeoPackages that compute."""

from __future__ import annotations

import json
import sqlite3
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

from attack.hostile.case import Case, either, refused
from attack.hostile.datasets import OTHERS, places, replaced
from attack.readers import READERS
from attack.seeds import as_json

__all__ = ["cases"]

_JSON = ("results", "sa1b", "labelme", "label_studio", "geojson", "yolo_sentences")
_ENTITIES = (
    b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;&x;&x;&x;&x;&x;&x;">]><a>&y;</a>',
    b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
)


def cases() -> Iterator[Case]:
    """All of them."""
    for name in _JSON:
        reader = f"exchange_{name}"
        tree = json.loads(READERS[reader].seeds()[0])
        for path in places(tree):
            place = ".".join(map(str, path))
            for kind, value in OTHERS.items():
                yield either(f"{place} is {kind}", reader, as_json(replaced(tree, path, value)))
        for kind, value in OTHERS.items():
            yield either(f"all of it is {kind}", reader, as_json(value))
        yield either("a million brackets", reader, b"[" * 1_000_000)
    for name in ("voc", "cvat", "kml"):
        for number, data in enumerate(_ENTITIES):
            yield refused(f"entities {number}", f"exchange_{name}", data)
        yield either("100000 levels", f"exchange_{name}", b"<a>" * 100_000 + b"</a>" * 100_000)
    for name, data in _texts().items():
        yield either(f"text: {name}", "exchange_csv", data)
        yield either(f"text: {name}", "exchange_yolo", data)
        yield either(f"text: {name}", "exchange_yolo_seg", data)
        yield either(f"text: {name}", "exchange_sentences", data)
    for name, data in {**_texts(), **_names()}.items():
        yield either(f"names: {name}", "exchange_yolo_names", data)
        yield either(f"lines: {name}", "exchange_journal", data)
        yield either(f"scene: {name}", "exchange_scene", data)
    for side in (65_000, 2**31 - 1):
        yield either(f"scene: a header of {side} pixels a side", "exchange_scene", _header(side))
    for name, script in _databases().items():
        yield either(f"database: {name}", "exchange_gpkg", _database(script))


def _texts() -> dict[str, bytes]:
    return {
        "empty": b"",
        "a NUL": b"image,left\0,top\n",
        "no UTF-8": b"\xff\xfe\xfd",
        "a cell of 1 MB": b"image,left,top,right,bottom\n" + b"a" * 1_000_000 + b",1,2,3,4\n",
        "an open quote": b'image,left,top,right,bottom\n"a,1,2,3,4\n',
        "numbers of 5000 digits": b"image,left,top,right,bottom\na.png," + b"9" * 5000 + b",2,3,4\n",
        "words for numbers": b"image,left,top,right,bottom\na.png,nan,inf,1e999,-1\n",
        "yolo nan": b"0 nan nan nan nan\n",
        "yolo 1e308": b"0 1e308 1e308 1e308 1e308\n",
        "yolo class of 400 digits": b"9" * 400 + b" 0.5 0.5 0.1 0.1\n",
        "yolo line of 1 MB": b"0 " + b"0.5 " * 250_000 + b"\n",
        "mask of other kinds": b'image,left,top,right,bottom,mask\na.png,1,2,3,4,"{""size"":[9,9]}"\n',
        "image /dev/zero": b"image,left,top,right,bottom\n/dev/zero,1,2,3,4\n",
        "image upward": b"image,left,top,right,bottom\n../../../../etc/passwd,1,2,3,4\n",
        "100000 lines": b"0 0.5 0.5 0.1 0.1\n" * 100_000,
    }


def _names() -> dict[str, bytes]:
    laughs = b"a: &a [x,x,x,x,x,x,x,x,x]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        laughs += f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n".encode()
    return {
        "lists of lists of lists": laughs + b"names: *i\n",
        "a million brackets": b"names: " + b"[" * 1_000_000,
        "names of lists": b"names: [[1], {a: 1}]\n",
        "numbers of text": b"names: {a: ship}\n",
        "control characters": b'names: ["\\e[2J"]\n',
        "key and a tile": b'{"mindground_tiles": 1, "key": "k"}\n' + b'{"tile": 0, "answers": ' + b"[" * 200_000,
        "key and damage": b'{"mindground_tiles": 1, "key": "k"}\n{"tile": [], "answers": {}}\n',
        "key and a mask": b'{"mindground_tiles": 1, "key": "k"}\n{"tile": 0, "answers": [[{"box": [1, 2, 3, 4], '
        b'"score": 1, "label": 1, "mask": {"size": [20, 30], "counts": "oooo"}}]]}\n',
    }


def _header(side: int) -> bytes:
    """A TIFF of one byte a pixel that claims a size and holds nothing."""
    tags = [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]
    tags += [(322, 4, 1, 512), (323, 4, 1, 512), (324, 4, 1, 0), (325, 4, 1, 0)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


_ENDLESS = "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r) SELECT i AS fid, i AS geom FROM r"
_HEAD = """
CREATE TABLE gpkg_spatial_ref_sys (srs_name, srs_id, organization, organization_coordsys_id, definition, description);
CREATE TABLE gpkg_geometry_columns (table_name, column_name, geometry_type_name, srs_id, z, m);
"""


def _databases() -> dict[str, str]:
    known = f"{_HEAD} INSERT INTO gpkg_geometry_columns VALUES ('t', 'geom', 'GEOMETRY', 0, 0, 0);"
    return {
        "no tables": "CREATE TABLE x (a);",
        "an endless view for a table": f"{known} CREATE VIEW t AS {_ENDLESS};",
        "an endless view of the columns": "CREATE TABLE gpkg_spatial_ref_sys (a); CREATE VIEW gpkg_geometry_columns AS "
        f"{_ENDLESS};",
        "a table that is missing": known,
        "a geometry of text": f"{known} CREATE TABLE t (geom); INSERT INTO t VALUES ('x');",
        "a short geometry": f"{known} CREATE TABLE t (geom); INSERT INTO t VALUES (x'4750');",
        "a geometry of zeros": f"{known} CREATE TABLE t (geom); INSERT INTO t VALUES (x'47500001' || zeroblob(400));",
        "a name with quotes": f"{_HEAD} INSERT INTO gpkg_geometry_columns VALUES ('a\"; DROP', 'geom', 'x', 0, 0, 0);",
        "no such system": f"{_HEAD} INSERT INTO gpkg_geometry_columns VALUES ('t', 'geom', 'x', 7, 0, 0);"
        "CREATE TABLE t (geom);",
        "a system of 1 MB": f"{_HEAD} INSERT INTO gpkg_geometry_columns VALUES ('t', 'geom', 'x', 7, 0, 0);"
        "CREATE TABLE t (geom); INSERT INTO gpkg_spatial_ref_sys VALUES ('x', 7, 'x', 7, hex(zeroblob(500000)), '');",
        "a column that computes": f"{known} CREATE TABLE t (a, geom GENERATED ALWAYS AS (hex(zeroblob(a))) VIRTUAL);"
        "INSERT INTO t (a) VALUES (400000000);",
    }


def _database(script: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "made.gpkg")
        database = sqlite3.connect(place)
        database.executescript(script)
        database.commit()
        database.close()
        return place.read_bytes()
