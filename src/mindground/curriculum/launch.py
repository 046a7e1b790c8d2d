"""Trainings and measurements as separate processes: start, watch, stop with the command, lock the work folder.

If the command is killed, its child stops as well (on Linux the kernel sends SIGTERM to the child, which saves its
progress). A child that still runs holds the lock of the work folder, and the next command waits for it.
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
from mindground.engine.signals import RunInterrupted, StopRequest, called
from mindground.errors import CheckpointError, ConfigError, MindGroundError, shown
from mindground.files.text import split_lines
from mindground.models import model_interface
from mindground.runtime.launcher import find_mpirun, launched_size, mpirun_environment
from mindground.tasks import MetricSettings, task_of

if TYPE_CHECKING:
    from mindground.config import Config

__all__ = ["Job", "Launcher", "Measurement", "Outcome", "locked"]

_LOG = logging.getLogger("mindground")
_POLL_S = 0.2
_REPORT_INTERVAL_S = 30.0
_TAIL = 12
# Loaded before any fork: nothing may be imported between fork and exec.
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Job:
    """A training.

    Attributes:
        key: hash of the training, see `subsets.training_key`.
        folder: folder of this training; the set is in `data`, the run folder is `run`.
        config: resolved, with these folders in it and `train.resume` auto.
        title: for messages.
        samples: number of training samples.
    """

    key: str
    folder: Path
    config: Config
    title: str
    samples: int

    @property
    def run(self) -> RunFolder:
        """The run folder."""
        return RunFolder.of(self.config.train)


@dataclass(frozen=True)
class Outcome:
    """Result of a training: the metric that selects, the best checkpoint, and all metrics of that checkpoint."""

    performance: float
    checkpoint: Path
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Measurement:
    """A measurement of a source with a checkpoint: `data` holds the set as JSON lines, `folder` gets the result."""

    checkpoint: Path
    data: Path
    folder: Path
    config: Config
    title: str


def selecting_metric(config: Config) -> str:
    """The metric by which trainings are compared. Raises ConfigError if the task has no metric of that name."""
    task = task_of(model_interface(config))
    return task.selecting_metrics(config.eval.select_by, MetricSettings.of(config.eval))[0]


class Launcher:
    """Runs jobs as `mindground train` and `mindground.cli.measure_source`, with this Python.

    Args:
        ranks: more than 1 starts the jobs with `mpirun -n`.
        stop: a signal to the command is passed on to the child, which saves before it ends.
        lock: file descriptor that children inherit, see `locked`.

    Raises:
        ConfigError: the command itself runs under mpirun, or there is no mpirun.
    """

    def __init__(self, ranks: int = 1, stop: StopRequest | None = None, lock: int | None = None) -> None:
        if launched_size() > 1:
            raise ConfigError(
                "the curriculum starts mpirun itself, once for every training: start it without mpirun, with --ranks N"
            )
        if ranks < 1:
            raise ConfigError(f"--ranks {ranks} must be at least 1")
        self._stop, self._lock = stop or StopRequest(), lock
        self._package = Path(mindground.__file__).resolve().parents[1]
        # Arguments of Python for a training and for a measurement.
        self._train_arguments: list[str] = ["-m", "mindground", "train"]
        self._measure_arguments: list[str] = ["-m", "mindground.cli.measure_source"]
        self._prefix = [_mpirun(), "-n", str(ranks)] if ranks > 1 else []

    def train(self, job: Job) -> Outcome:
        """Train, or continue an interrupted training.

        Raises:
            MindGroundError: the training failed; the end of its log is in the message.
            RunInterrupted: a signal stopped the command.
        """
        from mindground.config import dump_yaml

        config = job.folder / "config.yaml"
        dump_yaml(job.config, config)
        self._run([*self._train_arguments, "--config", str(config)], job.folder / "train.log", job.title)
        metric = selecting_metric(job.config)
        try:
            metrics = json.loads(job.run.metrics.read_text(encoding="utf-8"))
            return Outcome(float(metrics[metric]), job.run.best, metrics)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{job.run.metrics} has no {metric} ({error}); remove {job.folder} and start the command again"
            ) from error

    def measure(self, task: Measurement) -> list[Measured]:
        """Reliability of every sample, also written to the task's folder.

        Raises:
            MindGroundError: the measurement failed; the end of its log is in the message.
            RunInterrupted: a signal stopped the command.
        """
        device = [f"--device.{name}={value}" for name, value in asdict(task.config.device).items()]
        arguments = ["--ckpt", str(task.checkpoint), "--data", str(task.data), "--out", str(task.folder / FILE)]
        arguments += [*device, f"--eval.batch_size={task.config.eval.batch_size}"]
        arguments += [f"--data.num_workers={task.config.data.num_workers}"]
        task.folder.mkdir(parents=True, exist_ok=True)
        self._run([*self._measure_arguments, *arguments], task.folder / "measure.log", task.title)
        return read_measured(task.folder / FILE)

    def _run(self, arguments: Sequence[str], log: Path, title: str) -> None:
        path = os.pathsep.join(part for part in (str(self._package), os.environ.get("PYTHONPATH", "")) if part)
        with log.open("ab") as stream:
            child = subprocess.Popen(
                [*self._prefix, sys.executable, *arguments],
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
            raise RunInterrupted(f"stopped by {called(number)}; the same command continues", 128 + number)
        if code:
            _LOG.error("%s: the end of %s:\n%s", title, log, _last_lines(log, _TAIL))
            said = shown(_last_lines(log, 1).strip(), 300)
            raise MindGroundError(
                f"{title}: the process ended with code {code} and said {said} ({log} has the rest). After that is "
                "repaired, the same command continues"
            )

    def _watch(self, child: subprocess.Popen[bytes], log: Path, title: str) -> int:
        started = reported = time.monotonic()
        signalled = False
        while (code := child.poll()) is None:
            now = time.monotonic()
            if self._stop.signal and not signalled:
                child.send_signal(signal.SIGTERM)
                signalled = True
            if now - reported >= _REPORT_INTERVAL_S:
                reported = now
                _LOG.info("  %s after %s: %s", title, duration(now - started), _last_lines(log, 1).strip())
            time.sleep(_POLL_S)
        return code


def _end_with_parent() -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))


def _mpirun() -> str:
    found = find_mpirun()
    if found is None:
        raise ConfigError("--ranks needs mpirun; install it with pip install -r requirements.txt")
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
    """Lock a work folder for one command and its children; waits while another process holds the lock.

    The lock belongs to the open file, which children inherit: it ends with the last process that has it open.
    Yields the file descriptor, None on systems without such locks.

    Raises:
        RunInterrupted: a signal arrived while waiting.
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
                    _LOG.info("%s: another command, or a training that it started, uses this folder; waiting", folder)
                if stop is not None and stop.signal:
                    raise RunInterrupted("stopped while waiting", 128 + int(stop.signal)) from None
                time.sleep(_POLL_S)
        yield stream.fileno()
