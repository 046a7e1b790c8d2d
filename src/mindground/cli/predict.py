"""Find what sentences point at in one's own images.

    mindground predict --ckpt runs/quickstart/best.ckpt --image scene.jpg --text "the red ship" --out out/
    mindground predict --ckpt best.ckpt --image scene.tif --classes ship,harbour --masks png --prob geotiff
    mindground predict --ckpt best.ckpt --image city.tif --tile 800 --overlap 0.3 --text "the northernmost ship"
    mindground predict --ckpt sam.ckpt --image images/ --everything masks/
    mindground predict --ckpt sam.ckpt --ground best.ckpt --image scene.jpg --text "the red ship"

Keys of the configuration (--mask_threshold=0.5, --data.img_size=640) change the checkpoint's own.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence, Sized
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mindground.runtime import device, interrupts

if TYPE_CHECKING:
    from mindground.cli.parser import VerbParser
    from mindground.inference.predictor import Predictor

__all__ = ["main"]


def _parser(prog: str | None) -> VerbParser:
    from mindground.cli.parser import VerbParser, add_overwrite, at_least, band_list, share
    from mindground.cli.prediction_forms import add_forms
    from mindground.cli.prompt_modes import add_modes
    from mindground.cli.scene_options import add_scenes

    parser = VerbParser(prog, __doc__)
    parser.add_argument("--ckpt", help="checkpoint; by default the newest best.ckpt below runs/")
    parser.add_argument("--image", nargs="+", metavar="PATH", help="images, GeoTIFFs or folders of them")
    parser.add_argument(
        "--text",
        action="append",
        default=[],
        help="what to find; may be given several times (models that find every instance take none)",
    )
    add_forms(parser)
    add_scenes(parser)
    add_modes(parser)
    parser.add_argument("--out", default="out", metavar="DIR", help="folder of the results (default: out)")
    add_overwrite(parser)
    parser.add_argument(
        "--min-score",
        type=share,
        help="below this score nothing counts as found (default: 0). It is no test of presence: of sentences about "
        "classes that are not in the image, 36 %% score above 0.5 (measured on the default model); refused where a "
        "network gives a box without a score",
    )
    parser.add_argument(
        "--bands",
        type=band_list,
        metavar="R,G,B",
        help="bands of the files that are red, green and blue, or one that is grey (default: data.bands of the "
        "checkpoint, else those that a file names, else 1,2,3)",
    )
    parser.add_argument("--json", action="store_true", help="print predictions.json instead of the list of files")
    parser.add_argument(
        "--batch_size",
        type=at_least(1),
        help="sentences computed together at most (default: 16 where an image is encoded once for all, else 4)",
    )
    parser.add_argument("--device_target", default="auto", help="auto, or the device's name as MindSpore writes it")
    parser.add_argument("--mode_name", default="GRAPH", choices=("GRAPH", "PYNATIVE"))
    return parser


def main(argv: Sequence[str], prog: str | None = None) -> None:
    """Parse, predict, write; raises ImageError at the end where an image could not be used."""
    interrupts.keep_ctrl_c()
    device.prepare()
    from mindground.cli.adjust import PREDICTION_KEYS, adjustment
    from mindground.cli.checkpoints import newest_checkpoint
    from mindground.cli.prediction_forms import forms_of, sentences_of
    from mindground.cli.prompt_modes import check_modes, grounded, run_mode
    from mindground.cli.scene_options import is_scene, run_scenes
    from mindground.config import parse_command_line

    parser = _parser(prog)
    line = parse_command_line(argv, parser)
    options = line.options
    mode = check_modes(options, parser)
    from mindground.errors import ConfigError, printable
    from mindground.files.atomic import json_text
    from mindground.files.outputs import check_outputs
    from mindground.inference.image_files import find_images, predict_files, summary
    from mindground.inference.predictor import Predictor
    from mindground.inference.results import ResultFile
    from mindground.inference.scene import canvas_of
    from mindground.runtime.distributed import current_comm

    tiled = is_scene(options)
    sentences = sentences_of(options)  # what cannot be asked is told before a network is built, and
    images = find_images(options.image)  # so is a mistyped path
    checkpoint = options.ckpt or newest_checkpoint()
    read = [checkpoint, *([options.ground] if options.ground else [])]
    if not mode:
        check_outputs(ResultFile.paths(Path(options.out)), [*images, *read], overwrite=options.overwrite)
    load = partial(Predictor.load, device=options.device_target, mode=options.mode_name, batch_size=options.batch_size)
    loaded = load(checkpoint, adjust=adjustment(line, "prediction", PREDICTION_KEYS))
    predictor = loaded if mode else grounded(options, loaded, load)
    bands = options.bands or (predictor.config.data.bands if predictor.config else None)
    if mode:
        _end(run_mode(mode, options, images, checkpoint, loaded, bands), len(images))
        return
    if options.min_score and not predictor.gives_scores:
        raise ConfigError("--min-score does nothing: this network gives a box without a score; leave it out")
    forms = forms_of(options, sentences, predictor)
    _name_unknown_words(predictor, sentences)
    if tiled:
        results = run_scenes(options, images, sentences, predictor, checkpoint)
    else:
        results = predict_files(
            partial(predictor, probability=True) if forms.probability else predictor,
            images,
            sentences,
            options.out,
            min_score=options.min_score or 0.0,
            bands=bands,
            model=predictor.name,
            # A network that reads sentences answers them, whatever classes its training data had.
            categories=None if predictor.asks_expression else predictor.categories,
            # Without a threshold of the user, the task decides what of many detections a figure shows.
            caption=partial(predictor.caption, min_score=options.min_score),
            overwrite=options.overwrite,
            inputs=read,
            forms=forms,
            canvas=canvas_of(predictor) if predictor.config else None,
        )
    if (comm := current_comm()) is not None and not comm.is_main:
        return  # the first rank tells what all of them found
    if options.json:
        print(json_text(results.document).encode("utf-8", "backslashreplace").decode())
    else:
        print("\n".join([*summary(results), *map(printable, results.files)]))
    _end(results.failures, len(images), " and in predictions.json")


def _name_unknown_words(predictor: Predictor, sentences: Sequence[str]) -> None:
    """Words that the vocabulary lacks are told before anything is asked."""
    for text in sentences:
        if words := predictor.unknown_words(text):
            logging.getLogger("mindground").warning(
                "%r: the vocabulary does not know %s; what this means is not read", text, ", ".join(map(repr, words))
            )


def _end(failures: Sized, count: int, named: str = "") -> None:
    """Raises ImageError where an image could not be used."""
    from mindground.errors import ImageError

    if failures:
        raise ImageError(f"{len(failures)} of {count} images could not be used (named above{named})")
