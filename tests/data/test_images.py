"""Every kind of image file becomes the RGB bytes that a viewer shows, or an error that names it."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from mindground.errors import ImageError
from mindground.files import pixels
from mindground.files.images import ImageCache, read_image, to_rgb8


def image(height: int = 24, width: int = 36) -> np.ndarray:
    rng = np.random.default_rng(7)
    coarse = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_equals_opencv_bit_for_bit(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(image()).save(path)
    expected = cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(read_image(path), expected)
    if suffix != ".jpg":
        np.testing.assert_array_equal(read_image(path), image())


@pytest.mark.parametrize("mode", ["L", "RGBA", "LA", "1", "P", "CMYK"])
def test_other_modes(tmp_path: Path, mode: str) -> None:
    suffix = ".tif" if mode == "CMYK" else ".png"
    original = Image.fromarray(image()).convert(mode)
    original.save(tmp_path / f"a{suffix}")
    got = read_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(got, np.asarray(original.convert("RGB")))
    assert got.dtype == np.uint8 and got.shape == (24, 36, 3) and got.flags.c_contiguous


def test_cmyk_jpeg_is_not_inverted(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), (250, 10, 10)).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    red, green, blue = read_image(tmp_path / "a.jpg")[16, 16]
    assert red > 200 and green < 60 and blue < 60


def test_transparent_pixels_keep_their_colour(tmp_path: Path) -> None:
    rgba = np.dstack([image(), np.zeros((24, 36), np.uint8)])
    Image.fromarray(rgba, "RGBA").save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), image())


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_scaled_by_their_range(tmp_path: Path, suffix: str) -> None:
    deep = np.linspace(100, 1123, 24 * 36).round().astype(np.uint16).reshape(24, 36)
    cv2.imwrite(str(tmp_path / f"grey{suffix}"), deep)
    got = read_image(tmp_path / f"grey{suffix}")
    assert got.min() == 0 and got.max() == 255 and got.shape == (24, 36, 3)
    np.testing.assert_array_equal(got[..., 0], np.rint((deep - 100.0) * 255 / 1023))
    colours = image().astype(np.uint16) * 16  # 12 of 16 bits
    cv2.imwrite(str(tmp_path / f"colour{suffix}"), colours[..., ::-1])
    got = read_image(tmp_path / f"colour{suffix}")
    low, high = int(colours.min()), int(colours.max())
    np.testing.assert_array_equal(got, np.rint((colours.astype(float) - low) * 255 / (high - low)))


def test_float_images_and_holes() -> None:
    values = np.array([[0.0, 1.0], [np.nan, 0.5]], np.float32)
    np.testing.assert_array_equal(to_rgb8(values)[..., 0], [[0, 255], [0, 128]])
    np.testing.assert_array_equal(to_rgb8(np.full((2, 2), 65535, np.uint16)), 255)
    np.testing.assert_array_equal(to_rgb8(np.full((2, 2), np.nan, np.float32)), 0)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(image()).save(path, exif=exif)
    with Image.open(path) as opened:
        upright = ImageOps.exif_transpose(opened).size[::-1]
    plain = read_image(path, apply_exif=False)
    expected = np.asarray(ImageOps.exif_transpose(_tagged(plain, orientation)))
    got = read_image(path)
    assert got.shape[:2] == upright and plain.shape[:2] == (24, 36)
    np.testing.assert_array_equal(got, expected)


def _tagged(pixels: np.ndarray, orientation: int) -> Image.Image:
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(buffer, "PNG", exif=exif)
    return Image.open(io.BytesIO(buffer.getvalue()))


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1)])
def test_tiny_images_and_odd_paths(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "飞机 ü.png"
    Image.fromarray(image(*size)).save(path)
    np.testing.assert_array_equal(read_image(path), image(*size))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp"])
def test_cut_short(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / f"a{suffix}")
    data = (tmp_path / f"a{suffix}").read_bytes()
    (tmp_path / f"cut{suffix}").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match=f"cut{suffix}"):
        read_image(tmp_path / f"cut{suffix}")


@pytest.mark.parametrize("content", [b"", b"hello, I am a text", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a"])
def test_no_image(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "no.jpg").write_bytes(content)
    with pytest.raises(ImageError, match="no.jpg"):
        read_image(tmp_path / "no.jpg")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.png", tmp_path):
        with pytest.raises(ImageError, match=path.name):
            read_image(path)


def test_too_many_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(image()).save(tmp_path / "big.png")
    monkeypatch.setattr(pixels, "MAX_PIXELS", 100)
    with pytest.raises(ImageError, match=r"big.png has 36 x 24 pixels"):
        read_image(tmp_path / "big.png")


def test_a_cache_keeps_what_was_used_last_within_its_limit(tmp_path: Path) -> None:
    paths = []
    for number in range(3):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(np.full((400, 500, 3), number, np.uint8)).save(paths[-1])  # 0.57 MiB decoded
    cache = ImageCache(1)
    first = cache.read(paths[0])
    assert cache.read(paths[0]) is first and not first.flags.writeable and (first == 0).all()
    cache.read(paths[1])
    assert cache.read(paths[1])[0, 0, 0] == 1
    assert cache.read(paths[0]) is not first  # one was all that had room
    nothing = ImageCache(0)
    assert nothing.read(paths[2]) is not nothing.read(paths[2])
    with pytest.raises(ImageError, match="gone"):
        cache.read(tmp_path / "gone.png")
