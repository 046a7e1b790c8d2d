"""LabelMe and Label Studio: JSON of labelling tools."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

from mindground.data.formats.fields import RecordError, listing, mapping, optional_size, plain_text, require
from mindground.data.formats.files import read_json
from mindground.errors import DataError, shown
from mindground.files.atomic import write_json
from mindground.interchange.folders import files_in
from mindground.interchange.images import safe_name, sized
from mindground.interchange.model import (
    Annotations,
    Context,
    ExchangeFormat,
    ImageItems,
    Item,
    Notes,
    make_item,
    points_of,
)
from mindground.interchange.model import one_polygon as joined

__all__ = ["FORMATS"]

_IMAGE_KEYS = ("image", "img", "image_url", "url", "picture")


def read_labelme(path: Path, context: Context, notes: Notes) -> Annotations:
    images: dict[str, ImageItems] = {}
    for file in files_in(path, ".json"):
        content = read_json(file)
        require(content, ("shapes",), str(file))
        given = content.get("imagePath") or f"{file.stem}.jpg"
        name = plain_text(given, "'imagePath'", str(file), empty=False).replace("\\", "/")
        size = optional_size(content.get("imageHeight"), content.get("imageWidth"), str(file))
        items = []
        for number, shape in enumerate(listing(content, "shapes", str(file))):
            item = _labelme_shape(shape, f"{file}: shape {number}", size, notes)
            if item is not None:
                items.append(item)
        if name in images:
            raise DataError(f"{file}: the image {shown(name)} stands in a file before; name each image once")
        images[name] = ImageItems(name, size, items)
    return Annotations(list(images.values()))


def _labelme_shape(shape: Any, where: str, size: tuple[int, int] | None, notes: Notes) -> Item | None:
    require(shape, ("label", "points"), where)
    kind = shape.get("shape_type", "polygon")
    points = _pairs(shape["points"], where)
    words = {"category": shape["label"], "sentence": shape.get("description"), "score": shape.get("score")}
    if kind == "rectangle":
        if len(points) < 2:
            raise RecordError(f"{where}: a rectangle has two points or more")
        columns, rows = [point[0] for point in points], [point[1] for point in points]
        return make_item(where, box=[min(columns), min(rows), max(columns), max(rows)], size=size, **words)
    if kind == "polygon":
        outline = [[value for point in points for value in point]]
        return make_item(where, outline=outline, size=size, **words)
    if kind == "circle" and len(points) == 2:
        (x, y), radius = points[0], math.dist(points[0], points[1])
        turns = [2 * math.pi * step / 32 for step in range(32)]
        ring = [v for turn in turns for v in (x + radius * math.cos(turn), y + radius * math.sin(turn))]
        return make_item(where, outline=[ring], size=size, **words)
    notes.add(f"shapes of the kind {shown(kind)}")
    return None


def _pairs(points: Any, where: str) -> list[list[float]]:
    if isinstance(points, list) and all(
        isinstance(point, list) and len(point) == 2 and all(type(v) in (int, float) and abs(v) <= 1e9 for v in point)
        for point in points
    ):
        return [[float(x), float(y)] for x, y in points]
    raise RecordError(f"{where}: points are [[x, y], ...] of finite numbers, not {shown(points)}")


def write_labelme(path: Path, found: Annotations, context: Context, notes: Notes) -> list[Path]:
    files = []
    for image in found.images:
        height, width = sized(image.name, image.size, context.images, image.name)
        shapes = []
        for item in image.items:
            ring = joined(item.outline, image.size, notes)
            left, top, right, bottom = item.box
            shape: dict[str, Any] = {
                "label": item.category or "object",
                "points": [[left, top], [right, bottom]] if ring is None else points_of(ring),
                "group_id": None,
                "description": item.sentence,
                "shape_type": "rectangle" if ring is None else "polygon",
                "flags": {},
            }
            if item.score is not None:
                shape["score"] = item.score
            shapes.append(shape)
        content: dict[str, Any] = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": image.name}
        content |= {"imageData": None, "imageHeight": height, "imageWidth": width}
        files.append(write_json(path / safe_name(image.name, ".json"), content))
    return files


def read_label_studio(path: Path, context: Context, notes: Notes) -> Annotations:
    images: dict[str, ImageItems] = {}
    for file in files_in(path, ".json"):
        content = read_json(file)
        tasks = content if isinstance(content, list) else [content]
        for number, task in enumerate(tasks):
            where = f"{file}: task {number}"
            require(task, ("data",), where)
            name = _task_image(mapping(task, "data", where), where)
            if name in images:
                raise DataError(f"{where}: the image {shown(name)} stands at a task before; name each image once")
            images[name] = _task_items(task, name, where, context, notes)
    return Annotations(list(images.values()))


def _task_image(data: Mapping[Any, Any], where: str) -> str:
    """The image's name: of the usual addresses of a labelling server, the path below its own folders."""
    texts = [data[key] for key in _IMAGE_KEYS if isinstance(data.get(key), str)]
    texts += [value for value in data.values() if isinstance(value, str) and value.lower().endswith((".png", ".jpg"))]
    if not texts:
        raise RecordError(f"{where}: its data has no image; it has {shown(sorted(map(str, data)))}")
    given = plain_text(texts[0], "the image", where, empty=False).replace("\\", "/")
    try:
        address = urlparse(given)
        query = parse_qs(address.query).get("d")
    except ValueError:
        return given
    if query:  # /data/local-files/?d=folder/name.jpg
        return plain_text(query[0], "the image", where, empty=False)
    if address.scheme or given.startswith("/data/"):
        name = unquote(address.path, errors="surrogateescape").removeprefix("/data/upload/").lstrip("/")
        return plain_text(name, "the image", where, empty=False)
    return given


def _task_items(task: Mapping[str, Any], name: str, where: str, context: Context, notes: Notes) -> ImageItems:
    data = task["data"]
    image = ImageItems(name, optional_size(data.get("height"), data.get("width"), where))
    answers = [("annotation", a) for a in task.get("annotations") or [] if not _flag(a, "was_cancelled")]
    if not answers:
        answers = [("prediction", p) for p in task.get("predictions") or []]
    if len(answers) > 1:
        notes.add("further answers to a task (the first is taken)", len(answers) - 1)
    for kind, answer in answers[:1]:
        place = f"{where}, {kind}"
        require(answer, ("result",), place)
        results = listing(answer, "result", place)
        sentences = _texts(results, place)
        # The score of a prediction as a whole counts where none of its regions has one.
        scored = any(isinstance(result, Mapping) and result.get("score") is not None for result in results)
        overall = answer.get("score") if kind == "prediction" and not scored else None
        for number, result in enumerate(results):
            at = f"{place}, result {number}"
            require(result, ("value",), at)
            value = mapping(result, "value", at)
            given = optional_size(result.get("original_height"), result.get("original_width"), at)
            labels = value.get("rectanglelabels") or value.get("polygonlabels") or value.get("labels") or [""]
            if "points" not in value and "width" not in value:
                if result.get("type") in ("brushlabels", "brush", "keypointlabels", "ellipselabels"):
                    notes.add(f"results of the kind {shown(result.get('type'))} (export them as COCO)")
                continue
            image.size = image.size or given or sized(name, None, context.images, at)
            words = {
                "category": labels[0] if isinstance(labels, list) and labels else "",
                "sentence": sentences.get(str(result.get("id")), ""),
                "score": result.get("score", overall),
            }
            image.items.append(_region(value, at, image.size, words))
    if image.size is None and (context.images is not None):
        image.size = sized(name, None, context.images, where)
    return image


def _flag(record: Any, key: str) -> bool:
    return isinstance(record, Mapping) and bool(record.get(key))


def _texts(results: Any, where: str) -> dict[str, str]:
    """Region -> its sentence: results of the kind `textarea` have the id of the region that they describe."""
    found: dict[str, str] = {}
    for result in results:
        value = result.get("value") if isinstance(result, Mapping) else None
        text = value.get("text") if isinstance(value, Mapping) else None
        if text is not None and result.get("type", "textarea") in ("textarea", "text"):
            words = text if isinstance(text, list) else [text]
            found[str(result.get("id"))] = plain_text(words[0] if words else "", "the sentence", where)
    return found


def _region(value: Mapping[Any, Any], where: str, size: tuple[int, int], words: Mapping[str, Any]) -> Item:
    height, width = size
    if "points" in value:
        ring = [v for x, y in _pairs(value["points"], where) for v in (x * width / 100, y * height / 100)]
        return make_item(where, outline=[ring], size=size, **words)
    require(value, ("x", "y", "width", "height"), where)
    x, y, w, h = (_percent(value[key], where) for key in ("x", "y", "width", "height"))
    left, top, right, bottom = x * width / 100, y * height / 100, (x + w) * width / 100, (y + h) * height / 100
    turn = _percent(value.get("rotation", 0) or 0, where)
    if turn % 360 == 0:
        return make_item(where, box=[left, top, right, bottom], size=size, **words)
    cosine, sine = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    ring = []
    for across, down in ((left, top), (right, top), (right, bottom), (left, bottom)):
        ring += [left + (across - left) * cosine - (down - top) * sine]
        ring += [top + (across - left) * sine + (down - top) * cosine]
    return make_item(where, outline=[ring], size=size, **words)


def _percent(value: Any, where: str) -> float:
    if type(value) in (int, float) and abs(value) <= 1e9:
        return float(value)
    raise RecordError(f"{where}: {shown(value)} is no finite number")


def _write_label_studio(path: Path, found: Annotations, context: Context, notes: Notes, key: str) -> list[Path]:
    tasks = []
    for number, image in enumerate(found.images, 1):
        height, width = sized(image.name, image.size, context.images, image.name)
        results: list[dict[str, Any]] = []
        for place, item in enumerate(image.items, 1):
            base: dict[str, Any] = {"id": f"{number}-{place}", "to_name": "image", "image_rotation": 0}
            base |= {"original_width": width, "original_height": height}
            ring = joined(item.outline, image.size, notes)
            label, score = [item.category or "object"], {} if item.score is None else {"score": item.score}
            if ring is None:
                left, top, right, bottom = item.box
                value: dict[str, Any] = {"x": left * 100 / width, "y": top * 100 / height, "rotation": 0}
                value |= {"width": (right - left) * 100 / width, "height": (bottom - top) * 100 / height}
                kind = "rectanglelabels"
            else:
                value = {"points": [[x * 100 / width, y * 100 / height] for x, y in points_of(ring)], "closed": True}
                kind = "polygonlabels"
            results.append({**base, "from_name": kind, "type": kind, "value": value | {kind: label}, **score})
            if item.sentence:
                text = {"from_name": "sentence", "type": "textarea", "value": {"text": [item.sentence]}}
                results.append({**base, **text})
        answer: dict[str, Any] = {"result": results}
        if key == "predictions":
            scores = [item.score for item in image.items if item.score is not None]
            answer |= {"model_version": "mindground", **({"score": max(scores)} if scores else {})}
        tasks.append({"id": number, "data": {"image": image.name, "height": height, "width": width}, key: [answer]})
    return [write_json(path, tasks)]


FORMATS = (
    ExchangeFormat(
        "labelme",
        "LabelMe: a folder with one JSON file an image",
        read_labelme,
        write_labelme,
        "",
        "one polygon",
        "`score` of a shape",
        "`description` of a shape",
    ),
    ExchangeFormat(
        "label-studio",
        "Label Studio tasks: annotations where there are some, else predictions",
        read_label_studio,
        lambda path, found, context, notes: _write_label_studio(path, found, context, notes, "annotations"),
        ".json",
        "one polygon",
        "`score` of a result",
        "a `textarea` of the region",
    ),
    ExchangeFormat(
        "label-studio-predictions",
        "the same, written as predictions (pre-annotations)",
        read_label_studio,
        lambda path, found, context, notes: _write_label_studio(path, found, context, notes, "predictions"),
        ".json",
        "one polygon",
        "`score` of a result",
        "a `textarea` of the region",
    ),
)
