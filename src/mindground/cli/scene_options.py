"""Options of `predict` for scenes of any size: tiles, their overlap, the ground sample distance, shapes of features."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mindground.errors import ConfigError

if TYPE_CHECKING:
    from mindground.inference.predictor import Predictor
    from mindground.inference.results import Results

__all__ = ["add_scenes", "is_scene", "run_scenes"]


def add_scenes(parser: argparse.ArgumentParser) -> None:
    """The options `--tile`, `--overlap`, `--gsd`, `--geometry` and `--text-file`."""
    from mindground.cli.parser import at_least, share
    from mindground.geo.geojson import GEOMETRIES
    from mindground.inference.tiles import DEFAULT_OVERLAP

    parser.add_argument(
        "--tile",
        type=at_least(16),
        metavar="PIXELS",
        help="ask scenes of any size tile by tile; side of a tile (default with --overlap: the network's canvas)",
    )
    parser.add_argument(
        "--overlap",
        type=share,
        metavar="SHARE",
        help=f"of a tile's side, common to two neighbours (default: {DEFAULT_OVERLAP}); objects up to this size are "
        "whole in one tile, larger ones are joined over the seams",
    )
    parser.add_argument(
        "--gsd",
        type=_metres,
        metavar="METRES",
        help="in place of --tile: ground that one pixel of the network's canvas shall show, as in its training images",
    )
    parser.add_argument(
        "--geometry",
        choices=GEOMETRIES,
        help="shape of a feature in GeoJSON and GeoPackage: the mask (the box where there is none), the box, or one "
        "feature for each (default: mask)",
    )
    parser.add_argument(
        "--text-file",
        action="append",
        default=[],
        metavar="FILE",
        help="sentences from a text file (one a line) or a CSV file (column 'sentence'), beside those of --text",
    )


def is_scene(options: Any) -> bool:
    """Whether tiles are asked for. Raises ConfigError for options that contradict each other or do nothing then."""
    if options.tile is None and options.overlap is None and options.gsd is None:
        return False
    if options.tile is not None and options.gsd is not None:
        raise ConfigError("--gsd decides how large a tile is; leave --tile out")
    for name, value in (("--ground", options.ground), ("--points", options.points), ("--boxes", options.boxes)):
        if value:
            raise ConfigError(f"{name} is not possible with tiles: a prompt is about one image; leave one of them out")
    for name, value in (("--masks", options.masks), ("--prob", options.prob), ("--min-area", options.min_area)):
        if value:
            raise ConfigError(
                f"{name} is not possible with tiles: masks of a scene are written as polygons; leave it out"
            )
    return True


def run_scenes(
    options: Any, images: Sequence[Path], sentences: Sequence[str], predictor: Predictor, checkpoint: str | Path
) -> Results:
    """Ask the scenes as the options say."""
    from mindground.inference.scene import canvas_of
    from mindground.inference.scene_files import Cut, predict_scenes
    from mindground.inference.tiles import DEFAULT_OVERLAP
    from mindground.runtime.distributed import get_comm
    from mindground.runtime.launcher import launched_size
    from mindground.visualize.drawing import STYLES

    state = os.stat(checkpoint)
    overlap = DEFAULT_OVERLAP if options.overlap is None else options.overlap
    return predict_scenes(
        predictor,
        images,
        sentences,
        options.out,
        Cut(options.tile, overlap, options.gsd, canvas_of(predictor)),
        min_score=options.min_score,
        bands=options.bands or (predictor.config.data.bands if predictor.config else None),
        model=predictor.name,
        scored=predictor.gives_scores,
        categories=None if predictor.asks_expression else predictor.categories,
        caption=partial(predictor.caption, min_score=options.min_score),
        overwrite=options.overwrite,
        inputs=[checkpoint],
        geometry=options.geometry or "mask",
        palette=STYLES[options.style],
        key={"file": os.path.abspath(checkpoint), "bytes": state.st_size, "time": state.st_mtime_ns}
        | {"config": repr(predictor.config)},
        comm=get_comm() if launched_size() > 1 else None,
    )


def _metres(text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of metres") from error
    if not 1e-4 <= value <= 1e6:
        raise argparse.ArgumentTypeError(f"{text} must be a number of metres above 0")
    return value
