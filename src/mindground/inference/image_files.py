"""Prediction for image files, with drawings, JSON and GeoJSON as results, as `src/predict.py` writes them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mindground.errors import GeoError, ImageError, printable
from mindground.files import rasters
from mindground.files.images import read_image
from mindground.files.jpegs import warn_of_damage
from mindground.files.outputs import check_outputs, guarded
from mindground.files.rasters import GeoImage, is_geotiff, read_geotiff
from mindground.geo.geojson import to_geojson, write_geojson
from mindground.inference.forms import Forms
from mindground.inference.predictor import check_min_score, check_sentence
from mindground.inference.results import ResultFile, Results, finite
from mindground.structures import Prediction
from mindground.visualize.caption import Caption, plain_caption
from mindground.visualize.drawing import Palette, contact_sheet, draw, save_png

__all__ = ["IMAGE_SUFFIXES", "Results", "find_images", "predict_files", "summary"]

_LOG = logging.getLogger("mindground")
IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

# Panels of one figure; more of them make further pages, so that the memory does not grow with the sentences.
_PANELS = 64
_SQUEEZE = 4
"""Pixels of an image to one of the canvas, along its longer side, above which a warning is given."""

Ask = Callable[[np.ndarray, Sequence[str] | None, float], Prediction | list[Prediction]]


class _Names(NamedTuple):
    """Names of the files of one image: figures without extension, and for every answer its own files."""

    pages: list[str]
    answers: list[dict[str, str]]

    def stems(self) -> set[str]:
        return {*self.pages, *(os.path.splitext(name)[0] for answer in self.answers for name in answer.values())}


def summary(results: Results) -> list[str]:
    """One line of text per query, and per class that was counted."""
    names = {image["id"]: image["file_name"] for image in results.document["images"]}
    lines = []
    for query in results.document["queries"]:
        found = f"{query['found']} found" if query["found"] else "nothing found"
        if query["found"] and query["best_score"] < 1:  # exactly 1 stands for a network without a confidence
            found += f", score {query['best_score']:.2f}"
        # Every character of a sentence that would steer the terminal is escaped by `repr`.
        sentence = "" if query["text"] is None else f"{query['text']!r}: "
        lines.append(f"{names[query['image_id']]}: {sentence}{found}")
    for entry in results.document.get("classes", ()):
        if entry["count"] is not None:
            lines.append(f"{names[entry['image_id']]}: {entry['name']!r} counted {entry['count']}")
    return lines


def find_images(paths: Sequence[str | Path]) -> list[Path]:
    """The given files, and the images of every given folder in the order of their names; each file once.

    Hidden files of a folder (`._scene.jpg`, which macOS writes beside images) are left out. A file that is given by
    two names, or by a link and its own name, is taken under the first.

    Raises:
        ImageError: a path does not exist, or a folder cannot be read or holds no image.
    """
    found: dict[str, Path] = {}
    for path in map(Path, paths):
        # The functions of `os.path` answer False for a name that is too long or holds the character 0.
        if os.path.isdir(path):
            inside = _images_in(path)
        elif os.path.isfile(path):
            inside = [path]
        else:
            raise ImageError(f"there is no image or folder {printable(path, 300)}; check the path after --image")
        for one in inside:
            found.setdefault(os.path.realpath(one), one)
    return list(found.values())


def _images_in(folder: Path) -> list[Path]:
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise ImageError(f"the folder {printable(folder, 300)} cannot be read ({error.strerror})") from error
    images = [p for p in inside if p.suffix.lower() in IMAGE_SUFFIXES and p.name[0] != "." and os.path.isfile(p)]
    if not images:
        raise ImageError(f"the folder {printable(folder, 300)} holds no image ({', '.join(IMAGE_SUFFIXES)})")
    return images


def predict_files(
    ask: Ask,
    images: Sequence[Path],
    texts: Sequence[str],
    out: str | Path,
    *,
    min_score: float = 0.0,
    bands: Sequence[int] | None = None,
    model: str = "",
    categories: Mapping[int, str] | None = None,
    caption: Callable[[Prediction], Caption] = plain_caption,
    overwrite: bool = False,
    inputs: Sequence[str | Path] = (),
    forms: Forms | None = None,
    canvas: int | None = None,
) -> Results:
    """Predict every sentence on every image, or every image without a sentence, and write the results to `out`.

    `<image>.png` shows one panel per sentence (`<image>-page2.png` and so on where there are more than 64),
    `<image>-mask-1.png` and `<image>-prob-1.png` (or `.tif`) belong to the first sentence where `forms` asks for them,
    `<image>.geojson` is written for rasters with a georeference, `predictions.json` holds everything as COCO-style
    records. Results are written as they come, see `ResultFile`. An image that cannot be read is listed in
    `predictions.json` and in the result, and the other images are processed.

    Args:
        ask: (image, sentences, min_score) -> one prediction per sentence, or (image, None, min_score) -> one
            prediction; a `Predictor` is one.
        images: paths, see `find_images`.
        texts: sentences; empty for a network that reads none.
        out: folder of the results.
        min_score: predictions below it are left out.
        bands: of the files, as `files.images.read_image`; empty or None takes those that a file names.
        model: name of the model, for the results.
        categories: label -> name, for `predictions.json`.
        caption: prediction -> the words of its figure, as `Task.caption` gives them.
        overwrite: replace earlier results. The images, and `inputs`, are not replaced all the same.
        inputs: further files that this call reads, such as the checkpoint.
        forms: of masks, probabilities and figures, and which classes are counted; by default masks as run lengths.
            With `forms.probability`, `ask` must give it (`Predictor(..., probability=True)`).
        canvas: side of the network's canvas in pixels; an image that is more than 4 times as large is warned of.

    Raises:
        DataError: an empty sentence, or sentences that the network does not read or lacks.
        WriteError: a result cannot be written, or must not replace what is there.
    """
    sentences = [check_sentence(text) for text in texts]
    check_min_score(min_score)
    out, forms = Path(out), forms or Forms()
    names = _unique_names(images, len(sentences), forms)
    with guarded([*images, *inputs], overwrite=overwrite):
        check_outputs(_outputs(out, names))
        with ResultFile(out, model, min_score, categories, forms) as record:
            results = Results(record.document)
            for number, path in enumerate(images, 1):
                try:
                    pixels, raster, found = _answer(ask, path, bands, sentences, min_score)
                except ImageError as error:
                    results.failures[printable(path)] = reason = printable(str(error))
                    record.fail(path, reason)
                    _LOG.error("%s", reason)
                    continue
                _warn_of_squeeze(path, pixels, canvas)
                mine = names[path]
                record.add(number, path, (pixels.shape[0], pixels.shape[1]), found, mine.answers)
                results.files += _draw(out, mine.pages, pixels, found, caption, forms.palette)
                for answer, one in zip(mine.answers, found, strict=True):
                    results.files += forms.write(out, answer, one, raster)
                if raster is not None:
                    target = out / f"{mine.pages[0]}.geojson"
                    results.files += _write_geojson(target, found, raster, path, model, forms.geometry)
        results.files.append(record.path)
    return results


def _outputs(out: Path, names: Mapping[Path, _Names]) -> list[Path]:
    """Every file that may be written."""
    figures = [out / f"{page}.png" for one in names.values() for page in one.pages]
    answers = [out / name for one in names.values() for answer in one.answers for name in answer.values()]
    return [*ResultFile.paths(out), *figures, *answers, *(out / f"{one.pages[0]}.geojson" for one in names.values())]


def _answer(
    ask: Ask, path: Path, bands: Sequence[int] | None, sentences: Sequence[str], min_score: float
) -> tuple[np.ndarray, GeoImage | None, list[Prediction]]:
    """The pixels of one image, its georeference and the predictions; ImageError for what costs this image alone."""
    try:
        pixels, raster = _read(path, bands)
        answer = ask(pixels, sentences or None, min_score)
    except MemoryError as error:
        raise ImageError(f"{path}: there is not enough memory for this image; cut it into tiles") from error
    found = [answer] if isinstance(answer, Prediction) else answer
    if not finite(found):
        raise ImageError(
            f"{path}: the network's answer holds numbers that are not finite; take another checkpoint, or float32"
        )
    return pixels, raster, found


def _warn_of_squeeze(path: Path, pixels: np.ndarray, canvas: int | None) -> None:
    if canvas is not None and max(pixels.shape[:2]) > _SQUEEZE * canvas:
        _LOG.warning(
            "%s has %d x %d pixels, and the network sees %d x %d of them: small objects are lost; ask it tile by tile "
            "with --tile %d",
            *(printable(path, 300), pixels.shape[1], pixels.shape[0], canvas, canvas, canvas),
        )


def _draw(
    out: Path,
    names: Sequence[str],
    pixels: np.ndarray,
    found: Sequence[Prediction],
    caption: Callable[..., Caption],
    palette: Palette,
) -> list[Path]:
    """Write the figures of one image, each of them before the next is drawn."""
    files = []
    for page, name in enumerate(names):
        part = found[page * _PANELS : (page + 1) * _PANELS]
        panels = [draw(pixels, one, caption=caption(one), palette=palette) for one in part]
        if panels:
            files.append(save_png(out / f"{name}.png", panels[0] if len(panels) == 1 else contact_sheet(panels)))
    return files


def _write_geojson(
    target: Path, found: Sequence[Prediction], raster: GeoImage, path: Path, model: str, geometry: str
) -> list[Path]:
    """The file, or nothing and a warning where the raster has no place on earth."""
    try:
        image = printable(path.name)
        collection = to_geojson(found, raster, image=image, model=printable(model), geometry=geometry)
    except GeoError as error:
        _LOG.warning("%s; no GeoJSON is written for it", printable(str(error)))
        return []
    return [write_geojson(target, collection)]


def _read(path: Path, bands: Sequence[int] | None) -> tuple[np.ndarray, GeoImage | None]:
    """The pixels as `read_image` gives them, and the georeference where there is one and it can be used."""
    bands = bands or None
    if is_geotiff(path):
        if rasters.has_rasterio():
            raster = read_geotiff(path, bands)
            return raster.image, raster
        _LOG.warning("%s: its georeference needs pip install -r requirements-geo.txt; no GeoJSON is written", path)
    pixels = read_image(path, bands=bands)
    warn_of_damage(path)
    return pixels, None


def _unique_names(images: Sequence[Path], sentences: int, forms: Forms) -> dict[Path, _Names]:
    """Names of every image's files; those of `a.jpg` and `b/a.png`, or of `a-mask-1.jpg`, must not be the same."""
    names: dict[Path, _Names] = {}
    taken: set[str] = set()
    for path in images:
        name, number = path.stem, 2
        while taken.intersection((made := _names(name, sentences, forms)).stems()):
            name, number = f"{path.stem}-{number}", number + 1
        taken.update(made.stems())
        names[path] = made
    return names


def _names(name: str, sentences: int, forms: Forms) -> _Names:
    pages, answers = -(-max(1, sentences) // _PANELS), range(1, max(1, sentences) + 1)
    return _Names(
        [name, *(f"{name}-page{page}" for page in range(2, pages + 1))],
        [forms.file_names(name, number, sentences > 0) for number in answers],
    )
