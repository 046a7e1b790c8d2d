"""Images and rasters: formats that start programs or break decoders, small files of many pixels, side files."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Callable, Iterator

from attack.child import EVIDENCE
from attack.containers import png, png_chunk, tiff, zlib_zeros
from attack.hostile.case import Case, either, refused
from attack.seeds import rasters

__all__ = ["cases"]

GHOSTSCRIPT = f"#!/bin/sh\necho x >{EVIDENCE}\n"
"""Stands first on the path while these images are read; nothing may start it."""
_GEO = (
    (33550, 12, [1.0, 1.0, 0.0]),
    (33922, 12, [0.0, 0.0, 0.0, 5.0, 45.0, 0.0]),
    (34735, 3, [1, 1, 0, 3, 1024, 0, 1, 2, 1025, 0, 1, 1, 2048, 0, 1, 4326]),
)
"""Tags of a raster in degrees."""


def cases() -> Iterator[Case]:
    """All of them."""
    for name, data in _programs().items():
        yield refused(f"image: {name}", "image", data, beside={"bin/gs": GHOSTSCRIPT.encode()})
        yield either(f"mask image: {name}", "mask_image", data, beside={"bin/gs": GHOSTSCRIPT.encode()})
    for place in (35, *range(40, 120, 16), 125, 126):
        for value in (0, 1, 128, 255):
            data = _jpeg2000(place, value)
            yield either(f"image: JPEG 2000 with byte {place} = {value}", "image", data)
    for name, made in _large().items():
        yield either(f"image: {name}", "image", made)
        yield either(f"raster: {name}", "raster", made)
        yield either(f"mask image: {name}", "mask_image", made)
    for name, made in _odd().items():
        yield either(f"image: {name}", "image", made)
        yield either(f"mask image: {name}", "mask_image", made)
    for name, made in _rasters().items():
        yield either(f"raster: {name}", "raster", made)
    yield from _side_files()


_JPEG2000 = base64.b64decode(
    "AAAADGpQICANCocKAAAAFGZ0eXBqcDIgAAAAAGpwMiAAAAAtanAyaAAAABZpaGRyAAAAIAAAACAAAwcHAAAAAAAPY29scgEAAAAA"
    "ABAAAACwanAyY/9P/1EALwAAAAAAIAAAACAAAAAAAAAAAAAAACAAAAAgAAAAAAAAAAAAAwcBAQcBAQcBAf9SAAwAAAABAAUEBAAB"
    "/1wAE0BASEhQSEhQSEhQSEhQSEhQ/2QAJQABQ3JlYXRlZCBieSBPcGVuSlBFRyB2ZXJzaW9uIDIuNS4w/5AACgAAAAAAKQAB/5Pf"
    "eAgH33gIB994CAeAgICAgICAgICAgICAgID/2Q=="
)
"""A black image of 32 x 32 as OpenCV writes it."""


def _jpeg2000(place: int, value: int) -> bytes:
    """The image with one byte changed: in places 35, 125 and 126 OpenCV's decoder writes where nothing is."""
    return _JPEG2000[:place] + bytes([value]) + _JPEG2000[place + 1 :]


def _programs() -> dict[str, bytes]:
    script = f"({EVIDENCE}) (w) file closefile showpage"
    eps = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n{script}\n%%EOF\n".encode()
    return {
        "EPS, which starts an interpreter": eps,
        "EPS with a binary head": struct.pack("<IIIIIIIH", 0xC6D3D0C5, 32, len(eps), 0, 0, 0, 0, 0xFFFF)
        + b"\0\0"
        + eps,
        "PDF": b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n%%EOF\n",
        "SVG with a file in it": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        "WMF": b"\xd7\xcd\xc6\x9a" + bytes(40),
        "MPO of nothing": b"\xff\xd8\xff\xe2\x00\x10MPF\0" + bytes(20),
        "FITS": b"SIMPLE  =                    T".ljust(2880),
        "empty": b"",
        "text": b"hello\n",
        "a web page": b"<!DOCTYPE html><html></html>",
    }


def _large() -> dict[str, bytes | Callable[[], bytes]]:
    """Few bytes, many pixels."""

    def zeros(width: int, height: int, depth: int, channels: int = 3) -> Callable[[], bytes]:
        size = height * (width * channels * depth // 8 + 1)
        color = 2 if channels == 3 else 0
        return lambda: png(width, height, zlib_zeros(size), depth=depth, color=color)

    def deflated(side: int, bits: tuple[int, ...], kind: int) -> Callable[[], bytes]:
        size = side * side * sum(bits) // 8
        return lambda: tiff(side, side, zlib_zeros(size), bits=bits, sample_format=kind, compression=8)

    return {
        "PNG header of 20000 x 20000": png(20_000, 20_000),
        "PNG header of 2 ** 31": png(2**31 - 1, 2**31 - 1),
        "PNG header of 40000 x 34000, packed garbage": png(40_000, 34_000, zlib.compress(bytes(100))),
        "PNG of 0 x 0": png(0, 0),
        "PNG of 1 x 100000000": png(1, 100_000_000),
        "PNG 13000 x 13000": zeros(13_000, 13_000, 8),
        "PNG 13000 x 13000, 16 bit": zeros(13_000, 13_000, 16),
        "PNG 6500 x 6500, 16 bit": zeros(6_500, 6_500, 16),
        "PNG 12000 x 12000, 16 bit, grey": zeros(12_000, 12_000, 16, 1),
        "TIFF header of 30000 x 30000": tiff(30_000, 30_000, bytes(10)),
        "TIFF header of 10000 x 10000": tiff(10_000, 10_000, bytes(10)),
        "TIFF floats, header of 30000 x 30000": tiff(30_000, 30_000, bytes(12), bits=(32,) * 3, sample_format=3),
        "TIFF floats 12000 x 12000": deflated(12_000, (32, 32, 32), 3),
        "TIFF 16 bit 10000 x 10000": deflated(10_000, (16, 16, 16), 1),
        "TIFF 8 bit 12000 x 12000": deflated(12_000, (8, 8, 8), 1),
        "PAM header of 30000 x 30000": b"P7\nWIDTH 30000\nHEIGHT 30000\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n"
        + bytes(99),
        "PPM header of 30000 x 30000": b"P6\n30000 30000\n255\n" + bytes(99),
        "PFM header of 30000 x 30000": b"PF\n30000 30000\n-1.0\n" + bytes(99),
        "HDR header of 30000 x 30000": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 30000 +X 30000\n"
        + b"\2\2\x75\x30" * 99,
        "HDR run lengths 32767 x 2000": _radiance,
        "GIF header of 65535 x 65535": b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\0\0\0;",
        "BMP header of 60000 x 60000": b"BM"
        + struct.pack("<IHHI", 100, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)
        + bytes(46),
        "BMP of height below zero": b"BM"
        + struct.pack("<IHHI", 100, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 12_000, -(2**31), 1, 24, 0, 0, 0, 0, 0, 0)
        + bytes(46),
        "WebP header of 16383 x 16383": b"RIFF\x1a\0\0\0WEBPVP8L\r\0\0\0\x2f"
        + struct.pack("<I", 0x0FFFFFFF)
        + bytes(12),
        "JPEG header of 65500 x 65500": _jpeg_head(0xC0, 65_500),
        "progressive JPEG header of 12000 x 12000": _jpeg_head(0xC2, 12_000),
    }


def _jpeg_head(kind: int, side: int) -> bytes:
    frame = struct.pack(">BBHBHHB", 0xFF, kind, 17, 8, side, side, 3) + b"\x01\x11\0\x02\x11\1\x03\x11\1"
    return b"\xff\xd8" + frame + b"\xff\xda\0\x0c\3\1\0\2\x11\3\x11\0\x3f\0" + bytes(20) + b"\xff\xd9"


def _radiance(width: int = 32_767, height: int = 2_000) -> bytes:
    line = b"\2\2" + struct.pack(">H", width)
    for _ in range(4):
        line += bytes([255, 1]) * (width // 127) + bytes([128 + width % 127, 1])
    return b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y %d +X %d\n" % (height, width) + line * height


def _odd() -> dict[str, bytes | Callable[[], bytes]]:
    pixels = zlib.compress(bytes(4 * 13))

    def chunk(kind: bytes, head: bytes, size: int) -> Callable[[], bytes]:
        return lambda: png(4, 4, pixels, more=png_chunk(kind, head + zlib_zeros(size)))

    exif = io.BytesIO()
    from PIL import Image

    Image.new("RGB", (16, 16)).save(exif, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(20))
    return {
        "PNG text of 200 MB": chunk(b"zTXt", b"a\0\0", 200 << 20),
        "PNG text of 1.5 GB": chunk(b"zTXt", b"a\0\0", 1536 << 20),
        "PNG profile of 200 MB": chunk(b"iCCP", b"a\0\0", 200 << 20),
        "PNG international text of 200 MB": chunk(b"iTXt", b"a\0\1\0\0\0", 200 << 20),
        "PNG with 200 MB behind its pixels": lambda: png(4, 4, zlib_zeros(200 << 20)),
        "PNG with a chunk of 2 GB": b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 2**31 - 1) + b"IHDR" + bytes(30),
        "PNG without pixels": png(4, 4),
        "PNG of an unknown depth": png(4, 4, pixels, depth=7),
        "PNG of an unknown colour": png(4, 4, pixels, color=5),
        "TIFF of 64 bit floats": tiff(4, 4, struct.pack("<d", float("nan")) * 48, bits=(64,) * 3, sample_format=3),
        "TIFF of NaN": tiff(4, 4, struct.pack("<f", float("nan")) * 48, bits=(32,) * 3, sample_format=3),
        "TIFF of 4 GB in one value": tiff(4, 4, bytes(48), more=((700, 4, [1] * 5),)).replace(
            struct.pack("<HHI", 700, 4, 5), struct.pack("<HHI", 700, 4, 2**30)
        ),
        "TIFF whose directory is itself": b"II*\0" + struct.pack("<IH", 8, 0) + struct.pack("<I", 8),
        "TIFF of 1000 bands": tiff(4, 4, bytes(16_000), bits=(8,) * 1000),
        "TIFF cut short": tiff(4, 4, bytes(48))[:-40],
        "JPEG with broken EXIF": exif.getvalue(),
        "DDS of unknown flags": b"DDS " + struct.pack("<I", 124) + bytes(120),
        "ICO of nothing": b"\0\0\1\0\xff\xff" + bytes(16),
        "PSD of 30000 x 30000": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 30_000, 30_000, 8, 3) + bytes(40),
    }


def _rasters() -> dict[str, bytes | Callable[[], bytes]]:
    def placed(*values: float) -> bytes:
        return tiff(4, 4, bytes(48), more=(_GEO[0], (33922, 12, list(values)), _GEO[2]))

    local = (34735, 3, [1, 1, 0, 1, 1024, 0, 1, 32767])
    unknown = (34735, 3, [1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 65000])
    mercator = (34735, 3, [1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32631])
    return {
        "30000 x 30000, header": tiff(30_000, 30_000, bytes(10), more=_GEO),
        "60000 x 60000, no data": tiff(60_000, 60_000, b"", more=_GEO),
        "400000 x 400000, header": tiff(400_000, 400_000, b"\0", more=_GEO),
        "13000 x 13000, packed": lambda: tiff(
            13_000, 13_000, zlib_zeros(13_000 * 13_000 * 3), compression=8, more=_GEO
        ),
        "12000 x 12000 floats, packed": lambda: tiff(
            12_000, 12_000, zlib_zeros(12_000 * 12_000 * 4), bits=(32,), sample_format=3, compression=8, more=_GEO
        ),
        "a system without a way to degrees": tiff(4, 4, bytes(48), more=(*_GEO[:2], local)),
        "an unknown system": tiff(4, 4, bytes(48), more=(*_GEO[:2], unknown)),
        "far outside of its system": tiff(
            4, 4, bytes(48), more=(_GEO[0], (33922, 12, [0.0, 0.0, 0.0, 1e30, -1e30, 0.0]), mercator)
        ),
        "placed at NaN": placed(0, 0, 0, float("nan"), float("nan"), 0),
        "placed at infinity": placed(0, 0, 0, float("inf"), 0, 0),
        "pixels of no size": tiff(4, 4, bytes(48), more=((33550, 12, [0.0, 0.0, 0.0]), *_GEO[1:])),
        "65535 bands": tiff(1, 1, bytes(65_535), bits=(8,) * 65_535, more=_GEO),
        "complex numbers": tiff(4, 4, bytes(128), bits=(64,), sample_format=6, more=_GEO),
        "a VRT": b"<VRTDataset rasterXSize='4' rasterYSize='4'><VRTRasterBand dataType='Byte' band='1'><SimpleSource>"
        b"<SourceFilename>/etc/passwd</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>",
    }


def vrt(source: str) -> bytes:
    """A raster description that takes its pixels from another place."""
    return (
        '<VRTDataset rasterXSize="12" rasterYSize="10"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f"<SourceFilename>{source}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>"
        "</VRTRasterBand></VRTDataset>"
    ).encode()


def _side_files() -> Iterator[Case]:
    """A good raster, with files beside it that a reader must not open. A FIFO would be waited for."""
    for suffix in (".msk", ".ovr", ".aux.xml"):
        yield either(f"raster: FIFO {suffix}", "raster", lambda: rasters()[0], beside={f"x.tif{suffix}": None})
        yield either(
            f"raster: VRT {suffix}", "raster", lambda: rasters()[0], beside={f"x.tif{suffix}": vrt("/dev/zero")}
        )
    yield either("raster: FIFO world file", "raster", lambda: rasters()[0], beside={"x.tfw": None})
