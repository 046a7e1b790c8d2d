"""Figures of an image with the truth, the prediction and a caption."""

from __future__ import annotations

from mindground.visualize.caption import Caption, plain_caption
from mindground.visualize.drawing import (
    Palette,
    attention_overlay,
    contact_sheet,
    draw,
    panels_of,
    save_png,
    side_by_side,
)
from mindground.visualize.segments import draw_segments

__all__ = [
    "Caption",
    "Palette",
    "attention_overlay",
    "contact_sheet",
    "draw",
    "draw_segments",
    "panels_of",
    "plain_caption",
    "save_png",
    "side_by_side",
]
