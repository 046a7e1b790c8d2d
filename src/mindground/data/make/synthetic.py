"""A small aerial world that needs no download: coloured, sized, placed objects and sentences about them.

Every scene is drawn from (seed, split, index) alone, so the same numbers give the same images and
sentences on every machine; a larger set begins with the smaller one. Objects of a referring scene
(`make_scene`) share class or colour on purpose: only the words tell them apart. A scene for detectors
(`make_instances`) has none to five objects. `formats/synthetic.py` makes data sets of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

__all__ = [
    "CATEGORIES",
    "COLOURS",
    "DRAWING",
    "INSTANCE_PAINT",
    "SPLITS",
    "SceneObject",
    "draw_scene",
    "make_instances",
    "make_scene",
    "scene_sentences",
    "sentence_generator",
]

CATEGORIES = {1: "ship", 2: "plane", 3: "tank", 4: "house"}
COLOURS = {"red": (205, 45, 40), "blue": (40, 75, 205), "yellow": (235, 205, 50), "white": (242, 242, 238)}
GROUNDS = {"grass": (88, 112, 66), "sand": (164, 142, 104), "water": (58, 88, 100), "concrete": (122, 122, 120)}
SPLITS = {"train": 0, "val": 1, "test": 2}
SUPERSAMPLING = 4
SENTENCES_PER_OBJECT = 2
# Of scenes for detectors: how often they hold none, one ... five objects, and the size of these beside those of
# referring scenes, so that five of them find room.
OBJECT_COUNTS = (0.1, 0.15, 0.25, 0.25, 0.15, 0.1)
INSTANCE_SCALE = 0.7
# Streams of random numbers of one scene, one for each purpose.
SCENE, SENTENCES, PAINT, INSTANCES, INSTANCE_PAINT = range(5)
# Part of the cache folder's name: raise it whenever the same seed would draw another image.
DRAWING = "v4"


@dataclass(frozen=True)
class SceneObject:
    """One object: category id, colour name and its (N, 2) outline in pixels."""

    category: int
    colour: str
    outline: np.ndarray

    @property
    def box(self) -> np.ndarray:
        """(4,) xyxy of the outline."""
        return np.concatenate([self.outline.min(0), self.outline.max(0)]).astype(np.float32)

    @property
    def centre(self) -> np.ndarray:
        """(2,) x, y of the box's centre."""
        return (self.box[:2] + self.box[2:]) / 2

    @property
    def area(self) -> float:
        """Pixels inside the outline."""
        return float(cv2.contourArea(self.outline.astype(np.float32)))

    @property
    def name(self) -> str:
        """Class name."""
        return CATEGORIES[self.category]


def make_scene(seed: int, split: str, index: int, size: int) -> list[SceneObject]:
    """Place two or three objects that do not touch, in a square of `size` pixels."""
    rng = _generator(seed, split, index, SCENE)
    wanted = 2 if rng.random() < 0.6 else 3
    objects: list[SceneObject] = []
    while len(objects) < wanted:
        category, colour = _kind(rng, objects)
        placed = _place(rng, objects, category, colour, size)
        # A scene that has no room left starts over; the generator moves on, so this ends.
        objects = objects + [placed] if placed is not None else []
    return objects


def make_instances(seed: int, split: str, index: int, size: int) -> list[SceneObject]:
    """Place none to five objects of any class and colour that do not touch, in a square of `size` pixels."""
    rng = _generator(seed, split, index, INSTANCES)
    wanted = int(rng.choice(len(OBJECT_COUNTS), p=OBJECT_COUNTS))
    objects: list[SceneObject] = []
    while len(objects) < wanted:
        category, colour = int(rng.choice(list(CATEGORIES))), str(rng.choice(list(COLOURS)))
        placed = _place(rng, objects, category, colour, size, INSTANCE_SCALE)
        objects = objects + [placed] if placed is not None else []
    return objects


def sentence_generator(seed: int, split: str, index: int) -> np.random.Generator:
    """The random numbers that choose among the sentences of one scene."""
    return _generator(seed, split, index, SENTENCES)


def _kind(rng: np.random.Generator, objects: list[SceneObject]) -> tuple[int, str]:
    """Class and colour of the next object: often one of them is shared with an earlier object."""
    categories, colours = list(CATEGORIES), list(COLOURS)
    category, colour = int(rng.choice(categories)), str(rng.choice(colours))
    if not objects:
        return category, colour
    model = objects[int(rng.integers(len(objects)))]
    share = rng.random()
    if share < 0.45:
        return model.category, str(rng.choice([name for name in colours if name != model.colour]))
    if share < 0.70:
        return int(rng.choice([number for number in categories if number != model.category])), model.colour
    if share < 0.80:
        return model.category, model.colour
    return category, colour


def _place(
    rng: np.random.Generator, objects: list[SceneObject], category: int, colour: str, size: int, scale: float = 1.0
) -> SceneObject | None:
    for _ in range(30):
        shape = _outline(rng, category) * (scale * (size / 128))
        low, high = shape.min(0), shape.max(0)
        room = size - (high - low) - 4
        outline = shape - low + 2 + rng.random(2) * room
        candidate = SceneObject(category, colour, np.round(outline, 2))
        gap = np.asarray([-4, -4, 4, 4])
        if all(_apart(candidate.box + gap, other.box) for other in objects):
            return candidate
    return None


def _apart(first: np.ndarray, second: np.ndarray) -> bool:
    return bool(first[2] <= second[0] or second[2] <= first[0] or first[3] <= second[1] or second[3] <= first[1])


def _outline(rng: np.random.Generator, category: int) -> np.ndarray:
    """(N, 2) outline around the origin at the scale of a 128-pixel image, turned by a random right angle and a bit."""
    name = CATEGORIES[category]
    scale = float(rng.uniform(1.0, 1.35))
    if name == "ship":
        length, beam = 46 * scale, 19 * scale
        points = [(-0.5, -0.42), (0.22, -0.5), (0.42, -0.28), (0.5, 0), (0.42, 0.28), (0.22, 0.5), (-0.5, 0.42)]
        shape = np.asarray(points) * (length, beam)
    elif name == "plane":
        half = [(0.5, 0.0), (0.42, 0.06), (0.14, 0.07), (-0.12, 0.5), (-0.24, 0.5), (-0.12, 0.07), (-0.34, 0.06)]
        half += [(-0.44, 0.2), (-0.5, 0.2), (-0.46, 0.0)]
        shape = np.asarray(half + [(x, -y) for x, y in half[-2:0:-1]]) * 44 * scale
    elif name == "tank":
        angles = np.arange(24) * (2 * np.pi / 24)
        shape = np.stack([np.cos(angles), np.sin(angles)], 1) * 16 * scale
    else:
        shape = np.asarray([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]) * (36 * scale, 27 * scale)
    angle = np.deg2rad(90 * int(rng.integers(4)) + rng.uniform(-12, 12))
    turn = np.asarray([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    return shape @ turn.T


def scene_sentences(objects: list[SceneObject], rng: np.random.Generator) -> list[list[str]]:
    """For each object up to three sentences that are true of it alone; an object may have none."""
    result = []
    for index, target in enumerate(objects):
        true = _true_sentences(index, objects)
        # Colour and class first: it is what most sentences of real sets say. The rest is drawn.
        plain = [text for text in true if text.startswith(f"the {target.colour} {target.name}")][:1]
        other = [text for text in true if text not in plain]
        picked = [other[i] for i in rng.permutation(len(other))[: SENTENCES_PER_OBJECT - len(plain)]]
        result.append(plain + picked)
    return result


def _true_sentences(index: int, objects: list[SceneObject]) -> list[str]:
    target = objects[index]
    others = [item for number, item in enumerate(objects) if number != index]
    same_class = [item for item in others if item.category == target.category]
    twins = [item for item in same_class if item.colour == target.colour]
    sentences = []
    if not same_class:
        sentences.append(f"the {target.name}")
    if not twins:
        sentences.append(f"the {target.colour} {target.name}")
    if same_class:
        sentences += [f"the {target.name} {place}" for place in _places(target, same_class)]
        if len(same_class) == 1:
            ratio = target.area / same_class[0].area
            if ratio > 1.4 or ratio < 1 / 1.4:
                sentences.append(f"the {'larger' if ratio > 1 else 'smaller'} {target.name}")
    if all(item.colour != target.colour for item in others):
        sentences.append(f"the {target.colour} one")
    if twins:
        sentences += [f"the {target.colour} {target.name} {place}" for place in _places(target, twins)]
    return sentences


def _places(target: SceneObject, rivals: list[SceneObject]) -> list[str]:
    """Places where the target lies furthest out, by a margin that the eye sees."""
    extent = np.asarray([item.box for item in (target, *rivals)])
    margin = 0.25 * float(extent[:, 2:].max() - extent[:, :2].min()) if rivals else 0.0
    margin = max(margin, 12.0)
    moves = np.stack([item.centre - target.centre for item in rivals])
    tests = {
        "on the left": moves[:, 0] > margin,
        "on the right": moves[:, 0] < -margin,
        "at the top": moves[:, 1] > margin,
        "at the bottom": moves[:, 1] < -margin,
    }
    return [place for place, beyond in tests.items() if bool(beyond.all())]


def draw_scene(
    objects: list[SceneObject], seed: int, split: str, index: int, size: int, stream: int = PAINT
) -> np.ndarray:
    """(size, size, 3) uint8 RGB image: textured ground, a road or furrows, objects with shadows.

    Args:
        objects: what lies there.
        seed, split, index: of the scene.
        size: side in pixels.
        stream: `PAINT`, or `INSTANCE_PAINT` for scenes of `make_instances`: other grounds than those of the referring
            scene with the same number.
    """
    rng = _generator(seed, split, index, stream)
    large = size * SUPERSAMPLING
    image = _ground(rng, large)
    for item in objects:
        points = item.outline * SUPERSAMPLING
        shadow = image.copy()
        cv2.fillPoly(shadow, [np.round(points + 2.5 * SUPERSAMPLING).astype(np.int32)], (20, 22, 24), cv2.LINE_AA)
        image = cv2.addWeighted(shadow, 0.55, image, 0.45, 0)
        base = np.asarray(COLOURS[item.colour]) * rng.uniform(0.9, 1.0)
        colour = tuple(float(value) for value in base)
        cv2.fillPoly(image, [np.round(points).astype(np.int32)], colour, cv2.LINE_AA)
        _details(image, item, points, colour)
        edge = tuple(0.45 * value for value in colour)
        cv2.polylines(image, [np.round(points).astype(np.int32)], True, edge, SUPERSAMPLING // 2, cv2.LINE_AA)
    small = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32)
    small += rng.normal(0, 3, small.shape)
    return np.clip(np.round(small), 0, 255).astype(np.uint8)


def _ground(rng: np.random.Generator, large: int) -> np.ndarray:
    name = str(rng.choice(list(GROUNDS)))
    noise = np.zeros((large, large), np.float32)
    for cells, strength in ((4, 9.0), (16, 6.0), (64, 4.0)):
        coarse = rng.normal(0, strength, (cells, cells)).astype(np.float32)
        noise += cv2.resize(coarse, (large, large), interpolation=cv2.INTER_CUBIC)
    if name in ("grass", "water"):
        angle, period = rng.uniform(0, np.pi), rng.uniform(0.03, 0.06) * large
        rows, columns = np.mgrid[:large, :large].astype(np.float32)
        noise += 4 * np.sin((columns * np.cos(angle) + rows * np.sin(angle)) * (2 * np.pi / period))
    image = np.clip(np.asarray(GROUNDS[name], np.float32) + noise[..., None], 0, 255).astype(np.uint8)
    if name != "water" and rng.random() < 0.6:
        position, width = int(rng.uniform(0.1, 0.9) * large), int(0.07 * large)
        start, end = ((position, 0), (position, large)) if rng.random() < 0.5 else ((0, position), (large, position))
        cv2.line(image, start, end, (92, 92, 94), width, cv2.LINE_AA)
        step = np.subtract(end, start) / 12
        for dash in range(12):
            first = (start + step * dash).astype(np.int32)
            last = first + (step / 2).astype(np.int32)
            cv2.line(image, tuple(map(int, first)), tuple(map(int, last)), (176, 176, 170), 3)
    return np.ascontiguousarray(image)


def _details(image: np.ndarray, item: SceneObject, points: np.ndarray, colour: tuple[float, ...]) -> None:
    """What makes a class look like itself from above: a ridge, a lid, a deck."""
    dark = tuple(0.62 * value for value in colour)
    middle = points.mean(0)

    def stroke(start: np.ndarray, end: np.ndarray, width: int) -> None:
        ends = [tuple(int(round(float(v))) for v in point) for point in (start, end)]
        cv2.line(image, ends[0], ends[1], dark, width * SUPERSAMPLING // 2, cv2.LINE_AA)

    if item.name == "house":
        left, right = (points[0] + points[3]) / 2, (points[1] + points[2]) / 2
        stroke(left, right, 2)
        for corner in points:
            stroke(corner, left if np.linalg.norm(corner - left) < np.linalg.norm(corner - right) else right, 1)
    elif item.name == "tank":
        inner = np.round(middle + (points - middle) * 0.6).astype(np.int32)
        cv2.polylines(image, [inner], True, dark, SUPERSAMPLING, cv2.LINE_AA)
    elif item.name == "ship":
        deck = middle + (points - middle) * 0.45
        cv2.fillPoly(image, [np.round(deck).astype(np.int32)], dark, cv2.LINE_AA)
    else:
        stroke(points[0], points[9], 2)


def _generator(seed: int, split: str, index: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([int(seed), SPLITS[split], index, stream])
