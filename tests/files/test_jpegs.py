"""A JPEG with a hole in it is named, a whole one and other formats are not."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mindground.errors import ImageError
from mindground.files.jpegs import jpeg_damage, warn_of_damage


def save(path: Path, **options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    Image.fromarray(pixels).resize((160, 120), Image.Resampling.BICUBIC).save(path, **options)
    return path.read_bytes()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 95, "subsampling": 0}])
def test_a_hole_is_found(tmp_path: Path, options: dict[str, object], caplog: pytest.LogCaptureFixture) -> None:
    whole = save(tmp_path / "a.jpg", **options)
    assert jpeg_damage(tmp_path / "a.jpg") == ""
    middle = len(whole) * 2 // 3
    (tmp_path / "hole.jpg").write_bytes(whole[:middle] + bytes(120) + whole[middle + 120 :])
    assert "JPEG" in jpeg_damage(tmp_path / "hole.jpg")
    with caplog.at_level(logging.WARNING, "mindground"):
        warn_of_damage(tmp_path / "a.jpg")
        assert not caplog.records
        warn_of_damage(tmp_path / "hole.jpg")
        warn_of_damage(tmp_path / "absent.jpg")
    (record,) = caplog.records
    assert "hole.jpg" in record.getMessage()
    # The answers belong to the files that were asked about.
    assert [bool(jpeg_damage(tmp_path / f"{name}.jpg")) for name in ("a", "hole", "a")] == [False, True, False]


def test_other_files(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    assert jpeg_damage(tmp_path / "a.png") == ""
    with pytest.raises(ImageError):
        jpeg_damage(tmp_path)
