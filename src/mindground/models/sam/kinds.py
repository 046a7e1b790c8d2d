"""What a token of a prompt is: rows of the table that `prompt_encoder` makes."""

from __future__ import annotations

__all__ = ["BACKGROUND", "BOTTOM_RIGHT", "FOREGROUND", "NOTHING", "NOT_A_POINT", "TOP_LEFT"]

NOT_A_POINT, BACKGROUND, FOREGROUND, TOP_LEFT, BOTTOM_RIGHT, NOTHING = range(6)
"""NOTHING is a token of zeros."""
