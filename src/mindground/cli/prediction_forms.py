"""Options of `predict` that say in which forms answers are written and which classes are asked for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mindground.errors import ConfigError

if TYPE_CHECKING:
    from mindground.inference.forms import Forms
    from mindground.inference.predictor import Predictor

__all__ = ["add_forms", "forms_of", "sentences_of"]

_FIELD = "{class}"


def add_forms(parser: argparse.ArgumentParser) -> None:
    """The options `--classes`, `--masks`, `--prob`, `--style` and what belongs to them."""
    from mindground.cli.parser import add_style, at_least, name_list
    from mindground.inference.forms import CLASS_TEMPLATE, MASK_FORMS, MIN_AREA, PROBABILITY_FORMS

    parser.add_argument(
        "--classes",
        type=name_list,
        metavar="A,B,C",
        help="instead of --text: one question for each class, whose parts are counted in predictions.json",
    )
    parser.add_argument(
        "--class-template",
        metavar="SENTENCE",
        help=f"the question about a class; {_FIELD} stands for its name (default: {CLASS_TEMPLATE!r})",
    )
    parser.add_argument(
        "--min-area",
        type=at_least(1),
        metavar="PIXELS",
        help=f"smallest part of a mask that is counted for a class (default: {MIN_AREA})",
    )
    parser.add_argument(
        "--masks",
        action="append",
        choices=MASK_FORMS,
        help="how masks are written, may be given several times: run lengths or polygons in predictions.json, or a PNG "
        "file of 0 and 255 for every sentence (default: rle)",
    )
    parser.add_argument(
        "--prob",
        choices=PROBABILITY_FORMS,
        help="also write how likely each pixel belongs to the mask, for every sentence: as PNG (0 to 255, or 0 to "
        "65535), or as GeoTIFF (0 to 1, with the georeference of the image)",
    )
    add_style(parser)


def sentences_of(options: Any) -> list[str]:
    """The sentences that are asked: those of `--text`, or one for each of `--classes`, in their order.

    Everything that the options alone can contradict is refused here, before a network is built.

    Raises:
        ConfigError: options that exclude each other, that do nothing, or a template without `{class}`.
        DataError: a question that is no text.
        GeoError: `--prob geotiff` without the extra `geo`.
    """
    from mindground.data.sentence_files import read_sentences
    from mindground.files.rasters import optional
    from mindground.inference.forms import CLASS_TEMPLATE
    from mindground.inference.predictor import check_sentence

    if {"rle", "polygon"} <= set(options.masks or ()):
        raise ConfigError("--masks rle and --masks polygon: predictions.json holds one of them; leave one out")
    if options.prob == "geotiff":
        optional("rasterio")
    if options.classes is None:
        for name, value in (("--class-template", options.class_template), ("--min-area", options.min_area)):
            if value is not None:
                raise ConfigError(f"{name} does nothing without --classes; leave it out")
        return [*options.text, *(text for path in options.text_file for text in read_sentences(path))]
    if options.text or options.text_file:
        raise ConfigError("--classes and --text: one call asks for classes or with sentences; make two calls")
    template = CLASS_TEMPLATE if options.class_template is None else options.class_template
    if _FIELD not in template:
        raise ConfigError(f"--class-template {template!r} has no place for the name; write {_FIELD} where it belongs")
    return [check_sentence(template.replace(_FIELD, name)) for name in options.classes]


def forms_of(options: Any, sentences: Sequence[str], predictor: Predictor) -> Forms:
    """What the options ask of this network. Raises ConfigError where it cannot give that."""
    from mindground.inference.forms import MIN_AREA, Forms
    from mindground.visualize.drawing import STYLES

    boxes_only = "this network answers with boxes alone"
    if options.masks and not predictor.gives_masks:
        raise ConfigError(f"--masks does nothing: {boxes_only}; leave it out")
    if options.prob and not predictor.gives_probability:
        reason = "this network gives no probability of a pixel" if predictor.gives_masks else boxes_only
        raise ConfigError(f"--prob {options.prob} is not possible: {reason}; leave it out")
    if options.classes and not predictor.asks_expression:
        raise ConfigError(
            "--classes is for networks that read a sentence; this one finds its own classes; leave it out"
        )
    if options.min_area is not None and not predictor.gives_masks:
        raise ConfigError(f"--min-area does nothing: {boxes_only}, and no parts are counted; leave it out")
    return Forms(
        masks=tuple(dict.fromkeys(options.masks or ("rle",))),
        probability=options.prob or "",
        classes=dict(zip(sentences, options.classes, strict=True)) if options.classes else {},
        min_area=options.min_area or MIN_AREA,
        palette=STYLES[options.style],
        geometry=options.geometry or "mask",
    )
