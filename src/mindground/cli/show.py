"""Draw samples of a data set: image, sentence or class names, truth and what a checkpoint finds.

    mindground show                                        # newest checkpoint, 12 samples on one sheet
    mindground show --ckpt best.ckpt --indexes 0,7,42 --split val

Keys of the configuration (--data.root=..., --mask_threshold=...) change the checkpoint's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mindground.errors import DataError, printable
from mindground.runtime import device, interrupts

if TYPE_CHECKING:
    from mindground.cli.parser import VerbParser
    from mindground.config import Config

__all__ = ["main", "parse_indexes"]

OTHER_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pdf", ".svg", ".tif", ".tiff", ".webp")
"""Names of files that are no PNG, and not folders either."""


def parse_indexes(text: str) -> list[int]:
    """ "0,7,42" or "0-3,9" -> sample numbers in that order. Raises DataError for anything else."""
    numbers: list[int] = []
    for part in text.replace(" ", "").split(","):
        low, _, high = part.partition("-")
        if not low.isdigit() or (high and not high.isdigit()) or (part.endswith("-")):
            raise DataError(f"--indexes {text!r} is not a list of sample numbers such as 0,7,42 or 0-3")
        numbers += range(int(low), int(high or low) + 1)
    return numbers


def _parser(prog: str | None) -> VerbParser:
    from mindground.cli.parser import VerbParser, add_overwrite, add_style, at_least, share

    parser = VerbParser(prog, __doc__)
    parser.add_argument("--ckpt", help="checkpoint; by default the newest best.ckpt below runs/")
    parser.add_argument("--indexes", metavar="0,7,42", help="samples to draw, truth and prediction beside each other")
    parser.add_argument("--sheet", type=at_least(1), metavar="N", help="contact sheet of N samples (default: 12)")
    parser.add_argument("--split", help="split of the data set; by default the first one that is evaluated")
    parser.add_argument("--out", metavar="PATH", help=".png file or folder; by default the checkpoint's folder")
    add_overwrite(parser)
    add_style(parser)
    parser.add_argument(
        "--min-score",
        type=share,
        help="below this score nothing is drawn or counted as found (default: 0.3 for models of many instances)",
    )
    parser.add_argument("--device_target", default="auto", help="auto, or the device's name as MindSpore writes it")
    parser.add_argument("--mode_name", default="GRAPH", choices=("GRAPH", "PYNATIVE"))
    return parser


def main(argv: Sequence[str], prog: str | None = None) -> None:
    """Parse, predict, draw; prints the path of the image."""
    interrupts.keep_ctrl_c()
    device.prepare()
    from mindground.cli.adjust import SAMPLES_KEYS, adjustment
    from mindground.cli.checkpoints import newest_checkpoint
    from mindground.config import parse_command_line

    parser = _parser(prog)
    line = parse_command_line(argv, parser)
    from mindground.data import build_dataset, eval_splits
    from mindground.files.outputs import check_outputs
    from mindground.inference.predictor import Predictor
    from mindground.models import model_interface
    from mindground.tasks import task_for
    from mindground.visualize.drawing import STYLES
    from mindground.visualize.samples import choose_indexes, figure_path, show_samples

    options = line.options
    name = Path(options.out or "")
    if name.suffix.lower() in OTHER_SUFFIXES and not name.is_dir():
        parser.error(f"--out {options.out}: images are written as PNG; use {name.with_suffix('.png')}, or a folder")
    indexes = parse_indexes(options.indexes) if options.indexes else None
    checkpoint = Path(options.ckpt or newest_checkpoint())
    sheet = indexes is None or options.sheet is not None
    figure = figure_path(options.out or checkpoint.parent, sheet=sheet, indexes=indexes or ())
    check_outputs([figure], [checkpoint], overwrite=options.overwrite)
    predictor = Predictor.load(
        checkpoint,
        options.device_target,
        mode=options.mode_name,
        batch_size=1,
        adjust=adjustment(line, "drawing samples", SAMPLES_KEYS, split=options.split, first_split=True),
    )
    config = cast("Config", predictor.config)  # a checkpoint has one
    data = config.data
    split = options.split or eval_splits(data)[0]
    dataset = build_dataset(data, split)
    task = task_for(dataset.kind, model_interface(config), f"data.dataset={data.dataset!r}")
    categories = dataset.categories or predictor.categories
    chosen = choose_indexes(len(dataset), options.sheet or 12) if indexes is None else indexes
    images = [dataset[index].image_path for index in chosen if 0 <= index < len(dataset)]
    check_outputs([figure], [checkpoint, *images], overwrite=options.overwrite)
    path = show_samples(
        predictor,
        dataset,
        chosen,
        figure,
        describe=lambda sample, found: task.caption(sample, found, categories, options.min_score),
        sheet=sheet,
        bands=data.bands or None,
        palette=STYLES[options.style],
        title=f"{checkpoint.parent.name} / {checkpoint.name}  -  {dataset.name} {split}" if sheet else "",
    )
    print(printable(path))
