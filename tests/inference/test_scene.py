"""Scenes of any size: the same answer for any grid of tiles, words of the whole scene, memory, kills, ranks."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import ROOT, clean_environment
from inference.fake_scene import blobs, boxes_only, detector, referring
from mindground.errors import ConfigError, GeoError, ImageError
from mindground.files.scenes import Georeference, array_scene, ground_sample_distance, open_scene
from mindground.inference.journal import TileJournal
from mindground.inference.scene import SceneAnswer, ask_scene
from mindground.inference.scene_files import Cut, predict_scenes, scene_threshold, tiling_of
from mindground.inference.tiles import Tiling
from mindground.structures import decode_segmentation


def as_set(answer: SceneAnswer) -> set[tuple[Any, ...]]:
    """An answer without its order: box, score, label and mask of every object."""
    found = set()
    for index, box in enumerate(answer.boxes_xyxy):
        mask = ()
        if answer.regions:
            region = answer.regions[index]
            mask = (tuple(region.starts.tolist()), tuple(region.ends.tolist()))
        found.add((*box.tolist(), float(answer.scores[index]), int(answer.labels[index]), mask))
    return found


def wkt(code: int) -> str:
    return str(pytest.importorskip("rasterio.crs").CRS.from_epsg(code).to_wkt())


def write_tiff(path: Path, data: np.ndarray, **profile: Any) -> Path:
    rasterio = pytest.importorskip("rasterio")
    transform = pytest.importorskip("rasterio.transform").from_origin(500000, 5000000, 2, 2)
    bands, height, width = data.shape
    given = {"crs": "EPSG:32633", "transform": transform, "dtype": data.dtype} | profile
    with rasterio.open(path, "w", driver="GTiff", height=height, width=width, count=bands, **given) as file:
        file.write(data)
    return path


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ask", [detector, boxes_only])
def test_any_grid_gives_what_the_whole_scene_gives(seed: int, ask: Callable[..., Any]) -> None:
    # Without masks the pieces of a slanting object have boxes that say little, so those scenes hold upright ones.
    pixels = blobs(seed, (330, 410), 40, 200, round_ones=ask is detector)
    whole = ask(pixels, None)
    scene = array_scene(pixels)
    (truth,) = ask_scene(ask, scene, [], Tiling(512))
    assert len(truth) == len(whole) >= 5
    wanted = as_set(truth)
    rng = np.random.default_rng(seed)
    for _ in range(4):
        tile, overlap = int(rng.integers(64, 200)), float(rng.uniform(0.15, 0.6))
        offset = (int(rng.integers(0, 200)), int(rng.integers(0, 200)))
        (answer,) = ask_scene(ask, scene, [], Tiling(tile, overlap, offset))
        assert as_set(answer) == wanted, (tile, overlap, offset)


def test_one_tile_is_the_plain_answer() -> None:
    pixels = blobs(1, (90, 100), 12, 40)
    plain = detector(pixels, None)
    (answer,) = ask_scene(detector, array_scene(pixels), [], Tiling(128))
    again = answer.to_prediction()
    order = sorted(range(len(plain)), key=lambda index: again_key(plain, index))
    same = sorted(range(len(again)), key=lambda index: again_key(again, index))
    assert np.array_equal(plain.boxes_xyxy[order], again.boxes_xyxy[same])
    assert [plain.masks[i] for i in order] == [again.masks[i] for i in same]


def again_key(found: Any, index: int) -> tuple[float, ...]:
    return tuple(found.boxes_xyxy[index].tolist())


def test_tiles_cover_and_are_whole() -> None:
    for size in ((50, 70), (300, 64), (257, 513)):
        for offset in ((0, 0), (17, 40)):
            seen = np.zeros(size, int)
            tiles = Tiling(64, 0.25, offset).tiles(size)
            for tile in tiles:
                assert (tile.right - tile.left, tile.bottom - tile.top) == (min(64, size[1]), min(64, size[0]))
                seen[tile.top : tile.bottom, tile.left : tile.right] += 1
            assert seen.min() >= 1 and [tile.number for tile in tiles] == list(range(len(tiles)))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Tiling(4), "a tile of 4 pixels"),
        (lambda: Tiling(64, 0.0), "an overlap of 0"),
        (lambda: Tiling(16, 0.9).tiles((100_000, 100_000)), "tiles, more than"),
    ],
)
def test_tilings_that_are_refused(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make()


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("the northernmost ship", 0),
        ("the ship on the far left", 1),
        ("the bottommost ship", 2),
        ("the largest ship", 1),
        ("the smallest ship", 2),
        ("the ship in the middle", 3),
        ("最右的船", 2),
    ],
)
def test_words_of_the_scene_are_decided_after_merging(text: str, index: int) -> None:
    pixels = np.zeros((300, 300, 3), np.uint8)
    boxes = [(200, 10, 215, 20), (10, 120, 50, 150), (270, 270, 276, 280), (140, 150, 155, 160)]
    for number, (left, top, right, bottom) in enumerate(boxes):
        pixels[top:bottom, left:right] = (1, 200 + 10 * number, 0)
    scene = array_scene(pixels)
    for tile in (64, 100):
        if tile == 320:
            continue  # a single tile holds all four, and this network gives its surest alone
        chosen, every = ask_scene(
            referring, scene, [text, "the ship left of the pier"], Tiling(tile, 0.4), min_score=0.5
        )
        assert chosen.boxes_xyxy.tolist() == [list(map(float, boxes[index]))] and chosen.decided
        assert chosen.extras["candidates"] == 4
        assert len(every) == 4 and not every.decided


def test_north_follows_the_georeference() -> None:
    pixels = np.zeros((200, 200, 3), np.uint8)
    pixels[10:20, 90:100] = pixels[180:190, 90:100] = (1, 200, 0)
    south_up = Georeference((1.0, 0.0, 0.0, 0.0, 1.0, 0.0), wkt(32633))
    scene = array_scene(pixels)
    for place, row in ((None, 10), (south_up, 180)):
        placed = type(scene)(scene.name, scene.size, scene.read, place)
        (answer,) = ask_scene(referring, placed, ["the northernmost ship"], Tiling(64), min_score=0.5)
        assert answer.boxes_xyxy[0, 1] == row


def test_threshold_of_sentences() -> None:
    assert scene_threshold(None, 9, asks=True, scored=True) == 0.5
    assert scene_threshold(0.2, 9, asks=True, scored=True) == 0.2
    for few in ({"tiles": 1, "asks": True, "scored": True}, {"tiles": 9, "asks": False, "scored": True}):
        assert scene_threshold(None, few["tiles"], asks=bool(few["asks"]), scored=True) == 0


def test_windows_are_what_the_whole_raster_is(tmp_path: Path) -> None:
    from mindground.files.rasters import read_geotiff

    rng = np.random.default_rng(0)
    deep = rng.integers(100, 3000, (4, 150, 170)).astype(np.uint16)
    deep[:, :20] = 0
    tiled = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    cases = [
        write_tiff(tmp_path / "deep.tif", deep, nodata=0),
        write_tiff(tmp_path / "tiled.tif", rng.integers(0, 255, (3, 150, 170), np.uint8), **tiled),
        write_tiff(tmp_path / "grey.tif", rng.random((1, 150, 170), np.float32)),
    ]
    for path in cases:
        whole = read_geotiff(path)
        with open_scene(path) as scene:
            assert scene.size == (150, 170) and scene.place is not None and scene.place.transform == whole.transform
            for left, top, right, bottom in ((0, 0, 170, 150), (30, 5, 90, 77), (100, 149, 170, 150)):
                pixels, valid = scene.read(left, top, right, bottom)
                assert np.array_equal(pixels, whole.image[top:bottom, left:right])
                assert np.array_equal(valid, whole.valid[top:bottom, left:right])
            small, step = scene.overview(50)
            assert step == 4 and np.array_equal(small, whole.image[::4, ::4])


def test_ground_sample_distance(tmp_path: Path) -> None:
    utm = Georeference((0.5, 0, 500000, 0, -0.5, 5000000), wkt(32633))
    degrees = Georeference((1e-5, 0, 15, 0, -1e-5, 60), wkt(4326))
    feet = Georeference((1, 0, 0, 0, -1, 0), wkt(2263))
    pytest.importorskip("rasterio")
    assert ground_sample_distance(utm, (10, 10)) == pytest.approx(0.5)
    assert ground_sample_distance(degrees, (10, 10)) == pytest.approx(1.113 * 0.5**0.5, rel=0.01)
    assert ground_sample_distance(feet, (10, 10)) == pytest.approx(0.3048, rel=1e-4)
    assert ground_sample_distance(None, (10, 10)) is None
    scene = array_scene(np.zeros((40, 40, 3), np.uint8))
    placed = type(scene)(scene.name, scene.size, scene.read, utm)
    assert tiling_of(Cut(gsd=1.0, canvas=320), placed).tile == 640
    with pytest.raises(GeoError, match="--tile"):
        tiling_of(Cut(gsd=1.0), scene)
    with pytest.raises(ConfigError, match="leave the tile out"):
        tiling_of(Cut(tile=64, gsd=1.0), placed)


def test_results_lie_where_the_raster_says(tmp_path: Path) -> None:
    warp = pytest.importorskip("rasterio.warp")
    shapely = pytest.importorskip("shapely")
    pixels = np.zeros((240, 260, 3), np.uint8)
    pixels[30:130, 40:220] = (2, 200, 0)
    path = write_tiff(tmp_path / "s.tif", pixels.transpose(2, 0, 1), nodata=None)
    results = predict_scenes(detector, [path], [], tmp_path / "out", Cut(100), geometry="both", categories={2: "ship"})
    assert [file.name for file in results.files] == ["s.png", "s.geojson", "s.gpkg", "predictions.json"]
    assert not list((tmp_path / "out").glob("*.jsonl"))
    document = json.loads((tmp_path / "out" / "predictions.json").read_text())
    (record,) = document["annotations"]
    assert record["bbox"] == [40, 30, 180, 100] and record["area"] == 18000 and record["category_id"] == 2
    assert decode_segmentation(record["segmentation"], (240, 260)).sum() == 18000
    mask, box = json.loads((tmp_path / "out" / "s.geojson").read_text())["features"]
    for feature, part in ((mask, "mask"), (box, "box")):
        assert feature["properties"]["part"] == part
        assert feature["properties"]["area_m2"] == pytest.approx(180 * 100 * 4 / 0.9996**2, rel=1e-4)
        degrees = np.asarray(feature["geometry"]["coordinates"][0])
        east, north = (np.asarray(v) for v in warp.transform("EPSG:4326", "EPSG:32633", *degrees.T))
        bounds = [(east.min() - 500000) / 2, (5000000 - north.max()) / 2, (east.max() - 500000) / 2]
        assert np.allclose([*bounds, (5000000 - north.min()) / 2], [40, 30, 220, 130], atol=0.05)
    import sqlite3

    with sqlite3.connect(tmp_path / "out" / "s.gpkg") as database:
        assert database.execute("PRAGMA application_id").fetchone() == (0x47504B47,)
        rows = database.execute("SELECT geom, part, score, area_m2 FROM predictions").fetchall()
        assert database.execute("SELECT srs_id FROM gpkg_geometry_columns").fetchone() == (32633,)
    shape = shapely.from_wkb(rows[0][0][40:])
    assert shape.bounds == (500080, 4999740, 500440, 4999940) and [row[1] for row in rows] == ["mask", "box"]


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    pixels = blobs(5, (300, 300), 30, 90)
    path = write_tiff(tmp_path / "s.tif", pixels.transpose(2, 0, 1))
    asked: list[int] = []

    def dying(image: np.ndarray, texts: Any, score: float = 0.0) -> Any:
        asked.append(1)
        if len(asked) == 6:
            raise KeyboardInterrupt
        return detector(image, texts, score)

    with pytest.raises(KeyboardInterrupt):
        predict_scenes(dying, [path], [], tmp_path / "out", Cut(100))
    journal = tmp_path / "out" / "s.tiles.jsonl"
    with journal.open("ab") as file:
        file.write(b'{"tile":7,"answers":[[{"box":[0,')  # what a kill leaves
    asked.clear()
    predict_scenes(lambda *args: asked.append(1) or detector(*args), [path], [], tmp_path / "out", Cut(100))
    clean: list[int] = []
    predict_scenes(lambda *args: clean.append(1) or detector(*args), [path], [], tmp_path / "clean", Cut(100))
    assert len(asked) == len(clean) - 5 and not journal.exists()
    once, again = ((tmp_path / name / "predictions.json").read_bytes() for name in ("clean", "out"))
    assert once == again


def test_a_journal_of_another_job_counts_for_nothing(tmp_path: Path) -> None:
    sizes = {0: (10, 10)}
    first = TileJournal(tmp_path, "s", "a", sizes, 1)
    first.add(0, [[{"box": [0, 0, 5, 5], "score": 0.5, "label": 1, "mask": None}]])
    first.close()
    assert list(TileJournal(tmp_path, "s", "a", sizes, 1).known()) == [0]
    assert TileJournal(tmp_path, "s", "b", sizes, 1).known() == {}
    for damaged in (
        '{"tile":0,"answers":[[{"box":[0,0,1e999,5],"score":0.5,"label":1,"mask":null}]]}',
        '{"tile":9,"answers":[[]]}',
        '{"tile":0,"answers":[[],[]]}',
        '{"tile":0,"answers":[[{"box":[0,0,5,5],"score":0.5,"label":1,"mask":{"size":[9,9],"counts":[81]}}]]}',
        "[]",
        "\x00",
    ):
        (tmp_path / "s.tiles.jsonl").write_text('{"mindground_tiles": 1, "key": "a"}\n' + damaged + "\n")
        assert TileJournal(tmp_path, "s", "a", sizes, 1).known() == {}, damaged


def test_a_damaged_scene_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    good = write_tiff(tmp_path / "good.tif", blobs(2, (120, 120), 5, 30).transpose(2, 0, 1))
    bad = tmp_path / "bad.tif"
    bad.write_bytes(good.read_bytes()[:3000])
    results = predict_scenes(detector, [bad, good], [], tmp_path / "out", Cut(64))
    assert list(results.failures) == [str(bad)] and len(results.document["images"]) == 1
    with pytest.raises(ImageError, match="no image|not an image|cannot|does not"), open_scene(tmp_path / "none.tif"):
        pass


_LARGE = """
import json, re, sys
import numpy as np
from mindground.inference.scene_files import Cut, predict_scenes
from mindground.structures import Prediction, encode_mask, mask_box

def ask(image, texts, score=0.0):
    mask = image[..., 0] > 0
    found = [mask_box(mask)] if mask.any() else []
    masks = (encode_mask(mask),) if found else ()
    return Prediction(mask.shape, np.asarray(found).reshape(-1, 4), np.ones(len(found)), None, masks)

results = predict_scenes(ask, [__import__("pathlib").Path(sys.argv[1])], [], sys.argv[2], Cut(4096, 0.1))
print(json.dumps([[a["bbox"], a["area"]] for a in results.document["annotations"]]))
# Not getrusage: its peak starts with the memory of the process that started this one.
print(int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024)
"""


def test_memory_of_a_large_scene(tmp_path: Path) -> None:
    """20,000 x 20,000 pixels of three bands, 1.2 GB when they are decoded, below 1.5 GB of memory."""
    rasterio = pytest.importorskip("rasterio")
    path, side = tmp_path / "large.tif", 20_000
    profile = {"driver": "GTiff", "height": side, "width": side, "count": 3, "dtype": "uint8", "SPARSE_OK": "TRUE"}
    profile |= {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "interleave": "pixel"}
    transform = pytest.importorskip("rasterio.transform").from_origin(500000, 5000000, 1, 1)
    with rasterio.open(path, "w", crs="EPSG:32633", transform=transform, **profile) as file:
        bar = np.full((3, 40, 9000), 200, np.uint8)
        file.write(bar, window=((10_000, 10_040), (3_000, 12_000)))
    assert path.stat().st_size < 2_000_000
    done = subprocess.run(
        [sys.executable, "-c", _LARGE, str(path), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        env=clean_environment() | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30)),
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found, megabytes = done.stdout.splitlines()[-2:]
    assert json.loads(found) == [[[3000, 10_000, 9000, 40], 360_000]]
    assert int(megabytes) < 1500


_RANKS = """
import sys
from pathlib import Path
from mindground.runtime import device, distributed
device.prepare()
sys.path.insert(0, sys.argv[3])
from inference.fake_scene import detector
from mindground.inference.scene_files import Cut, predict_scenes
comm = distributed.get_comm() if sys.argv[4] != "1" else None
asked = []
def ask(*args):
    asked.append(1)
    return detector(*args)
predict_scenes(ask, [Path(sys.argv[1])], [], sys.argv[2], Cut(100), comm=comm)
print("asked", len(asked))
"""


def test_ranks_share_tiles_and_agree(tmp_path: Path, run_python: Callable[..., Any]) -> None:
    path = write_tiff(tmp_path / "s.tif", blobs(3, (300, 300), 30, 90).transpose(2, 0, 1))
    (tmp_path / "job.py").write_text(_RANKS)
    asked = {}
    for ranks in (1, 2):
        out = tmp_path / f"out{ranks}"
        done = run_python(["job.py", path, out, ROOT / "tests", ranks], ranks=ranks, timeout=120)
        assert done.returncode == 0, done.stderr[-2000:]
        asked[ranks] = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("asked")]
        assert sorted(file.name for file in out.iterdir()) == ["predictions.json", "s.geojson", "s.gpkg", "s.png"]
    assert sum(asked[2]) == sum(asked[1]) and min(asked[2]) > 0
    assert len({(tmp_path / f"out{ranks}" / "predictions.json").read_bytes() for ranks in (1, 2)}) == 1


class _Network:
    """What `Predictor.scene` needs of a predictor."""

    config = None
    gives_scores = True
    asks_expression = True

    def __call__(self, *given: Any) -> Any:
        return referring(*given)

    def unknown_words(self, sentence: str) -> list[str]:
        return [word for word in sentence.split() if word == "船"]


def test_a_scene_from_python(tmp_path: Path) -> None:
    from mindground.errors import DataError
    from mindground.inference.scene_call import answer_scene

    pixels = np.zeros((200, 200, 3), np.uint8)
    pixels[20:40, 30:60] = pixels[150:170, 100:130] = (1, 220, 0)
    network: Any = _Network()
    one = answer_scene(network, pixels, "the topmost 船", tile=64)
    assert isinstance(one, SceneAnswer) and one.boxes_xyxy.tolist() == [[30, 20, 60, 40]]
    assert one.extras == {"candidates": 2, "unknown_words": ["船"]}
    path = write_tiff(tmp_path / "s.tif", pixels.transpose(2, 0, 1))
    both = answer_scene(network, path, ["the ship", "the bottommost ship"], gsd=0.2)
    assert isinstance(both, list) and [len(answer) for answer in both] == [2, 1]
    assert answer_scene(network, pixels, []) == []
    with pytest.raises(DataError, match="give a sentence"):
        answer_scene(network, pixels)
    with pytest.raises(DataError, match="the sentence is empty"):
        answer_scene(network, pixels, " ")
