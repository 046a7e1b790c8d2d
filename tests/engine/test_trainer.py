"""The loop: resuming to the same bits after a kill, signals, refusals, ranks."""

from __future__ import annotations

import gc
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import weakref
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.fakes import TASK, FakeMetrics, FakeModel, OneRank, fake_config, fake_parts, make_batch
from mindground.config import Config
from mindground.data.loader import Loader
from mindground.engine import trainer as trainer_module
from mindground.engine.assemble import RunParts
from mindground.engine.checkpoint import read_checkpoint
from mindground.engine.logs import read_log
from mindground.engine.signals import RunInterrupted
from mindground.engine.train_state import continued
from mindground.engine.trainer import Trainer
from mindground.errors import CheckpointError, ConfigError, NonFiniteLossError, WriteError
from mindground.files import atomic
from mindground.structures import Example, Geometry, Sample
from mindground.tasks import MetricSettings

_TESTS = Path(__file__).resolve().parents[1]
_MPIRUN = Path(sys.executable).with_name("mpirun")


def run(folder: Path, loader: dict[str, Any] | None = None, **train: Any) -> Trainer:
    config = fake_config(folder, **train)
    trainer = Trainer(config, OneRank(), fake_parts(config, **(loader or {})))
    trainer.run()
    return trainer


def job(folder: Path, train: dict[str, Any], wish: dict[str, Any] | None = None, ranks: int = 0) -> subprocess.Popen:
    launcher = [str(_MPIRUN), "--allow-run-as-root", "--oversubscribe", "-n", str(ranks)] if ranks else []
    environment = {**os.environ, "PYTHONPATH": f"{_TESTS.parent / 'src'}{os.pathsep}{_TESTS}"}
    command = [*launcher, sys.executable, "-m", "engine.job", str(folder), json.dumps(train), json.dumps(wish or {})]
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A suite in the background ignores Ctrl-C, and its children would inherit that.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


def tensors(folder: Path) -> dict[str, np.ndarray]:
    return read_checkpoint(folder / "fake" / "last.ckpt").tensors


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of three epochs of six steps."""
    folder = tmp_path_factory.mktemp("whole")
    run(folder, ema_decay=0.99)
    return folder


def test_a_run_leaves_what_it_promises(whole: Path) -> None:
    names = {path.name for path in (whole / "fake").iterdir()}
    assert {"best.ckpt", "last.ckpt", "config.yaml", "log.jsonl", "metrics.json"} <= names
    losses = [r["total"] for r in read_log(whole / "fake" / "log.jsonl") if r["kind"] == "train"]
    assert len(losses) == 18
    assert np.mean(losses[-4:]) < 0.6 * np.mean(losses[:4])
    best = read_checkpoint(whole / "fake" / "best.ckpt")
    assert all(name.startswith("model/") for name in best.tensors)
    # The averaged weights are what was scored, so they are what is kept as best.
    last = read_checkpoint(whole / "fake" / "last.ckpt")
    np.testing.assert_array_equal(best.tensors["model/first.weight"], last.tensors["ema/first.weight"])
    assert not np.array_equal(last.tensors["model/first.weight"], last.tensors["ema/first.weight"])


@pytest.mark.parametrize(
    "wish", [{"kill_at": 8}, {"kill_save": 3}], ids=["in the middle of an epoch", "in the middle of a save"]
)
def test_killed_and_resumed_is_the_same_run(whole: Path, tmp_path: Path, wish: dict[str, int]) -> None:
    settings = {"ema_decay": 0.99, "save_steps": 3, "resume": "auto"}
    first = job(tmp_path, settings, wish)
    first.communicate(timeout=120)
    assert first.returncode == -signal.SIGKILL
    assert 0 < read_checkpoint(tmp_path / "fake" / "last.ckpt").state["step"] < 9
    second = job(tmp_path, settings)
    output, _ = second.communicate(timeout=120)
    assert second.returncode == 0, output
    assert same(tensors(tmp_path), tensors(whole))
    steps = [r["step"] for r in read_log(tmp_path / "fake" / "log.jsonl") if r["kind"] == "train"]
    assert steps == list(range(1, 19))


def test_sigterm_finishes_the_step_saves_and_says_143(whole: Path, tmp_path: Path) -> None:
    process = job(tmp_path, {"ema_decay": 0.99}, {"sleep": 0.3})
    log, deadline = tmp_path / "fake" / "log.jsonl", time.monotonic() + 90
    while len(list(read_log(log))) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output
    assert "resume=auto" in output
    assert 3 <= read_checkpoint(tmp_path / "fake" / "last.ckpt").state["step"] < 18
    run(tmp_path, ema_decay=0.99, resume="auto")
    assert same(tensors(tmp_path), tensors(whole))


def test_lengthened_run_goes_on_and_a_complete_one_returns(tmp_path: Path) -> None:
    run(tmp_path, max_epochs=2)
    run(tmp_path, max_epochs=3, resume="auto")
    before = (tmp_path / "fake" / "last.ckpt").stat().st_mtime_ns
    trainer = run(tmp_path, max_epochs=3, resume="auto")
    assert trainer.state.step == 18
    assert (tmp_path / "fake" / "last.ckpt").stat().st_mtime_ns == before


def test_other_settings_are_refused_by_name(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    with pytest.raises(CheckpointError, match=r"train\.lr was 0\.01, is 0\.5") as caught:
        run(tmp_path, resume="auto", lr=0.5, ema_decay=0.99, max_epochs=9)
    assert "max_epochs" not in str(caught.value)
    with pytest.raises(CheckpointError, match="8 samples per step"):
        run(tmp_path, resume="auto", ema_decay=0.99, max_epochs=9, batch_size=4)
    # Half the micro-batch, twice as many of them: the same steps, so this may go on.
    run(tmp_path, resume="auto", ema_decay=0.99, max_epochs=4, batch_size=4, batch_sum=8)


def test_fresh_start_moves_the_old_run_aside(tmp_path: Path) -> None:
    run(tmp_path, max_steps=1)
    run(tmp_path, max_steps=2)
    assert read_checkpoint(tmp_path / "fake.old-1" / "last.ckpt").state["step"] == 1
    assert read_checkpoint(tmp_path / "fake" / "last.ckpt").state["step"] == 2


def test_nan_stops_the_run_and_the_last_checkpoint_stands(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError, match="step 8"):
        run(tmp_path, {"poison": (1, 2)})
    assert read_checkpoint(tmp_path / "fake" / "last.ckpt").state["step"] == 6


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_full_disk_stops_the_run_and_the_last_checkpoint_stands(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, ema_decay=0.99, max_epochs=1)
    last = tmp_path / "fake" / "last.ckpt"
    before = last.read_bytes()

    def full(**_: Any) -> tuple[int, str]:
        """The unfinished file of the next save lies on a device that is really full."""
        name = last.with_name(".full.tmp")
        name.unlink(missing_ok=True)
        name.symlink_to("/dev/full")
        return os.open(name, os.O_WRONLY), str(name)

    monkeypatch.setattr(atomic.tempfile, "mkstemp", full)
    with pytest.raises(WriteError, match="the disk is full"):
        run(tmp_path, ema_decay=0.99, resume="auto", max_epochs=2)
    monkeypatch.undo()
    assert last.read_bytes() == before
    run(tmp_path, ema_decay=0.99, resume="auto")
    assert same(tensors(tmp_path), tensors(whole))


def test_batch_sum_must_divide(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch_sum=20"):
        run(tmp_path, batch_sum=20)
    with pytest.raises(ConfigError, match="an epoch has 6 batches"):
        run(tmp_path, batch_sum=64)


def test_the_selecting_metric_is_checked_before_anything_is_trained(tmp_path: Path) -> None:
    config = fake_config(tmp_path)
    with pytest.raises(ConfigError, match="select_by='nonsense' is no metric of this run; choose one of prec@0.5"):
        TASK.selecting_metric("nonsense", MetricSettings.of(config.eval))
    assert TASK.selecting_metric("", MetricSettings.of(config.eval)) == "prec@0.5"


def test_a_broken_evaluation_shows_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> list[Any]:
        raise RuntimeError("decode is broken")

    monkeypatch.setattr(FakeModel, "decode", broken)
    with pytest.raises(RuntimeError, match="decode is broken"):
        run(tmp_path)
    assert not list(read_log(tmp_path / "fake" / "log.jsonl")) and not (tmp_path / "fake" / "last.ckpt").exists()


def test_a_broken_evaluation_costs_no_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The epoch before it is saved, and the resumed run makes the evaluation up."""
    scored, calls = trainer_module.evaluate, []

    def breaks_at_the_second(*words: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:  # one batch before the first step, one epoch, this one
            raise RuntimeError("the file system is gone")
        return scored(*words, **more)

    monkeypatch.setattr(trainer_module, "evaluate", breaks_at_the_second)
    with pytest.raises(RuntimeError, match="file system"):
        run(tmp_path / "broken")
    monkeypatch.undo()
    assert read_checkpoint(tmp_path / "broken" / "fake" / "last.ckpt").state["step"] == 12
    assert run(tmp_path / "broken", resume="auto").state == run(tmp_path / "unbroken").state


def test_another_selecting_metric_starts_its_own_best(tmp_path: Path) -> None:
    """Values of two metrics, splits or thresholds are not compared."""
    first = run(tmp_path, max_epochs=1)
    path = tmp_path / "fake" / "metrics.json"
    value = read_checkpoint(tmp_path / "fake" / "best.ckpt").state["best"]
    assert value == first.state.best and first.state.best_by.startswith("prec@0.5 of val, ")
    config = fake_config(tmp_path, max_epochs=2, resume="auto")
    parts = fake_parts(config)
    parts.metrics = MetricSettings(iou_threshold=0.7)
    trainer = Trainer(config, OneRank(), parts)
    trainer.state.best_by = trainer.state.best_by.replace("prec@0.5", "box_mean_iou")
    stored = {**read_checkpoint(tmp_path / "fake" / "last.ckpt").state, "best": 99.0}
    assert continued(trainer.state, stored, 8).best is None
    assert continued(first.state, stored, 8).best == 99.0
    trainer.run()
    assert trainer.state.best_step == 12 and json.loads(path.read_text())["step"] == 12


class _StopsAfter:
    """A signal that arrives while step number `step` runs."""

    def __init__(self, trainer: Trainer, step: int) -> None:
        self.trainer, self.step, self.call = trainer, step, trainer.step.__call__

    def __getattr__(self, name: str) -> Any:
        return getattr(self.call.__self__, name)

    def __call__(self, group: Any, factor: float, number: int, *, stop: bool) -> dict[str, float]:
        if number + 1 == self.step:
            self.trainer.stop.signal, stop = int(signal.SIGTERM), True
        return self.call(group, factor, number, stop=stop)


@pytest.mark.parametrize("step", [12, 18], ids=["last step of an epoch", "last step of the run"])
def test_a_signal_in_the_last_step_loses_no_evaluation(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the unbroken run has scored and kept as best, the resumed one has, too."""
    unbroken = run(tmp_path / "unbroken", eval_step=2)
    config = fake_config(tmp_path / "stopped", eval_step=2)
    trainer = Trainer(config, OneRank(), fake_parts(config))
    compiled = Trainer._compile

    def compile_and_watch(self: Trainer, optimizer: Any) -> None:
        compiled(self, optimizer)
        self.step = _StopsAfter(self, step)

    monkeypatch.setattr(Trainer, "_compile", compile_and_watch)
    with pytest.raises(RunInterrupted):
        trainer.run()
    monkeypatch.undo()
    assert trainer.state.step == step and trainer.state.evaluated_step < step
    resumed = run(tmp_path / "stopped", eval_step=2, resume="auto")
    assert resumed.state == unbroken.state
    for name in ("best.ckpt", "last.ckpt"):
        first, second = (read_checkpoint(tmp_path / part / "fake" / name).tensors for part in ("unbroken", "stopped"))
        assert same(first, second), name


def test_a_resumed_run_lets_go_of_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, max_epochs=1)
    kept: list[weakref.ref[Any]] = []

    def watched(path: Any) -> Any:
        contents = read_checkpoint(path)
        kept.append(weakref.ref(contents))
        return contents

    alive: list[bool] = []
    epochs = Trainer._epochs

    def look(self: Trainer) -> None:
        gc.collect()
        alive.append(kept[0]() is not None)
        epochs(self)

    monkeypatch.setattr(trainer_module, "read_checkpoint", watched)
    monkeypatch.setattr(Trainer, "_epochs", look)
    run(tmp_path, max_epochs=2, resume="auto")
    assert alive == [False]


def test_what_fills_no_step_is_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("mindground"), "propagate", True)
    with caplog.at_level(logging.INFO, "mindground"):
        trainer = run(tmp_path / "some", batch_sum=32, max_epochs=2)
        assert trainer.state.step == 2
        run(tmp_path / "none", batch_sum=24, max_epochs=1)
    (line,) = (record.getMessage() for record in caplog.records if "leaves out" in record.getMessage())
    assert line == "every epoch leaves out 2 of its 6 batches of 8 samples: a step takes 4 of them"


@pytest.mark.skipif(not _MPIRUN.exists(), reason="no mpirun beside this python")
def test_two_ranks_are_one_process(tmp_path: Path) -> None:
    settings = {"max_steps": 20, "max_epochs": 9, "lr": 0.01}
    one = job(tmp_path / "one", {**settings, "batch_size": 8}, {"dropout": 0.0})
    assert one.wait(timeout=120) == 0, one.communicate()[0]
    two = job(tmp_path / "two", {**settings, "batch_size": 4}, {"dropout": 0.0}, ranks=2)
    output, _ = two.communicate(timeout=120)
    assert two.returncode == 0, output
    curves = [
        np.asarray([r["total"] for r in read_log(tmp_path / name / "fake" / "log.jsonl") if r["kind"] == "train"])
        for name in ("one", "two")
    ]
    assert len(curves[0]) == 20
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-4)
    scores = [json.loads((tmp_path / name / "fake" / "metrics.json").read_text()) for name in ("one", "two")]
    assert scores[0]["count"] == scores[1]["count"] == 16
    assert scores[0]["prec@0.5"] == pytest.approx(scores[1]["prec@0.5"], rel=1e-4)


@pytest.mark.skipif(not _MPIRUN.exists(), reason="no mpirun beside this python")
def test_a_rank_killed_in_training_ends_the_job(tmp_path: Path) -> None:
    started = time.monotonic()
    two = job(tmp_path, {"batch_size": 4, "save_steps": 2}, {"kill_at": 4, "rank": 1}, ranks=2)
    output, _ = two.communicate(timeout=60)
    assert two.returncode not in (0, None) and time.monotonic() - started < 60
    assert "rank 1" in output and "signal 9" in output, output
    assert read_checkpoint(tmp_path / "fake" / "last.ckpt").state["step"] == 4


@pytest.mark.skipif(not _MPIRUN.exists(), reason="no mpirun beside this python")
def test_nan_on_one_rank_names_the_samples_of_all(tmp_path: Path) -> None:
    two = job(tmp_path, {"batch_size": 4}, {"poison": [1, 2], "rank": 1}, ranks=2)
    output, _ = two.communicate(timeout=60)
    assert two.returncode == 2, output
    assert "not finite at step 8" in output and "Traceback" not in output
    order = np.random.default_rng([1, 1]).permutation(48)[16:24]
    for rank in (0, 1):
        assert f"rank {rank}: {', '.join(f's{i}' for i in order[rank::2])}" in output
    assert read_checkpoint(tmp_path / "fake" / "last.ckpt").state["step"] == 6


def _told(config: Config, drawn: list[tuple[int, str]], state: Any) -> RunParts:
    """Fake parts whose real loaders draw one of several sentences of every object; `drawn` gets epoch and sample."""
    rows = {f"s{obj}.{turn}": 3 * obj + turn for obj in range(24) for turn in range(1 + obj % 3)}
    samples = [
        Sample("none.png", name, f"i{row // 3}", name, np.zeros((1, 4)), object_ids=(f"o{row // 3}",))
        for name, row in rows.items()
    ]

    def transform(sample: Sample, rng: np.random.Generator) -> Example:
        arrays = make_batch(np.asarray([rows[sample.sample_id]])).arrays
        drawn.append((state().step, sample.sample_id))
        return Example({name: value[0] for name, value in arrays.items()}, Geometry((8, 8), (8, 8), (8, 8)), sample)

    common = {"seed": 3, "workers": 0, "sentences": "one"}
    parts = fake_parts(config)
    parts.loader = Loader(samples, transform, 8, training=True, **common)
    parts.eval_loader = Loader(samples, transform, 8, training=False, **common)
    return parts


def test_a_resumed_run_draws_the_same_sentences(tmp_path: Path) -> None:
    drawn: dict[str, list[tuple[int, str]]] = {"whole": [], "stopped": []}
    for place, notes in drawn.items():
        for resume in ("", "auto"):
            config = fake_config(tmp_path / place, resume=resume, ema_decay=0.99)
            trainer: Trainer
            trainer = Trainer(config, OneRank(), _told(config, notes, lambda: trainer.state))  # noqa: B023
            if place == "stopped" and not resume:
                compile_step = trainer._compile

                def compiled(optimizer: Any, compile_step: Any = compile_step, trainer: Any = trainer) -> None:
                    compile_step(optimizer)
                    trainer.step = _StopsAfter(trainer, 5)

                trainer._compile = compiled
                with pytest.raises(RunInterrupted):
                    trainer.run()
            else:
                trainer.run()
    assert same(tensors(tmp_path / "stopped"), tensors(tmp_path / "whole"))
    # Each epoch trains on 24 sentences and is scored on 24; the first batch of the split is tried out at the start.
    assert drawn["stopped"] == drawn["whole"] and len(drawn["whole"]) == 8 + 3 * 48
    assert len({name for _, name in drawn["whole"]}) > 30


def test_a_resumed_run_never_overwrites_a_better_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, max_epochs=1)
    early = tmp_path / "early.ckpt"
    shutil.copy(tmp_path / "fake" / "last.ckpt", early)
    run(tmp_path, max_epochs=2, resume="auto")
    best, metrics = tmp_path / "fake" / "best.ckpt", tmp_path / "fake" / "metrics.json"
    kept = (best.read_bytes(), metrics.read_bytes())
    value = read_checkpoint(best).state["best"]
    assert value > read_checkpoint(early).state["best"]
    compute = FakeMetrics.compute
    # Worse than the best in the folder, better than the older checkpoint knows of.
    monkeypatch.setattr(FakeMetrics, "compute", lambda self: {"prec@0.5": value - 1e-6})
    for source in ("auto", str(early)):
        trainer = run(tmp_path, max_epochs=3, resume=source)
        assert (best.read_bytes(), metrics.read_bytes()) == kept
        assert (trainer.state.best, trainer.state.best_step) == (value, 12)
    monkeypatch.setattr(FakeMetrics, "compute", compute)
    assert run(tmp_path, max_epochs=4, resume="auto").state.best_step == 24 and best.read_bytes() != kept[0]
