"""Trainings and measurements as processes of their own: started, watched, stopped with the command, found again.

A command that is killed takes its child with it (on Linux the child is asked to stop when its parent is gone, and saves
its position). Should one live on, it still holds the lock of the work folder, and the next command waits for it.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mindground
from mindground.curriculum.reliability import FILE, Measured, read_measured
from mindground.engine.progress import duration
from mindground.engine.run_folder import RunFolder
from mindground.engine.signals import RunInterrupted, StopRequest
from mindground.errors import CheckpointError, ConfigError, MindGroundError
from mindground.files.text import split_lines
from mindground.models import model_interface
from mindground.runtime.launcher import find_mpirun, launched_size, mpirun_environment
from mindground.tasks import MetricSettings, task_of

if TYPE_CHECKING:
    from mindground.config import Config

__all__ = ["Job", "Launcher", "Measurement", "Outcome", "locked"]

_LOG = logging.getLogger("mindground")
_POLL_S = 0.2
_NEWS_S = 30.0
_TAIL = 12
# Loaded before any fork: nothing may be imported between fork and exec.
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Job:
    """A training.

    Attributes:
        key: its hash, see `subsets.training_key`.
        folder: of this training alone; the set lies in `data`, the run goes to `run`.
        config: resolved, with these folders in it and `train.resume` auto.
        title: for messages.
        samples: how many it trains on.
    """

    key: str
    folder: Path
    config: Config
    title: str
    samples: int

    @property
    def run(self) -> RunFolder:
        """Where it trains."""
        return RunFolder.of(self.config.train)


@dataclass(frozen=True)
class Outcome:
    """What a training came to: the metric that judges, the best checkpoint, and all metrics of that moment."""

    performance: float
    checkpoint: Path
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Measurement:
    """A source measured with a checkpoint: `data` holds the set as JSON lines, `folder` gets the result."""

    checkpoint: Path
    data: Path
    folder: Path
    config: Config
    title: str


def judging_metric(config: Config) -> str:
    """The metric by which trainings are compared. Raises ConfigError for one that the task does not have."""
    task = task_of(model_interface(config))
    return task.selecting_metric(config.eval.select_by, MetricSettings.of(config.eval))


class Launcher:
    """Runs jobs as `mindground train` and `mindground.cli.measure_source`, with this Python.

    Args:
        ranks: more than 1 puts `mpirun -n` before them.
        stop: asked between polls; a signal to the command is passed on, and the child saves before it ends.
        lock: file descriptor that children inherit, see `locked`.

    Raises:
        ConfigError: started under mpirun, or there is no mpirun.
    """

    def __init__(self, ranks: int = 1, stop: StopRequest | None = None, lock: int | None = None) -> None:
        if launched_size() > 1:
            raise ConfigError(
                "the curriculum starts mpirun itself, once for every training: start it plainly, --ranks N"
            )
        if ranks < 1:
            raise ConfigError(f"--ranks {ranks} must be at least 1")
        self._stop, self._lock = stop or StopRequest(), lock
        self._package = Path(mindground.__file__).resolve().parents[1]
        # What follows Python on the command line of a training, and of a measurement.
        self._train_words: list[str] = ["-m", "mindground", "train"]
        self._measure_words: list[str] = ["-m", "mindground.cli.measure_source"]
        self._prefix = [_mpirun(), "-n", str(ranks)] if ranks > 1 else []

    def train(self, job: Job) -> Outcome:
        """Train, or go on with an interrupted training.

        Raises:
            MindGroundError: the training failed; the end of its log is in the message.
            RunInterrupted: the command was asked to stop.
        """
        from mindground.config import dump_yaml

        config = job.folder / "config.yaml"
        dump_yaml(job.config, config)
        self._run([*self._train_words, "--config", str(config)], job.folder / "train.log", job.title)
        metric = judging_metric(job.config)
        try:
            metrics = json.loads(job.run.metrics.read_text(encoding="utf-8"))
            return Outcome(float(metrics[metric]), job.run.best, metrics)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{job.run.metrics} does not tell {metric} ({error}); remove {job.folder} and start the command again"
            ) from error

    def measure(self, task: Measurement) -> list[Measured]:
        """Reliability of every sample, written to the task's folder as well."""
        device = [f"--device.{name}={value}" for name, value in asdict(task.config.device).items()]
        words = ["--ckpt", str(task.checkpoint), "--data", str(task.data), "--out", str(task.folder / FILE)]
        words += [*device, f"--eval.batch_size={task.config.eval.batch_size}"]
        words += [f"--data.num_workers={task.config.data.num_workers}"]
        task.folder.mkdir(parents=True, exist_ok=True)
        self._run([*self._measure_words, *words], task.folder / "measure.log", task.title)
        return read_measured(task.folder / FILE)

    def _run(self, words: Sequence[str], log: Path, title: str) -> None:
        path = os.pathsep.join(part for part in (str(self._package), os.environ.get("PYTHONPATH", "")) if part)
        with log.open("ab") as stream:
            child = subprocess.Popen(
                [*self._prefix, sys.executable, *words],
                env=mpirun_environment() | {"PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                pass_fds=() if self._lock is None or os.name != "posix" else (self._lock,),
                preexec_fn=_end_with_parent if _LIBC is not None else None,
            )
            code = self._watch(child, log, title)
        if self._stop.signal:
            number = int(self._stop.signal)
            raise RunInterrupted(f"stopped by signal {number}; the same command continues", 128 + number)
        if code:
            raise MindGroundError(
                f"{title}: the process ended with code {code}. The end of {log}:\n{_last_lines(log, _TAIL)}\n"
                "The same command continues once that is mended"
            )

    def _watch(self, child: subprocess.Popen[bytes], log: Path, title: str) -> int:
        started = told = time.monotonic()
        asked = False
        while (code := child.poll()) is None:
            now = time.monotonic()
            if self._stop.signal and not asked:
                child.send_signal(signal.SIGTERM)
                asked = True
            if now - told >= _NEWS_S:
                told = now
                _LOG.info("  %s after %s: %s", title, duration(now - started), _last_lines(log, 1).strip())
            time.sleep(_POLL_S)
        return code


def _end_with_parent() -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))


def _mpirun() -> str:
    found = find_mpirun()
    if found is None:
        raise ConfigError("--ranks needs mpirun: pip install -r requirements.txt brings one")
    return found


def _last_lines(path: Path, count: int) -> str:
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - 16384))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line for line in split_lines(text) if line.strip()]
    return "\n".join(lines[-count:])


@contextmanager
def locked(folder: Path, stop: StopRequest | None = None) -> Iterator[int | None]:
    """Hold a work folder for one command and its children; waits as long as another holds it.

    The lock belongs to the open file, which children inherit: it ends with the last process that has it, however it
    ends. Yields the file descriptor, None on systems without such locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:
        yield None
        return
    with (folder / ".lock").open("w") as stream:
        waiting = False
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waiting:
                    waiting = True
                    _LOG.info("%s: another command, or a training that it left, is at work here; waiting", folder)
                if stop is not None and stop.signal:
                    raise RunInterrupted("stopped while waiting", 128 + int(stop.signal)) from None
                time.sleep(_POLL_S)
        yield stream.fileno()
