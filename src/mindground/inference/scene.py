"""Answers for scenes of any size: every tile is asked, the answers are merged once, and the words that compare over the
whole scene are decided last.

    answers = ask_scene(predictor, scene, ["the northernmost ship"], Tiling(640))

Nothing here depends on a family or a framework: `ask` is any function that answers for an image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mindground.errors import DataError, ImageError
from mindground.files.scenes import Georeference, Scene
from mindground.inference.journal import TileJournal
from mindground.inference.merge import Found, is_cut, merged
from mindground.inference.scene_choice import choose
from mindground.inference.tiles import Tile, Tiling
from mindground.structures import Prediction, decode_segmentation, encode_mask
from mindground.structures.outlines import MAX_PIXELS
from mindground.structures.pixel_runs import Region

if TYPE_CHECKING:
    from mindground.runtime.distributed import Comm

__all__ = ["SceneAnswer", "ask_scene", "canvas_of"]

Ask = Callable[[np.ndarray, Sequence[str] | None, float], Prediction | list[Prediction]]
Progressing = Callable[[int, int], None]


@dataclass
class SceneAnswer:
    """What was found in a scene for one sentence, or without one, the surest first.

    Attributes:
        size: (height, width) of the scene in pixels.
        boxes_xyxy: (N, 4) float64 in pixels of the scene.
        scores, labels: (N,) as in `Prediction`.
        regions: N masks, or an empty tuple where the network gives none.
        expression: the sentence that was asked.
        decided: the words that were decided over the whole scene ("northernmost"), and empty where there are none.
        place: the georeference of the scene.
        extras: `candidates`: how many there were before `decided`; `unknown_words` of the sentence.
    """

    size: tuple[int, int]
    boxes_xyxy: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    regions: tuple[Region, ...] = ()
    expression: str | None = None
    decided: tuple[str, ...] = ()
    place: Georeference | None = None
    extras: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.boxes_xyxy)

    def to_prediction(self) -> Prediction:
        """The same as a `Prediction`, whose masks are arrays of the scene's size.

        Raises:
            ImageError: the scene has more than `MAX_PIXELS` pixels.
        """
        height, width = self.size
        if height * width > MAX_PIXELS:
            raise ImageError(
                f"a scene of {width} x {height} pixels has no masks as arrays, of {MAX_PIXELS} pixels at most; use the "
                "boxes and regions of the answer"
            )
        masks = tuple(encode_mask(region.mask(0, 0, width, height)) for region in self.regions)
        return Prediction(
            self.size, self.boxes_xyxy, self.scores, self.labels, masks, self.expression, dict(self.extras)
        )


def canvas_of(predictor: Any, default: int = 640) -> int:
    """Side in pixels of the canvas that a predictor's network sees."""
    config = getattr(predictor, "config", None)
    return int(config.data.img_size) if config is not None else default


def ask_scene(
    ask: Ask,
    scene: Scene,
    texts: Sequence[str],
    tiling: Tiling,
    *,
    min_score: float = 0.0,
    comm: Comm | None = None,
    journal: TileJournal | None = None,
    progress: Progressing | None = None,
) -> list[SceneAnswer]:
    """Ask every tile of a scene, merge, and decide what compares over the whole scene.

    Tiles without a pixel that has data are not asked. With several ranks each asks its share of the tiles, and all of
    them return the same answers.

    Args:
        ask: (image, sentences or None, min_score) -> predictions, as `predict_files` takes it.
        scene: an open scene; every rank opens it.
        texts: sentences; empty for a network that reads none.
        tiling: where the tiles lie.
        min_score: answers of tiles below it are left out before they are merged.
        comm: communication of a job of several ranks.
        journal: keeps what is known of every tile, so that a killed run goes on.
        progress: is told how many tiles are done, and of how many.

    Raises:
        ImageError: a tile cannot be read, or an answer holds numbers that are not finite.
    """
    tiles = tiling.tiles(scene.size)
    known = journal.known() if journal is not None else {}
    if comm is not None:
        known = comm.broadcast_object(known)  # nobody has written yet, and all shall share the same rest
    rank, ranks = (comm.rank, comm.size) if comm is not None else (0, 1)
    answers = {number: _placed(entry, tiles[number], scene.size) for number, entry in known.items()}
    todo = [tile for tile in tiles if tile.number not in known]
    mine = todo[rank::ranks]
    failure = ""
    try:
        for done, tile in enumerate(mine):
            entry = _ask_tile(ask, scene, tile, texts, min_score)
            answers[tile.number] = _placed(entry, tile, scene.size)
            if journal is not None:
                journal.add(tile.number, entry)
            if progress is not None:
                progress(len(known) + (done + 1) * ranks, len(tiles))
    except ImageError as error:
        if comm is None or comm.size == 1:
            raise
        failure = str(error)  # the others wait for this rank, so all of them are told
    found = _gathered(answers, {tile.number for tile in mine}, failure, comm)
    asked: Sequence[str | None] = texts or [None]
    return [
        _answer(scene, merged([one for tile in found for one in found[tile][index]], tiles), text)
        for index, text in enumerate(asked)
    ]


Entry = list[list[dict[str, Any]]]
"""What one tile answers: for every sentence a list of objects with `box`, `score`, `label` and `mask`."""


def _ask_tile(ask: Ask, scene: Scene, tile: Tile, texts: Sequence[str], min_score: float) -> Entry:
    """The answers of one tile, in its own pixels and ready for JSON."""
    pixels, valid = scene.read(*tile.box)
    if not valid.any():
        return [[] for _ in range(max(1, len(texts)))]
    try:
        answer = ask(np.ascontiguousarray(pixels), list(texts) or None, min_score)
    except MemoryError as error:
        raise ImageError(f"{scene.name}: there is not enough memory for a tile; choose a smaller --tile") from error
    predictions = [answer] if isinstance(answer, Prediction) else answer
    if len(predictions) != max(1, len(texts)):
        raise DataError(f"{len(predictions)} answers to {len(texts)} sentences about one tile")
    for one in predictions:
        if not (np.isfinite(one.boxes_xyxy).all() and np.isfinite(one.scores).all()):
            raise ImageError(
                f"{scene.name}: the network's answer holds numbers that are not finite; take another checkpoint, or "
                "float32"
            )
    return [_objects(one) for one in predictions]


def _objects(found: Prediction) -> list[dict[str, Any]]:
    labels = np.zeros(len(found), np.int64) if found.labels is None else found.labels
    return [
        {
            "box": [float(value) for value in box],
            "score": float(found.scores[index]),
            "label": int(labels[index]),
            "mask": dict(found.masks[index]) if found.masks else None,
        }
        for index, box in enumerate(found.boxes_xyxy)
    ]


def _placed(entry: Entry, tile: Tile, size: tuple[int, int]) -> list[list[Found]]:
    """The answers of one tile in pixels of the scene; what has no pixel is left out."""
    return [[found for item in items if (found := _found(item, tile, size)) is not None] for items in entry]


def _found(item: Mapping[str, Any], tile: Tile, size: tuple[int, int]) -> Found | None:
    box = np.asarray(item["box"], np.float64) + (tile.left, tile.top, tile.left, tile.top)
    region, extent = None, box
    if item["mask"] is not None:
        mask = decode_segmentation(item["mask"], (tile.bottom - tile.top, tile.right - tile.left))
        region = Region.of(mask, tile.left, tile.top, size[1])
        extent = region.box()
    if (extent[2:] <= extent[:2]).any():
        return None
    return Found(box, item["score"], item["label"], region, tile.number, is_cut(extent, tile, size))


def _gathered(
    answers: dict[int, list[list[Found]]], mine: set[int], failure: str, comm: Comm | None
) -> dict[int, list[list[Found]]]:
    """The answers of all tiles, by their number. Raises ImageError on every rank where one of them has failed."""
    if comm is not None and comm.size > 1:
        own = {number: answers[number] for number in mine if number in answers}
        for problem, part in comm.all_gather_object((failure, own)):
            if problem:
                raise ImageError(problem)
            answers.update(part)
    return {number: answers[number] for number in sorted(answers)}


def _answer(scene: Scene, found: Sequence[Found], text: str | None) -> SceneAnswer:
    kept, words = choose(found, text, scene.size, scene.place)
    with_masks = bool(kept) and all(one.region is not None for one in kept)
    return SceneAnswer(
        scene.size,
        np.stack([one.box for one in kept]) if kept else np.zeros((0, 4)),
        np.asarray([one.score for one in kept], np.float32),
        np.asarray([one.label for one in kept], np.int64),
        tuple(one.region for one in kept if one.region is not None) if with_masks else (),
        text,
        words,
        scene.place,
        {"candidates": len(found)},
    )
