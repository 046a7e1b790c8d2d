"""Annotations through every format and back: what is read is what was written, and gives the same file again."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mindground.errors import MindGroundError
from mindground.interchange import FORMATS, Annotations, Context, ImageItems, Item, read, recognise, write
from mindground.interchange.model import Notes
from mindground.structures import decode_segmentation, outline_box

ON_EARTH = ("geojson", "gpkg", "kml")
SIZE = (160, 200)
RASTERS = ("north.tif", "turned.tif")

# Letters of any script, and what formats treat with care; characters that XML has not are refused by it (see below).
WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn", "Co"), exclude_characters="￾￿"),
    max_size=24,
).map(lambda text: " ".join(text.split()))
NAMES = WORDS.filter(lambda text: text != "").map(lambda text: text if not text.isdecimal() else f"n{text}")
QUARTERS = st.integers(0, 4 * min(SIZE) - 4).map(lambda n: n / 4)


@st.composite
def boxes(draw: Any) -> tuple[float, float, float, float]:
    left, top = draw(QUARTERS), draw(QUARTERS)
    right = draw(st.integers(int(left * 4) + 1, 4 * SIZE[1])) / 4
    bottom = draw(st.integers(int(top * 4) + 1, 4 * SIZE[0])) / 4
    return left, top, right, bottom


@st.composite
def triangles(draw: Any) -> list[float]:
    """A polygon that encloses pixels: its corners do not lie on one line."""
    left, top, right, bottom = draw(boxes())
    across = draw(st.sampled_from([left, (left + right) / 2, right]))
    return [left, bottom, across, top, right, bottom]


@st.composite
def items(draw: Any, kind: str) -> Item:
    outline = [draw(triangles())] if draw(st.booleans()) else None
    box = draw(boxes())
    if outline is not None:
        around = outline_box(outline)
        assert around is not None
        box = (around[0], around[1], around[2], around[3])
    score = draw(st.none() | st.integers(0, 1000).map(lambda n: n / 1000))
    return Item(box, draw(NAMES), draw(WORDS), score, outline)


@st.composite
def annotations(draw: Any, kind: str) -> Annotations:
    count = draw(st.integers(1, 3))
    names = list(RASTERS[:count]) if kind in ON_EARTH else [f"s{n}/image {n}.jpg" for n in range(count)]
    if kind == "coco-results":
        names = [str(n + 1) for n in range(count)]
    least = 1 if kind in (*ON_EARTH, "coco-results") else 0
    size = None if kind == "coco-results" else SIZE
    found = [ImageItems(name, size, draw(st.lists(items(kind), min_size=least, max_size=4))) for name in names]
    return Annotations(found)


@pytest.fixture(scope="module")
def rasters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rasterio = pytest.importorskip("rasterio")
    affine = pytest.importorskip("rasterio.transform").Affine
    folder = tmp_path_factory.mktemp("rasters")
    places = (affine(0.5, 0, 500000, 0, -0.5, 5000000), affine(0.3, 0.4, 500000, 0.4, -0.3, 5000000))
    for name, place in zip(RASTERS, places, strict=True):
        profile = {"driver": "GTiff", "height": SIZE[0], "width": SIZE[1], "count": 1, "dtype": "uint8"}
        with rasterio.open(folder / name, "w", crs="EPSG:32633", transform=place, **profile) as file:
            file.write(np.zeros((1, *SIZE), np.uint8))
    return folder


def adapted(found: Annotations, kind: str) -> Annotations:
    """What a format can say of annotations."""
    masks, scores = bool(FORMATS[kind].masks), bool(FORMATS[kind].scores)
    asking = all(item.sentence for image in found.images for item in image.items)
    made = []
    for image in found.images:
        kept = []
        for item in image.items:
            if kind == "sa1b" and item.outline is None:
                continue
            sentence = item.sentence if kind != "jsonl" or asking else ""
            score = item.score if scores else None
            if kind == "coco-results":
                score = 1.0 if score is None else score
            kept.append(Item(item.box, item.category, sentence, score, item.outline if masks else None))
        made.append(ImageItems(image.name, image.size, kept))
    return Annotations([image for image in made if image.items or not _drops_empty(kind, asking, made)])


def _drops_empty(kind: str, asking: bool, made: list[ImageItems]) -> bool:
    return kind == "jsonl" and asking and any(image.items for image in made)


def same(one: Annotations, other: Annotations, kind: str) -> None:
    near = 0.05 if kind in ON_EARTH else 1e-5
    assert [image.name for image in one.images] == [image.name for image in other.images]
    for a, b in zip(one.images, other.images, strict=True):
        assert len(a.items) == len(b.items)
        if kind != "coco-results":
            assert a.size == b.size or (b.size is None and not b.items)
        for first, second in zip(a.items, b.items, strict=True):
            assert np.allclose(first.box, second.box, atol=near)
            if kind == "coco-results":
                assert second.category.isdecimal()
            else:
                assert first.category == second.category
            assert first.sentence == second.sentence
            assert first.score == pytest.approx(second.score, abs=1e-9)
            if kind in ON_EARTH:
                assert (first.outline is None) == (second.outline is None) or _is_rectangle(first.outline)
            else:
                assert (first.outline is None) == (second.outline is None)
            if first.outline is not None and second.outline is not None:
                _same_outline(first.outline, second.outline, near)


def _same_outline(first: Any, second: Any, near: float) -> None:
    """Run lengths hold the same pixels as the polygon; of two polygons the areas differ by a thin edge at most."""
    if isinstance(first, dict) or isinstance(second, dict):
        assert (decode_segmentation(first, SIZE) == decode_segmentation(second, SIZE)).all()
        return
    shapely = pytest.importorskip("shapely")
    one, other = (shapely.Polygon(np.reshape(outline[0], (-1, 2))).buffer(0) for outline in (first, second))
    assert one.symmetric_difference(other).area <= near * one.length + 1e-6


def _is_rectangle(outline: Any) -> bool:
    return outline is not None and len(outline[0]) == 8


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_there_and_back(kind: str, rasters: Path) -> None:
    if kind in ON_EARTH:
        pytest.importorskip("shapely")
    context = Context(rasters if kind in ON_EARTH else None)

    @settings(
        max_examples=12,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
        phases=(Phase.explicit, Phase.generate),
    )
    @given(annotations(kind))
    def check(found: Annotations) -> None:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder, "first", f"made{FORMATS[kind].suffix}" if FORMATS[kind].suffix else "made")
            again = Path(folder, "second", target.name)
            write(target, found, kind, context)
            if kind != "label-studio-predictions" and any(image.items for image in found.images):
                assert recognise(target) in (kind, "yolo")
            try:
                back = read(target, kind, context)
            except MindGroundError as error:
                assert kind == "sa1b" and "no .json" in str(error)
                return
            same(adapted(found, kind), back, kind)
            # The other way round: what was read is written as the same files, where coordinates are not rounded.
            write(again, back, kind, context)
            if kind not in (*ON_EARTH, "yolo", "yolo-seg", "label-studio", "label-studio-predictions"):
                assert content(target.parent) == content(again.parent)
            same(adapted(back, kind), read(again, kind, context), kind)

    check()


def test_what_cannot_be_said_is_told() -> None:
    mask = [[1.0, 1.0, 9.0, 1.0, 9.0, 9.0]]
    found = Annotations([ImageItems("a.jpg", (20, 30), [Item((1, 1, 9, 9), "ship", "the ship", 0.5, mask)])])
    with tempfile.TemporaryDirectory() as folder:
        notes = Notes()
        write(Path(folder, "voc"), found, "voc", notes=notes)
        write(Path(folder, "all.jsonl"), found, "jsonl", notes=notes)
    assert notes.lines() == [
        "left out: 1 masks (Pascal VOC has boxes alone)",
        "left out: 1 scores (JSON lines hold the truth)",
    ]


def test_parts_and_holes_keep_their_pixels() -> None:
    ring = np.zeros((40, 50), np.uint8)
    ring[5:20, 5:20] = 1
    ring[9:13, 9:13] = 0
    ring[25:30, 30:45] = 1
    from mindground.structures import encode_mask

    outline = encode_mask(ring)
    box = outline_box(outline)
    assert box is not None
    item = Item((box[0], box[1], box[2], box[3]), "ship", "both parts", None, outline)
    found = Annotations([ImageItems("a.jpg", (40, 50), [item])])
    for kind in ("coco", "yolo-seg", "labelme", "cvat", "label-studio", "sa1b", "csv", "jsonl", "coco-results"):
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder, f"made{FORMATS[kind].suffix}")
            write(target, found, kind)
            back = read(target, kind).images[0].items[0].outline
            different = decode_segmentation(back, (40, 50)) != ring
            assert different.sum() <= (4 if kind in ("yolo-seg", "label-studio") else 0), kind
