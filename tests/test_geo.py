"""GeoTIFF in, GeoJSON out. What needs rasterio is skipped where the extra `geo` is not installed."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mindground import geo
from mindground.errors import GeoError, ImageError, MindGroundError
from mindground.files import rasters
from mindground.inference.image_files import predict_files
from mindground.structures import Prediction, encode_mask


def make_geotiff(path: Path, data: np.ndarray, crs: str | None = "EPSG:32633", nodata: float | None = None) -> Path:
    rasterio = pytest.importorskip("rasterio")
    transform = pytest.importorskip("rasterio.transform").from_origin(500000, 5000000, 2, 2)
    bands, height, width = data.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=height,
        width=width,
        count=bands,
        dtype=data.dtype,
        crs=crs,
        transform=transform,
        nodata=nodata,
    ) as file:
        file.write(data)
    return path


def found(size: tuple[int, int], box: tuple[int, int, int, int]) -> Prediction:
    mask = np.zeros(size, np.uint8)
    mask[box[1] : box[3], box[0] : box[2]] = 1
    return Prediction(size, [box], [0.9], masks=(encode_mask(mask),), expression="船 left")


def test_is_geotiff_needs_no_extra(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "plain.tif")
    Image.new("RGB", (4, 4)).save(tmp_path / "plain.png")
    tags = Image.new("RGB", (4, 4))
    tags.save(tmp_path / "geo.tif", tiffinfo={33550: (2.0, 2.0, 0.0)})
    assert not geo.is_geotiff(tmp_path / "plain.tif")
    assert not geo.is_geotiff(tmp_path / "plain.png")
    assert not geo.is_geotiff(tmp_path / "missing.tif")
    assert geo.is_geotiff(tmp_path / "geo.tif")


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(rasters.importlib, "import_module", refuse)
    with pytest.raises(MindGroundError, match=r"rasterio.*\.\[geo\]"):
        geo.read_geotiff(tmp_path / "x.tif")


def test_eight_bit_values_are_kept(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(1, 255, (4, 600, 20), np.uint8)  # taller than one window
    place = geo.read_geotiff(make_geotiff(tmp_path / "a.tif", data))
    assert (place.image == data[:3].transpose(1, 2, 0)).all() and place.valid.all()
    assert place.transform == (2.0, 0.0, 500000.0, 0.0, -2.0, 5000000.0)
    assert "UTM zone 33N" in place.crs


def test_sixteen_bit_is_stretched_and_nodata_respected(tmp_path: Path) -> None:
    data = np.linspace(100, 3000, 3 * 50 * 40).reshape(3, 50, 40).astype(np.uint16)
    data[:, :5] = 0
    place = geo.read_geotiff(make_geotiff(tmp_path / "a.tif", data, nodata=0))
    assert not place.valid[:5].any() and place.valid[5:].all()
    assert (place.image[:5] == 0).all() and place.image.max() == 255
    assert place.notes["range"] == [pytest.approx(data[:, 5:].min()), 3000]


def test_bands(tmp_path: Path) -> None:
    data = np.stack([np.full((6, 6), 10 * (i + 1), np.uint8) for i in range(4)])
    path = make_geotiff(tmp_path / "a.tif", data)
    assert geo.read_geotiff(path, bands=(4, 1, 2)).image[0, 0].tolist() == [40, 10, 20]
    assert geo.read_geotiff(path, bands=(3,)).image[0, 0].tolist() == [30, 30, 30]
    with pytest.raises(ImageError, match="4 bands"):
        geo.read_geotiff(path, bands=(1, 2, 7))


def test_damaged_raster(tmp_path: Path) -> None:
    pytest.importorskip("rasterio")
    (tmp_path / "a.tif").write_bytes(b"II*\0" + b"\0" * 40)
    with pytest.raises(ImageError, match="cannot be read as a raster"):
        geo.read_geotiff(tmp_path / "a.tif")


def test_geojson_is_within_half_a_pixel(tmp_path: Path) -> None:
    warp = pytest.importorskip("rasterio.warp")
    place = geo.read_geotiff(make_geotiff(tmp_path / "a.tif", np.full((3, 60, 80), 7, np.uint8)))
    collection = geo.to_geojson([found((60, 80), (30, 10, 50, 20))], place, image="a.tif", model="m.ckpt")
    (feature,) = collection["features"]
    degrees = np.asarray(feature["geometry"]["coordinates"][0])
    # UTM zone 33 has its middle at 15 degrees east; 5000 km north of the equator are at 45.15 degrees.
    assert np.allclose(degrees, [15, 45.15], atol=0.01)
    east, north = (np.asarray(values) for values in warp.transform("EPSG:4326", place.crs, *degrees.T))
    columns, rows = (east - 500000) / 2, (5000000 - north) / 2
    assert np.allclose([columns.min(), rows.min(), columns.max(), rows.max()], [30, 10, 50, 20], atol=0.5)
    assert feature["properties"]["text"] == "船 left" and feature["properties"]["image"] == "a.tif"
    path = geo.write_geojson(tmp_path / "out" / "a.geojson", collection)
    assert json.loads(path.read_text("utf-8"))["type"] == "FeatureCollection"


def test_a_contour_of_vertices_is_the_polygon_itself(tmp_path: Path) -> None:
    """No pixel edges: the vertices that the network wrote, and how sure it was of each of their tokens."""
    place = geo.read_geotiff(make_geotiff(tmp_path / "a.tif", np.zeros((3, 60, 80), np.uint8)))
    triangle = np.asarray([[10.25, 10.5], [60.75, 20.0], [30.0, 50.5]])
    likely = {"contour": np.asarray([0.5, 0.25, 0.125], np.float32)}
    one = found((60, 80), (10, 10, 60, 50))
    one.extras |= {"polygon": triangle, "token_probabilities": likely}
    bow = found((60, 80), (10, 10, 60, 50))
    bow.extras["polygon"] = np.asarray([[10, 10], [40, 40], [40, 10], [10, 40]])
    line = found((60, 80), (10, 10, 60, 50))
    line.extras["polygon"] = triangle[:2]
    first, second, third = geo.to_geojson([one, bow, line], place)["features"]
    ring = np.asarray(first["geometry"]["coordinates"][0])[:-1]
    # Two metres a pixel, from the corner of `make_geotiff`.
    metres = [500000 + 2 * triangle[:, 0], 5000000 - 2 * triangle[:, 1]]
    degrees = np.stack(pytest.importorskip("rasterio.warp").transform("EPSG:32633", "EPSG:4326", *metres), -1)
    np.testing.assert_allclose(sorted(ring.tolist()), sorted(degrees.tolist()), atol=1e-9)
    assert first["properties"]["token_probabilities"] == {"contour": [0.5, 0.25, 0.125]}
    # Lines that cross leave valid parts, and two vertices leave the mask's own outline.
    assert second["geometry"]["type"] in ("Polygon", "MultiPolygon")
    assert len(third["geometry"]["coordinates"][0]) == 5 and "token_probabilities" not in third["properties"]


def test_box_without_mask_and_empty_mask(tmp_path: Path) -> None:
    place = geo.read_geotiff(make_geotiff(tmp_path / "a.tif", np.full((3, 60, 80), 7, np.uint8)))
    box = Prediction((60, 80), [[1, 2, 30, 40]], [0.5])
    empty = Prediction((60, 80), [[1, 2, 30, 40]], [0.5], masks=(encode_mask(np.zeros((60, 80))),))
    features = geo.to_geojson([box, empty, Prediction((60, 80), [], [])], place)["features"]
    assert len(features) == 2 and features[0]["geometry"] == features[1]["geometry"]


LOCAL = 'LOCAL_CS["Local site grid",UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'


def test_a_local_grid_has_no_place_on_earth_and_keeps_its_pixels(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = np.full((3, 60, 80), 7, np.uint8)
    local, utm = (make_geotiff(tmp_path / f"{n}.tif", data, crs=c) for n, c in (("a", LOCAL), ("b", "EPSG:32633")))
    place = geo.read_geotiff(local)
    assert place.image.shape == (60, 80, 3)
    with pytest.raises(GeoError, match="no way to longitude and latitude") as caught:
        geo.to_geojson([found((60, 80), (30, 10, 50, 20))], place, image="a.tif")
    assert str(caught.value).isprintable()

    def ask(image: np.ndarray, texts: Any, min_score: float) -> list[Prediction]:
        return [found((60, 80), (30, 10, 50, 20)) for _ in texts]

    with caplog.at_level("WARNING"):
        results = predict_files(ask, [local, utm], ["船 left"], tmp_path / "out")
    assert not results.failures and len(results.document["annotations"]) == 2
    assert [path.name for path in results.files if path.suffix == ".geojson"] == ["b.geojson"]
    (warning,) = [record.getMessage() for record in caplog.records if "GeoJSON" in record.getMessage()]
    assert warning.startswith("a.tif")


@pytest.mark.parametrize("kind", ["absent", "old"])
def test_a_foreign_coordinate_database_is_named(tmp_path: Path, kind: str, run_python: Callable) -> None:
    path = make_geotiff(tmp_path / "a.tif", np.full((3, 60, 80), 7, np.uint8))
    database = tmp_path / "share"
    if kind == "old":
        database.mkdir()
        with sqlite3.connect(database / "proj.db") as connection:
            connection.execute("CREATE TABLE metadata (key TEXT, value TEXT)")
            rows = [("DATABASE.LAYOUT.VERSION.MAJOR", "1"), ("DATABASE.LAYOUT.VERSION.MINOR", "0")]
            connection.executemany("INSERT INTO metadata VALUES (?, ?)", rows)
        connection.close()
    code = (
        "import os, sys; os.environ['PROJ_DATA'] = os.environ['PROJ_LIB'] = sys.argv[2]; from pathlib import Path;"
        "from mindground.inference.image_files import predict_files; from mindground.structures import Prediction;"
        "ask = lambda image, texts, score: [Prediction(image.shape[:2], [[1, 2, 3, 4]], [0.5])];"
        "done = predict_files(ask, [Path(sys.argv[1])], ['ship'], Path(sys.argv[1]).parent / 'out');"
        "print([path.name for path in done.files], len(done.document['annotations']), done.failures)"
    )
    done = run_python(["-c", code, str(path), str(database)])
    assert done.stdout.strip() == "['a.png', 'predictions.json'] 1 {}", done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "GeoJSON" in line]
    assert "PROJ_DATA" in line and "PROJ_LIB" in line and str(database) in line


def test_numbers_that_are_no_place(tmp_path: Path) -> None:
    place = geo.read_geotiff(make_geotiff(tmp_path / "a.tif", np.full((3, 60, 80), 7, np.uint8)))
    one = found((60, 80), (30, 10, 50, 20))
    nan, inf = np.nan, np.inf
    for transform in ((nan, 0, 1, 0, -2, 1), (inf, 0, 1, 0, -2, 1), (0.0, 0, 1, 0, 0, 1), (1, 0, nan, 0, 1, 1)):
        with pytest.raises(GeoError, match="transform"):
            geo.to_geojson([one], dataclasses.replace(place, transform=transform))
    with pytest.raises(GeoError, match="not finite"):
        geo.write_geojson(tmp_path / "a.geojson", {"x": float("inf")})
    assert not (tmp_path / "a.geojson").exists()


@pytest.mark.parametrize("east", [1e9, 1e300, -1e12])
def test_what_lies_outside_of_the_projection_has_no_geometry(
    tmp_path: Path, east: float, caplog: pytest.LogCaptureFixture
) -> None:
    place = geo.read_geotiff(make_geotiff(tmp_path / "a.tif", np.full((3, 60, 80), 7, np.uint8)))
    far = dataclasses.replace(place, transform=(2.0, 0.0, east, 0.0, -2.0, east))
    with caplog.at_level("WARNING", "mindground"):
        collection = geo.to_geojson([found((60, 80), (30, 10, 50, 20))], far, image="a.tif")
    (feature,) = collection["features"]
    assert feature["geometry"] is None and feature["properties"]["box_pixels"] == [30, 10, 50, 20]
    assert "a.tif: 1 of 1 features" in caplog.text
    assert json.loads(geo.write_geojson(tmp_path / "a.geojson", collection).read_text("utf-8")) == collection


def test_no_coordinate_system(tmp_path: Path) -> None:
    place = geo.read_geotiff(make_geotiff(tmp_path / "a.tif", np.full((3, 6, 8), 7, np.uint8), crs=None))
    with pytest.raises(ImageError, match="no coordinate system"):
        geo.to_geojson([found((6, 8), (1, 1, 3, 3))], place)
