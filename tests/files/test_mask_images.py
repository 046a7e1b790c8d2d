"""Masks of every kind of image: which pixels belong to the object."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mindground.errors import ImageError
from mindground.files.mask_images import read_mask

TRUTH = np.zeros((16, 24), bool)
TRUTH[4:12, 8:16] = True


def _palette() -> Image.Image:
    image = Image.fromarray(TRUTH.astype(np.uint8), mode="P")
    image.putpalette([200, 200, 200, 0, 0, 0])  # the background is bright, the object black
    return image


def _alpha() -> Image.Image:
    pixels = np.full((16, 24, 4), 255, np.uint8)
    pixels[..., :3] = 5 * TRUTH[..., None]
    return Image.fromarray(pixels)


KINDS = {
    "one.png": lambda: Image.fromarray(TRUTH.astype(np.uint8)),
    "bits.png": lambda: Image.fromarray(TRUTH),
    "deep.png": lambda: Image.fromarray(TRUTH.astype(np.uint16)),
    "palette.png": _palette,
    "alpha.png": _alpha,
    "colour.bmp": lambda: Image.fromarray(np.repeat(TRUTH[..., None], 3, 2).astype(np.uint8) * 255),
    "grey.tif": lambda: Image.fromarray(TRUTH.astype(np.uint8)),
    "white.jpg": lambda: Image.fromarray(TRUTH.astype(np.uint8) * 255),
}


@pytest.mark.parametrize("name", KINDS)
def test_kinds(name: str, tmp_path: Path) -> None:
    KINDS[name]().save(tmp_path / name)
    found = read_mask(tmp_path / name)
    assert found.dtype == np.uint8 and np.array_equal(found, TRUTH)


def test_what_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ImageError, match=r"text\.png is not an image"):
        read_mask(tmp_path / "text.png")
    with pytest.raises(ImageError, match="cannot be opened"):
        read_mask(tmp_path / "missing.png")
    with pytest.raises(ImageError, match="is a folder"):
        read_mask(tmp_path)
    cv2.imwrite(str(tmp_path / "deep.tif"), TRUTH.astype(np.uint16))
    with pytest.raises(ImageError, match="16 bits"):
        read_mask(tmp_path / "deep.tif")
    cv2.imwrite(str(tmp_path / "colours.png"), np.ones((4, 4, 3), np.uint16))
    with pytest.raises(ImageError, match="16 bits"):
        read_mask(tmp_path / "colours.png")
