"""Every kind of image file becomes the RGB bytes that a viewer shows, or an error that names it."""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from mindground.errors import ImageError
from mindground.files import images, pixels
from mindground.files._png import pixel_chunks
from mindground.files.images import ImageCache, read_image, to_rgb8
from mindground.files.regular import MAX_FILE_BYTES


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


def test_what_is_no_regular_file_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.png"))
        for path in (tmp_path / "pipe.png", tmp_path / "s.png", Path("/dev/zero"), tmp_path):
            with pytest.raises(ImageError, match="not an image file"):
                read_image(path)


def test_files_of_more_than_a_gigabyte_are_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "a.png", "wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(ImageError, match=r"a.png has 1000000001 bytes"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a\0.png", "x" * 5000, "x/" * 3000, "a\nb\x1b[2J.png", "\udcb8.png"])
def test_odd_paths_are_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError) as caught:
        read_image(f"{tmp_path}/{name}")
    message = str(caught.value)
    assert message.isprintable() and len(message) < 400


@pytest.mark.parametrize(
    "content",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0" * 400,
        b"\xff\x4f\xff\x51" + b"\0" * 400,
        b"DDS \x7c\0\0\0" + b"\0" * 200,
        b"8BPS\0\1" + b"\0" * 100,
        b"\0\0\1\0\1\0" + b"\0" * 100,
    ],
)
def test_only_the_listed_formats_reach_a_decoder(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decoded(*_: object) -> None:
        raise AssertionError("OpenCV was asked")

    monkeypatch.setattr(cv2, "imdecode", decoded)
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(ImageError, match="give JPEG, PNG, TIFF, BMP or WebP"):
        read_image(tmp_path / "x.png")


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, bits: int, colours: int) -> bytes:
    """A PNG of zeros; a small file whatever its size."""
    packer = zlib.compressobj(9)
    row = b"\0" * (1 + width * (3 if colours == 2 else 1) * bits // 8)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def test_deep_images_have_a_quarter_of_the_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "MAX_PIXELS", 4000)
    for bits, side in ((8, 63), (16, 31)):
        (tmp_path / "most.png").write_bytes(png(side, side, bits, 2))
        assert read_image(tmp_path / "most.png").shape == (side, side, 3)
        (tmp_path / "more.png").write_bytes(png(side + 1, side + 1, bits, 2))
        with pytest.raises(ImageError, match=f"more than {4000 if bits == 8 else 1000}"):
            read_image(tmp_path / "more.png")


@pytest.mark.parametrize(("bits", "colours"), [(8, 2), (8, 0), (16, 2), (16, 0)])
def test_memory_is_a_small_multiple_of_the_result(
    tmp_path: Path, bits: int, colours: int, run_python: Callable
) -> None:
    side = 6000 if bits == 8 else 4000
    (tmp_path / "a.png").write_bytes(png(side, side, bits, colours))
    # Not getrusage: its peak starts with the memory of the process that started this one.
    code = (
        "import re, sys; from mindground.files.images import read_image;"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) * 1024;"
        "before = peak();"
        "result = read_image(sys.argv[1]); print((peak() - before) / result.nbytes)"
    )
    done = run_python(["-c", code, str(tmp_path / "a.png")])
    # The decoder's own pixels (16 bits: twice the result, and Pillow's check of the file), and the result.
    assert 0.9 < float(done.stdout) < (3 if bits == 8 else 7.5), done.stderr


def test_a_jpeg_of_endless_scans_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(image()).save(tmp_path / "a.jpg", progressive=True)
    data = (tmp_path / "a.jpg").read_bytes()
    start = data.rindex(b"\xff\xda")
    (tmp_path / "b.jpg").write_bytes(data[:-2] + data[start:-2] * 30 + b"\xff\xd9")
    monkeypatch.setattr(images, "_MAX_SCANNED_PIXELS", 24 * 36 * 20)
    assert read_image(tmp_path / "a.jpg").shape == (24, 36, 3)
    with pytest.raises(ImageError, match="scans"):
        read_image(tmp_path / "b.jpg")


def test_opencv_sees_no_other_chunk_of_a_png_than_pixels(tmp_path: Path) -> None:
    deep = image().astype(np.uint16) * 16
    cv2.imwrite(str(tmp_path / "a.png"), deep[..., ::-1])
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(data[:33] + chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)) + data[33:])
    assert b"acTL" not in pixel_chunks((tmp_path / "b.png").read_bytes())
    np.testing.assert_array_equal(read_image(tmp_path / "b.png"), read_image(tmp_path / "a.png"))


def test_bands_of_other_formats_are_red_green_and_blue(tmp_path: Path) -> None:
    Image.fromarray(image()).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", bands=(3, 2, 1)), image()[..., ::-1])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", bands=(2,)), image()[..., [1, 1, 1]])
    for bands in ((4, 3, 2), (0, 1, 2), (1, 2), ()):
        with pytest.raises(ImageError, match=r"a.png has 3 bands"):
            read_image(tmp_path / "a.png", bands=bands)


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
