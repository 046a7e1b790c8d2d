"""Write a checkpoint's tensors under the names of another framework, as safetensors.

python tools/export_weights.py runs/quickstart/best.ckpt --family vglaw --out vglaw.safetensors
python tools/export_weights.py runs/quickstart/best.ckpt --family bert --out bert.safetensors
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

try:
    import mindground  # noqa: F401
except ModuleNotFoundError:  # a clone that was not installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from mindground.runtime import device


def main(argv: Sequence[str]) -> None:
    """Export one checkpoint; errors are told in one sentence by the door."""
    from mindground.config import CommandParser
    from mindground.engine.checkpoint import load_checkpoint
    from mindground.errors import WeightsError
    from mindground.files.safetensors import write_safetensors_atomic
    from mindground.weights.load import parameter_arrays

    tool = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tool.add_argument("ckpt", metavar="CKPT", help="one of our checkpoints")
    tool.add_argument("--family", default="", help="whose names to write (default: the model's own family)")
    tool.add_argument("--out", required=True, metavar="X.safetensors", help="file to write")
    options = tool.parse_args(list(argv))
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


if __name__ == "__main__":
    device.prepare()
    from mindground.cli.exit_codes import run_command

    sys.exit(run_command(main))
