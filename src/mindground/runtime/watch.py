"""Ranks that watch each other through files, so that a job ends within a minute of the failure of one.

mpirun ends all ranks when one dies. msrun does so on one machine with `--join=True`, srun with `--kill-on-bad-exit`,
and without them the others wait inside a collective until its timeout. So every rank has a small process beside it
(`runtime.watcher`) that works whatever the rank itself is doing.
"""

from __future__ import annotations

import logging
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mindground.errors import DeviceError, one_line, printable
from mindground.runtime import watcher

if TYPE_CHECKING:
    from mindground.runtime.distributed import Comm

__all__ = ["note_failure", "watched"]

_LOG = logging.getLogger("mindground")

# Seconds between two beats, and without one after which a rank counts as dead. Together they stay below a minute.
EVERY_S = 5.0
LIMIT_S = 45.0
# What an earlier job has left is removed after an hour without a beat.
_LEFT_S = 3600.0

_own: Path | None = None


@contextmanager
def watched(comm: Comm, folder: Path, orderly: tuple[type[BaseException], ...] = ()) -> Iterator[None]:
    """Inside the block the failure of any rank ends all of them; every rank enters it.

    Does nothing for ranks whose launcher does that already (`Comm.needs_watch`).

    Args:
        folder: on a file system that the machines share; made, and removed at an orderly end.
        orderly: exceptions with which all ranks end together, and that are no failure.

    Raises:
        DeviceError: the folder cannot be made.
    """
    global _own
    if comm.size == 1 or not comm.needs_watch:
        yield
        return
    token = comm.broadcast_object(secrets.token_hex(8) if comm.is_main else None)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if comm.is_main:
            _remove_left(folder)
        _own = folder / f"{token}.{comm.rank}"
        watcher.write(_own, f"alive 0 on {os.uname().nodename}")
    except OSError as error:
        raise DeviceError(
            f"{printable(folder, 200)}, through which the ranks watch each other, cannot be used ({one_line(error)}); "
            "choose another folder for runs with --train.output_dir"
        ) from error
    words = (str(folder), token, str(comm.rank), str(comm.size), str(os.getpid()), str(EVERY_S), str(LIMIT_S))
    # A file by its path, without site packages: it starts in 20 ms and holds 10 MB.
    process = subprocess.Popen([sys.executable, "-S", "-E", watcher.__file__, *words], stdin=subprocess.DEVNULL)
    try:
        _tell_unseen(comm, folder, token)
        yield
    except orderly:
        _end(folder, process)
        raise
    except BaseException as error:
        note_failure(f"{type(error).__name__}: {one_line(error)}")
        raise
    _end(folder, process)


def _remove_left(folder: Path) -> None:
    for path in folder.iterdir():
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _LEFT_S:
                path.unlink()


def _tell_unseen(comm: Comm, folder: Path, token: str) -> None:
    comm.barrier()
    seen = {rank for rank in range(comm.size) if (folder / f"{token}.{rank}").exists()}
    everybody = comm.all_gather_object(sorted(seen))
    if comm.is_main and any(len(them) < comm.size for them in everybody):
        _LOG.warning(
            "%s is not shared by all machines (rank 0 sees ranks %s): a failure on another machine ends the job only "
            "after the timeout of the collectives; put the runs on a shared file system with --train.output_dir",
            printable(folder, 200),
            sorted(seen),
        )


def _end(folder: Path, process: subprocess.Popen[bytes]) -> None:
    global _own
    process.kill()
    process.wait()
    if _own is not None:
        _own.unlink(missing_ok=True)
        _own = None
    with suppress(OSError):
        folder.rmdir()  # the last rank of all removes it


def note_failure(why: str) -> None:
    """Leave the reason of this rank's end for the other ranks, which print it; nothing where nobody watches."""
    if _own is not None:
        watcher.write(_own, f"failed on {os.uname().nodename}: {one_line(why)}")
