"""Figures of an image with a sentence, the truth and the prediction."""

from __future__ import annotations

from mindground.visualize.drawing import (
    Palette,
    attention_overlay,
    contact_sheet,
    draw,
    ious,
    panels_of,
    save_png,
    side_by_side,
)

__all__ = ["Palette", "attention_overlay", "contact_sheet", "draw", "ious", "panels_of", "save_png", "side_by_side"]
