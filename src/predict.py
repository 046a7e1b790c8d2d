"""Find what sentences point at in one's own images.

python src/predict.py --ckpt runs/quickstart/best.ckpt --image scene.jpg --text "the red ship" --out out/
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from mindground.runtime import device


def parser() -> argparse.ArgumentParser:
    """Options of this door."""
    from mindground.config import CommandParser

    door = CommandParser(description="Find what sentences point at in images.")
    door.add_argument("--ckpt", help="checkpoint; by default the newest best.ckpt below runs/")
    door.add_argument("--image", nargs="+", required=True, metavar="PATH", help="images, GeoTIFFs or folders of them")
    door.add_argument("--text", action="append", required=True, help="what to find; may be given several times")
    door.add_argument("--out", default="out", metavar="DIR", help="folder of the results (default: out)")
    door.add_argument("--min-score", type=float, default=0.0, help="below this score nothing counts as found")
    door.add_argument("--json", action="store_true", help="print predictions.json instead of the list of files")
    door.add_argument(
        "--batch_size",
        type=int,
        help="sentences computed together at most (default: 16 where an image is encoded once for all, else 4)",
    )
    door.add_argument("--device_target", default="auto", help="auto, or the device's name as MindSpore writes it")
    door.add_argument("--mode_name", default="GRAPH", choices=("GRAPH", "PYNATIVE"))
    return door


def main(argv: Sequence[str]) -> None:
    """Parse, then let the package do the work."""
    door = parser()
    options = door.parse_args(argv)
    if options.batch_size is not None and options.batch_size < 1:
        door.error(f"--batch_size {options.batch_size}: at least one sentence goes through at once")
    from mindground.errors import ImageError
    from mindground.inference.image_files import find_images, predict_files, summary
    from mindground.inference.predictor import Predictor
    from mindground.visualize.samples import newest_checkpoint

    images = find_images(options.image)  # a mistyped path is told before a network is built
    predictor = Predictor.load(
        options.ckpt or newest_checkpoint(),
        options.device_target,
        mode=options.mode_name,
        batch_size=options.batch_size,
    )
    results = predict_files(
        predictor, images, options.text, options.out, min_score=options.min_score, model=predictor.name
    )
    if options.json:
        print(json.dumps(results.document, ensure_ascii=False))
    else:
        print("\n".join([*summary(results), *map(str, results.files)]))
    if results.failures:
        raise ImageError(
            f"{len(results.failures)} of {len(images)} images could not be used (named above and in predictions.json)"
        )


if __name__ == "__main__":
    device.prepare()
    from mindground.cli.exit_codes import run_command

    sys.exit(run_command(main))
