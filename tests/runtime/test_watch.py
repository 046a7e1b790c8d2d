"""Processes without a common launcher, as msrun without --join leaves them: the end of one ends the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from mindground.runtime import watch, watcher

# A rank that waits in a collective that will never end, with the interpreter locked: no thread of it could do anything.
JOB = """
import ctypes, pathlib, sys, time
from mindground.errors import DataError
from mindground.runtime import watch
from mindground.runtime.distributed import SingleComm

watch.EVERY_S, watch.LIMIT_S = 0.2, 3.0
folder, rank, what = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]

class Rank(SingleComm):
    size, needs_watch = 2, True
    def broadcast_object(self, value):
        return "token"
    def barrier(self):
        folder.with_name(f"here.{rank}").touch()
        while len(list(folder.parent.glob("here.*"))) < 2:
            time.sleep(0.01)
    def all_gather_object(self, value):
        return [value, value]

Rank.rank = rank
with watch.watched(Rank(), folder, orderly=(KeyboardInterrupt,)):
    print("ready", flush=True)
    if what == "stuck":
        ctypes.PyDLL(None).sleep(60)
    elif what == "error":
        raise DataError("the disk of this machine is gone")
    elif what == "exit":
        import os
        os._exit(3)
    elif what == "stopped":
        raise KeyboardInterrupt
    elif what == "sleep":
        time.sleep(60)
print("done", flush=True)
"""


def start(folder: Path, rank: int, what: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", JOB, str(folder), str(rank), what],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("error", "DataError: the disk of this machine is gone"),
        ("exit", "it was killed, or ended before the training did"),
        ("kill", "it was killed, or ended before the training did"),
        ("stop", "has not been heard of for 3 s"),
    ],
)
def test_the_end_of_one_rank_ends_the_others_and_its_reason_is_told(what: str, says: str, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / ".x.ranks"
    stuck = start(folder, 0, "stuck")
    other = start(folder, 1, what if what in ("error", "exit") else "sleep")
    try:
        assert other.stdout is not None and other.stdout.readline() == "ready\n"
        if what == "kill":
            other.kill()
        elif what == "stop":
            # The machine stands still: neither the rank nor its watcher goes on.
            children = Path(f"/proc/{other.pid}/task/{other.pid}/children").read_text().split()
            for pid in (other.pid, *map(int, children)):
                os.kill(pid, signal.SIGSTOP)
        output, errors = stuck.communicate(timeout=60)
        assert stuck.returncode == -signal.SIGKILL and output == "ready\n"
        host = os.uname().nodename
        assert f"mindground: rank 1 on {host}" in errors and says in errors and "rank 0" in errors, errors
    finally:
        if what == "stop":
            for pid in (*map(int, children), other.pid):
                os.kill(pid, signal.SIGCONT)
        other.kill()
        other.communicate()
        stuck.kill()
        stuck.communicate()


def test_an_orderly_end_leaves_nothing_and_ends_nobody(tmp_path: Path) -> None:
    folder = tmp_path / ".x.ranks"
    first, second = start(folder, 0, "nothing"), start(folder, 1, "stopped")
    try:
        output, errors = first.communicate(timeout=60)
        assert first.returncode == 0 and output == "ready\ndone\n", errors
        _, errors = second.communicate(timeout=60)
        assert "KeyboardInterrupt" in errors and "mindground: rank" not in errors
    finally:
        first.kill()
        second.kill()
    assert not folder.exists()


def test_ranks_whose_launcher_ends_them_need_no_watcher(tmp_path: Path) -> None:
    class Rank:
        size, needs_watch = 2, False

    comm: Any = Rank()
    with watch.watched(comm, tmp_path / "ranks"):
        watch.note_failure("nothing")
    assert not (tmp_path / "ranks").exists()


def test_a_beat_that_changes_is_life_and_a_file_that_is_not_there_is_no_death(tmp_path: Path) -> None:
    known: dict[int, watcher.Other] = {}
    path = tmp_path / "t.1"
    assert watcher.broken(tmp_path, "t", 0, 3, known, 0.2) == ""
    for beat in range(4):
        watcher.write(path, f"alive {beat} on b")
        assert watcher.broken(tmp_path, "t", 0, 3, known, 0.2) == ""
        time.sleep(0.15)
    assert list(known) == [1]
    watcher.write(path, "alive long, with more characters")
    watcher.write(path, "alive 5 on b")
    assert (watcher.read(path) or "").strip() == "alive 5 on b"
    watcher.write(path, "failed on b: it broke\nwith a second line")
    assert watcher.broken(tmp_path, "t", 0, 3, known, 0.2) == "rank 1 on b: it broke"
    path.unlink()
    assert watcher.broken(tmp_path, "t", 0, 3, known, 0.2) == "" and not known


def test_the_watcher_needs_the_standard_library_alone() -> None:
    lines = Path(watcher.__file__).read_text(encoding="utf-8").splitlines()
    imported = {line.split()[1].split(".")[0] for line in lines if line.startswith(("import ", "from "))}
    assert imported <= set(sys.stdlib_module_names)


def test_what_an_earlier_job_left_is_removed_and_a_running_one_is_not(tmp_path: Path) -> None:
    old, new = tmp_path / "a.0", tmp_path / "b.0"
    old.touch(), new.touch()
    os.utime(old, (0, 0))
    watch._remove_left(tmp_path)
    assert not old.exists() and new.exists()
