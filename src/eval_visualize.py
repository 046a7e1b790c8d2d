"""Draw samples of a data set: image, sentence, truth and what a checkpoint finds.

python src/eval_visualize.py                              # newest checkpoint, 12 samples on one sheet
python src/eval_visualize.py --ckpt best.ckpt --indexes 0,7,42 --split val
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mindground.runtime import device


def parser() -> argparse.ArgumentParser:
    """Options of this door; every key of the configuration may follow (--data.root=...)."""
    from mindground.config import CommandParser

    door = CommandParser(description="Draw samples with truth and prediction.")
    door.add_argument("--ckpt", help="checkpoint; by default the newest best.ckpt below runs/")
    door.add_argument("--indexes", metavar="0,7,42", help="samples to draw, truth and prediction beside each other")
    door.add_argument("--sheet", type=int, metavar="N", help="contact sheet of N samples (default: 12)")
    door.add_argument("--split", help="split of the data set; by default the first one that is evaluated")
    door.add_argument("--out", metavar="PATH", help=".png file or folder; by default the checkpoint's folder")
    door.add_argument("--device_target", default="auto", help="auto, or the device's name as MindSpore writes it")
    door.add_argument("--mode_name", default="GRAPH", choices=("GRAPH", "PYNATIVE"))
    return door


def main(argv: Sequence[str]) -> None:
    """Parse, then let the package do the work."""
    from mindground.config import parse_command_line

    line = parse_command_line(argv, parser())
    from mindground.data import build_dataset, eval_splits
    from mindground.inference.predictor import Predictor
    from mindground.visualize.samples import choose_indexes, newest_checkpoint, parse_indexes, show_samples

    options = line.options
    indexes = parse_indexes(options.indexes) if options.indexes else None
    checkpoint = Path(options.ckpt or newest_checkpoint())
    predictor = Predictor.load(checkpoint, options.device_target, mode=options.mode_name, batch_size=1)
    config = line.applied_to(predictor.config)
    split = options.split or eval_splits(config.data)[0]
    dataset = build_dataset(config.data, split)
    sheet = indexes is None or options.sheet is not None
    path = show_samples(
        predictor,
        dataset,
        choose_indexes(len(dataset), options.sheet or 12) if indexes is None else indexes,
        options.out or checkpoint.parent,
        sheet=sheet,
        title=f"{checkpoint.parent.name} / {checkpoint.name}  -  {dataset.name} {split}" if sheet else "",
    )
    print(path)


if __name__ == "__main__":
    device.prepare()
    from mindground.cli.exit_codes import run_command

    sys.exit(run_command(main))
