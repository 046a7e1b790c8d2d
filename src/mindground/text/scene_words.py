"""Words of a sentence that compare objects over a whole scene, and words that compare neighbours.

A scene that is asked tile by tile answers "the northernmost ship" once in every tile. The northernmost of the scene is
the northernmost of these answers, so such words are decided after the tiles are merged. Words about neighbours ("the
ship left of the pier", "next to", "between") are answered inside the tile that shows both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["SceneWords", "scene_words"]

_BEFORE: Final = r"(?<![^\W\d_])"
_AFTER: Final = r"(?![^\W\d_])"
_SIDES: Final[dict[str, tuple[str, int, int]]] = {
    # Stem -> (kind, x, y): kind "image" counts in pixels, "compass" by the scene's georeference.
    "left": ("image", -1, 0),
    "right": ("image", 1, 0),
    "top": ("image", 0, -1),
    "upper": ("image", 0, -1),
    "bottom": ("image", 0, 1),
    "lower": ("image", 0, 1),
    "north": ("compass", 0, -1),
    "south": ("compass", 0, 1),
    "east": ("compass", 1, 0),
    "west": ("compass", -1, 0),
    "左": ("image", -1, 0),
    "右": ("image", 1, 0),
    "上": ("image", 0, -1),
    "下": ("image", 0, 1),
    "北": ("compass", 0, -1),
    "南": ("compass", 0, 1),
    "东": ("compass", 1, 0),
    "西": ("compass", -1, 0),
}
_LATIN: Final = "left|right|top|upper|bottom|lower|north|south|east|west"
_WORD: Final = re.compile(
    rf"{_BEFORE}(?P<first>{_LATIN})(?:[- ]?(?P<second>left|right|east|west))?(?:ern|erly)?(?P<most>[- ]?most)?"
    rf"(?:[- ]?hand)?{_AFTER}"
    r"|最(?P<chinese>[左右上下东西南北]{1,2})|(?P<corner>[左右][上下])角",
    re.IGNORECASE,
)
_CENTRE: Final = re.compile(rf"{_BEFORE}(?:middle|centre|center|central){_AFTER}|中[间央]", re.IGNORECASE)
# "of the image" concerns the scene, "of the pier" a neighbour.
_OF_ANOTHER: Final = re.compile(
    r"[- ]*(?:(?:side|part|edge|border|end|corner|half|quarter)s? +)?(?:of|to|from) +"
    r"(?!(?:the +|this +)?(?:image|picture|photo|photograph|scene|map|raster|frame|view|area)\b)",
    re.IGNORECASE,
)
_HEADING: Final = re.compile(
    r"(?:facing|heading|headed|pointing|looking|moving|going|driving|flying|turning|turned|sailing|running|from|to)"
    r"(?: +(?:to|towards?))?(?: +the)? +$",
    re.IGNORECASE,
)
# "right behind", "right next to": no side.
_ADVERB: Final = re.compile(
    r" +(?:behind|next|beside|before|after|at|in|on|above|below|under|over|by)\b", re.IGNORECASE
)
_LARGE: Final = re.compile(
    rf"{_BEFORE}(?:largest|biggest|larger|bigger|greatest|hugest){_AFTER}|最大|较大", re.IGNORECASE
)
_SMALL: Final = re.compile(rf"{_BEFORE}(?:smallest|smaller|tiniest|littlest){_AFTER}|最小|较小", re.IGNORECASE)
_THAN: Final = re.compile(r"[^,;]{0,40}?\bthan\b", re.IGNORECASE)
_RANK: Final = re.compile(
    rf"{_BEFORE}(?:second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|\d{{1,3}}(?:st|nd|rd|th)){_AFTER}"
    "|第[一二三四五六七八九十两\\d]",
    re.IGNORECASE,
)
_SEVERAL: Final = re.compile(rf"^\W*(?:all|every|each|any|both){_AFTER}|所有|全部|每", re.IGNORECASE)


@dataclass(frozen=True)
class SceneWords:
    """What a sentence compares over the whole scene.

    Attributes:
        image: (x, y) sum of the named sides of the image; y grows downward.
        compass: (x, y) of the named points of the compass, where (1, 0) is east and (0, -1) north.
        centre: the middle of the scene is named, and no side.
        size: 1 for the largest, -1 for the smallest, 0 where size is not compared.
        several: the sentence asks for all ("all ships in the north"), so that a side selects and does not choose one.
        words: those that were found, for messages.
        doubt: why the comparison cannot be made after merging; empty where it can. The words are then read inside
            tiles alone.
    """

    image: tuple[int, int] = (0, 0)
    compass: tuple[int, int] = (0, 0)
    centre: bool = False
    size: int = 0
    several: bool = False
    words: tuple[str, ...] = ()
    doubt: str = ""

    @property
    def sided(self) -> bool:
        """Whether a side of the scene is named."""
        return self.image != (0, 0) or self.compass != (0, 0)

    def __bool__(self) -> bool:
        return (self.sided or self.centre or self.size != 0) and not self.doubt


def scene_words(text: str) -> SceneWords:
    """The words of a sentence that are decided over the whole scene."""
    sides = {"image": [0, 0], "compass": [0, 0]}
    found: list[str] = []
    for match in _WORD.finditer(text):
        if not _of_scene(text, match):
            continue
        for stem in _stems(match):
            kind, x, y = _SIDES[stem]
            sides[kind][0] += x
            sides[kind][1] += y
        found.append(match.group())
    centre = None if found else _of_centre(text)
    size, word = _size(text)
    words = (*found, *([centre] if centre else []), *([word] if word else []))
    rank = _RANK.search(text)
    doubt = ""
    if rank is not None and words:
        doubt = f"{rank.group()!r} counts objects, which tiles do not show together"
    image, compass = (sides["image"][0], sides["image"][1]), (sides["compass"][0], sides["compass"][1])
    several = _SEVERAL.search(text) is not None
    return SceneWords(image, compass, centre is not None, size, several, words, doubt)


def _stems(match: re.Match[str]) -> list[str]:
    chinese = match["chinese"] or match["corner"]
    if chinese:
        return list(chinese)
    return [part.lower() for part in (match["first"], match["second"]) if part]


def _of_scene(text: str, match: re.Match[str]) -> bool:
    """Whether a word of direction compares over the scene."""
    if match["chinese"] or match["corner"] or match["most"]:
        return True
    before, after = text[: match.start()], text[match.end() :]
    if _OF_ANOTHER.match(after) or _HEADING.search(before):
        return False
    if after[:1] == "-" or before[-1:] == "-":  # "north-south", "left-turning"
        return False
    return not (match["first"].lower() == "right" and not match["second"] and _ADVERB.match(after))


def _of_centre(text: str) -> str | None:
    match = _CENTRE.search(text)
    if match is None or _OF_ANOTHER.match(text[match.end() :]):
        return None
    return match.group()


def _size(text: str) -> tuple[int, str]:
    for pattern, sign in ((_LARGE, 1), (_SMALL, -1)):
        match = pattern.search(text)
        if match is not None and not _THAN.match(text[match.end() :]):
            return sign, match.group()
    return 0, ""
