"""Words of place in a sentence: they change when the picture is mirrored, and forbid cutting it."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["LEGACY_DIRECTIONS", "directions", "flip_expression", "has_direction"]

_NO_LETTER_BEFORE: Final = r"(?<![^\W\d_])"
_OPPOSITES: Final[dict[str, dict[str, str]]] = {
    "horizontal": {"left": "right", "right": "left", "左": "右", "右": "左"},
    "vertical": {
        **{"top": "bottom", "bottom": "top", "upper": "lower", "lower": "upper"},
        **{"above": "below", "below": "above", "上方": "下方", "下方": "上方"},
    },
}
# Latin words that begin like a place but say something else.
_NOT_PLACES: Final = re.compile(r"(?:leftover|righteous|rightful|rightly|rights\b|topic|topping|topless|lowered)", re.I)
_WORDS: Final = {
    axis: re.compile(
        "|".join(word if not word.isascii() else f"{_NO_LETTER_BEFORE}{word}" for word in pairs), re.IGNORECASE
    )
    for axis, pairs in _OPPOSITES.items()
}
# "top" and "lower" need care ("topology", "flower"): only these endings make a word of place.
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
# The words that TransVG's released code looks for, and what else is said for them.
LEGACY_DIRECTIONS: Final = ("left", "right", "top", "bottom", "middle")
_STEMS: Final[dict[str, tuple[str, ...]]] = {
    "left": ("left", "左"),
    "right": ("right", "右"),
    "top": ("top", "upper", "上"),
    "bottom": ("bottom", "lower", "下"),
    "middle": ("middle", "cent", "中"),
}


def flip_expression(text: str, axis: str = "horizontal", *, substrings: bool = False) -> str:
    """The sentence for the mirrored picture.

    Words are changed at their start only and keep their case: "leftmost" becomes "rightmost",
    "left-hand" becomes "right-hand", while "bright" and "upright" stay.

    Args:
        text: the sentence.
        axis: "horizontal" swaps left and right; "vertical" swaps top and bottom, upper and lower,
            above and below.
        substrings: swap "left" and "right" anywhere, also inside words, as VG-LAW's released code does.

    Raises:
        ValueError: an unknown axis.
    """
    if axis not in _OPPOSITES:
        raise ValueError(f"axis={axis!r} is unknown; use one of {sorted(_OPPOSITES)}")
    opposites = _OPPOSITES[axis]
    if substrings:
        pattern = re.compile("|".join(word for word in opposites if word.isascii()))
        return pattern.sub(lambda match: opposites[match.group()], text)

    def swap(match: re.Match[str]) -> str:
        if _NOT_PLACES.match(text, match.start()):
            return match.group()
        return _in_case_of(match.group(), opposites[match.group().lower()])

    return _WORDS[axis].sub(swap, text)


def has_direction(text: str, *, compass: bool = False, substrings: bool = False) -> bool:
    """True when the sentence names a place in the picture (left, topmost, middle ...).

    Such a sentence may become false when the picture is cut.

    Args:
        text: the sentence.
        compass: count also what places are called in pictures from above: north, south-eastern, corner, edge ...
        substrings: look for left, right, top, bottom and middle only, but also inside words ("bright"), as the
            released code of TransVG and CLIP-VG does.
    """
    if substrings:
        return any(word in text.lower() for word in LEGACY_DIRECTIONS)
    return _PLACE.search(text) is not None or (compass and _COMPASS.search(text) is not None)


def directions(text: str) -> frozenset[str]:
    """Which of left, right, top, bottom and middle the sentence names, in whatever word ("upper" is top)."""
    words = [match.group().lower() for match in _PLACE.finditer(text)]
    return frozenset(
        direction for direction, stems in _STEMS.items() if any(stem in word for stem in stems for word in words)
    )


def _in_case_of(model: str, word: str) -> str:
    if model.isupper():
        return word.upper()
    return word.capitalize() if model[:1].isupper() else word
