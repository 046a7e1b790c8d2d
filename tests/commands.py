"""Entry points called in this process, as a script calls them: what they print and the exit code."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mindground.cli.exit_codes import run_command

__all__ = ["Done", "call"]


@dataclass(frozen=True)
class Done:
    """As `subprocess.CompletedProcess`."""

    returncode: int
    stdout: str
    stderr: str


def call(main: Callable[[Sequence[str]], int | None], *words: object, cwd: Path | None = None, label: str = "") -> Done:
    """`run_command(main)` with these words, in a folder."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _folder(cwd):
        code = run_command(main, [str(word) for word in words], label=label)
    return Done(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _folder(path: Path | None) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(path or before)
    try:
        yield
    finally:
        os.chdir(before)
