"""Scenes in files: figures, JSON, GeoJSON and GeoPackage as results, and journals so that a killed run goes on."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mindground.engine.progress import Progress
from mindground.errors import ConfigError, GeoError, ImageError, printable
from mindground.files import rasters
from mindground.files.atomic import write_json
from mindground.files.outputs import check_outputs, guarded
from mindground.files.scenes import Georeference, Scene, ground_sample_distance, open_scene
from mindground.geo.geojson import write_geojson
from mindground.geo.geopackage import write_geopackage
from mindground.geo.scene_vectors import scene_geojson, scene_layer
from mindground.inference.journal import TileJournal, job_key
from mindground.inference.predictor import check_min_score, check_sentence
from mindground.inference.results import Results
from mindground.inference.scene import Ask, SceneAnswer, ask_scene
from mindground.inference.tiles import DEFAULT_OVERLAP, Tiling
from mindground.structures import Prediction, encode_mask, mask_polygons
from mindground.visualize.caption import Caption, plain_caption
from mindground.visualize.drawing import Palette, contact_sheet, draw, save_png

if TYPE_CHECKING:
    from mindground.runtime.distributed import Comm

__all__ = ["REFERRING_MIN_SCORE", "Cut", "predict_scenes", "scene_threshold", "tiling_of"]

_LOG = logging.getLogger("mindground")

REFERRING_MIN_SCORE = 0.5
"""Below it, an answer of one of several tiles does not count, unless the user says otherwise: a network for one
referent answers for every tile, also where there is nothing."""
_PANELS, _DRAWN_MASKS = 16, 50
_POLYGON_PIXELS = 32_000_000


@dataclass(frozen=True)
class Cut:
    """How scenes are cut.

    Attributes:
        tile: side in pixels of the scene; None = the canvas of the network, or what `gsd` says.
        overlap: see `Tiling`.
        gsd: metres of the ground that one pixel of the canvas shall show; the tile follows from it and from the
            georeference of each scene.
        canvas: side in pixels of the network's canvas.
    """

    tile: int | None = None
    overlap: float = DEFAULT_OVERLAP
    gsd: float | None = None
    canvas: int = 640


def tiling_of(cut: Cut, scene: Scene) -> Tiling:
    """The tiling of one scene.

    Raises:
        ConfigError: `tile` and `gsd` together, or a `gsd` that gives no tile.
        GeoError: `gsd` for a scene whose pixels have no known size on the ground.
    """
    if cut.gsd is None:
        return Tiling(cut.tile or cut.canvas, cut.overlap)
    if cut.tile is not None:
        raise ConfigError("a ground sample distance decides how large a tile is; leave the tile out")
    own = ground_sample_distance(scene.place, scene.size)
    if own is None:
        raise GeoError(
            f"{scene.name}: the size of its pixels on the ground is not known; give --tile in place of --gsd"
        )
    return Tiling(max(1, round(cut.canvas * cut.gsd / own)), cut.overlap)


def scene_threshold(given: float | None, tiles: int, *, asks: bool, scored: bool) -> float:
    """The score below which answers of tiles are left out: the user's, or `REFERRING_MIN_SCORE` for sentences."""
    if given is not None:
        return check_min_score(given)
    return REFERRING_MIN_SCORE if asks and scored and tiles > 1 else 0.0


@dataclass
class _Job:
    """What is the same for every scene of one call."""

    ask: Ask
    texts: list[str]
    out: Path
    cut: Cut
    min_score: float | None
    bands: Sequence[int] | None
    model: str
    scored: bool
    key: Mapping[str, Any]
    comm: Comm | None
    geometry: str
    caption: Callable[[Prediction], Caption]
    palette: Palette
    categories: dict[int, str]
    journals: list[TileJournal] = field(default_factory=list)

    @property
    def main(self) -> bool:
        return self.comm is None or self.comm.is_main


def predict_scenes(
    ask: Ask,
    images: Sequence[Path],
    texts: Sequence[str],
    out: str | Path,
    cut: Cut,
    *,
    min_score: float | None = None,
    bands: Sequence[int] | None = None,
    model: str = "",
    scored: bool = True,
    categories: Mapping[int, str] | None = None,
    caption: Callable[[Prediction], Caption] = plain_caption,
    overwrite: bool = False,
    inputs: Sequence[str | Path] = (),
    geometry: str = "mask",
    palette: Palette | None = None,
    key: Mapping[str, Any] | None = None,
    comm: Comm | None = None,
) -> Results:
    """Predict every sentence on every scene, tile by tile, and write the results to `out`.

    `predictions.json` holds everything in pixels of the scenes, `<scene>.png` a reduced figure with a panel for every
    sentence, and for scenes with a georeference `<scene>.geojson` (EPSG:4326) and `<scene>.gpkg` (the scene's own
    coordinate system). Tiles that are done stand in `<scene>.tiles.jsonl` until the results are written: the same
    command goes on there after a kill.

    Args:
        ask, images, texts, out, bands, model, categories, caption, overwrite, inputs: as `predict_files`.
        cut: tile, overlap, ground sample distance.
        min_score: None = 0.5 for sentences that are asked of several tiles, and 0 otherwise; see `scene_threshold`.
        scored: whether the network gives a score.
        geometry: of `geo.geojson.GEOMETRIES`.
        key: what decides the network's answers, such as the checkpoint's size and time; results of tiles are used again
            only where it is the same.
        comm: of a job of several ranks; the first writes.

    Returns:
        The results; on other ranks than the first without files.

    Raises:
        As `predict_files`; a scene that cannot be read is listed, and the others are processed.
    """
    out = Path(out)
    names = _names(images)
    job = _Job(
        *(ask, [check_sentence(text) for text in texts], out, cut, min_score, bands or None, model, scored, key or {}),
        *(comm, geometry, caption, palette or Palette(), {int(n): str(v) for n, v in (categories or {}).items()}),
    )
    document: dict[str, Any] = {"model": printable(model), "images": [], "queries": [], "annotations": []}
    results = Results(document)
    result_file = out / "predictions.json"
    with guarded([*images, *inputs], overwrite=overwrite):
        if job.main:
            ends = (".png", ".geojson", ".gpkg")
            check_outputs([result_file, *(out / f"{name}{end}" for name in names.values() for end in ends)])
        for number, path in enumerate(images, 1):
            try:
                results.files += _scene(job, path, names[path], number, document)
            except ImageError as error:
                results.failures[printable(path)] = reason = printable(str(error))
                document.setdefault("failures", {})[printable(path)] = reason
                _LOG.error("%s", reason)
        document["categories"] = _categories(document, job)
        if job.main:
            results.files.append(write_json(result_file, document, indent=1))
            for journal in job.journals:
                journal.remove()
    return results


def _scene(job: _Job, path: Path, name: str, number: int, document: dict[str, Any]) -> list[Path]:
    """Ask one scene, note what was found, and write its files on the first rank."""
    with open_scene(path, job.bands) as scene, ExitStack() as stack:
        tiling = tiling_of(job.cut, scene)
        tiles = tiling.tiles(scene.size)
        threshold = scene_threshold(job.min_score, len(tiles), asks=bool(job.texts), scored=job.scored)
        _LOG.info("%s: %d tiles of %d pixels, %d apart", scene.name, len(tiles), tiling.tile, tiling.step)
        sizes = {tile.number: (tile.bottom - tile.top, tile.right - tile.left) for tile in tiles}
        rank = job.comm.rank if job.comm is not None else 0
        made = TileJournal(job.out, name, _key(job, path, tiling, threshold), sizes, max(1, len(job.texts)), rank)
        stack.callback(made.close)
        progress = stack.enter_context(Progress(name, len(tiles), every=max(1, len(tiles) // 20), shown=job.main))

        def tell(done: int, total: int) -> None:
            progress.done = min(done, total) - 1
            progress.advance()

        answers = ask_scene(
            job.ask, scene, job.texts, tiling, min_score=threshold, comm=job.comm, journal=made, progress=tell
        )
        job.journals.append(made)
        image = {
            **{"id": number, "file_name": printable(path), "width": scene.size[1], "height": scene.size[0]},
            **{"tiles": len(tiles), "tile": tiling.tile, "overlap": tiling.overlap, "min_score": threshold},
        }
        document["images"].append(image)
        for answer in answers:
            _note(document, answer, number, job)
        return _write(job, scene, path, name, answers) if job.main else []


def _key(job: _Job, path: Path, tiling: Tiling, threshold: float) -> str:
    state = os.stat(path)
    return job_key(
        {
            **{"image": os.path.abspath(path), "bytes": state.st_size, "time": state.st_mtime_ns, "network": job.key},
            **{"model": job.model, "texts": job.texts, "bands": job.bands, "min_score": threshold},
            **{"tile": tiling.tile, "overlap": tiling.overlap, "offset": tiling.offset},
        }
    )


def _note(document: dict[str, Any], answer: SceneAnswer, number: int, job: _Job) -> None:
    records = answer_records(answer, number)
    query: dict[str, Any] = {"image_id": number, "text": answer.expression, "found": len(records)}
    query["best_score"] = max((record["score"] for record in records), default=None)
    query |= {"candidates": answer.extras["candidates"], "decided_in_scene": list(answer.decided)}
    document["queries"].append(query)
    for record in records:
        if answer.expression is not None:
            record["category_id"] = 1 + job.texts.index(answer.expression)
        document["annotations"].append({"id": len(document["annotations"]) + 1, **record, "iscrowd": 0})


def answer_records(answer: SceneAnswer, image_id: int = 0) -> list[dict[str, Any]]:
    """COCO-style records in pixels of the scene; masks as polygons, because their run lengths would cover the scene.

    A mask whose outline is too long for polygons has none, and a warning says so.
    """
    records = []
    for index, box in enumerate(answer.boxes_xyxy):
        left, top, right, bottom = (float(edge) for edge in box)
        record: dict[str, Any] = {
            "image_id": image_id,
            "category_id": int(answer.labels[index]),
            "bbox": [round(value, 3) for value in (left, top, right - left, bottom - top)],
            "area": round((right - left) * (bottom - top), 3),
            "score": round(float(answer.scores[index]), 6),
        }
        if answer.expression is not None:
            record["text"] = answer.expression
        if answer.regions:
            region = answer.regions[index]
            record["area"] = region.area
            x, y, far, low = (int(edge) for edge in region.box())
            small = (far - x) * (low - y) <= _POLYGON_PIXELS
            polygons = mask_polygons(region.mask(x, y, far, low)) if small else None
            if polygons is None:
                _LOG.warning("the outline of a mask at column %d, row %d is too long for predictions.json", x, y)
            else:
                record["segmentation"] = [
                    (np.reshape(part, (-1, 2)) + (x, y)).reshape(-1).tolist() for part in polygons
                ]
        records.append(record)
    return records


def _categories(document: Mapping[str, Any], job: _Job) -> list[dict[str, Any]]:
    if job.texts:
        return [{"id": number, "name": text} for number, text in enumerate(job.texts, 1)]
    names = dict(job.categories)
    for record in document["annotations"]:
        names.setdefault(record["category_id"], f"class {record['category_id']}")
    return [{"id": number, "name": name} for number, name in names.items()]


def _write(job: _Job, scene: Scene, path: Path, name: str, answers: Sequence[SceneAnswer]) -> list[Path]:
    files = [save_png(job.out / f"{name}.png", _figure(scene, answers[:_PANELS], job))]
    if scene.place is None or not rasters.has_rasterio():
        return files
    words = {"image": printable(path.name), "model": printable(job.model), "geometry": job.geometry}
    try:
        collection = scene_geojson(answers, scene.place, **words)
        files.append(write_geojson(job.out / f"{name}.geojson", collection))
    except GeoError as error:
        _LOG.warning("%s; no GeoJSON is written for it", printable(str(error)))
    place: Georeference = scene.place
    files.append(write_geopackage(job.out / f"{name}.gpkg", [scene_layer("predictions", answers, place, **words)]))
    return files


def _figure(scene: Scene, answers: Sequence[SceneAnswer], job: _Job) -> np.ndarray:
    """A reduced figure with a panel for every answer."""
    pixels, step = scene.overview()
    panels = []
    for answer in answers:
        size = (pixels.shape[0], pixels.shape[1])
        masks: tuple[dict[str, Any], ...] = ()
        if answer.regions and len(answer) <= _DRAWN_MASKS:
            masks = tuple(encode_mask(region.smaller(step, size)) for region in answer.regions)
        small = Prediction(size, answer.boxes_xyxy / step, answer.scores, answer.labels, masks, answer.expression)
        panels.append(draw(pixels, small, caption=job.caption(small), palette=job.palette))
    return panels[0] if len(panels) == 1 else contact_sheet(panels)


def _names(images: Sequence[Path]) -> dict[Path, str]:
    """Names of every scene's files, each once."""
    names: dict[Path, str] = {}
    taken: set[str] = {"predictions"}
    for path in images:
        name, number = path.stem, 2
        while name in taken:
            name, number = f"{path.stem}-{number}", number + 1
        taken.add(name)
        names[path] = name
    return names
