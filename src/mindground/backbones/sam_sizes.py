"""Published sizes of Segment Anything's image encoder."""

from __future__ import annotations

__all__ = ["VIT_PRESETS"]

_HUGE = (1280, 32, 16, (7, 15, 23, 31))
# Name -> width, blocks, heads, blocks that attend to the whole map.
VIT_PRESETS: dict[str, tuple[int, int, int, tuple[int, ...]]] = {
    "default": _HUGE,
    "vit_b": (768, 12, 12, (2, 5, 8, 11)),
    "vit_l": (1024, 24, 16, (5, 11, 17, 23)),
    "vit_h": _HUGE,
}
