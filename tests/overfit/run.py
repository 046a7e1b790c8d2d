"""Learning proof of one family: `python tests/overfit/run.py --family vglaw --seed 0`.

Draws four images with four sentences each (or, for families that ask nothing, with two to five objects of three
classes), trains on them without augmentation through the public engine, and tells steps, seconds and how many of the
sixteen are right (or AP50), for the samples as they were drawn and with the sentences exchanged within each image (or
the objects of another image). Exit status 0: everything right and the exchange noticed; 1: not; 2: no such family.

A family takes part when the registry knows it and a small configuration is there: `tests/overfit/<family>.yaml`, or the
family's own small default. `--variant V` takes `tests/overfit/<family>-V.yaml`.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

_TESTS = Path(__file__).resolve().parent.parent
for _folder in (_TESTS, _TESTS.parent / "src"):
    if str(_folder) not in sys.path:
        sys.path.insert(0, str(_folder))

from mindground.runtime import device  # noqa: E402
from overfit import engine  # noqa: E402
from overfit.draw import IMAGES, SENTENCES, draw_instances, draw_referring  # noqa: E402
from overfit.report import Report, by_average_precision, by_records, first_full, tell  # noqa: E402

COPIES = 20  # of every sample in an epoch: evaluations are this many steps apart
SIZE = 128  # pixels of an image


def prove(
    family: str,
    source: Path,
    folder: Path,
    *,
    max_steps: int,
    seed: int,
    extra: Sequence[str] = (),
    copies: int = COPIES,
    size: int = SIZE,
) -> Report:
    """Draw, train and judge; everything that is written lies in `folder`.

    Args:
        family: for the report.
        source: configuration file of the family.
        max_steps: optimiser steps, with all samples in each.
        extra: further overrides of the configuration.
        copies: of every sample in an epoch, so that evaluations are this many steps apart.
        size: of the drawn images, in pixels.
    """
    asks = engine.asks_expressions(source)
    samples = IMAGES * SENTENCES if asks else IMAGES
    (draw_referring if asks else draw_instances)(folder / "data", seed, size, copies)
    config = engine.configure(
        source, folder / "data", folder / "runs", steps=max_steps, samples=samples, seed=seed, extra=extra
    )
    trained = engine.train(config)
    count = by_records if asks else by_average_precision
    figures = []
    for split in ("same", "exchanged"):
        scores, records = engine.judge(trained.checkpoint, split)
        figures.append(count(records, scores, samples))
    first = first_full(trained.history, asks)
    return Report(family, seed, trained.steps, trained.seconds, figures[0], figures[1], first)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, prove, print; returns the exit status."""
    parser = argparse.ArgumentParser(description="train a family until it knows a handful of samples by heart")
    parser.add_argument("--family", required=True, help="a name that `mindground.models.families()` knows")
    parser.add_argument("--variant", default="", help="take tests/overfit/<family>-<variant>.yaml")
    parser.add_argument("--seed", type=int, default=0, help="of the drawn samples, the weights and the order")
    parser.add_argument("--max-steps", type=int, default=300, help="optimiser steps (default: 300)")
    parser.add_argument("--keep", type=Path, help="keep data and run in this folder")
    options, extra = parser.parse_known_args(argv)
    from mindground.models import families

    if options.family not in families():
        sys.stderr.write(f"unknown family {options.family!r}; choose one of {', '.join(families())}\n")
        return 2
    try:
        source = engine.source_file(options.family, options.variant)
    except FileNotFoundError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    name = f"{options.family}{f' {options.variant}' if options.variant else ''}"
    with tempfile.TemporaryDirectory() as place:
        folder = options.keep or Path(place)
        report = prove(name, source, folder, max_steps=options.max_steps, seed=options.seed, extra=extra)
    sys.stdout.write(tell(report) + "\n")
    return 0 if report.passed else 1


if __name__ == "__main__":
    device.prepare()
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # The verdict must not depend on how MindSpore takes itself down at the end of a process.
    os._exit(status)
