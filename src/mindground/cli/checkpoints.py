"""The checkpoint that is meant where the command line names none."""

from __future__ import annotations

from pathlib import Path

from mindground.errors import CheckpointError

__all__ = ["newest_checkpoint"]


def newest_checkpoint(runs: str | Path = "runs") -> Path:
    """The youngest `best.ckpt` below a folder, or `last.ckpt` where no run has a best one yet.

    Raises:
        CheckpointError: there is neither.
    """
    for name in ("best.ckpt", "last.ckpt"):
        found = sorted(Path(runs).rglob(name), key=lambda path: path.stat().st_mtime_ns)
        if found:
            return found[-1]
    raise CheckpointError(f"there is no best.ckpt below {runs}/; train first, or name a checkpoint with --ckpt")
