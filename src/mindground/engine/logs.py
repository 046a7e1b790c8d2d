"""Records of a run: JSON lines always, TensorBoard and an image of the curves where their packages are."""

from __future__ import annotations

import errno
import itertools
import json
import logging
import math
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

from mindground.engine.run_folder import RunFolder
from mindground.errors import WriteError, printable
from mindground.files.atomic import atomic_file, json_text, write_text

__all__ = ["RunLog", "draw_curve", "read_log"]

_LOG = logging.getLogger("mindground")


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """Records of a log; a last line that a kill cut short is left out."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            yield record


class RunLog:
    """Writes records; on ranks other than the first, and before `open`, it does nothing.

    Args:
        folder: of the run.
        writes: False on all ranks but the first.
        curves: metrics of evaluations whose curves `close` draws.
        since: a resumed run drops the records of later steps, which it will make again.
        evaluated: and those of evaluations after this step; None = `since`.

    Raises:
        WriteError: the log cannot be opened or written.
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        writes: bool,
        curves: Sequence[str],
        since: int | None = None,
        evaluated: int | None = None,
    ) -> None:
        self._folder, self._curves = folder, tuple(curves)
        self._stream: TextIO | None = None
        self._board: _Board | None = None
        if not writes:
            return
        if since is not None:
            last = {"eval": since if evaluated is None else evaluated}
            kept = [r for r in read_log(folder.log) if _step(r) <= last.get(str(r.get("kind")), since)]
            write_text(folder.log, "".join(json_text(record) + "\n" for record in kept))
        self._open(since)

    def _open(self, since: int | None) -> None:
        with self._told():
            self._stream = self._folder.log.open("a", encoding="utf-8", errors="backslashreplace", buffering=1)
        self._board = _Board.in_folder(self._folder.tensorboard, since)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            why = "the disk is full" if full else f"cannot be written ({error.strerror or error})"
            raise WriteError(
                f"{printable(self._folder.log, 300)}: {why}; the last checkpoint is unchanged: free space or mend the "
                "folder, and continue with --train.resume=auto"
            ) from error

    def record(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """One line, and one curve point for every finite number in it. Raises WriteError."""
        if self._stream is None:
            return
        if not self._folder.log.exists():
            _LOG.warning("%s was removed during the run; its records begin anew", printable(self._folder.log, 300))
            with self._told():
                self._folder.path.mkdir(parents=True, exist_ok=True)
            self._close_streams()
            self._open(None)
        record = {"kind": kind, "step": step, "time": round(time.time(), 3), **values}
        with self._told():
            cast(TextIO, self._stream).write(json_text(record) + "\n")
        if self._board is not None:
            self._board.add(kind, step, values)

    def close(self) -> None:
        """Flush; draw the curves. It raises nothing, so that it hides no other error and costs no finished run."""
        if self._stream is None:
            return
        self._close_streams()
        try:
            draw_curve(self._folder, self._curves)
        except (OSError, WriteError) as error:
            _LOG.warning("no image of the curves: %s", error)

    def _close_streams(self) -> None:
        if self._stream is not None:
            try:
                self._stream.close()
            except OSError as error:
                _LOG.warning("%s: its last records are lost (%s)", printable(self._folder.log, 300), error)
            self._stream = None
        if self._board is not None:
            self._board.close()
            self._board = None


def _step(record: Mapping[str, Any]) -> float:
    step = record.get("step", 0)
    return step if isinstance(step, (int, float)) else 0


class _Board:
    """Points for TensorBoard, written at once and without a thread. What goes wrong is told once and ends no run.

    Args:
        folder: of the event files.
        since: points of an interrupted part that is computed again are purged from the curves after this step.
    """

    def __init__(self, folder: Path, since: int | None) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = Event, Summary
        folder.mkdir(parents=True, exist_ok=True)
        now = time.time()
        name = f"events.out.tfevents.{int(now):010d}.{socket.gethostname()}.{os.getpid()}"
        number = next(n for n in itertools.count() if not (folder / f"{name}.{n}").exists())
        self._stream = (folder / f"{name}.{number}").open("xb")
        self._writer = RecordWriter(self._stream)
        self._write(Event(wall_time=now, file_version="brain.Event:2"))
        if since is not None:
            self._write(Event(wall_time=now, step=since + 1, session_log=SessionLog(status=SessionLog.START)))

    @classmethod
    def in_folder(cls, folder: Path, since: int | None) -> _Board | None:
        """The board, or None where its package is missing or the folder cannot be written."""
        try:
            return cls(folder, since)
        except ImportError:
            _LOG.info("tensorboard is not installed; curves are in log.jsonl only")
        except OSError as error:
            _LOG.warning("%s: no curves for TensorBoard (%s); log.jsonl has them", printable(folder, 300), error)
        return None

    def add(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Points of one record."""
        points = [
            self._summary.Value(tag=f"{kind}/{name}", simple_value=float(value))
            for name, value in values.items()
            if isinstance(value, (int, float)) and math.isfinite(value)
        ]
        if self._writer is None:
            return
        try:
            self._write(self._event(wall_time=time.time(), step=step, summary=self._summary(value=points)))
        except OSError as error:
            self._writer = None
            _LOG.warning("no further curves for TensorBoard (%s); log.jsonl goes on", error)

    def _write(self, event: Any) -> None:
        self._writer.write(event.SerializeToString())
        self._writer.flush()

    def close(self) -> None:
        """Close the file; safe after an error."""
        self._writer = None
        try:
            self._stream.close()
        except OSError as error:
            _LOG.warning("the last curves for TensorBoard are lost (%s)", error)


def draw_curve(folder: RunFolder, names: Sequence[str]) -> Path | None:
    """Loss and metrics over steps as an image; None without matplotlib or without records.

    Args:
        names: metrics of evaluations, in [0, 1]; one that no evaluation gives has no curve.
    """
    steps = [r for r in read_log(folder.log) if r.get("kind") == "train" and isinstance(r.get("total"), (int, float))]
    evals = [r for r in read_log(folder.log) if r.get("kind") == "eval"]
    if not steps:
        return None
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        _LOG.info("matplotlib is not installed; no image of the curves")
        return None
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([r["step"] for r in steps], [r["total"] for r in steps], linewidth=1)
    left.set(xlabel="step", ylabel="loss", title="training loss")
    for name in names:
        points = [(r["step"], r[name]) for r in evals if isinstance(r.get(name), (int, float))]
        if points:
            right.plot(*zip(*points, strict=True), marker=".", label=name)
    right.set(xlabel="step", ylim=(0, 1), title="evaluation")
    if right.get_legend_handles_labels()[0]:
        right.legend(frameon=False)
    with atomic_file(folder.curve) as stream:
        FigureCanvasAgg(figure).print_png(stream)
    return folder.curve
