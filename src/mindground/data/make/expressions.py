"""Sentences that are true of exactly one object of an image, from boxes and class names alone.

A sentence is made only when its object satisfies a condition clearly and no other object of the
class satisfies it even roughly; what lies between is left unsaid. Left, right, upper and lower mean
the box's centre in the image. Words of the image itself ("on the far left", "at the very bottom") are said only of an
object whose centre lies in that outer third of the image, because people read them so; elsewhere the outermost object
is "the leftmost". A class whose name ends in another's ("large vehicle" and
"vehicle") counts as that one too.

    leftmost ...   its centre is the outermost of its class, by 4 % of the image
    nth from ...   its centre is nth of two to five of its class, all 4 % apart
    place          the only one of its class with the centre in that ninth of the image
    size           its box is the largest (smallest) of its class by a factor of 1.35
    relation       the only one of its class in that quarter around the only object of another class,
                   their boxes clear of each other on that axis
    nearest        its centre is nearest to the centre of the only object of another class, by a factor of 1.3
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["SceneItem", "describe", "facts", "spoken_name"]

APART = 0.04
SIZE_FACTOR = 1.35
NEAR_FACTOR = 1.3
ORDINALS = ("first", "second", "third", "fourth", "fifth")
# Phrasings of each kind of fact; {c} the class, {p} the place, {n} the rank, {a} the anchor.
PHRASES: dict[str, tuple[str, ...]] = {
    "only": ("the {c}", "the only {c}"),
    "leftmost": ("the leftmost {c}", "the {c} furthest to the left"),
    "rightmost": ("the rightmost {c}", "the {c} furthest to the right"),
    "topmost": ("the topmost {c}", "the {c} furthest to the top"),
    "bottommost": ("the bottommost {c}", "the {c} furthest to the bottom"),
    # The same facts of an object in the outer third of the image.
    "far left": ("the leftmost {c}", "the {c} on the far left", "the {c} furthest to the left"),
    "far right": ("the rightmost {c}", "the {c} on the far right", "the {c} furthest to the right"),
    "very top": ("the topmost {c}", "the {c} at the very top", "the {c} furthest to the top"),
    "very bottom": ("the bottommost {c}", "the {c} at the very bottom", "the {c} furthest to the bottom"),
    "nth": ("the {n} {c} from the {p}", "the {c} that is {n} from the {p}"),
    "place": ("the {c} in the {p} of the image", "the {c} in the {p}"),
    "largest": ("the largest {c}", "the biggest {c}"),
    "smallest": ("the smallest {c}",),
    "larger": ("the larger {c}", "the bigger {c}"),
    "smaller": ("the smaller {c}",),
    "left": ("the {c} to the left of the {a}", "the {c} left of the {a}"),
    "right": ("the {c} to the right of the {a}", "the {c} right of the {a}"),
    "above": ("the {c} above the {a}",),
    "below": ("the {c} below the {a}",),
    "nearest": ("the {c} closest to the {a}", "the {c} nearest to the {a}"),
}
EXTREMES = (
    *("leftmost", "rightmost", "topmost", "bottommost"),
    *("far left", "far right", "very top", "very bottom"),
)
OUTER = 1 / 3
ROWS, COLUMNS = ("upper", "middle", "lower"), ("left", "middle", "right")


@dataclass(frozen=True)
class SceneItem:
    """One annotated object: its id, its class name, its (4,) xyxy box in pixels."""

    object_id: str
    name: str
    box: tuple[float, float, float, float]

    @property
    def centre(self) -> np.ndarray:
        """(2,) x, y."""
        return np.asarray([self.box[0] + self.box[2], self.box[1] + self.box[3]]) / 2

    @property
    def area(self) -> float:
        """Area of the box in pixels."""
        return max(0.0, self.box[2] - self.box[0]) * max(0.0, self.box[3] - self.box[1])


@dataclass(frozen=True)
class Fact:
    """A condition that holds for one object only: its kind and the words that fill the phrase."""

    kind: str
    words: tuple[tuple[str, str], ...]

    def sentence(self, phrasing: int) -> str:
        """The fact in one of its phrasings."""
        options = PHRASES[self.kind]
        return options[phrasing % len(options)].format(**dict(self.words))


def spoken_name(name: str) -> str:
    """Class name as one says it: lower case, words apart."""
    return " ".join(name.replace("_", " ").replace("-", " ").lower().split())


def describe(
    items: Sequence[SceneItem], size: tuple[int, int], rng: np.random.Generator, per_object: int
) -> list[list[str]]:
    """Up to `per_object` sentences for each object of one image of `size` (height, width).

    Different kinds of facts come first, further phrasings of the same facts after them; an object
    that nothing sets apart gets an empty list.
    """
    result = []
    for index in range(len(items)):
        known = list(facts(index, items, size))
        order = [known[position] for position in rng.permutation(len(known))]
        first = {_group(fact.kind): fact for fact in reversed(order)}.values()
        queue = [fact for fact in order if fact in first] + [fact for fact in order if fact not in first]
        sentences: list[str] = []
        for turn in range(max((len(PHRASES[fact.kind]) for fact in queue), default=0)):
            for fact in queue:
                start = int(rng.integers(len(PHRASES[fact.kind]))) if turn == 0 else turn
                text = fact.sentence(start)
                if text not in sentences and len(sentences) < per_object:
                    sentences.append(text)
        result.append(sentences)
    return result


def _group(kind: str) -> str:
    for group in (EXTREMES, ("left", "right", "above", "below")):
        if kind in group:
            return group[0]
    return kind


def facts(index: int, items: Sequence[SceneItem], size: tuple[int, int]) -> Iterator[Fact]:
    """Everything that is true of object `index` and of no other object of the image."""
    target = items[index]
    if target.area <= 0:
        return
    name = spoken_name(target.name)
    rivals = [item for position, item in enumerate(items) if position != index and _is_a(item, name)]
    if any(item.area <= 0 for item in rivals):
        return  # an object of the class whose place is unknown: nothing can be said of the others
    extent = np.asarray([size[1], size[0]], np.float64)
    word = ("c", name)
    if not rivals:
        yield Fact("only", (word,))
    else:
        yield from _extremes(target, rivals, extent, word)
        yield from _sizes(target, rivals, word)
    yield from _cells(target, rivals, extent, word)
    if 1 <= len(rivals) <= 4:
        yield from _ranks(target, rivals, extent, word)
    for position, anchor in enumerate(items):
        spoken = spoken_name(anchor.name)
        alone = sum(_is_a(item, spoken) for item in items) == 1
        if position != index and alone and anchor.area > 0 and not _is_a(anchor, name):
            yield from _relations(target, rivals, anchor, (word, ("a", spoken)))


def _is_a(item: SceneItem, spoken: str) -> bool:
    own = spoken_name(item.name)
    return own == spoken or own.endswith(" " + spoken)


def _extremes(
    target: SceneItem, rivals: Sequence[SceneItem], extent: np.ndarray, word: tuple[str, str]
) -> Iterator[Fact]:
    moves = np.stack([item.centre - target.centre for item in rivals]) / extent
    (x, y), inner = target.centre / extent, 1 - OUTER
    for kind, absolute, outside, beyond in (
        ("leftmost", "far left", x <= OUTER, moves[:, 0]),
        ("rightmost", "far right", x >= inner, -moves[:, 0]),
        ("topmost", "very top", y <= OUTER, moves[:, 1]),
        ("bottommost", "very bottom", y >= inner, -moves[:, 1]),
    ):
        if beyond.min() > APART:
            yield Fact(absolute if outside else kind, (word,))


def _ranks(target: SceneItem, rivals: Sequence[SceneItem], extent: np.ndarray, word: tuple[str, str]) -> Iterator[Fact]:
    for axis, (start, end) in enumerate((("left", "right"), ("top", "bottom"))):
        values = np.sort([item.centre[axis] / extent[axis] for item in (target, *rivals)])
        if np.diff(values).min() <= APART:
            continue
        rank = int(np.searchsorted(values, target.centre[axis] / extent[axis]))
        for place, number in ((start, rank), (end, len(values) - 1 - rank)):
            # The first and the last from a side are said better by "leftmost" and its like.
            if 0 < number < len(values) - 1:
                yield Fact("nth", (word, ("n", ORDINALS[number]), ("p", place)))


def _cells(target: SceneItem, rivals: Sequence[SceneItem], extent: np.ndarray, word: tuple[str, str]) -> Iterator[Fact]:
    where = target.centre / extent
    cell = np.clip(np.floor(where * 3), 0, 2).astype(int)
    low, high = cell / 3, (cell + 1) / 3
    # An edge of the image is no border to another ninth, so only inner borders need a distance.
    inner_low, inner_high = np.where(cell > 0, low + APART / 2, -1), np.where(cell < 2, high - APART / 2, 2)
    if np.any(where < inner_low) or np.any(where > inner_high):
        return
    outer_low, outer_high = np.where(cell > 0, low - APART / 2, -1), np.where(cell < 2, high + APART / 2, 2)
    for item in rivals:
        place = item.centre / extent
        if np.all(place >= outer_low) and np.all(place <= outer_high):
            return
    row, column = ROWS[cell[1]], COLUMNS[cell[0]]
    place = "center" if row == column == "middle" else f"{row} {column}"
    yield Fact("place", (word, ("p", place)))


def _sizes(target: SceneItem, rivals: Sequence[SceneItem], word: tuple[str, str]) -> Iterator[Fact]:
    areas = np.asarray([item.area for item in rivals])
    if target.area > SIZE_FACTOR * areas.max():
        yield Fact("larger" if len(rivals) == 1 else "largest", (word,))
    if target.area * SIZE_FACTOR < areas.min():
        yield Fact("smaller" if len(rivals) == 1 else "smallest", (word,))


def _relations(
    target: SceneItem, rivals: Sequence[SceneItem], anchor: SceneItem, words: tuple[tuple[str, str], ...]
) -> Iterator[Fact]:
    for kind in ("left", "right", "above", "below"):
        if _lies(target, anchor, kind, 0.7, True) and not any(_lies(item, anchor, kind, 1.4, False) for item in rivals):
            yield Fact(kind, words)
    if rivals:
        own = float(np.linalg.norm(target.centre - anchor.centre))
        others = min(float(np.linalg.norm(item.centre - anchor.centre)) for item in rivals)
        if own * NEAR_FACTOR < others:
            yield Fact("nearest", words)


def _lies(item: SceneItem, anchor: SceneItem, side: str, slope: float, clear: bool) -> bool:
    """Whether `item` lies on that side of `anchor`, off the axis by at most `slope` times the distance along it."""
    across, down = item.centre - anchor.centre
    along, off = {
        "left": (-across, down),
        "right": (across, down),
        "above": (-down, across),
        "below": (down, across),
    }[side]
    if along <= 0 or abs(off) > slope * along:
        return False
    gaps = {
        "left": anchor.box[0] - item.box[2],
        "right": item.box[0] - anchor.box[2],
        "above": anchor.box[1] - item.box[3],
        "below": item.box[1] - anchor.box[3],
    }
    return not clear or gaps[side] >= 0
