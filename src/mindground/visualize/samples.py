"""Samples of a data set with their truth and what a checkpoint finds: what `mindground show` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mindground.data import Dataset
from mindground.errors import DataError
from mindground.files.images import read_image
from mindground.structures import Prediction
from mindground.visualize.drawing import contact_sheet, draw, save_png, side_by_side

__all__ = ["choose_indexes", "show_samples"]

_SHEET_PANEL_WIDTH = 420

Ask = Callable[[np.ndarray, str | None], Prediction]


def choose_indexes(count: int, wanted: int) -> list[int]:
    """`wanted` sample numbers spread evenly over `count` samples, the same ones every time."""
    return sorted({int(i) for i in np.linspace(0, count - 1, min(wanted, count))})


def show_samples(
    ask: Ask, dataset: Dataset, indexes: Sequence[int], out: str | Path, *, sheet: bool = False, title: str = ""
) -> Path:
    """Draw samples of a data set and return the path of the picture.

    Args:
        ask: (image, expression or None) -> prediction; a `Predictor` is one.
        out: the .png file, or a folder, in which the name is chosen.
        sheet: True lays truth and prediction over each other, one small panel per sample; False shows
            truth, prediction and the family's attention maps of every sample beside each other.
    Raises:
        DataError: an index that the split does not have.
    """
    bad = [index for index in indexes if not 0 <= index < len(dataset)]
    if bad or not indexes:
        raise DataError(f"split {dataset.split!r} has samples 0 to {len(dataset) - 1}, not {bad or 'an empty list'}")
    panels = []
    for index in indexes:
        sample = dataset[index]
        image = read_image(sample.image_path)
        prediction = ask(image, sample.expression)
        if sheet:
            panels.append(draw(image, prediction, sample, width=_SHEET_PANEL_WIDTH))
        else:
            panels.append(side_by_side(image, prediction, sample))
    picture = contact_sheet(panels, None if sheet else 1, title=title) if sheet or len(panels) > 1 else panels[0]
    name = "contact_sheet.png" if sheet else f"samples_{'_'.join(map(str, indexes[:8]))}.png"
    out = Path(out)
    return save_png(out if out.suffix.lower() == ".png" else out / name, picture)
