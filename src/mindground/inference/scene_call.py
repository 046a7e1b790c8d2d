"""`Predictor.scene`: one scene from Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mindground.errors import DataError
from mindground.files.scenes import array_scene, open_scene
from mindground.inference.predictor import as_rgb, check_sentence
from mindground.inference.scene import SceneAnswer, ask_scene, canvas_of
from mindground.inference.scene_files import Cut, scene_threshold, tiling_of
from mindground.inference.tiles import DEFAULT_OVERLAP

if TYPE_CHECKING:
    from mindground.files.scenes import Scene
    from mindground.inference.predictor import Predictor
    from mindground.runtime.distributed import Comm

__all__ = ["answer_scene"]


def answer_scene(
    predictor: Predictor,
    image: Any,
    text: str | Sequence[str] | None = None,
    *,
    min_score: float | None = None,
    tile: int | None = None,
    overlap: float = DEFAULT_OVERLAP,
    gsd: float | None = None,
    bands: Sequence[int] | None = None,
    comm: Comm | None = None,
) -> SceneAnswer | list[SceneAnswer]:
    """Find a sentence, each of several, or every instance, in an image of any size.

    Args:
        image: a path, a Pillow image or an array; only a path is read in windows.
        text: one sentence gives one answer, a list gives a list. None for a network that reads none.
        min_score: answers of tiles below it are left out; None = 0.5 for a sentence about a scene of several tiles,
            because such a network answers for every tile, and 0 otherwise.
        tile: side of a tile in pixels of the scene; None = the network's canvas.
        overlap: share of a tile's side that two neighbours have in common at least.
        gsd: metres of one pixel of the canvas; the tile follows from the scene's georeference.
        bands: as `Predictor.__call__`.
        comm: of a job of several ranks, which share the tiles.

    Raises:
        DataError: as `Predictor.__call__`. ConfigError: a tile or an overlap that cannot be used. GeoError: `gsd` of a
            scene without georeference.
    """
    if predictor.asks_expression and text is None:
        raise DataError("this network finds what a sentence names; give a sentence")
    if not predictor.asks_expression and text is not None:
        raise DataError("this network finds every instance and reads no sentence; leave the sentence out")
    one = text is None or isinstance(text, str)
    sentences = [] if text is None else [check_sentence(item) for item in ([text] if isinstance(text, str) else text)]
    if not one and not sentences:
        return []
    cut = Cut(tile, overlap, gsd, canvas_of(predictor))

    def ask(scene: Scene) -> list[SceneAnswer]:
        tiling = tiling_of(cut, scene)
        count = len(tiling.tiles(scene.size))
        threshold = scene_threshold(min_score, count, asks=bool(sentences), scored=predictor.gives_scores)
        return ask_scene(predictor, scene, sentences, tiling, min_score=threshold, comm=comm)

    if isinstance(image, (str, Path)):
        chosen = bands or (predictor.config.data.bands if predictor.config is not None else None) or None
        with open_scene(image, chosen) as scene:
            found = ask(scene)
    else:
        found = ask(array_scene(as_rgb(image, bands=bands)))
    for sentence, answer in zip(sentences, found, strict=False):
        answer.extras["unknown_words"] = predictor.unknown_words(sentence)
    return found[0] if one else found
