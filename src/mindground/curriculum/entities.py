"""The number of entities in a sentence, counted with a small closed vocabulary: the measure of its complexity.

CLIP-VG counts noun chunks with a language model. A rule is enough to order sources: words between entities
(prepositions, conjunctions, some verbs of scene descriptions, punctuation) and articles split a sentence into pieces,
and a piece with any other word is one entity. "the red ship" 1, "the ship left of the pier" 2, "a man in a
hat holding an umbrella" 3. English only; for other languages the
user gives the order of the sources.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["count_entities", "mean_entities"]

# Phrases that count as one word: their noun is no entity.
_PHRASES = re.compile(
    r"\b(?:in (?:the )?(?:front|back) of|(?:on|at) (?:the )?(?:top|bottom|back|edge|left|right|side) of|"
    r"to the (?:left|right|north|south|east|west) of|(?:left|right|north|south|east|west) of|"
    r"(?:next|close|closest|nearest|nearer|closer) to|far from|part of|made of|instead of|because of)\b"
)
_ARTICLES = frozenset(
    "a an the this that these those its his her their my your our some any all both each every".split()
)
_CONNECTORS = frozenset(
    "of in on at by with to from for into onto over under above below beneath beside besides between among behind "
    "before after near against along across around through toward towards inside outside within without off up down "
    "and or but while as than then like which who whose where when is are was were be been being has have had having "
    "wearing wears holding holds riding rides carrying carries sitting sits standing stands lying laying walking "
    "walks running flying eating eats playing plays looking looks watching using uses hanging covering covered "
    "surrounded parked docked attached mounted painted belonging growing containing located".split()
)
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|[^\w\s]", re.UNICODE)


def count_entities(sentence: str) -> int:
    """Number of entities in one sentence; at least 1 if it has a word."""
    text = _PHRASES.sub(" of ", sentence.lower())
    words = _WORD.findall(text)
    entities, open_piece = 0, False
    for word in words:
        if word in _CONNECTORS or word in _ARTICLES or not word[0].isalnum():
            open_piece = False
        elif not open_piece:
            entities, open_piece = entities + 1, True
    return max(entities, int(any(word[0].isalnum() for word in words)))


def mean_entities(sentences: Iterable[str]) -> float:
    """Mean of `count_entities` over sentences; 0 without sentences."""
    counts = [count_entities(sentence) for sentence in sentences]
    return sum(counts) / len(counts) if counts else 0.0
