"""Options of `predict` that ask with points and boxes."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Any

from mindground.errors import ConfigError

if TYPE_CHECKING:
    from mindground.inference.prompted import FixedPrompts

__all__ = ["add_prompts", "prompts_of"]

Numbers = list[tuple[float, ...]]


def add_prompts(group: Any) -> None:
    """The options `--points`, `--boxes` and `--multimask`."""
    group.add_argument(
        "--points",
        type=point_list,
        metavar="X,Y,LABEL;...",
        help="one prompt of points in pixels of the image: label 1 belongs to the object, 0 does not (default: 1)",
    )
    group.add_argument(
        "--boxes",
        type=box_list,
        metavar="L,T,R,B;...",
        help="boxes in pixels of the image, each a prompt of its own; one box may stand beside --points",
    )
    group.add_argument(
        "--multimask", action="store_true", help="with --points or --boxes: three masks a prompt instead of one"
    )


def prompts_of(options: Any) -> FixedPrompts | None:
    """What the options ask, or None where they ask nothing.

    Raises:
        ConfigError: options that exclude each other or do nothing.
    """
    if options.points is None and options.boxes is None:
        if options.multimask:
            raise ConfigError("--multimask does nothing without --points or --boxes; leave it out")
        return None
    for name, value in (("--text", options.text), ("--classes", options.classes), ("--ground", options.ground)):
        if value:
            raise ConfigError(f"{name} and --points or --boxes: one call asks in one way; make two calls")
    if options.points is not None and options.boxes is not None and len(options.boxes) > 1:
        raise ConfigError(
            f"--points are one prompt and --boxes are {len(options.boxes)}; give one box beside points, or two calls"
        )
    import numpy as np

    from mindground.inference.prompted import FixedPrompts

    points = labels = boxes = None
    if options.points is not None:
        points = np.asarray([entry[:2] for entry in options.points], np.float64)
        labels = np.asarray([entry[2] for entry in options.points], np.int32)
    if options.boxes is not None:
        boxes = np.asarray(options.boxes, np.float64)
    return FixedPrompts(points, labels, boxes, options.multimask)


def _entries(text: str, lengths: tuple[int, ...], form: str) -> Numbers:
    """Groups of finite numbers: commas inside a group, semicolons between them."""
    found: Numbers = []
    for part in text.split(";"):
        if not part.strip():
            continue
        try:
            numbers = tuple(float(number) for number in part.split(","))
        except ValueError:
            raise argparse.ArgumentTypeError(f"{part.strip()!r} is not {form}") from None
        if len(numbers) not in lengths or not all(map(math.isfinite, numbers)):
            raise argparse.ArgumentTypeError(f"{part.strip()!r} is not {form}")
        found.append(numbers)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} names none; write {form}")
    return found


def point_list(text: str) -> Numbers:
    """Type of `--points`: (x, y, label) each."""
    found = _entries(text, (2, 3), "X,Y or X,Y,LABEL in pixels")
    points = [(*entry, 1.0) if len(entry) == 2 else entry for entry in found]
    wrong = next((entry for entry in points if entry[2] not in (0.0, 1.0)), None)
    if wrong is not None:
        raise argparse.ArgumentTypeError(f"label {wrong[2]:g} means nothing; write 1 (object) or 0 (not object)")
    return points


def box_list(text: str) -> Numbers:
    """Type of `--boxes`: (left, top, right, bottom) each."""
    return _entries(text, (4,), "LEFT,TOP,RIGHT,BOTTOM in pixels")
