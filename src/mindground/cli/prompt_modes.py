"""What `predict` does with a network that answers prompts: points, everything in an image, embeddings, sentences."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mindground.cli.prompts import add_prompts, prompts_of
from mindground.errors import ConfigError

if TYPE_CHECKING:
    from mindground.inference.predictor import Predictor

__all__ = ["add_modes", "check_modes", "grounded", "run_mode"]

# Options of segment-anything's scripts/amg.py -> what to write here.
_RENAMED = {
    "--input": "--image PATH",
    "--output": "--everything DIR",
    "--checkpoint": "--ckpt FILE (mindground weights import makes one of a .pth)",
    "--model-type": "nothing: the checkpoint says what network it holds",
}
# Name -> kind, lowest and highest value, and what it does; as `models/sam/everything/options.py` has them.
_NUMBERS: dict[str, tuple[type, float, float, str]] = {
    "points-per-side": (int, 1, 1024, "points along each side of an image (default: 32)"),
    "points-per-batch": (int, 1, math.inf, "prompts answered at once (default: 64)"),
    "pred-iou-thresh": (float, -math.inf, math.inf, "masks that the network rates no better go (default: 0.88)"),
    "stability-score-thresh": (float, 0, 1, "masks that are less stable are left out (default: 0.95)"),
    "stability-score-offset": (float, 0, math.inf, "how far the logits' threshold moves for it (default: 1)"),
    "box-nms-thresh": (float, 0, 1, "IoU above which the worse of two masks is left out (default: 0.7)"),
    "crop-n-layers": (int, 0, 6, "layer i runs on 4^i crops of the image, too (default: 0)"),
    "crop-nms-thresh": (float, 0, 1, "IoU above which the mask of the larger crop is left out (default: 0.7)"),
    "crop-overlap-ratio": (float, 0, 1, "overlap of crops, as a share of the short side (default: 0.341)"),
    "crop-n-points-downscale-factor": (
        int,
        1,
        math.inf,
        "layer i has --points-per-side by its i-th power (1)",
    ),
    "min-mask-region-area": (int, 0, math.inf, "holes and islands of fewer pixels are removed (default: 0)"),
}
_EVERYTHING = tuple(name.replace("-", "_") for name in _NUMBERS)
# Options of `predict` that a mode does not read.
_SENTENCES = ("text", "classes", "class_template", "min_area", "masks", "prob", "min_score", "batch_size")
_PROMPTS = ("points", "boxes", "multimask")
_SCENES = ("tile", "overlap", "gsd", "geometry", "text_file")
_UNREAD = {
    "everything": (*_SENTENCES, *_PROMPTS, *_SCENES, "out", "style", "json", "embed", "embed_dtype", "ground"),
    "embed": (
        *_SENTENCES,
        *_PROMPTS,
        *_SCENES,
        "out",
        "style",
        "json",
        "everything",
        "rle",
        "convert_to_rle",
        *_EVERYTHING,
        "ground",
    ),
}


class _Renamed(argparse.Action):
    """An option of segment-anything's script that has another name here."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> NoReturn:
        raise ConfigError(f"{option_string} is not read; write {_RENAMED[option_string or '']}")


def add_modes(parser: argparse.ArgumentParser) -> None:
    """The options `--everything`, `--embed`, `--ground` and what belongs to them."""
    group = parser.add_argument_group("networks that answer prompts (SAM)")
    group.add_argument(
        "--everything",
        metavar="DIR",
        help="write masks of all that is in the images to DIR: <image>/0.png, 1.png and so on with metadata.csv, and a "
        "figure",
    )
    group.add_argument(
        "--rle",
        choices=("sa1b", "records"),
        help="with --everything: <image>.json with masks as run lengths instead, laid out as SA-1B (sa1b) or as the "
        "list that segment-anything's amg.py writes (records)",
    )
    group.add_argument("--convert-to-rle", action="store_true", help="the same as --rle records")
    for name, (kind, low, high, text) in _NUMBERS.items():
        group.add_argument(f"--{name}", type=_number(kind, low, high), metavar="N" if kind is int else "X", help=text)
    group.add_argument(
        "--embed",
        metavar="DIR",
        help="encode the images and write one file for each to DIR, with which Predictor.open starts at once",
    )
    group.add_argument("--embed-dtype", choices=("float32", "float16"), help="of these files (default: float32)")
    group.add_argument(
        "--ground",
        metavar="CKPT",
        help="a checkpoint that reads sentences: what it finds for --text becomes the prompt of the network of --ckpt, "
        "whose masks are the answer",
    )
    add_prompts(group)
    parser.add_argument("paths", nargs="*", metavar="PATH", help="with --everything and --embed: more images")
    for name in _RENAMED:
        group.add_argument(name, nargs="*", action=_Renamed, help=argparse.SUPPRESS)


def check_modes(options: Any, parser: argparse.ArgumentParser) -> str:
    """`everything`, `embed`, or an empty text for answers to sentences; all images stand in `options.image` then.

    Raises:
        ConfigError: options that exclude each other or do nothing, or a value that an option cannot have.
    """

    def given(name: str) -> bool:
        return bool(getattr(options, name) != parser.get_default(name))

    mode = "everything" if options.everything is not None else "embed" if options.embed is not None else ""
    for name in _UNREAD.get(mode, ()):
        if given(name):
            raise ConfigError(f"--{mode} and {_typed(name)}: {_reason(mode, name)}")
    if options.paths and not mode:
        parser.error(f"unrecognized arguments: {' '.join(options.paths)}")
    options.image = [*(options.image or ()), *options.paths]
    if not options.image:
        parser.error("the following arguments are required: --image")
    if mode != "everything":
        for name in ("rle", "convert_to_rle", *_EVERYTHING):
            if given(name):
                raise ConfigError(f"{_typed(name)} does nothing without --everything DIR; leave it out")
    if mode != "embed" and given("embed_dtype"):
        raise ConfigError("--embed-dtype does nothing without --embed DIR; leave it out")
    if options.convert_to_rle and options.rle == "sa1b":
        raise ConfigError("--convert-to-rle and --rle sa1b: the masks have one form; leave one out")
    return mode


def asked(options: Any) -> dict[str, Any]:
    """Options of the everything mode that were typed, by their names in Python."""
    return {name: getattr(options, name) for name in _EVERYTHING if getattr(options, name) is not None}


def grounded(options: Any, segmenter: Predictor, load: Callable[[str], Predictor]) -> Any:
    """The network of `--ckpt` with the prompts of the command line, or both networks where `--ground` names another.

    Raises:
        ConfigError: options and networks that do not fit together.
    """
    from mindground.errors import DataError
    from mindground.inference.grounded import GroundedPredictor
    from mindground.inference.prompted import PromptedPredictor

    prompts = prompts_of(options)
    if prompts is not None:
        try:
            return PromptedPredictor(segmenter, prompts)
        except DataError as error:
            raise ConfigError(f"--points and --boxes: {error}") from error
    if options.ground is None:
        if getattr(segmenter, "asks_prompt", False):
            raise ConfigError(
                f"{segmenter.name} answers prompts; give --everything DIR, --embed DIR, or --ground with a checkpoint "
                "that reads --text, or ask with --points or --boxes"
            )
        return segmenter
    if not options.text and not options.classes:
        raise ConfigError("--ground needs what to find: give --text or --classes")
    try:
        return GroundedPredictor(load(options.ground), segmenter)
    except DataError as error:
        raise ConfigError(f"--ground {options.ground}: {error}") from error


def run_mode(
    mode: str,
    options: Any,
    images: Sequence[Path],
    checkpoint: str | Path,
    predictor: Predictor,
    bands: Sequence[int] | None,
) -> dict[str, str]:
    """Write what the mode asks for, print where, and return what failed. Raises ConfigError and WriteError."""
    from mindground.errors import printable
    from mindground.inference.embeddings import embed_files
    from mindground.inference.everything_files import everything_files

    if not getattr(predictor, "asks_prompt", False):
        raise ConfigError(f"--{mode} is for networks that answer prompts (SAM), and {predictor.name} is none")
    inputs = [checkpoint]
    if mode == "embed":
        made = embed_files(
            predictor, images, options.embed, dtype=options.embed_dtype or "float32", bands=bands or None,
            overwrite=options.overwrite, inputs=inputs,
        )  # fmt: skip
        print("\n".join(printable(path) for path in made.files))
        return made.failures

    def find(pixels: Any) -> Any:
        with predictor.open(pixels) as session:
            return session.everything(**asked(options), output_mode="coco_rle")

    form = options.rle or ("records" if options.convert_to_rle else "")
    results = everything_files(
        find, images, options.everything, rle=form, bands=bands or None, overwrite=options.overwrite, inputs=inputs
    )
    for path, count in results.counts.items():
        print(f"{path}: {count} mask{'s' if count != 1 else ''}")
    print("\n".join(printable(path) for path in results.files if not path.stem.isdigit()))
    return results.failures


def _typed(name: str) -> str:
    return {"min_score": "--min-score", "batch_size": "--batch_size"}.get(name, f"--{name.replace('_', '-')}")


def _reason(mode: str, name: str) -> str:
    if name == "out":
        return f"--{mode} names the folder; leave --out out"
    if name == "batch_size":
        return "no sentences are computed together" + ("; there is --points-per-batch" if mode == "everything" else "")
    if name in ("everything", "embed", "ground"):
        return "one call does one of them; make two calls"
    return f"it has no effect with --{mode}; leave it out"


def _number(kind: type, low: float, high: float) -> Callable[[str], float]:
    """Type of an option that is a finite number from `low` to `high`."""

    def number(text: str) -> float:
        try:
            value: float = kind(text)
        except ValueError as error:
            called = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{text!r} is not {called}") from error
        if not math.isfinite(value) or not low <= value <= high:
            limits = f" of at least {low:g}" if math.isinf(high) else f" from {low:g} to {high:g}"
            raise argparse.ArgumentTypeError(f"{text} must be a finite number{'' if math.isinf(low) else limits}")
        return value

    return number
