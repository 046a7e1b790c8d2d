"""Files made by hand against one weakness each. Every one is to be refused in one line, or read within limits."""

from __future__ import annotations

from attack.hostile import archives, datasets, exchange, images, pickles, texts, weights
from attack.hostile.case import Case

__all__ = ["CASES", "Case"]

CASES: tuple[Case, ...] = tuple(
    case for module in (pickles, archives, weights, datasets, exchange, images, texts) for case in module.cases()
)
"""Every hostile file; names are unique."""
