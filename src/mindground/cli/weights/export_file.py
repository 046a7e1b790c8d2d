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
    from mindground.cli.parser import VerbParser
    from mindground.engine.checkpoint import load_checkpoint
    from mindground.errors import WeightsError
    from mindground.files.safetensors import write_safetensors_atomic
    from mindground.weights.load import parameter_arrays

    parser = VerbParser(prog, __doc__)
    parser.add_argument("ckpt", metavar="CKPT", help="one of our checkpoints")
    parser.add_argument("--family", default="", help="whose names to write (default: the model's own family)")
    parser.add_argument("--out", required=True, metavar="X.safetensors", help="file to write")
    options = parser.parse_args(list(argv))
    loaded = load_checkpoint(options.ckpt)
    source = options.family or loaded.config.family
    maps = type(loaded.model).weight_maps()
    if source not in maps:
        raise WeightsError(
            f"--family {source} is unknown to {type(loaded.model).__name__}; it writes {', '.join(maps)}"
        )
    chosen = maps[source]
    ours = parameter_arrays(loaded.model)
    named = {name: array for name, array in ours.items() if chosen.their_names(name)}
    if not named:
        raise WeightsError(f"{options.ckpt}: none of its {len(ours)} tensors has a name in {chosen.name!r}")
    theirs = chosen.to_theirs(named)
    write_safetensors_atomic(options.out, theirs, {"format": "np", "source": Path(options.ckpt).name})
    others = f"; {len(ours) - len(named)} have no name there and stay out" if len(named) < len(ours) else ""
    print(f"{options.out}: {len(theirs)} tensors under the names of {chosen.name}{others}")
