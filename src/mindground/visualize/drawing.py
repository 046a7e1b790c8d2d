"""Figures of an image with the truth, the prediction and a caption.

cv2 draws boxes and masks, Pillow draws text in any script. Every public function takes RGB uint8 arrays, returns a new
one and does not change its arguments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mindground.errors import ImageError
from mindground.files.atomic import atomic_file
from mindground.structures import Prediction, Truth
from mindground.visualize.caption import Caption, plain_caption
from mindground.visualize.text_drawing import Word, draw_text, fit_lines, line_height, text_width

__all__ = ["STYLES", "Palette", "attention_overlay", "contact_sheet", "draw", "panels_of", "save_png", "side_by_side"]

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Palette:
    """Colours of a figure, RGB. Truth is green and prediction blue, as in VG-LAW's own figures.

    Attributes:
        contour: colour of a line just outside of every mask; then a mask has no frame. None draws the mask's edge in
            its own colour, and the frame of its box.
    """

    truth: Colour = (34, 197, 94)
    prediction: Colour = (59, 130, 246)
    halo: Colour = (15, 23, 42)
    paper: Colour = (255, 255, 255)
    ink: Colour = (15, 23, 42)
    faint: Colour = (100, 116, 139)
    rule: Colour = (226, 232, 240)
    mask_opacity: float = 0.38
    contour: Colour | None = None


STYLES = {"frame": Palette(), "contour": Palette(prediction=(255, 0, 0), mask_opacity=0.6, contour=(0, 0, 0))}
"""Styles of figures by name. `contour` is that of LAVT's demo: a strong colour and a dark line around it."""


@dataclass
class _Layer:
    """One set of objects to draw over the image: its name in the legend, its colour, boxes, masks and texts."""

    name: str
    colour: Colour
    boxes: np.ndarray
    masks: np.ndarray
    # One beside each box, or none.
    texts: tuple[str, ...] = ()
    below: bool = False


_PALETTE = STYLES["frame"]
# Height in pixels of the texts beside boxes.
_TEXT_SIZE = 12


def draw(
    image: np.ndarray,
    prediction: Prediction | None = None,
    truth: Truth | None = None,
    *,
    caption: Caption | None = None,
    expression: str | None = None,
    width: int | None = None,
    palette: Palette = _PALETTE,
) -> np.ndarray:
    """One panel: the image with truth and prediction on it, and a caption below.

    Args:
        image: (H, W, 3) uint8 RGB, the original image.
        prediction, truth: in pixels of `image`; None draws nothing.
        caption: the words, and which predictions are drawn, as `Task.caption` gives them; by default the words that
            follow from the prediction alone.
        expression: the sentence in the caption; by default the caption's own.
        width: width of the panel in pixels; by default close to the image's own size.
        palette: colours.

    Returns:
        (H', W', 3) uint8 RGB.

    Raises:
        ImageError: the array is not an RGB uint8 image, or the prediction belongs to another size.
    """
    words = _words(prediction, caption, expression)
    _check_image(image, prediction)
    layers = _layers((image.shape[0], image.shape[1]), prediction, truth, words, palette)
    return _panel(image, layers, words.sentence, words.note, width, palette)


def side_by_side(
    image: np.ndarray,
    prediction: Prediction,
    truth: Truth,
    *,
    caption: Caption | None = None,
    expression: str | None = None,
    width: int | None = None,
    palette: Palette = _PALETTE,
) -> np.ndarray:
    """One row of panels: the truth, the prediction, and the attention maps that the family gives.

    See `draw` for arguments, result and errors.
    """
    words = _words(prediction, caption, expression)
    left = draw(image, None, truth, caption=replace(words, note=""), width=width, palette=palette)
    right = draw(image, prediction, None, caption=words, width=width, palette=palette)
    return contact_sheet([left, right, *panels_of(image, prediction, width=width, palette=palette)], columns=0)


def _words(prediction: Prediction | None, caption: Caption | None, expression: str | None) -> Caption:
    words = plain_caption(prediction) if caption is None else caption
    return replace(words, sentence=expression) if expression else words


def panels_of(
    image: np.ndarray, prediction: Prediction, *, width: int | None = None, palette: Palette = _PALETTE
) -> list[np.ndarray]:
    """One panel for every attention map in `prediction.extras`.

    An attention map is a 2-D array of any resolution whose key starts with "attention"; it covers the whole original
    image. Raises ImageError like `draw`.
    """
    panels = []
    for name, value in sorted(prediction.extras.items()):
        values = np.asarray(value) if name.startswith("attention") else np.zeros(0)
        if values.ndim == 2 and values.size:
            canvas, _ = _scaled(attention_overlay(image, values), width)
            panels.append(_with_caption(canvas, name.replace("_", " "), [], "", palette))
    return panels


def attention_overlay(image: np.ndarray, attention: np.ndarray, opacity: float = 0.6) -> np.ndarray:
    """The image (H, W, 3) uint8 RGB with a heat map over it.

    Args:
        attention: (h, w), non-negative; it is resized to the whole image.
        opacity: of the heat map at the maximum, in [0, 1].

    Raises:
        ImageError: the array is not an RGB uint8 image.
    """
    _check_image(image)
    height, width = image.shape[:2]
    attention = np.asarray(attention, np.float32)
    low, high = float(attention.min()), float(attention.max())  # before resizing: cubic overshoots
    values = cv2.resize(attention, (width, height), interpolation=cv2.INTER_CUBIC)
    values = np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros_like(values)
    heat = cv2.applyColorMap((values * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    weight = (opacity * np.sqrt(values))[..., None]
    return np.rint(image * (1 - weight) + heat * weight).astype(np.uint8)


def contact_sheet(
    panels: Sequence[np.ndarray],
    columns: int | None = None,
    *,
    gap: int = 16,
    title: str = "",
    palette: Palette = _PALETTE,
) -> np.ndarray:
    """Panels in rows on a white background; every row is as high as its highest panel.

    Args:
        panels: (h, w, 3) uint8 RGB each.
        columns: panels in a row; None chooses a sheet that is slightly wider than high, 0 means one row.
        gap: pixels between the panels.
        title: one line above the panels.

    Raises:
        ValueError: there are no panels.
        ImageError: a panel is not an RGB uint8 image.
    """
    if not panels:
        raise ValueError("a contact sheet needs at least one panel")
    for panel in panels:
        _check_image(panel)
    count = len(panels)
    columns = count if columns == 0 else columns or min(count, max(1, round(math.sqrt(count * 1.3))))
    rows = [panels[start : start + columns] for start in range(0, count, columns)]
    cell = max(panel.shape[1] for panel in panels)
    heights = [max(panel.shape[0] for panel in row) for row in rows]
    head = line_height(24) + gap if title else 0
    sheet_width = columns * cell + (columns + 1) * gap
    sheet = np.full((sum(heights) + (len(rows) + 1) * gap + head, sheet_width, 3), palette.paper, np.uint8)
    if title:
        lines = fit_lines(title, 24, sheet_width - 2 * gap, 1, bold=True)
        sheet = draw_text(sheet, [(gap, gap, lines[0], 24, palette.ink, True)] if lines else [])
    top = gap + head
    for row, height in zip(rows, heights, strict=True):
        for column, panel in enumerate(row):
            left = gap + column * (cell + gap)
            sheet[top : top + panel.shape[0], left : left + panel.shape[1]] = panel
        top += height + gap
    return sheet


def save_png(path: str | Path, image: np.ndarray) -> Path:
    """Write an image (H, W, 3) uint8 RGB and return its path. Raises WriteError when the file cannot be written."""
    with atomic_file(path) as stream:
        Image.fromarray(image).save(stream, format="PNG")
    return Path(path)


def _check_image(image: np.ndarray, prediction: Prediction | None = None) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ImageError(f"an image must be (height, width, 3) uint8 RGB; this one is {image.shape} {image.dtype}")
    if prediction is not None and tuple(prediction.size) != image.shape[:2]:
        raise ImageError(
            f"the prediction belongs to an image of size {tuple(prediction.size)}, this one is {image.shape[:2]}"
        )


def _layers(
    size: tuple[int, int], prediction: Prediction | None, truth: Truth | None, words: Caption, palette: Palette
) -> list[_Layer]:
    """The layers to draw, the truth first so that the prediction is on top."""
    layers = []
    if truth is not None:
        outlined = truth.masks is not None and len(truth.boxes_xyxy) > 0
        masks = truth.masks(size) if truth.masks is not None and outlined else np.zeros((0, *size), np.uint8)
        layers.append(_Layer("truth", palette.truth, truth.boxes_xyxy, masks, words.truth_texts, below=True))
    if prediction is not None:
        shown = prediction if words.shown is None else prediction.select(np.asarray(words.shown, np.int64))
        boxes, masks = shown.boxes_xyxy, shown.mask_arrays()
        layers.append(_Layer(words.legend, palette.prediction, boxes, masks, words.prediction_texts))
    return layers


def _scaled(image: np.ndarray, width: int | None) -> tuple[np.ndarray, tuple[float, float]]:
    """A writable copy, `width` pixels wide or with a long side of 640 to 1280 pixels; and the (x, y) scale."""
    high, wide = image.shape[:2]
    longest = max(high, wide)
    factor = width / wide if width else min(max(longest, 640), 1280) / longest
    # Otherwise an image of 1 x 5000 pixels would give an extremely high panel.
    factor = min(factor, 2560 / longest)
    new_wide, new_high = max(1, round(wide * factor)), max(1, round(high * factor))
    if factor < 1:
        method = cv2.INTER_AREA
    else:
        method = cv2.INTER_CUBIC if factor <= 16 else cv2.INTER_NEAREST  # above, show pixels as pixels
    resized = cv2.resize(image, (new_wide, new_high), interpolation=method)
    return np.array(resized, copy=True), (new_wide / wide, new_high / high)


def _draw_masks(canvas: np.ndarray, layer: _Layer, palette: Palette) -> None:
    """Blend every mask with the layer's colour and draw its edge, or the contour around it, in place."""
    height, width = canvas.shape[:2]
    widest = _stroke(canvas) - 1
    for mask in layer.masks:
        soft = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
        if height > mask.shape[0]:
            soft = cv2.GaussianBlur(soft, (0, 0), max(0.6, 0.35 * height / mask.shape[0]))
        inside = soft >= 0.5
        weight = (soft * palette.mask_opacity)[..., None]
        canvas[:] = np.rint(canvas * (1 - weight) + np.asarray(layer.colour, np.float32) * weight).astype(np.uint8)
        if palette.contour is not None:
            around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * widest + 1, 2 * widest + 1))
            canvas[(cv2.dilate(inside.astype(np.uint8), around) > 0) & ~inside] = palette.contour
            continue
        outline, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        stroke = widest if np.count_nonzero(inside) > 2500 else 1
        cv2.drawContours(canvas, outline, -1, layer.colour, stroke, cv2.LINE_AA)


def _stroke(canvas: np.ndarray) -> int:
    return max(2, round(max(canvas.shape[:2]) / 360))


def _draw_boxes(canvas: np.ndarray, layer: _Layer, scale: tuple[float, float], palette: Palette) -> None:
    """Draw anti-aliased frames with a dark halo, visible on bright and dark images, in place."""
    fraction, widest = 4, _stroke(canvas)
    high, wide = canvas.shape[:2]
    halo = canvas.copy()
    frames = []
    for box in layer.boxes:
        edges = np.asarray(box, np.float64) * (*scale, *scale)
        # Thick frames would hide small objects.
        stroke = int(np.clip(min(edges[2] - edges[0], edges[3] - edges[1]) / 12, 1, widest))
        edges = np.clip(edges, stroke / 2, [wide - stroke / 2, high - stroke / 2] * 2)
        low, top = (tuple(int(v) for v in np.rint(edge * 2**fraction)) for edge in (edges[:2], edges[2:]))
        cv2.rectangle(halo, low, top, palette.halo, stroke + 2, cv2.LINE_AA, fraction)
        frames.append((low, top, stroke))
    canvas[:] = cv2.addWeighted(halo, 0.55, canvas, 0.45, 0)
    for low, top, stroke in frames:
        cv2.rectangle(canvas, low, top, layer.colour, stroke, cv2.LINE_AA, fraction)


def _draw_texts(canvas: np.ndarray, layers: Sequence[_Layer], scale: tuple[float, float], palette: Palette) -> None:
    """Write the texts of all layers beside their boxes, in place; where there is room, none covers another."""
    taken: list[np.ndarray] = []
    for layer in layers:
        words: list[Word] = []
        for box, text in zip(layer.boxes, layer.texts, strict=True) if layer.texts else ():
            if not text:
                continue
            width = text_width(text, _TEXT_SIZE, bold=True)
            places = _places(np.asarray(box, np.float64) * (*scale, *scale), width, canvas.shape[:2], layer.below)
            place = next((p for p in places if not any(_overlap(p, other) for other in taken)), places[0])
            taken.append(place)
            words.append((float(place[0]), float(place[1]), text, _TEXT_SIZE, palette.paper, True))
        if words:
            canvas[:] = draw_text(canvas, words, background=layer.colour)


def _places(edges: np.ndarray, width: float, size: tuple[int, ...], below: bool) -> list[np.ndarray]:
    """Places (4,) xyxy for a text at a box (xyxy), the best first, all on a canvas of `size` (height, width).

    Outside the box small objects stay visible: above it, or below it where that is wanted, then the other side.
    """
    high = line_height(_TEXT_SIZE)
    above, under = edges[1] - high - 2, edges[3] + 3
    tops = [under, above] if below else [above, under]
    tops += [edges[1] + 2, edges[3] - high - 1]
    places = []
    for left in (edges[0] + 2, edges[2] - width - 2):
        for top in tops:
            x = np.clip(left, 3, max(3, size[1] - width - 3))
            y = np.clip(top, 1, max(1, size[0] - high))
            places.append(np.asarray([x, y, x + width, y + high]))
    return places


def _overlap(one: np.ndarray, other: np.ndarray) -> bool:
    # Three pixels on the left and on the right belong to the background of a text.
    gap = np.asarray([6, 0])
    return bool((one[:2] < other[2:] + gap).all() and (other[:2] < one[2:] + gap).all())


def _panel(
    image: np.ndarray, layers: Sequence[_Layer], sentence: str, note: str, width: int | None, palette: Palette
) -> np.ndarray:
    """The image with all layers and a caption."""
    canvas, scale = _scaled(image, width)
    for layer in layers:
        _draw_masks(canvas, layer, palette)
    for layer in layers:
        if palette.contour is None or not len(layer.masks):
            _draw_boxes(canvas, layer, scale, palette)
    _draw_texts(canvas, layers, scale, palette)
    return _with_caption(canvas, sentence, [(layer.name, layer.colour) for layer in layers], note, palette)


def _with_caption(
    canvas: np.ndarray, sentence: str, legend: Sequence[tuple[str, Colour]], note: str, palette: Palette
) -> np.ndarray:
    """Add a white band with sentence, legend and numbers below an image."""
    wide = max(canvas.shape[1], 260)
    size = int(np.clip(round(wide / 30), 15, 26))
    small = max(13, round(size * 0.78))
    margin = max(10, size // 2 + 3)
    lines = fit_lines(sentence, size, wide - 2 * margin, 3, bold=True) if sentence else []
    height = margin + len(lines) * line_height(size) + (line_height(small) + 6 if legend or note else 0) + margin // 2
    panel = np.full((canvas.shape[0] + height, wide, 3), palette.paper, np.uint8)
    left = (wide - canvas.shape[1]) // 2
    panel[: canvas.shape[0], left : left + canvas.shape[1]] = canvas
    y = canvas.shape[0] + margin // 2 + 2
    words: list[Word] = []
    for line in lines:
        words.append((margin, y, line, size, palette.ink, True))
        y += line_height(size)
    y += 6
    x = float(margin)
    for name, colour in legend:
        middle = y + line_height(small) // 2
        half = small // 2 - 2
        cv2.circle(panel, (int(x) + half, middle), half, colour, -1, cv2.LINE_AA)
        words.append((x + small + 3, y, name, small, palette.faint, False))
        x += small + text_width(name, small) + 20
    if note:
        right = wide - margin - text_width(note, small, bold=True)
        if right < x:  # too wide for the line of the legend: a new line
            panel = np.concatenate([panel, np.full((line_height(small), wide, 3), palette.paper, np.uint8)])
            right, y = margin, y + line_height(small)
        words.append((right, y, note, small, palette.ink, True))
    panel = draw_text(panel, words)
    cv2.rectangle(panel, (0, 0), (panel.shape[1] - 1, panel.shape[0] - 1), palette.rule, 1)
    return panel
