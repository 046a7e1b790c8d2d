"""Words that compare over a whole scene, decided among what its tiles found."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from mindground.errors import printable
from mindground.files.scenes import Georeference
from mindground.inference.merge import Found
from mindground.text.scene_words import SceneWords, scene_words

__all__ = ["choose"]

_LOG = logging.getLogger("mindground")


def choose(
    found: Sequence[Found], text: str | None, size: tuple[int, int], place: Georeference | None
) -> tuple[list[Found], tuple[str, ...]]:
    """The answers that a sentence means in the whole scene, and the words that decided.

    A side chooses the object whose box has its centre furthest in that direction, the middle the one nearest to the
    middle of the scene, a size the largest or smallest, where the side that is named beside it first selects the
    objects on that side of the middle. A sentence about all objects of a side selects these. Ties go to the surer
    answer. North is where the georeference has it, and the top of a scene without one.

    Args:
        found: merged answers, the surest first.
        size: (height, width) of the scene.
    """
    words = scene_words(text) if text else SceneWords()
    if words.doubt:
        _LOG.warning(
            "%s: %s; its words about the scene are read inside tiles alone", repr(printable(text, 60)), words.doubt
        )
    if not words or not found:
        return list(found), ()
    boxes = np.stack([one.box for one in found])
    middle = np.asarray([size[1], size[0]]) / 2
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 - middle
    along = centres @ direction(words, place)
    if words.several:
        return [one for one, far in zip(found, along, strict=True) if far > 0 or not words.sided], words.words
    if words.size:
        indexes = np.flatnonzero(along > 0) if words.sided and (along > 0).any() else np.arange(len(found))
        values = np.asarray([found[index].area for index in indexes]) * words.size
        return [found[int(indexes[values.argmax()])]], words.words
    values = along if words.sided else -np.square(centres).sum(1)
    return [found[int(values.argmax())]], words.words


def direction(words: SceneWords, place: Georeference | None) -> np.ndarray:
    """(2,) direction in pixels, x to the right and y down, that the words of a sentence name."""
    way = np.asarray(words.image, np.float64)
    east, south = words.compass
    if not east and not south:
        return way
    right, down = np.asarray([1.0, 0.0]), np.asarray([0.0, 1.0])
    if place is not None and place.crs and np.isfinite(place.transform).all():
        a, b, _, d, e, _ = place.transform
        # One step of pixels moves by (a, d) or (b, e) on the map; the direction that gains most to the east is (a, b).
        right, down = _unit(np.asarray([a, b]), right), _unit(np.asarray([-d, -e]), down)
    return way + east * right + south * down


def _unit(vector: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    length = float(np.hypot(*vector))
    return vector / length if length > 0 else otherwise
