"""The process beside a rank that tells the other ranks of its end, and ends it when another one has ended badly.

`runtime.watch` starts this file by its path, with the standard library alone: it must neither import MindSpore nor wait
for the interpreter of the rank, which may stand still in a collective or compile for minutes.

Every rank has one file in a common folder: `alive N`, `failed why`, and no file after an orderly end. It is written in
place, because a network file system may show an old file for half a minute after a rename.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Other:
    """What is known of another rank: its last beat, and when that was new."""

    beat: str = ""
    since: float = field(default_factory=time.monotonic)


def read(path: Path) -> str | None:
    """The first line of a rank's file; None where there is no file, empty where it cannot be read just now."""
    try:
        with path.open("rb") as stream:
            return stream.read(600).decode("utf-8", "replace").split("\n")[0]
    except FileNotFoundError:
        return None
    except OSError:
        return ""


def write(path: Path, line: str) -> None:
    """Replace the line of the own file; a full disk must not end a training, so errors are left to the next beat."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    except OSError:
        return
    try:
        # Padded, so that a shorter line covers a longer one without a moment of emptiness.
        os.pwrite(handle, line.encode("utf-8", "replace")[:500].ljust(500) + b"\n", 0)
    except OSError:
        pass
    finally:
        os.close(handle)


def broken(folder: Path, token: str, own: int, size: int, known: dict[int, Other], limit: float) -> str:
    """Why the job cannot go on, or an empty text; `known` is updated."""
    now = time.monotonic()
    for rank in range(size):
        if rank == own:
            continue
        line = read(folder / f"{token}.{rank}")
        if line is None:
            known.pop(rank, None)  # not here yet, ended in order, or on a machine that does not share the folder
            continue
        line = line.strip()
        if line.startswith("failed "):
            return f"rank {rank} {line[7:]}"
        other = known.setdefault(rank, Other())
        if line != other.beat:
            other.beat, other.since = line, now
        elif now - other.since > limit:
            host = line.partition(" on ")[2] or "an unknown machine"
            return f"rank {rank} on {host} has not been heard of for {limit:.0f} s"
    return ""


def main(argv: list[str]) -> int:
    """`watcher.py FOLDER TOKEN RANK SIZE PID EVERY LIMIT`; ends with the rank."""
    folder, token = Path(argv[0]), argv[1]
    rank, size, parent = (int(value) for value in argv[2:5])
    every, limit = (float(value) for value in argv[5:7])
    own, host = folder / f"{token}.{rank}", os.uname().nodename
    # The signals of a terminal or a batch system are for the rank, whose end this process has to see.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    known: dict[int, Other] = {}
    beat, next_beat = 0, 0.0
    while os.getppid() == parent:
        now = time.monotonic()
        if now >= next_beat:
            if beat and not own.exists():
                return 0  # the rank has taken its file away: it needs nobody any more
            beat, next_beat = beat + 1, now + every
            if not (read(own) or "").startswith("failed "):
                write(own, f"alive {beat} on {host}")
        why = broken(folder, token, rank, size, known, limit)
        if why:
            sys.stderr.write(f"mindground: {why}; rank {rank} on {host} ends, too\n")
            sys.stderr.flush()
            write(own, f"failed on {host}: ended because {why}")
            os.kill(parent, signal.SIGKILL)
            return 1
        time.sleep(min(1.0, every))
    line = read(own)
    if line is not None and not line.startswith("failed "):
        write(own, f"failed on {host}: it was killed, or ended before the training did")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
