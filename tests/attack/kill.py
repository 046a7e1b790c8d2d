"""kill -9 at random moments of a small training that is resumed each time.

python -m attack.kill --kills 50 --seed 0

The training is that of `engine.job`: the engine's own loop, saves, evaluations and logs around a network of two layers.
A kill falls into the start (one in five) or into the steps, saves and evaluations that follow. After each, last.ckpt
and best.ckpt must be readable where they exist, and may never be gone again; when a run ends, tensors, position,
metrics and the steps of the log must be those of a run that nobody killed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Killer", "differences"]

_SETTINGS = {"ema_decay": 0.99, "save_steps": 2, "resume": "auto", "max_epochs": 8}
_STEPS = 48
_FILES = ("last.ckpt", "best.ckpt")
_PATIENCE = 300.0


class _Training:
    """The training as a process of its own, forked from this one, so that no start pays for the imports.

    Args:
        folder: gets the run, and `output`, what it prints.
        sleep: seconds before every step.
    """

    def __init__(self, folder: Path, sleep: float) -> None:
        self.status: int | None = None
        words = [str(folder), json.dumps(_SETTINGS), json.dumps({"sleep": sleep})]
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid:
            return
        code = 1
        try:
            with (folder / "output").open("ab") as output:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
            from engine import job
            from mindground.cli.exit_codes import run_command

            code = run_command(job.main, words)
        finally:
            sys.stdout.flush()
            os._exit(code)

    def poll(self) -> int | None:
        """Its exit status (below 0: the signal that ended it), or None while it runs."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if pid else None
        return self.status

    def wait(self) -> int:
        """Its exit status."""
        deadline = time.monotonic() + _PATIENCE
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                self.kill()
                raise TimeoutError(f"a training takes more than {_PATIENCE:.0f} s")
            time.sleep(0.005)
        return status

    def kill(self) -> None:
        """kill -9."""
        os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        self.status = os.waitstatus_to_exitcode(status)


def _import() -> None:
    """What a training imports, once; it starts no thread of MindSpore, with which a fork could not go on."""
    os.environ.setdefault("GLOG_v", "3")
    from mindground.runtime import device

    device.prepare()
    for name in ("engine.fakes", "engine.job", "mindground.engine.trainer", "mindground.engine.checkpoint"):
        importlib.import_module(name)


def _records(run: Path) -> list[dict[str, Any]]:
    from mindground.engine.logs import read_log

    return list(read_log(run / "log.jsonl"))


def damage(run: Path, known: set[str]) -> list[str]:
    """What is wrong with the checkpoints of a run that was killed; `known` are those that existed before, and grows."""
    from mindground.engine.checkpoint import read_checkpoint
    from mindground.errors import MindGroundError

    found = []
    for name in _FILES:
        path = run / name
        if not path.exists():
            if name in known:
                found.append(f"{name} is gone")
            continue
        known.add(name)
        try:
            read_checkpoint(path)
        except MindGroundError as error:
            found.append(f"{name} cannot be read: {error}")
    return found


def differences(run: Path, whole: Path) -> list[str]:
    """In what a resumed run differs from one that nobody killed; empty when in nothing."""
    from mindground.engine.checkpoint import read_checkpoint

    found = []
    for name in _FILES:
        one, other = read_checkpoint(run / name), read_checkpoint(whole / name)
        if one.tensors.keys() != other.tensors.keys():
            found.append(f"{name}: other tensors")
        found += [
            f"{name}: {key} differs"
            for key in one.tensors.keys() & other.tensors.keys()
            if one.tensors[key].tobytes() != np.asarray(other.tensors[key]).tobytes()
        ]
        found += [
            f"{name}: {key} of its position is {one.state.get(key)!r}, not {other.state.get(key)!r}"
            for key in sorted(one.state.keys() | other.state.keys())
            if one.state.get(key) != other.state.get(key)
        ]
    if json.loads((run / "metrics.json").read_text()) != json.loads((whole / "metrics.json").read_text()):
        found.append("metrics.json differs")
    for kind in ("train", "eval"):
        steps, wanted = (
            [record["step"] for record in _records(folder) if record["kind"] == kind] for folder in (run, whole)
        )
        if steps != wanted:
            found.append(f"the log holds the {kind} records {steps}, not {wanted}")
    left = {path.name for path in run.iterdir()} - {path.name for path in whole.iterdir()}
    return found + [f"{name} was left behind" for name in sorted(left)]


@dataclass
class Killer:
    """Trainings below one folder, killed and resumed.

    Attributes:
        folder: for the runs.
        seed: of the moments.
        kills, runs: how many there were; `runs` counts those that ended.
        in_save: kills while a checkpoint was being written.
        problems: what was wrong, with the number of the kill.
        seconds: wall time from a start to the check behind its kill, of every kill.
    """

    folder: Path
    seed: int = 0
    sleep: float = 0.03
    kills: int = 0
    runs: int = 0
    in_save: int = 0
    problems: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self.whole = self.folder / "whole"
        self.whole.mkdir(parents=True)
        _import()
        begin = time.monotonic()
        if _Training(self.whole, 0.0).wait():
            raise RuntimeError(f"the training itself fails: {(self.whole / 'output').read_text()[-2000:]}")
        self._start_up = time.monotonic() - begin

    def run(self, kills: int) -> None:
        """Kill so many times, then let the last run end."""
        wanted = kills
        while self.kills < wanted:
            folder = self.folder / f"run{self.runs}"
            folder.mkdir()
            self._until_done(folder, wanted)

    def _until_done(self, folder: Path, wanted: int) -> None:
        run, known = folder / "fake", set[str]()
        while True:
            begin = time.monotonic()
            process = _Training(folder, self.sleep)
            killed = self.kills < wanted and self._kill(process, run)
            if not killed:
                code = process.wait()
                if code:
                    self.problems.append(f"after kill {self.kills}: the resumed run ended with status {code}")
                else:
                    self.problems += [f"run {self.runs}: {text}" for text in differences(run, self.whole / "fake")]
                self.runs += 1
                return
            self.kills += 1
            self.in_save += any(run.glob(".*ckpt*"))
            self.problems += [f"kill {self.kills}: {text}" for text in damage(run, known)]
            self.seconds.append(time.monotonic() - begin)

    def _kill(self, process: _Training, run: Path) -> bool:
        """Kill at a random moment; False when the run had ended before."""
        deadline = time.monotonic() + _PATIENCE
        if self._rng.random() < 0.2:
            pause = self._rng.uniform(0, self._start_up)
        else:
            before = len(_records(run))
            while process.poll() is None and len(_records(run)) == before and time.monotonic() < deadline:
                time.sleep(0.01)
            pause = self._rng.uniform(0, 8 * self.sleep)
        end = time.monotonic() + pause
        # Half of the moments are moved to the next save, the shortest and the most delicate time of all.
        save = self._rng.random() < 0.5
        while process.poll() is None and time.monotonic() < end + (2.0 if save else 0.0):
            if time.monotonic() >= end and save and any(run.glob(".*ckpt*")):
                break
            time.sleep(0.0005)
        if process.poll() is not None:
            return False
        process.kill()
        return True


def main(arguments: Sequence[str]) -> int:
    """Status 1 when a kill lost something."""
    parser = argparse.ArgumentParser(prog="kill_test.sh", description="kill -9 at random moments of a training")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other moments")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="kill-") as folder:
        killer = Killer(Path(folder) / "runs", options.seed)
        killer.run(options.kills)
    mean = sum(killer.seconds) / max(1, len(killer.seconds))
    print(
        f"{killer.kills} kills ({killer.in_save} of them in a save) in {killer.runs} runs that ended, "
        f"{mean:.1f} s a kill; {len(killer.problems)} problems"
    )
    print("\n".join(killer.problems))
    return int(bool(killer.problems))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
