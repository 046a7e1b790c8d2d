"""Records of a run: JSON lines always, TensorBoard and an image of the curves where their packages are."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mindground.engine.run_folder import RunFolder
from mindground.files.atomic import atomic_file, write_text

__all__ = ["RunLog", "draw_curve", "read_log"]

_LOG = logging.getLogger("mindground")


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """Records of a log; a last line that a kill cut short is left out."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").split("\n"):
        try:
            record = json.loads(line)
        except ValueError:
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
    """

    def __init__(self, folder: RunFolder, *, writes: bool, curves: Sequence[str], since: int | None = None) -> None:
        self._folder, self._curves, self._stream, self._board = folder, tuple(curves), None, None
        if not writes:
            return
        if since is not None:
            kept = [record for record in read_log(folder.log) if record.get("step", 0) <= since]
            text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in kept)
            write_text(folder.log, text)
        self._stream = folder.log.open("a", encoding="utf-8", buffering=1)
        self._board = _tensorboard(folder.tensorboard, since)

    def record(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """One line, and one curve point for every finite number in it."""
        if self._stream is None:
            return
        record = {"kind": kind, "step": step, "time": round(time.time(), 3), **values}
        self._stream.write(json.dumps(record, ensure_ascii=False) + "\n")
        if self._board is not None:
            self._board.add(kind, step, values)

    def close(self) -> None:
        """Flush; draw the curves."""
        if self._stream is None:
            return
        self._stream.close()
        self._stream = None
        if self._board is not None:
            self._board.close()
        draw_curve(self._folder, self._curves)


class _Board:
    def __init__(self, folder: Path, since: int | None) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._event, self._summary, self._writer = Event, Summary, EventFileWriter(str(folder))
        if since is not None:
            # Points of an interrupted part that is computed again are purged from the curve.
            session = SessionLog(status=SessionLog.START)
            self._writer.add_event(Event(wall_time=time.time(), step=since + 1, session_log=session))

    def add(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        points = [
            self._summary.Value(tag=f"{kind}/{name}", simple_value=float(value))
            for name, value in values.items()
            if isinstance(value, (int, float)) and math.isfinite(value)
        ]
        self._writer.add_event(self._event(wall_time=time.time(), step=step, summary=self._summary(value=points)))

    def close(self) -> None:
        self._writer.close()


def _tensorboard(folder: Path, since: int | None) -> _Board | None:
    try:
        return _Board(folder, since)
    except ImportError:
        _LOG.info("tensorboard is not installed; curves are in log.jsonl only")
        return None


def draw_curve(folder: RunFolder, names: Sequence[str]) -> Path | None:
    """Loss and metrics over steps as an image; None without matplotlib or without records.

    Args:
        names: metrics of evaluations, in [0, 1]; one that no evaluation gives has no curve.
    """
    steps = [r for r in read_log(folder.log) if r.get("kind") == "train" and "total" in r]
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
