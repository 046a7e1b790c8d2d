"""The parent's side: starts children, drives them in turns, checks that both sides compute the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import mindground
from mindground.cli.bench.sentences import COUNT_FILE
from mindground.errors import MindGroundError
from mindground.files.atomic import write_text
from mindground.files.text import read_lines

__all__ = ["BenchmarkError", "Child", "compare", "largest_difference", "prepare", "run_pair", "run_sentences"]

SIDES = ("ours", "peer")


class BenchmarkError(MindGroundError):
    """A side that fails, or two sides that do not compute the same."""


class Child:
    """One process with one side built for one task: a method of the side, or record, idle or prepare."""

    def __init__(self, side: str, task: str, family: str, folder: Path) -> None:
        self.side, self.task = side, task
        self._log = folder / f"{side}_{task}.log"
        command = [sys.executable, "-m", "mindground.cli.bench.worker", side, task, family, str(folder)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, env=_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.versions: dict[str, str] = {}

    def ready(self) -> Child:
        """Waits until the side is built; several processes that were started together build at once."""
        self.versions = self._answer()["versions"]
        return self

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            code = self._process.wait()
            tail = read_lines(self._log, errors="replace")[-12:]
            killed = " (killed: not enough memory?)" if code == -9 else ""
            raise BenchmarkError(
                f"the process of {self.side}/{self.task} ended with code {code}{killed}; its last words: "
                + " | ".join(tail)
            )
        return dict(json.loads(line))

    def _send(self, word: str) -> dict[str, Any]:
        if self._process.stdin is None:
            raise BenchmarkError(f"the process of {self.side}/{self.task} takes no commands")
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        return self._answer()

    def run(self) -> dict[str, Any]:
        """Do the task once: seconds, cpu_seconds, numbers."""
        return self._send("run")

    def end(self) -> float:
        """Ends the process; its peak of resident memory in MiB."""
        peak = float(self._send("end")["peak_mib"])
        self._process.wait()
        return peak

    def stop(self) -> None:
        """Ends the process whatever it does; harmless after `end`."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def _environment() -> dict[str, str]:
    """This environment, with the package found from any folder."""
    package = str(Path(mindground.__file__).resolve().parents[1])
    path = os.pathsep.join(part for part in (package, os.environ.get("PYTHONPATH", "")) if part)
    return dict(os.environ) | {"PYTHONPATH": path}


def prepare(family: str, folder: Path, sides: Sequence[str] = SIDES) -> dict[str, float]:
    """Has weights and batch written; peak memory, by side, of processes that only import their libraries."""
    children = [Child(side, "idle", family, folder) for side in sides]
    children.append(Child("ours", "prepare", family, folder))
    try:
        peaks = [child.ready().end() for child in children]
        return dict(zip(sides, peaks[: len(sides)], strict=True))
    finally:
        for child in children:
            child.stop()


def largest_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference relative to the largest value."""
    if ours.shape != theirs.shape:
        raise BenchmarkError(f"the sides give arrays of shapes {ours.shape} and {theirs.shape}")
    scale = float(np.abs(theirs).max())
    difference = float(np.abs(ours.astype(np.float64) - theirs).max()) / max(scale, 1e-12)
    return difference if np.isfinite(difference) else float("inf")


def compare(task: str, folder: Path, numbers: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    """Largest relative difference of every output, or of loss and gradient norm over all steps so far (step)."""
    if task != "step":
        ours, theirs = (dict(np.load(folder / f"{side}_outputs.npz")) for side in SIDES)
        return {name: largest_difference(ours[name], value) for name, value in theirs.items()}
    result: dict[str, float] = {}
    for a, b in zip(numbers["ours"], numbers["peer"], strict=True):
        for name in b:
            difference = largest_difference(np.asarray(a[name]), np.asarray(b[name]))
            result[name] = max(result.get(name, 0.0), difference)
    return result


def run_pair(task: str, family: str, folder: Path, repeats: int, warm_up: int) -> dict[str, Any]:
    """Both sides of one task, in turns: medians, peaks, the largest relative differences."""
    children: dict[str, Child] = {}
    try:
        for side in SIDES:
            children[side] = Child(side, task, family, folder)
        for child in children.values():
            child.ready()
        turns: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
        for turn in range(warm_up + repeats):
            # The order changes so that neither side always runs on the other's heels.
            for side in SIDES if turn % 2 == 0 else reversed(SIDES):
                turns[side].append(children[side].run())
        result: dict[str, Any] = {
            "agreement": compare(task, folder, {side: [t["numbers"] for t in turns[side]] for side in SIDES})
        }
        for side in SIDES:
            timed = turns[side][warm_up:]
            result[side] = {
                "seconds": median(t["seconds"] for t in timed),
                "cpu_seconds": median(t["cpu_seconds"] for t in timed),
                "all_seconds": [round(t["seconds"], 4) for t in timed],
                "versions": children[side].versions,
                "peak_mib": children[side].end(),
            }
        return result
    finally:
        for child in children.values():
            child.stop()


def run_sentences(family: str, folder: Path, count: int, repeats: int, warm_up: int) -> dict[str, Any]:
    """One sentence about an image and `count` of them, in turns: medians, their ratio, distance of the first boxes."""
    write_text(folder / COUNT_FILE, str(count))
    child = Child("ours", "sentences", family, folder)
    try:
        child.ready()
        turns = [child.run()["numbers"] for _ in range(warm_up + repeats)][warm_up:]
        one, many = (median(turn[name] for turn in turns) for name in ("one_seconds", "many_seconds"))
        worst = max(turn["pixels"] for turn in turns)
        return {
            "count": count,
            "one_seconds": one,
            "many_seconds": many,
            "ratio": many / one,
            "pixels": worst,
            "turns": turns,
            "versions": child.versions,
            "peak_mib": child.end(),
        }
    finally:
        child.stop()
