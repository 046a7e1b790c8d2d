"""What a command may write: no output replaces an input, and none an earlier result unless it is told to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from mindground.errors import WriteError, printable

__all__ = ["check_outputs", "guarded", "note_output", "refuse_output"]


@dataclass
class _Guard:
    """Attributes: inputs by (device, inode); overwrite; written: places that this command has written itself."""

    inputs: dict[tuple[int, int], Path]
    overwrite: bool
    written: set[str] = field(default_factory=set)


_GUARD: ContextVar[_Guard | None] = ContextVar("guard", default=None)


@contextmanager
def guarded(inputs: Iterable[str | Path] = (), *, overwrite: bool = False) -> Iterator[None]:
    """Inside the block `atomic_file`, and so every writer of this package, refuses to replace what it must not.

    An input is never replaced, by whatever name. A file that was there before is replaced only with `overwrite`; one
    that the block has written itself may be written again. A block inside another keeps the inputs of both, and
    overwrites where either is told to.

    Args:
        inputs: files that the command reads; a folder stands for the files right inside it.
        overwrite: earlier results may be replaced.
    """
    outer = _GUARD.get()
    guard = _Guard(_identities(inputs), overwrite)
    if outer is not None:
        guard = _Guard({**outer.inputs, **guard.inputs}, outer.overwrite or overwrite, outer.written)
    token = _GUARD.set(guard)
    try:
        yield
    finally:
        _GUARD.reset(token)


def check_outputs(outputs: Iterable[str | Path], inputs: Iterable[str | Path] = (), *, overwrite: bool = False) -> None:
    """The same check before the work is done, for outputs whose names are known. Raises WriteError."""
    with guarded(inputs, overwrite=overwrite):
        for path in outputs:
            refuse_output(path)


def refuse_output(path: str | Path) -> None:
    """Raises WriteError if the surrounding `guarded` block must not replace the file."""
    guard = _GUARD.get()
    if guard is None or not os.path.lexists(path):
        return
    source = guard.inputs.get(_identity(path) or (-1, -1))
    # A link to an input is replaced itself and does the input no harm.
    if source is not None and not os.path.islink(path):
        raise WriteError(
            f"{printable(path, 300)} is an input of this command and is not replaced; choose another --out"
        )
    if not guard.overwrite and os.path.abspath(path) not in guard.written:
        raise WriteError(
            f"{printable(path, 300)} is there already and is not replaced; choose another --out, or give --overwrite"
        )


def note_output(path: str | Path) -> None:
    """Remember that the surrounding `guarded` block has written the file."""
    guard = _GUARD.get()
    if guard is not None:
        guard.written.add(os.path.abspath(path))


def _identities(paths: Iterable[str | Path]) -> dict[tuple[int, int], Path]:
    found: dict[tuple[int, int], Path] = {}
    for path in map(Path, paths):
        files = _inside(path) if os.path.isdir(path) else [path]
        for file in files:
            identity = _identity(file)
            if identity is not None:
                found[identity] = file
    return found


def _inside(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        # Who reads the folder will say so.
        return []


def _identity(path: str | Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
