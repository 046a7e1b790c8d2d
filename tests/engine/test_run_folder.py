"""A run folder: one training at a time, what goes wrong in it, and what a signal may cost."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.fakes import OneRank, fake_config, fake_parts
from engine.test_trainer import job, run, same
from mindground.engine.checkpoint import read_checkpoint
from mindground.engine.logs import RunLog, read_log
from mindground.engine.run_folder import RunFolder
from mindground.engine.signals import RunInterrupted
from mindground.engine.trainer import Trainer
from mindground.errors import CheckpointError, MindGroundError, NonFiniteWeightsError, WriteError

_TEN_STEPS = {"rows": 80}


class _Watched:
    """A training step before which `act(trainer, number)` is called, numbers from 1; True stands for a signal."""

    def __init__(self, trainer: Trainer, act: Callable[[Trainer, int], Any]) -> None:
        self._trainer, self._act, self._step = trainer, act, trainer.step

    def __getattr__(self, name: str) -> Any:
        return getattr(self._step, name)

    def __call__(self, group: Any, factor: float, number: int, *, stop: bool) -> dict[str, float]:
        if self._act(self._trainer, number + 1) is True:
            self._trainer.stop.signal, stop = int(signal.SIGTERM), True
        return self._step(group, factor, number, stop=stop)


def watched(monkeypatch: pytest.MonkeyPatch, act: Callable[[Trainer, int], Any]) -> None:
    compiled = Trainer._compile

    def compile_and_watch(self: Trainer, optimizer: Any) -> None:
        compiled(self, optimizer)
        self.step = _Watched(self, act)

    monkeypatch.setattr(Trainer, "_compile", compile_and_watch)


def records(folder: Path) -> list[dict[str, Any]]:
    """The log without times."""
    varying = ("time", "seconds", "waited_for_data")
    return [{k: v for k, v in r.items() if k not in varying} for r in read_log(folder / "fake" / "log.jsonl")]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three epochs of ten steps."""
    folder = tmp_path_factory.mktemp("unbroken")
    run(folder, dict(_TEN_STEPS))
    return folder


@pytest.mark.parametrize("step", [9, 10, 11, 20, 29, 30])
def test_a_signal_in_any_step_costs_nothing(
    step: int, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched(monkeypatch, lambda _, number: number == step)
    with pytest.raises(RunInterrupted) as caught:
        run(tmp_path, dict(_TEN_STEPS))
    monkeypatch.undo()
    assert caught.value.code == 143
    stopped = read_checkpoint(tmp_path / "fake" / "last.ckpt").state
    assert stopped["step"] == step and stopped["complete"] is False
    run(tmp_path, dict(_TEN_STEPS), resume="auto")
    assert records(tmp_path) == records(unbroken)
    assert [r["step"] for r in records(tmp_path) if r["kind"] == "eval"] == [10, 20, 30]
    for name in ("best.ckpt", "last.ckpt"):
        one, other = (read_checkpoint(folder / "fake" / name) for folder in (tmp_path, unbroken))
        assert same(one.tensors, other.tensors) and one.state == other.state, name
    assert other.state["complete"] is True
    texts = [(folder / "fake" / "metrics.json").read_text() for folder in (tmp_path, unbroken)]
    assert texts[0] == texts[1]


def test_a_kill_behind_an_evaluation_leaves_one_record_of_it(
    unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record is written, the checkpoint that knows of the evaluation is not."""
    saved: list[int] = []
    save = Trainer._save_last

    def dies(self: Trainer) -> None:
        saved.append(self.state.step)
        if saved == [10, 10]:
            raise ZeroDivisionError
        save(self)

    monkeypatch.setattr(Trainer, "_save_last", dies)
    with pytest.raises(ZeroDivisionError):
        run(tmp_path, dict(_TEN_STEPS))
    monkeypatch.undo()
    assert [r["step"] for r in records(tmp_path) if r["kind"] == "eval"] == [10]
    run(tmp_path, dict(_TEN_STEPS), resume="auto")
    assert records(tmp_path) == records(unbroken)


def test_ctrl_c_is_told_as_ctrl_c(tmp_path: Path) -> None:
    """It comes while MindSpore compiles the first step, whose own handler would make another signal of it."""
    process = job(tmp_path, {}, {"ctrl_c_at": 0})
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 130, output
    assert "stopped by Ctrl-C after step" in output and "resume=auto" in output


def test_two_trainings_of_one_folder_are_refused(tmp_path: Path) -> None:
    run(tmp_path, max_steps=1)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "fake").iterdir())
    with RunFolder(tmp_path / "fake").locked():
        for resume in ("", "auto"):
            with pytest.raises(CheckpointError, match="another process trains in .*fake; wait for its end"):
                run(tmp_path, max_steps=2, resume=resume)
        assert before == sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "fake").iterdir())
        run(tmp_path, max_steps=1, short_comment="other")
    run(tmp_path, max_steps=2, resume="auto")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fake", "fake_other"]


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "fake").locked():
        process = job(tmp_path, {"max_steps": 1})
        output, _ = process.communicate(timeout=180)
    assert process.returncode == 2 and "another process trains" in output and "Traceback" not in output
    assert not (tmp_path / "fake").exists()


def test_a_folder_that_is_deleted_costs_records_only(
    unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watched(monkeypatch, lambda trainer, number: number == 14 and shutil.rmtree(trainer.folder.path))
    run(tmp_path, dict(_TEN_STEPS))
    assert "was removed during the run" in caplog.text
    first, second = (read_checkpoint(folder / "fake" / "last.ckpt").tensors for folder in (tmp_path, unbroken))
    assert same(first, second)
    assert records(tmp_path) == [r for r in records(unbroken) if r["step"] >= 14]


def _one_line(error: MindGroundError, *parts: str) -> None:
    said = str(error)
    assert "\n" not in said and len(said) < 900 and all(part in said for part in parts), said


def test_places_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        run(tmp_path, experiment_name="x" * 300)
    _one_line(caught.value, "cannot be used", "File name too long", "--train.experiment_name")
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError) as caught:
        run(tmp_path / "file")
    _one_line(caught.value, str(tmp_path / "file"), "--train.output_dir")
    (tmp_path / "fake" / "config.yaml").mkdir(parents=True)
    with pytest.raises(WriteError) as told:
        run(tmp_path)
    _one_line(told.value, "config.yaml", "cannot be written")
    (tmp_path / "b" / "fake" / "log.jsonl").mkdir(parents=True)
    (tmp_path / "b" / "fake.old-1").write_text("x")
    run(tmp_path / "b", max_steps=1)  # whatever stood there is aside
    assert (tmp_path / "b" / "fake.old-2" / "log.jsonl").is_dir()


def test_a_read_only_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's answer is that of a read-only file system, which root has to obey, too."""
    run(tmp_path, max_steps=1)
    before = (tmp_path / "fake" / "last.ckpt").read_bytes()

    def refuses(*_: Any, **__: Any) -> Any:
        raise OSError(30, "Read-only file system", str(tmp_path / "fake"))

    for name in ("open", "rename"):
        monkeypatch.setattr(Path, name, refuses)
        with pytest.raises(CheckpointError) as caught:
            run(tmp_path, max_steps=2)
        monkeypatch.undo()
        _one_line(caught.value, "Read-only file system", str(tmp_path / "fake"))
    assert (tmp_path / "fake" / "last.ckpt").read_bytes() == before


def test_tensorboard_ends_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "tensorboard").write_text("a file")
    run(tmp_path, max_steps=2)
    assert len(records(tmp_path)) == 3 and caplog.text.count("no curves for TensorBoard") == 1


def test_a_full_disk_under_tensorboard_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("tensorboard")
    log = RunLog(RunFolder(_made(tmp_path)), writes=True, curves=())
    assert log._board is not None
    log._board._writer._writer.close()
    log._board._writer._writer = open("/dev/full", "wb", buffering=0)  # noqa: SIM115 - the log closes it
    for step in range(3):
        log.record("train", step, {"total": 1.0})
    log.close()
    assert caplog.text.count("no further curves for TensorBoard") == 1
    assert len(list(read_log(tmp_path / "log.jsonl"))) == 3


def test_curves_can_be_read(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for since in (None, 2):
        log = RunLog(RunFolder(_made(tmp_path)), writes=True, curves=(), since=since)
        for step in range(1 if since is None else 3, 5):
            log.record("train", step, {"total": float(step), "bad": float("nan"), "name": "x"})
        log.close()
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert [(point.step, point.value) for point in board.Scalars("train/total")] == [
        (n, float(n)) for n in (1, 2, 3, 4)
    ]


def test_a_full_disk_under_the_log_names_it(tmp_path: Path) -> None:
    log = RunLog(RunFolder(_made(tmp_path)), writes=True, curves=())
    log._stream = open("/dev/full", "w", buffering=1)  # noqa: SIM115 - the log closes it
    with pytest.raises(WriteError) as caught:
        log.record("train", 1, {"total": 1.0})
    _one_line(caught.value, "log.jsonl", "the disk is full", "the last checkpoint is unchanged")
    log.close()


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def test_a_rate_that_ends_in_infinite_weights_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteWeightsError, match=r"last\.ckpt was not written: .* not finite .*lower train.lr"):
        run(tmp_path, max_steps=1, lr=1e39)
    assert not (tmp_path / "fake" / "last.ckpt").exists() and not (tmp_path / "fake" / "best.ckpt").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_last_good_checkpoint_stays(value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One number goes wrong in the last step of the run, behind the last look at the loss."""
    notes = Trainer._note

    def spoil(self: Trainer, *words: Any) -> None:
        notes(self, *words)
        if self.state.step == 18:
            parameter = self.parts.model.second.bias
            array = parameter.asnumpy().copy()
            array[1] = value
            parameter.set_data(type(parameter)(array, name=parameter.name))

    monkeypatch.setattr(Trainer, "_note", spoil)
    with pytest.raises(NonFiniteWeightsError, match="second.bias") as caught:
        run(tmp_path)
    _one_line(caught.value, "the one that was there before is unchanged")
    assert read_checkpoint(tmp_path / "fake" / "last.ckpt").state["step"] == 12
    assert json.loads((tmp_path / "fake" / "metrics.json").read_text())["step"] <= 12


def test_other_ranks_take_no_lock(tmp_path: Path) -> None:
    config = fake_config(tmp_path, max_steps=1)
    trainer = Trainer(config, OneRank(rank=1), fake_parts(config))
    with trainer.folder.locked():
        trainer.run()
    assert not (tmp_path / "fake").exists()


def test_what_killed_saves_left_is_removed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "fake")
    folder.path.mkdir()
    kept = {"last.ckpt", "log.jsonl", ".notes.tmp", ".last.ckpt.lock", "last.ckpt.tmp", "mine.tmp"}
    left = {
        ".last.ckpt.a1b2c3d4.tmp",
        ".best.ckpt.x.tmp",
        ".metrics.json.y.tmp",
        ".config.yaml.z.tmp",
        ".best_m.ckpt.w.tmp",
    }
    for name in kept | left:
        (folder.path / name).write_bytes(b"x")
    folder.open(fresh=False)
    assert {path.name for path in folder.path.iterdir()} == kept
