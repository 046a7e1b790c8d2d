"""Prediction for image files, with drawings, JSON and GeoJSON as results, as `src/predict.py` writes them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mindground.errors import ImageError
from mindground.files.atomic import write_json
from mindground.files.images import read_image
from mindground.files.rasters import GeoImage, is_geotiff, read_geotiff
from mindground.geo.geojson import to_geojson, write_geojson
from mindground.inference.predictor import check_sentence
from mindground.structures import Prediction
from mindground.visualize.caption import Caption, plain_caption
from mindground.visualize.drawing import contact_sheet, draw, save_png

__all__ = ["IMAGE_SUFFIXES", "Results", "find_images", "predict_files", "summary"]

_LOG = logging.getLogger("mindground")
IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

Ask = Callable[[np.ndarray, Sequence[str] | None, float], Prediction | list[Prediction]]


@dataclass
class Results:
    """The predictions for a set of images.

    Attributes:
        document: the content of `predictions.json`.
        files: paths that were written, in order.
        failures: path of an image -> why it could not be read.
    """

    document: dict[str, Any]
    files: list[Path] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


def summary(results: Results) -> list[str]:
    """One line of text per query."""
    names = {image["id"]: image["file_name"] for image in results.document["images"]}
    lines = []
    for query in results.document["queries"]:
        found = f"{query['found']} found" if query["found"] else "nothing found"
        if query["found"] and query["best_score"] < 1:  # exactly 1 stands for a network without a confidence
            found += f", score {query['best_score']:.2f}"
        sentence = "" if query["text"] is None else f"{query['text']!r}: "
        lines.append(f"{names[query['image_id']]}: {sentence}{found}")
    return lines


def find_images(paths: Sequence[str | Path]) -> list[Path]:
    """The given files, and the images of every given folder in the order of their names; each once.

    Raises:
        ImageError: a path does not exist, or a folder holds no image.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
            if not inside:
                raise ImageError(f"the folder {path} holds no image ({', '.join(IMAGE_SUFFIXES)})")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise ImageError(f"there is no image or folder {path}; check the path after --image")
    return list(dict.fromkeys(found))


def predict_files(
    ask: Ask,
    images: Sequence[Path],
    texts: Sequence[str],
    out: str | Path,
    *,
    min_score: float = 0.0,
    model: str = "",
    categories: Mapping[int, str] | None = None,
    caption: Callable[[Prediction], Caption] = plain_caption,
) -> Results:
    """Predict every sentence on every image, or every image without a sentence, and write the results to `out`.

    `<image>.png` shows one panel per sentence, `<image>.geojson` is written for rasters with a georeference,
    `predictions.json` holds everything as COCO-style records. An image that cannot be read is listed in
    `predictions.json` and in the result, and the other images are processed.

    Args:
        ask: (image, sentences, min_score) -> one prediction per sentence, or (image, None, min_score) -> one
            prediction; a `Predictor` is one.
        images: paths, see `find_images`.
        texts: sentences; empty for a network that reads none.
        out: folder of the results.
        min_score: predictions below it are left out.
        model: name of the model, for the results.
        categories: label -> name, for `predictions.json`.
        caption: prediction -> the words of its figure, as `Task.caption` gives them.

    Raises:
        DataError: an empty sentence, or sentences that the network does not read or lacks.
        WriteError: a result cannot be written.
    """
    sentences = [check_sentence(text) for text in texts]
    out = Path(out)
    document: dict[str, Any] = {"model": model, "min_score": min_score, "images": [], "queries": [], "annotations": []}
    if categories:
        document["categories"] = [{"id": number, "name": name} for number, name in categories.items()]
    results, names = Results(document), _unique_names(images)
    for number, path in enumerate(images, 1):
        try:
            pixels, raster = _read(path)
            answer = ask(pixels, sentences or None, min_score)
            found = [answer] if isinstance(answer, Prediction) else answer
        except ImageError as error:
            results.failures[str(path)] = str(error)
            _LOG.error("%s", error)
            continue
        _record(document, number, path, pixels, found)
        panels = [draw(pixels, one, caption=caption(one)) for one in found]
        figure = panels[0] if len(panels) == 1 else contact_sheet(panels)
        results.files.append(save_png(out / f"{names[path]}.png", figure))
        if raster is not None and raster.crs:
            collection = to_geojson(found, raster, image=path.name, model=model)
            results.files.append(write_geojson(out / f"{names[path]}.geojson", collection))
        elif raster is not None:
            _LOG.warning("%s has no coordinate system; no GeoJSON is written for it", path)
    if results.failures:
        document["failures"] = dict(results.failures)
    results.files.append(write_json(out / "predictions.json", document, indent=1))
    return results


def _read(path: Path) -> tuple[np.ndarray, GeoImage | None]:
    if is_geotiff(path):
        raster = read_geotiff(path)
        return raster.image, raster
    return read_image(path), None


def _unique_names(images: Sequence[Path]) -> dict[Path, str]:
    """Name of every image's results without extension; `a.jpg` and `b/a.png` must not overwrite each other."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in images:
        name, number = path.stem, 2
        while name in taken:
            name, number = f"{path.stem}-{number}", number + 1
        taken.add(name)
        names[path] = name
    return names


def _record(document: dict[str, Any], number: int, path: Path, pixels: np.ndarray, found: Sequence[Prediction]) -> None:
    height, width = pixels.shape[:2]
    document["images"].append({"id": number, "file_name": str(path), "width": width, "height": height})
    for prediction in found:
        records = prediction.to_coco(number)
        best = max((record["score"] for record in records), default=None)
        document["queries"].append(
            {
                "image_id": number,
                "text": prediction.expression,
                "found": len(records),
                "best_score": best,
                "unknown_words": list(prediction.extras.get("unknown_words", [])),
            }
        )
        for record in records:
            document["annotations"].append({"id": len(document["annotations"]) + 1, **record})
