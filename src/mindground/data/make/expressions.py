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
    scene = _Scene(items, size)
    result = []
    for index in range(len(items)):
        known = list(_facts(index, scene))
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


class _Scene:
    """The objects of one image, with what is asked again and again computed once.

    Attributes:
        centres, areas: (N, 2) x, y and (N,), in pixels.
        names: class of every object as one says it.
        members: class -> objects that are one, in order.
        anchors: objects that are alone of their class.
    """

    def __init__(self, items: Sequence[SceneItem], size: tuple[int, int]) -> None:
        self.items, self.extent = items, np.asarray([size[1], size[0]], np.float64)
        self.centres = np.asarray([item.centre for item in items], np.float64).reshape(-1, 2)
        self.areas = np.asarray([item.area for item in items], np.float64)
        spoken = {name: spoken_name(name) for name in dict.fromkeys(item.name for item in items)}
        self.names = [spoken[item.name] for item in items]
        same: dict[str, list[int]] = {}
        for position, name in enumerate(self.names):
            same.setdefault(name, []).append(position)
        self.members = {
            name: sorted(position for other in same if _is_a(other, name) for position in same[other]) for name in same
        }
        lone = [members[0] for members in self.members.values() if len(members) == 1]
        self.anchors = [position for position in sorted(lone) if self.areas[position] > 0]


def facts(index: int, items: Sequence[SceneItem], size: tuple[int, int]) -> Iterator[Fact]:
    """Everything that is true of object `index` and of no other object of the image of `size` (height, width)."""
    return _facts(index, _Scene(items, size))


def _facts(index: int, scene: _Scene) -> Iterator[Fact]:
    name = scene.names[index]
    rivals = [position for position in scene.members[name] if position != index]
    # An object of the class whose place is unknown: nothing can be said of the others.
    if scene.areas[index] <= 0 or (scene.areas[rivals] <= 0).any():
        return
    centre, others, word = scene.centres[index], scene.centres[rivals], ("c", name)
    if not rivals:
        yield Fact("only", (word,))
    else:
        yield from _extremes(centre, others, scene.extent, word)
        yield from _sizes(scene.areas[index], scene.areas[rivals], word)
    yield from _cells(centre, others, scene.extent, word)
    if 1 <= len(rivals) <= 4:
        yield from _ranks(centre, others, scene.extent, word)
    for position in scene.anchors:
        if position != index and not _is_a(scene.names[position], name):
            words = (word, ("a", scene.names[position]))
            yield from _relations(scene.items[index], centre, others, scene.items[position], words)


def _is_a(own: str, spoken: str) -> bool:
    return own == spoken or own.endswith(" " + spoken)


def _extremes(centre: np.ndarray, others: np.ndarray, extent: np.ndarray, word: tuple[str, str]) -> Iterator[Fact]:
    moves = (others - centre) / extent
    (x, y), inner = centre / extent, 1 - OUTER
    for kind, absolute, outside, beyond in (
        ("leftmost", "far left", x <= OUTER, moves[:, 0]),
        ("rightmost", "far right", x >= inner, -moves[:, 0]),
        ("topmost", "very top", y <= OUTER, moves[:, 1]),
        ("bottommost", "very bottom", y >= inner, -moves[:, 1]),
    ):
        if beyond.min() > APART:
            yield Fact(absolute if outside else kind, (word,))


def _ranks(centre: np.ndarray, others: np.ndarray, extent: np.ndarray, word: tuple[str, str]) -> Iterator[Fact]:
    for axis, (start, end) in enumerate((("left", "right"), ("top", "bottom"))):
        values = np.sort(np.append(others[:, axis], centre[axis]) / extent[axis])
        if np.diff(values).min() <= APART:
            continue
        rank = int(np.searchsorted(values, centre[axis] / extent[axis]))
        for place, number in ((start, rank), (end, len(values) - 1 - rank)):
            # The first and the last from a side are said better by "leftmost" and its like.
            if 0 < number < len(values) - 1:
                yield Fact("nth", (word, ("n", ORDINALS[number]), ("p", place)))


def _cells(centre: np.ndarray, others: np.ndarray, extent: np.ndarray, word: tuple[str, str]) -> Iterator[Fact]:
    where = centre / extent
    cell = np.clip(np.floor(where * 3), 0, 2).astype(int)
    low, high = cell / 3, (cell + 1) / 3
    # An edge of the image is no border to another ninth, so only inner borders need a distance.
    inner_low, inner_high = np.where(cell > 0, low + APART / 2, -1), np.where(cell < 2, high - APART / 2, 2)
    if np.any(where < inner_low) or np.any(where > inner_high):
        return
    outer_low, outer_high = np.where(cell > 0, low - APART / 2, -1), np.where(cell < 2, high + APART / 2, 2)
    places = others / extent
    if np.all((places >= outer_low) & (places <= outer_high), axis=1).any():
        return
    row, column = ROWS[cell[1]], COLUMNS[cell[0]]
    place = "center" if row == column == "middle" else f"{row} {column}"
    yield Fact("place", (word, ("p", place)))


def _sizes(area: float, others: np.ndarray, word: tuple[str, str]) -> Iterator[Fact]:
    if area > SIZE_FACTOR * others.max():
        yield Fact("larger" if len(others) == 1 else "largest", (word,))
    if area * SIZE_FACTOR < others.min():
        yield Fact("smaller" if len(others) == 1 else "smallest", (word,))


def _relations(
    target: SceneItem,
    centre: np.ndarray,
    others: np.ndarray,
    anchor: SceneItem,
    words: tuple[tuple[str, str], ...],
) -> Iterator[Fact]:
    middle = anchor.centre
    gaps = {
        "left": anchor.box[0] - target.box[2],
        "right": target.box[0] - anchor.box[2],
        "above": anchor.box[1] - target.box[3],
        "below": target.box[1] - anchor.box[3],
    }
    for kind, gap in gaps.items():
        if gap >= 0 and _lies(centre[None], middle, kind, 0.7).all() and not _lies(others, middle, kind, 1.4).any():
            yield Fact(kind, words)
    if len(others):
        own = float(np.linalg.norm(centre - middle))
        if own * NEAR_FACTOR < float(np.linalg.norm(others - middle, axis=1).min()):
            yield Fact("nearest", words)


def _lies(centres: np.ndarray, anchor: np.ndarray, side: str, slope: float) -> np.ndarray:
    """Which centres (N, 2) lie on that side of an anchor, off the axis by at most `slope` times the way along it."""
    across, down = (centres - anchor).T
    along, off = {
        "left": (-across, down),
        "right": (across, down),
        "above": (-down, across),
        "below": (down, across),
    }[side]
    return np.asarray((along > 0) & (np.abs(off) <= slope * along))
