"""The sentence for a mirrored image, and whether it is true. `mirror_words.py` lists the words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Final

from mindground.text.mirror_words import AXES, DOUBTS, KEPT, REWRITES, Rewrite

__all__ = ["flip_doubts", "flip_expression", "flips_safely"]

# What the released code of VG-LAW and CLIP-VG exchanges, also inside words.
_SUBSTRINGS: Final[dict[str, dict[str, str]]] = {
    "horizontal": {"left": "right", "right": "left"},
    "vertical": {
        **{"top": "bottom", "bottom": "top", "upper": "lower", "lower": "upper"},
        **{"above": "below", "below": "above"},
    },
}
_KEPT: Final = re.compile("|".join(words for words, _ in KEPT), re.IGNORECASE)
# Replaces words that are exchanged for certain, before the search for doubtful ones.
_DONE: Final = "·"

_ORDINAL: Final = re.compile(
    r"\b(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|last|\d{1,2}(?:st|nd|rd|th))\b"
    # "second to last" is one rank; "second largest" is a rank by size.
    r"(?:[- ](?:to[- ])?last\b)?(?![- ]+(?:(?!(?:(?:north|south)?w|r|for|ch|gu|n|t)est\b)\w+est|most|least)\b)"
    r"(?:[- ](?:\w+[- ])?(?P<row>rows?|tiers?|shel(?:f|ves)|floors?|stor(?:e?ys?|ies)|levels?|decks?)\b"
    r"|[- ](?:\w+[- ])?(?P<column>columns?|cols?)\b)?"
    r"|第[一二三四五六七八九十两\d]+(?:(?P<row_sign>[排行层])|(?P<column_sign>[列栏]))?|最后一",
    re.IGNORECASE,
)
# Sides from which a rank may count, by axis; front and back belong to no axis.
_SIDES: Final = {
    "horizontal": re.compile(
        r"(?<![^\W\d_])(?:upper|lower|top|bottom)?(?:left|right|(?:north|south)?(?:east|west)(?:ern)?)"
        r"(?:most|hand|side)?(?![^\W\d_])|从最?[左右东西]|[左右东西](?:起|数|往|到|边|侧|面|方|端)",
        re.IGNORECASE,
    ),
    "vertical": re.compile(
        r"(?<![^\W\d_])(?:top|bottom|upper|lower|above|below|(?:north|south)(?:ern)?)(?:most|side)?(?![^\W\d_])"
        "|从最?[上下南北]|[上下南北](?:起|数|往|到|边|侧|方|端)",
        re.IGNORECASE,
    ),
    "": re.compile(r"\b(?:front|back|rear)\b|从最?[前后]|[前后](?:起|数|往|到|边|面|方)", re.IGNORECASE),
}


def flip_expression(text: str, axis: str = "horizontal", *, substrings: bool = False) -> str:
    """The sentence for the mirrored image.

    Words are exchanged whole and keep their case: "the Leftmost eastern ship" becomes "the Rightmost western ship",
    "at 2 o'clock" becomes "at 10 o'clock", while "bright" and "Westminster" stay. A sentence that was mirrored twice is
    the first one again (but for the spelling of "anticlockwise"). `flips_safely` tells whether the result is true.

    Args:
        text: the sentence.
        axis: "horizontal" exchanges left and right, east and west; "vertical" top and bottom, north and south.
        substrings: exchange "left" and "right" (or the words of the other axis) anywhere, also inside words, and
            nothing else, as VG-LAW's released code does.

    Raises:
        ValueError: an unknown axis.
    """
    _require(axis)
    if substrings:
        opposites = _SUBSTRINGS[axis]
        return re.sub("|".join(opposites), lambda match: opposites[match.group()], text)
    return _rewrite(text, axis)


def flips_safely(text: str, axis: str = "horizontal") -> bool:
    """True when `flip_expression` gives a sentence that is true of the mirrored image.

    False where a mirror changes the meaning and no exchange of words corrects it: numbers and letters in the image,
    ranks without a named side ("the second column"), sides of a ship, and words that may name a position or not
    ("right behind").

    Args:
        text: the sentence.
        axis: "horizontal" or "vertical".

    Raises:
        ValueError: an unknown axis.
    """
    return not flip_doubts(text, axis)


def flip_doubts(text: str, axis: str = "horizontal") -> tuple[str, ...]:
    """Why a mirrored sentence may be false: "words: reason" for every doubtful expression; empty if there is none.

    Raises:
        ValueError: an unknown axis.
    """
    _require(axis)
    rest = _KEPT.sub(_DONE, _rewrite(text, axis, _DONE))
    found = []
    for doubt in DOUBTS:
        match = doubt.pattern.search(text if doubt.whole else rest) if axis in doubt.axes else None
        if match is not None:
            found.append(f"{match.group()}: {doubt.reason}")
    unnamed = _ranks_without_side(text, axis)
    if unnamed:
        found.append(f"{', '.join(unnamed)}: a rank that counts from a side that is not named")
    return tuple(found)


def _require(axis: str) -> None:
    if axis not in AXES:
        raise ValueError(f"axis={axis!r} is unknown; use one of {sorted(AXES)}")


def _rewrite(text: str, axis: str, placeholder: str = "") -> str:
    """`text` with its words exchanged, or with a placeholder for each of them."""
    for rule in REWRITES:
        if axis in rule.axes and rule.pattern.search(text):
            kept = [match.span() for match in _KEPT.finditer(text)]
            text = rule.pattern.sub(partial(_exchange, rule, axis, kept, placeholder), text)
    return text


def _exchange(rule: Rewrite, axis: str, kept: Sequence[tuple[int, int]], placeholder: str, match: re.Match[str]) -> str:
    if any(start <= match.start() < end for start, end in kept):
        return match.group()
    return placeholder or rule.turn(match, axis)


def _ranks_without_side(text: str, axis: str) -> list[str]:
    """Ranks that this mirror may change, if fewer sides are named than ranks.

    Rows are counted from the top or the bottom, so a horizontal mirror changes none of them, and a vertical mirror no
    columns. Other ranks may count from any side.
    """
    along: list[str] = []
    other: list[str] = []
    for match in _ORDINAL.finditer(text):
        names = match.groupdict()
        is_row, is_column = names["row"] or names["row_sign"], names["column"] or names["column_sign"]
        if is_row or is_column:
            if bool(is_row) == (axis == "vertical"):
                along.append(match.group())
        else:
            other.append(match.group())
    sides = {direction: len(pattern.findall(text)) for direction, pattern in _SIDES.items()}
    if len(along) > sides[axis] + sides[""] or len(along) + len(other) > sum(sides.values()):
        return [*along, *other]
    return []
