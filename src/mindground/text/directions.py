"""Words of direction in a sentence, which may become false when the image is cropped. See `mirror.py` for mirroring."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["LEGACY_DIRECTIONS", "directions", "has_direction"]

_NO_LETTER_BEFORE: Final = r"(?<![^\W\d_])"
# "top" and "lower" also occur in other words ("topology", "flower"): only these endings make a word of direction.
_PLACE: Final = re.compile(
    _NO_LETTER_BEFORE + r"(?:left|right|top|bottom|upper|lower|middle|centre|center|central)"
    r"(?:most|hand|side|ward|wards|left|right|est)?(?![^\W\d_])|[左右]|[上下]方|中[间央]",
    re.IGNORECASE,
)

_COMPASS: Final = re.compile(
    _NO_LETTER_BEFORE + r"(?:(?:north|south)?[- ]?(?:east|west)|north|south)(?:ern|erly|ward|wards)?(?:most)?"
    r"(?![^\W\d_])|" + _NO_LETTER_BEFORE + r"(?:corner|edge|border|lowest|highest)s?(?![^\W\d_])"
    r"|[东西南北][部侧边方角]|角落|边缘",
    re.IGNORECASE,
)
# The words that TransVG's released code searches for, and their synonyms.
LEGACY_DIRECTIONS: Final = ("left", "right", "top", "bottom", "middle")
_STEMS: Final[dict[str, tuple[str, ...]]] = {
    "left": ("left", "左"),
    "right": ("right", "右"),
    "top": ("top", "upper", "上"),
    "bottom": ("bottom", "lower", "下"),
    "middle": ("middle", "cent", "中"),
}


def has_direction(text: str, *, compass: bool = False, substrings: bool = False) -> bool:
    """True when the sentence names a position in the image (left, topmost, middle ...).

    Such a sentence may become false when the image is cropped.

    Args:
        text: the sentence.
        compass: also count names of positions in aerial images: north, south-eastern, corner, edge ...
        substrings: search for left, right, top, bottom and middle only, but also inside words ("bright"), as the
            released code of TransVG and CLIP-VG does.
    """
    if substrings:
        return any(word in text.lower() for word in LEGACY_DIRECTIONS)
    return _PLACE.search(text) is not None or (compass and _COMPASS.search(text) is not None)


def directions(text: str) -> frozenset[str]:
    """Which of left, right, top, bottom and middle the sentence names, synonyms included ("upper" is top)."""
    words = [match.group().lower() for match in _PLACE.finditer(text)]
    return frozenset(
        direction for direction, stems in _STEMS.items() if any(stem in word for stem in stems for word in words)
    )
