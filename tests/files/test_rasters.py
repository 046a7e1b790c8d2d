"""TIFFs of every kind: training, `Predictor(path)` and the predict command see the same, right pixels."""

from __future__ import annotations

import http.server
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mindground.data.transforms import StretchTransform
from mindground.errors import ImageError
from mindground.files import pixels, rasters
from mindground.files.images import read_image
from mindground.files.rasters import is_geotiff, read_geotiff
from mindground.inference.image_files import predict_files
from mindground.inference.predictor import as_rgb
from mindground.structures import Prediction, Sample, instance_truth

rasterio = pytest.importorskip("rasterio")
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

H, W = 37, 53


def scene() -> np.ndarray:
    """(H, W, 3) uint8 with smooth colours that differ between the channels."""
    y, x = np.mgrid[:H, :W]
    return np.stack([x * 4 + 20, y * 6 + 10, 255 - x * 2 - y * 3], -1).astype(np.uint8)


def write(path: Path, bands: np.ndarray, *, georeferenced: bool = False, names: str = "", **options: Any) -> Path:
    """(C, H, W) as a TIFF; `names` are colour interpretations."""
    place = {}
    if georeferenced:
        place = {"crs": "EPSG:32633", "transform": rasterio.Affine(2, 0, 500000, 0, -2, 5000000)}
    count, height, width = bands.shape
    settings = {"height": height, "width": width, "count": count, "dtype": bands.dtype, **place, **options}
    with rasterio.open(path, "w", driver="GTiff", **settings) as file:
        file.write(bands)
        if names:
            file.colorinterp = [getattr(rasterio.enums.ColorInterp, name) for name in names.split()]
    return path


def stretched(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip(np.rint((values.astype(np.float64) - low) * (255 / (high - low))), 0, 255).astype(np.uint8)


def three_ways(path: Path, bands: tuple[int, ...] | None = None) -> np.ndarray:
    """What training, `Predictor(path)` and the predict command read; they must be equal."""
    seen: list[np.ndarray] = []

    def ask(image: np.ndarray, _: Any, min_score: float) -> list[Prediction]:
        seen.append(image)
        return [Prediction(image.shape[:2], [], [])]

    results = predict_files(ask, [path], ["ship"], path.parent / "out", bands=bands, overwrite=True)
    assert not results.failures, results.failures
    of_path = as_rgb(path, bands=bands)
    np.testing.assert_array_equal(of_path, seen[0])
    transform = StretchTransform(img_size=64, mean=[0, 0, 0], std=[1, 1, 1], truth=instance_truth, bands=bands)
    sample = Sample(str(path), "i", "s", None, size=of_path.shape[:2])
    trained = transform(sample, np.random.default_rng(0)).arrays["image"]
    np.testing.assert_array_equal(trained, transform.from_image(of_path).arrays["image"])
    return of_path


@pytest.fixture(params=[False, True], ids=["plain", "georeferenced"])
def place(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.mark.parametrize("photometric", ["RGB", "MINISBLACK"])
@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
def test_layouts_and_types(tmp_path: Path, place: bool, photometric: str, interleave: str, kind: Any) -> None:
    values = scene().astype(kind)
    if kind != np.uint8:
        values = values * 11 + 700
    path = write(
        tmp_path / "a.tif",
        values.transpose(2, 0, 1),
        georeferenced=place,
        photometric=photometric,
        interleave=interleave,
    )
    expected = scene() if kind == np.uint8 else stretched(values, values.min(), values.max())
    np.testing.assert_array_equal(three_ways(path), expected)


@pytest.mark.parametrize("layout", [{"tiled": True, "blockxsize": 16, "blockysize": 32}, {"blockysize": 1}, {}])
@pytest.mark.parametrize("pack", ["deflate", "lzw", "packbits"])
def test_strips_tiles_and_compression(tmp_path: Path, layout: dict[str, Any], pack: str) -> None:
    path = write(tmp_path / "a.tif", scene().transpose(2, 0, 1), compress=pack, **layout)
    np.testing.assert_array_equal(three_ways(path), scene())


def test_windows_leave_no_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rasters, "_WINDOW_ROWS", 8)
    values = scene().astype(np.uint16) * 9
    path = write(tmp_path / "a.tif", values.transpose(2, 0, 1), blockysize=5)
    np.testing.assert_array_equal(read_image(path), stretched(values, values.min(), values.max()))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_named_bands_are_red_green_and_blue(tmp_path: Path, place: bool, kind: Any) -> None:
    infrared = np.full((H, W), 9)
    data = np.stack([*scene().transpose(2, 0, 1)[::-1], infrared]).astype(kind)
    path = write(
        tmp_path / "a.tif", data, georeferenced=place, names="blue green red undefined", photometric="MINISBLACK"
    )
    values = scene().astype(kind)
    expected = scene() if kind == np.uint8 else stretched(values, values.min(), values.max())
    np.testing.assert_array_equal(three_ways(path), expected)
    np.testing.assert_array_equal(three_ways(path, (3, 2, 1)), expected)


def test_bands_that_have_no_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = np.stack([np.full((6, 8), 10 * number, np.uint8) for number in range(1, 8)])
    path = write(tmp_path / "a.tif", data)
    with caplog.at_level(logging.WARNING, "mindground"):
        assert three_ways(path)[0, 0].tolist() == [10, 20, 30]
    assert "a.tif has 7 bands" in caplog.text and "--bands" in caplog.text
    assert three_ways(path, (4, 3, 2))[0, 0].tolist() == [40, 30, 20]
    assert three_ways(path, (7,))[0, 0].tolist() == [70, 70, 70]
    for bands in ((1, 2, 8), (0, 1, 2), (1, 2)):
        with pytest.raises(ImageError, match=r"a.tif has 7 bands"):
            read_image(path, bands=bands)


def test_grey_with_alpha(tmp_path: Path) -> None:
    data = np.stack([scene()[..., 0], np.zeros((H, W), np.uint8)])
    path = write(tmp_path / "a.tif", data, names="gray alpha", photometric="MINISBLACK")
    np.testing.assert_array_equal(three_ways(path), scene()[..., [0, 0, 0]])


@pytest.mark.parametrize("names", ["red green blue alpha", "red green blue undefined"])
def test_a_fourth_band_is_left_out(tmp_path: Path, names: str) -> None:
    data = np.stack([*scene().transpose(2, 0, 1), np.zeros((H, W), np.uint8)])
    np.testing.assert_array_equal(three_ways(write(tmp_path / "a.tif", data, names=names)), scene())


def test_palettes_are_expanded(tmp_path: Path, place: bool) -> None:
    indexed = Image.fromarray(scene()).quantize(20)
    colours = np.asarray(indexed.getpalette()).reshape(-1, 3)
    path = write(tmp_path / "a.tif", np.asarray(indexed)[None], georeferenced=place, photometric="PALETTE", nodata=3)
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {index: (*map(int, colour), 255) for index, colour in enumerate(colours)})
    np.testing.assert_array_equal(three_ways(path), np.asarray(indexed.convert("RGB")))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_what_pillow_writes(tmp_path: Path, mode: str, compression: str) -> None:
    image = Image.fromarray(scene()).convert(mode)
    image.save(tmp_path / "a.tif", compression=compression)
    np.testing.assert_array_equal(three_ways(tmp_path / "a.tif"), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_white_may_be_zero(tmp_path: Path, kind: Any) -> None:
    grey = scene()[..., 0].astype(kind) * (1 if kind == np.uint8 else 100)
    path = write(tmp_path / "a.tif", grey[None], photometric="MINISWHITE")
    with open(path, "rb") as file:
        assert rasters.read_header(file).photometric == 0
    expected = 255 - (grey if kind == np.uint8 else stretched(grey, grey.min(), grey.max()))
    np.testing.assert_array_equal(three_ways(path)[..., 1], expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_turns_photographs_and_never_maps(tmp_path: Path, orientation: int) -> None:
    from PIL import ImageOps

    image = Image.fromarray(scene())
    image.save(tmp_path / "a.tif", tiffinfo={274: orientation})
    with Image.open(tmp_path / "a.tif") as opened:
        upright = np.asarray(ImageOps.exif_transpose(opened))
    np.testing.assert_array_equal(three_ways(tmp_path / "a.tif"), upright)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", apply_exif=False), scene())
    image.save(tmp_path / "map.tif", tiffinfo={274: orientation, 33550: (2.0, 2.0, 0.0)})
    assert is_geotiff(tmp_path / "map.tif")
    np.testing.assert_array_equal(three_ways(tmp_path / "map.tif"), scene())


@pytest.mark.parametrize("nodata", [0, 255])
def test_no_data_never_changes_eight_bits(tmp_path: Path, place: bool, nodata: int) -> None:
    values = scene()
    values[:9, :9] = nodata  # outside of the scene, or a saturated roof: the file cannot say which
    values[20, 20] = (nodata, 7, 9)
    path = write(tmp_path / "a.tif", values.transpose(2, 0, 1), georeferenced=place, nodata=nodata)
    np.testing.assert_array_equal(three_ways(path), values)
    raster = read_geotiff(path)
    assert not raster.valid[:9, :9].any() and raster.valid.sum() == H * W - 81


@pytest.mark.parametrize(
    ("kind", "nodata"), [(np.uint16, 0), (np.uint16, 65535), (np.int16, -9999), (np.float32, -3.4028234663852886e38)]
)
def test_no_data_takes_no_part_in_the_stretch(tmp_path: Path, place: bool, kind: Any, nodata: float) -> None:
    values = scene().astype(kind) * 9 + 300
    low, high = values[9:].min(), values[9:].max()
    values[:9] = nodata
    values[20, 20, 1] = nodata  # one band alone: the pixel keeps its other bands
    path = write(tmp_path / "a.tif", values.transpose(2, 0, 1), georeferenced=place, nodata=nodata)
    got = three_ways(path)
    expected = stretched(values, low, high)
    expected[:9] = 0
    np.testing.assert_array_equal(got, expected)
    assert got[20, 20, 0] > 0 and read_geotiff(path).valid.sum() == (H - 9) * W


def test_holes_of_floats_are_black(tmp_path: Path) -> None:
    values = scene().astype(np.float32) / 999
    values[:4] = np.nan
    values[30, 30, 0] = np.inf
    expected = stretched(np.nan_to_num(values, posinf=0), values[4:, :30].min(), values[4:, :30].max())
    got = three_ways(write(tmp_path / "a.tif", values.transpose(2, 0, 1)))
    assert (got[:4] == 0).all() and got[30, 30, 0] == 0 and got[30, 30, 1] > 0
    assert got.max() == 255 and abs(got[4:].astype(int) - expected[4:]).max() <= 2
    empty = write(tmp_path / "b.tif", np.full((3, 6, 8), np.nan, np.float32))
    assert (three_ways(empty) == 0).all()


def test_the_mask_inside_a_file(tmp_path: Path) -> None:
    values = scene().astype(np.uint16) * 9 + 300
    values[:9] = 60000
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        path = write(tmp_path / "a.tif", values.transpose(2, 0, 1))
        with rasterio.open(path, "r+") as file:
            file.write_mask(np.repeat(np.arange(H)[:, None] >= 9, W, 1))
    assert list(tmp_path.iterdir()) == [path]
    got = three_ways(path)
    assert (got[:9] == 0).all()
    np.testing.assert_array_equal(got[9:], stretched(values[9:], values[9:].min(), values[9:].max()))


def test_files_beside_a_raster_are_not_opened(tmp_path: Path) -> None:
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Nothing on the terminal."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    path = write(tmp_path / "a.tif", scene().transpose(2, 0, 1), georeferenced=True)
    address = f"/vsicurl/http://127.0.0.1:{server.server_port}/secret.tif"
    source = f"<SimpleSource><SourceFilename>{address}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>"
    flags = "".join(f'<MDI key="INTERNAL_MASK_FLAGS_{band}">2</MDI>' for band in (1, 2, 3))
    virtual = (
        f'<VRTDataset rasterXSize="{W}" rasterYSize="{H}"><Metadata>{flags}</Metadata>'
        f'<VRTRasterBand dataType="Byte" band="1">{source}</VRTRasterBand></VRTDataset>'
    )
    try:
        for suffix in (".msk", ".ovr"):
            (tmp_path / f"a.tif{suffix}").write_text(virtual)
        (tmp_path / "a.tif.aux.xml").write_text("<PAMDataset><SRS>LOCAL_CS[]</SRS></PAMDataset>")
        (tmp_path / "a.tfw").write_text("9\n0\n0\n9\n0\n0\n")
        np.testing.assert_array_equal(three_ways(path), scene())
        (tmp_path / "b.tif").write_text(virtual)
        with pytest.raises(ImageError):
            read_image(tmp_path / "b.tif")
        with pytest.raises(ImageError):
            read_geotiff(tmp_path / "b.tif")
        with pytest.raises(ImageError):
            read_image(address)
    finally:
        server.shutdown()
        server.server_close()
    assert asked == []


def test_large_rasters_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for bits, side in ((np.uint8, 14000), (np.uint16, 7000)):
        # Sparse: no block of it is stored.
        path = tmp_path / f"{side}.tif"
        settings = {"height": side, "width": side, "count": 3, "dtype": bits, "SPARSE_OK": True, "tiled": True}
        with rasterio.open(path, "w", driver="GTiff", **settings):
            pass
        for read in (read_image, read_geotiff, as_rgb):
            with pytest.raises(ImageError, match=f"{side} x {side} pixels"):
                read(path)
    small = write(tmp_path / "a.tif", scene().transpose(2, 0, 1), georeferenced=True)
    # Whatever Pillow thinks of its size.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert is_geotiff(small) and read_image(small).shape == (H, W, 3)
    monkeypatch.setattr(pixels, "MAX_PIXELS", 10)
    with pytest.raises(ImageError, match="more than 10; cut it into tiles"):
        read_geotiff(small)


@pytest.mark.parametrize("kind", ["complex64", "complex_int16"])
def test_complex_numbers_are_refused(tmp_path: Path, kind: str) -> None:
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", height=4, width=4, count=1, dtype=kind):
        pass
    with pytest.raises(ImageError, match="real numbers"):
        read_image(tmp_path / "a.tif")


def test_damaged_tiffs_are_image_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = write(tmp_path / "a.tif", scene().transpose(2, 0, 1), georeferenced=True, compress="deflate").read_bytes()
    rng = np.random.default_rng(0)
    for with_rasterio in (True, False):
        monkeypatch.setattr(rasters, "has_rasterio", lambda answer=with_rasterio: answer)
        for _ in range(150):
            data = bytearray(whole)
            for at in rng.integers(0, 400 if rng.random() < 0.7 else len(data), 3):
                data[at] = rng.integers(0, 256)
            (tmp_path / "b.tif").write_bytes(data[: int(rng.integers(5, len(data)))] if rng.random() < 0.2 else data)
            try:
                assert read_image(tmp_path / "b.tif").dtype == np.uint8
            except ImageError as error:
                assert str(error).isprintable()
            is_geotiff(tmp_path / "b.tif")


@pytest.fixture
def without_rasterio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rasters, "has_rasterio", lambda: False)


@pytest.mark.usefixtures("without_rasterio")
@pytest.mark.parametrize(
    "make",
    [
        lambda p: write(p, scene().transpose(2, 0, 1).astype(np.uint16) * 9, photometric="MINISBLACK"),
        lambda p: write(p, scene().transpose(2, 0, 1).astype(np.uint16) * 9, interleave="band", photometric="RGB"),
        lambda p: write(p, scene()[..., [2, 1, 0, 0]].transpose(2, 0, 1), names="blue green red undefined"),
        lambda p: write(p, scene()[..., [2, 1, 0, 0, 0]].transpose(2, 0, 1)),
        lambda p: write(p, scene().transpose(2, 0, 1).astype(np.float32), nodata=-1, photometric="RGB"),
    ],
    ids=["unnamed", "planar", "named", "five", "nodata"],
)
def test_without_rasterio_what_would_be_read_wrongly_is_refused(
    tmp_path: Path, make: Callable[[Path], Path], place: bool
) -> None:
    with pytest.raises(ImageError, match=r"requirements-geo\.txt"):
        read_image(make(tmp_path / "a.tif"))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_with_and_without_rasterio_alike(tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(scene()).convert(mode).save(tmp_path / "a.tif")
    deep = scene().transpose(2, 0, 1).astype(np.uint16) * 9
    write(tmp_path / "b.tif", deep, photometric="RGB")
    write(tmp_path / "c.tif", deep[:1])
    write(tmp_path / "d.tif", scene().transpose(2, 0, 1), interleave="band", photometric="RGB")
    write(tmp_path / "e.tif", scene().transpose(2, 0, 1), georeferenced=True, photometric="RGB")
    paths = sorted(tmp_path.glob("*.tif"))
    ours = [read_image(path) for path in paths]
    monkeypatch.setattr(rasters, "has_rasterio", lambda: False)
    for path, expected in zip(paths, ours, strict=True):
        np.testing.assert_array_equal(three_ways(path), expected, str(path))
