"""Figures of data set samples with truth and prediction, as `mindground show` draws them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mindground.data import Dataset
from mindground.data.orientation import read_as_annotated
from mindground.errors import DataError
from mindground.structures import Prediction, Sample, instance_truth
from mindground.visualize.caption import Caption
from mindground.visualize.drawing import STYLES, Palette, contact_sheet, draw, save_png, side_by_side

__all__ = ["choose_indexes", "figure_path", "show_samples"]

_SHEET_PANEL_WIDTH = 420

Ask = Callable[[np.ndarray, str | None], Prediction]
Describe = Callable[[Sample, Prediction], Caption]


def choose_indexes(count: int, wanted: int) -> list[int]:
    """At most `wanted` indexes, ascending, spread evenly over `count` samples; the same ones every time.

    Raises:
        DataError: fewer than one is wanted.
    """
    if wanted < 1:
        raise DataError(f"{wanted} samples cannot be drawn; ask for 1 or more")
    return sorted({int(i) for i in np.linspace(0, count - 1, min(wanted, count))})


def show_samples(
    ask: Ask,
    dataset: Dataset,
    indexes: Sequence[int],
    out: str | Path,
    *,
    describe: Describe,
    sheet: bool = False,
    title: str = "",
    bands: Sequence[int] | None = None,
    palette: Palette = STYLES["frame"],
) -> Path:
    """Draw samples of a data set and return the path of the image file.

    Args:
        ask: (image, expression or None) -> prediction; a `Predictor` is one.
        dataset: split of a data set.
        indexes: samples to draw, in this order.
        out: the .png file, or a folder; then the name follows from the arguments.
        describe: (sample, prediction) -> the words of its figure; `Task.caption` is one.
        sheet: True draws truth and prediction into one small panel per sample; False draws truth, prediction
            and the family's attention maps of every sample side by side.
        title: one line above the panels.
        bands: of the image files, as `data.bands` says.
        palette: style of the figures.

    Raises:
        DataError: an index that the split does not have.
        ImageError: an image cannot be read.
        WriteError: the file cannot be written.
    """
    bad = [index for index in indexes if not 0 <= index < len(dataset)]
    if bad or not indexes:
        raise DataError(f"split {dataset.split!r} has samples 0 to {len(dataset) - 1}, not {bad or 'an empty list'}")
    panels = []
    for index in indexes:
        sample = dataset[index]
        image = read_as_annotated(sample.image_path, sample.size, bands)
        prediction = ask(image, sample.expression)
        words, truth = describe(sample, prediction), instance_truth(sample)
        if sheet:
            panels.append(draw(image, prediction, truth, caption=words, width=_SHEET_PANEL_WIDTH, palette=palette))
        else:
            panels.append(side_by_side(image, prediction, truth, caption=words, palette=palette))
    figure = contact_sheet(panels, None if sheet else 1, title=title) if sheet or len(panels) > 1 else panels[0]
    return save_png(figure_path(out, sheet=sheet, indexes=indexes), figure)


def figure_path(out: str | Path, *, sheet: bool, indexes: Sequence[int]) -> Path:
    """Where the figure of these samples is written: `out` itself where it names a .png file, else a file in it."""
    name = "contact_sheet.png" if sheet else f"samples_{'_'.join(map(str, indexes[:8]))}.png"
    out = Path(out)
    return out if out.suffix.lower() == ".png" else out / name
