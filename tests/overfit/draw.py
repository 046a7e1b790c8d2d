"""The data of a learning proof: four drawn images, with sixteen sentences or with every object of three classes.

A set is a folder in our JSON-lines format with three splits:

    train      every sample `copies` times, so that an epoch is worth its evaluation
    same       every sample once
    exchanged  the same images and truths, the sentences exchanged among the objects of each image; for instances the
               images with the objects of another one. A model that looks and reads fails on it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mindground.data.make.synthetic import CATEGORIES, SceneObject, draw_scene, make_scene, scene_sentences

__all__ = ["CLASSES", "IMAGES", "SENTENCES", "draw_instances", "draw_referring"]

IMAGES = 4
SENTENCES = 4  # of every image
CLASSES = ("ship", "plane", "tank")  # of instance sets
_OBJECTS = (2, 5)  # how many an image of an instance set has
_SPLIT = "train"


def draw_referring(folder: Path, seed: int, size: int, copies: int = 1) -> None:
    """Write `IMAGES` images of `size` pixels with `SENTENCES` sentences each, about at least two objects."""
    truths: list[list[dict[str, Any]]] = []
    for index, objects in _scenes(seed, size):
        picked = _sentences(objects, np.random.default_rng([seed, index]))
        if picked:
            name = _write_image(folder, len(truths), objects, seed, index, size)
            truths.append(
                [{**_record(name, size), "sentence": text, **_object(objects[number])} for number, text in picked]
            )
        if len(truths) == IMAGES:
            break
    exchanged = []
    for records in truths:
        # Sentences are sorted by object and no object has more than half of them: half a turn leaves none in place.
        texts = [record["sentence"] for record in records]
        turned = texts[SENTENCES // 2 :] + texts[: SENTENCES // 2]
        exchanged += [{**record, "sentence": text} for record, text in zip(records, turned, strict=True)]
    _write_splits(folder, [record for records in truths for record in records], exchanged, copies)


def draw_instances(folder: Path, seed: int, size: int, copies: int = 1) -> None:
    """Write `IMAGES` images of `size` pixels, each with two to five objects of `CLASSES`."""
    records: list[dict[str, Any]] = []
    for index, objects in _scenes(seed, size):
        if all(item.name in CLASSES for item in objects) and _OBJECTS[0] <= len(objects) <= _OBJECTS[1]:
            name = _write_image(folder, len(records), objects, seed, index, size)
            records.append({**_record(name, size), "objects": [_object(item) for item in objects]})
        if len(records) == IMAGES:
            break
    givers = records[1:] + records[:1]
    exchanged = [{**record, "objects": giver["objects"]} for record, giver in zip(records, givers, strict=True)]
    _write_splits(folder, records, exchanged, copies)


def _scenes(seed: int, size: int) -> Any:
    """(index, objects) without end."""
    index = 0
    while True:
        yield index, make_scene(seed, _SPLIT, index, size)
        index += 1


def _sentences(objects: Sequence[SceneObject], rng: np.random.Generator) -> list[tuple[int, str]]:
    """(number of the object, sentence), sorted by object; empty where a scene has too few to say."""
    left = [list(found) for found in scene_sentences(list(objects), rng)]
    picked: list[tuple[int, str]] = []
    while len(picked) < SENTENCES and any(left):
        for number, texts in enumerate(left):
            if texts and len(picked) < SENTENCES:
                picked.append((number, texts.pop(0)))
    most = max((sum(number == other for other, _ in picked) for number, _ in picked), default=0)
    return sorted(picked) if len(picked) == SENTENCES and most <= SENTENCES // 2 else []


def _record(name: str, size: int) -> dict[str, Any]:
    return {"image": name, "image_id": Path(name).stem, "size": [size, size]}


def _object(item: SceneObject) -> dict[str, Any]:
    outline = [float(value) for value in item.outline.ravel()]
    return {"box": [float(value) for value in item.box], "mask": [outline], "category": item.name}


def _write_image(folder: Path, number: int, objects: Sequence[SceneObject], seed: int, index: int, size: int) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = draw_scene(list(objects), seed, _SPLIT, index, size)
    name = f"{number}.png"
    if not cv2.imwrite(str(folder / name), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)):
        raise OSError(f"{folder / name} cannot be written")
    return name


def _write_splits(
    folder: Path, records: Sequence[dict[str, Any]], exchanged: Sequence[dict[str, Any]], copies: int
) -> None:
    for split, lines in {"train": list(records) * copies, "same": records, "exchanged": exchanged}.items():
        text = "".join(json.dumps({"id": f"{split}-{number}", **line}) + "\n" for number, line in enumerate(lines))
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    categories = {str(number): name for number, name in CATEGORIES.items()}
    (folder / "dataset.json").write_text(json.dumps({"name": "overfit", "categories": categories}), encoding="utf-8")
