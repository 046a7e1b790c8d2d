"""Write a checkpoint's tensors under the names of another framework, as safetensors.

mindground weights export runs/quickstart/best.ckpt --family vglaw --out vglaw.safetensors
mindground weights export runs/quickstart/best.ckpt --family bert --out bert.safetensors
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mindground.runtime import device

__all__ = ["main"]


def main(argv: Sequence[str], prog: str | None = None) -> None:
    """Parse, then export one checkpoint."""
    device.prepare()
    from mindground.cli.parser import VerbParser, add_overwrite
    from mindground.engine.checkpoint import load_checkpoint, read_checkpoint
    from mindground.errors import WeightsError
    from mindground.files.outputs import check_outputs
    from mindground.weights.export import export
    from mindground.weights.load import load_into

    parser = VerbParser(prog, __doc__)
    parser.add_argument("ckpt", metavar="CKPT", help="one of our checkpoints")
    parser.add_argument("--family", default="", help="whose names to write (default: the model's own family)")
    parser.add_argument("--out", required=True, metavar="X.safetensors", help="file to write")
    parser.add_argument("--averages", action="store_true", help="the averaged weights (EMA) that last.ckpt holds, too")
    add_overwrite(parser)
    options = parser.parse_args(list(argv))
    check_outputs([options.out], [options.ckpt], overwrite=options.overwrite)
    contents = read_checkpoint(options.ckpt)
    loaded = load_checkpoint(contents)
    if options.averages:
        averages = contents.part("ema")
        if not averages:
            raise WeightsError(
                f"{options.ckpt} holds no averages beside its weights; best.ckpt of a run with train.ema_decay has "
                "them in place of the weights: leave --averages out"
            )
        load_into(loaded.model, averages, allow_missing=(".*",), source=f"averages of {options.ckpt}")
    source = options.family or loaded.config.family
    maps = type(loaded.model).weight_maps()
    if source not in maps:
        raise WeightsError(
            f"--family {source} is unknown to {type(loaded.model).__name__}; it writes {', '.join(maps)}"
        )
    metadata = {"format": "np", "source": Path(options.ckpt).name}
    done = export(loaded.model, maps[source], options.out, metadata, partial=True)
    others = f"; {len(done.left_out)} have no name there and stay out" if done.left_out else ""
    print(f"{done.path}: {done.written} tensors under the names of {maps[source].name}{others}")
