"""Readers of annotations of other tools, and of the files beside predictions: calls and benign files."""

from __future__ import annotations

import functools
import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["ENTRIES", "Entry"]


@dataclass(frozen=True)
class Entry:
    """One reader; see `attack.readers.Reader`."""

    name: str
    file: str
    call: Callable[[Path], None]
    seeds: Callable[[], list[bytes]]
    shape: str
    beside: Callable[[], dict[str, bytes]]


def _read(kind: str, place: str) -> Callable[[Path], None]:
    """Read, recognise, and write what was read as three other formats."""

    def call(folder: Path) -> None:
        from mindground.errors import MindGroundError
        from mindground.interchange import Context, read, recognise, write

        context = Context(folder / "images")
        failure = None
        try:
            recognise(folder / place)
        except MindGroundError as error:
            failure = error  # it may still be read where its format is named
        found = read(folder / place, kind, context)
        for into in ("coco", "cvat", "csv"):
            write(folder / "out" / f"made.{into}", found, into, context)
        if failure is not None and found.images:
            raise failure

    return call


@functools.cache
def _written(kind: str, file: str) -> bytes:
    from mindground.interchange import Annotations, Context, ImageItems, Item, write
    from mindground.structures import encode_mask

    mask = np.zeros((20, 30), np.uint8)
    mask[4:9, 5:14] = 1
    outline = encode_mask(mask) if kind in ("sa1b", "coco-results") else [[5.0, 4.0, 14.0, 4.0, 14.0, 9.0]]
    name = "a.tif" if kind in ("geojson", "gpkg", "kml") else "a.png"
    items = [
        Item((5.0, 4.0, 14.0, 9.0), "ship", "the left ship", 0.5, outline),
        Item((1.0, 2.0, 8.0, 9.5), "plane", "船", None, None if kind != "sa1b" else outline),
    ]
    with tempfile.TemporaryDirectory() as folder:
        for beside, content in _images().items():
            target = Path(folder, beside)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        made = Path(folder, "made" if "/" in file else file)
        write(made, Annotations([ImageItems(name, (20, 30), items)]), kind, Context(Path(folder, "images")))
        return (made / file.partition("/")[2] if made.is_dir() else made).read_bytes()


@functools.cache
def _images() -> dict[str, bytes]:
    from attack.seeds import image_files
    from mindground.files.rasters import optional

    rasterio, transform = optional("rasterio"), optional("rasterio.transform")
    with rasterio.MemoryFile() as memory:
        profile = {"driver": "GTiff", "height": 20, "width": 30, "count": 1, "dtype": "uint8", "crs": "EPSG:32633"}
        with memory.open(transform=transform.from_origin(500000, 5000000, 1, 1), **profile) as file:
            file.write(np.zeros((1, 20, 30), np.uint8))
        return {"images/a.tif": memory.read(), **image_files("images/")}


def _entry(name: str, kind: str, file: str, shape: str, place: str = "") -> Entry:
    where = place or file

    def beside() -> dict[str, bytes]:
        others = {"made/classes.txt": b"ship\nplane\n"} if kind.startswith("yolo") and "classes" not in file else {}
        if kind.startswith("yolo") and not file.startswith("made/labels"):
            others["made/labels/a.txt"] = _written(kind, "made/labels/a.txt")
        return {**_images(), **others}

    return Entry(name, file, _read(kind, where), lambda: [_written(kind, file)], shape, beside)


def _sentences(folder: Path) -> None:
    from mindground.data.sentence_files import read_sentences

    read_sentences(folder / "s.csv")


def _journal(folder: Path) -> None:
    from mindground.inference.journal import TileJournal

    TileJournal(folder, "s", "k", {0: (20, 30), 1: (20, 30)}, 1).known()


def _scene(folder: Path) -> None:
    from mindground.files.scenes import ground_sample_distance, open_scene

    with open_scene(folder / "s.tif") as scene:
        ground_sample_distance(scene.place, scene.size)
        height, width = min(scene.size[0], 500), min(scene.size[1], 500)
        scene.read(0, 0, width, height)


def _journal_seed() -> list[bytes]:
    found = {"box": [1, 2, 9, 8], "score": 0.5, "label": 1, "mask": {"size": [20, 30], "counts": [10, 20, 570]}}
    lines = [{"mindground_tiles": 1, "key": "k"}, {"tile": 0, "answers": [[found]]}, {"tile": 1, "answers": [[]]}]
    stream = io.StringIO()
    for line in lines:
        stream.write(json.dumps(line) + "\n")
    return [stream.getvalue().encode()]


def _rasters() -> list[bytes]:
    from attack.seeds import rasters

    return rasters()


def _nothing() -> dict[str, bytes]:
    return {}


ENTRIES = (
    _entry("results", "coco-results", "r.json", "json"),
    _entry("sa1b", "sa1b", "made/a.json", "json", "made"),
    _entry("yolo", "yolo", "made/labels/a.txt", "text", "made"),
    _entry("yolo_seg", "yolo-seg", "made/labels/a.txt", "text", "made"),
    _entry("yolo_names", "yolo", "made/data.yaml", "yaml", "made"),
    _entry("yolo_sentences", "yolo", "made/sentences.json", "json", "made"),
    _entry("voc", "voc", "made/a.xml", "xml", "made"),
    _entry("cvat", "cvat", "c.xml", "xml"),
    _entry("labelme", "labelme", "made/a.json", "json", "made"),
    _entry("label_studio", "label-studio", "l.json", "json"),
    _entry("geojson", "geojson", "g.geojson", "json"),
    _entry("gpkg", "gpkg", "g.gpkg", "bytes"),
    _entry("kml", "kml", "g.kml", "xml"),
    _entry("csv", "csv", "t.csv", "text"),
    Entry("sentences", "s.csv", _sentences, lambda: [b"sentence,x\nthe ship,1\nthe plane,2\n"], "text", _nothing),
    Entry("journal", "s.tiles.jsonl", _journal, _journal_seed, "lines", _nothing),
    Entry("scene", "s.tif", _scene, _rasters, "bytes", _nothing),
)
