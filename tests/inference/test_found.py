"""Predictions that know their image: figures, files, conversions."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mindground.errors import DataError, GeoError
from mindground.inference.found import FoundPrediction, found_in
from mindground.structures import Prediction, encode_mask


def made(source: Any) -> FoundPrediction:
    mask = np.zeros((40, 60), np.uint8)
    mask[5:20, 10:30] = 1
    plain = Prediction(
        (40, 60), [[10, 5, 30, 20], [0, 0, 9, 9]], [0.9, 0.2], [1, 2], (encode_mask(mask),) * 2, "a ship"
    )
    return found_in(plain, source)


def test_figures_and_files(tmp_path: Path) -> None:
    pixels = np.full((40, 60, 3), 90, np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for source in (pixels, tmp_path / "a.png"):
        found = made(source).at_least(0.5)
        assert isinstance(found, FoundPrediction) and len(found) == 1
        assert found.plot().ndim == 3 and (found._repr_png_() or b"")[:4] == b"\x89PNG"
    found.save(tmp_path / "out" / "a.png", style="contour")
    found.save(tmp_path / "out" / "a.json")
    assert json.loads((tmp_path / "out" / "a.json").read_text())[0]["bbox"] == [10, 5, 20, 15]
    with pytest.raises(GeoError, match="no GeoTIFF"):
        found.save(tmp_path / "out" / "a.geojson")
    with pytest.raises(DataError, match="choose .png"):
        found.save(tmp_path / "out" / "a.pdf")
    with pytest.raises(DataError, match="does not know its image"):
        made(None).plot()
    assert made(None)._repr_png_() is None


def test_supervision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(DataError, match="pip install supervision"):
        made(None).to_supervision()
    fake: Any = types.ModuleType("supervision")
    fake.Detections = lambda **given: given
    monkeypatch.setitem(sys.modules, "supervision", fake)
    given = made(None).to_supervision()
    assert given["xyxy"].shape == (2, 4) and given["mask"].dtype == bool and given["mask"].shape == (2, 40, 60)
    assert given["class_id"].tolist() == [1, 2] and given["data"]["text"].tolist() == ["a ship", "a ship"]
