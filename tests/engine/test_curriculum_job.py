"""The self-paced curriculum as a job that is killed at every point, and the processes that it starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.curriculum_job import FakeTraining, settings, source
from mindground.config import DataConfig, load_config
from mindground.curriculum import launch as launch_module
from mindground.curriculum.launch import Job, Launcher, Measurement, locked
from mindground.curriculum.run import Curriculum
from mindground.data import build_dataset
from mindground.engine.signals import RunInterrupted, StopRequest
from mindground.errors import ConfigError, MindGroundError

_TESTS = Path(__file__).resolve().parents[1]

# ---- the job -----------------------------------------------------------------------------------------------------


def job(folder: Path, fake: FakeTraining, *names: str, **changes: Any) -> dict[str, Any]:
    sources = [source(folder, name) for name in names]
    asked = replace(settings(folder), **changes)
    return Curriculum(asked, sources, fake.evaluation(folder), train=fake.train, measure=fake.measure).run()


def subset(folder: Path) -> list[str]:
    return [s.sample_id for s in build_dataset(DataConfig(dataset="jsonl", root=str(folder / "out/subset")), "train")]


def test_one_source(tmp_path: Path) -> None:
    fake = FakeTraining()
    report = job(tmp_path, fake, "simple")
    # The fake training is best with the samples above 0.7; of 40 samples with reliability 0.0 ... 0.975.
    assert report["choices"][0]["threshold"] == 0.7
    assert subset(tmp_path) == [f"s{i:02d}" for i in range(29, 40)]
    assert [e["threshold"] for e in report["choices"][0]["evaluated"]] == [0.5, 0.6, 0.4, 0.7, 0.8]
    assert len(fake.trained) == 6 and report["final"]["samples"] == 11
    out = tmp_path / "out"
    names = {path.name for path in out.iterdir()}
    assert {"report.json", "report.md", "histogram.png", "curve.png", "best.ckpt", "progress.json"} <= names
    assert json.loads((out / "report.json").read_text("utf-8")) == report
    assert "| 0.7 | 11 |" in (out / "report.md").read_text("utf-8")
    first = build_dataset(DataConfig(dataset="jsonl", root=str(out / "subset")), "val")[0]
    assert Path(first.image_path) == tmp_path / "images" / "0.png"
    assert (out / "best.ckpt").read_text() == report["final"]["training"]
    assert not list(out.glob("trainings/*/run/last.ckpt"))


def test_several_sources(tmp_path: Path) -> None:
    fake = FakeTraining()
    report = job(tmp_path, fake, "complex", "simple")
    assert report["order"] == ["simple", "complex"]  # one entity a sentence against two
    assert {c["measurer"] for c in report["choices"]} == {"simple"}  # the other measurer is made blind
    assert len(report["reliability"]) == 4 and len(report["sources"]) == 2
    assert {name.split("/")[0] for name in subset(tmp_path)} == {"simple", "complex"}
    assert (tmp_path / "out/reliability/complex-by-simple/refine_0_5.jsonl").is_file()
    given = job(tmp_path, FakeTraining(), "complex", "simple", order=("complex", "simple"))
    assert given["order"] == ["complex", "simple"]
    with pytest.raises(ConfigError, match="must name every source once"):
        job(tmp_path, fake, "complex", "simple", order=("complex",))


def test_finished_trainings_are_used_again(tmp_path: Path) -> None:
    report = job(tmp_path, FakeTraining(), "simple")
    again = FakeTraining()
    assert job(tmp_path, again, "simple") == report
    assert not again.trained and not again.measured
    # Another setting is another training; the old ones stay for the old setting.
    faster = replace(settings(tmp_path).config, train=replace(settings(tmp_path).config.train, lr=0.5))
    job(tmp_path, again, "simple", config=faster)
    assert len(again.trained) == 6 and len(again.measured) == 1
    elsewhere = FakeTraining()
    job(tmp_path, elsewhere, "simple", start=0.8)
    assert len(elsewhere.trained) == 1  # 0.9; everything else was trained for the other start


def test_interrupted_anywhere_it_ends_with_the_same_subset(tmp_path: Path) -> None:
    whole = FakeTraining()
    expected = job(tmp_path / "whole", whole, "complex", "simple")
    events = len(whole.trained) + len(whole.measured)
    assert events > 12
    # Measurers, measurements, the choice of a measurer, both searches: some of each.
    for point in (0, 1, 3, 6, 9, events - 1):
        folder = tmp_path / str(point)
        fake = FakeTraining(fail_at=point)
        with pytest.raises(KeyboardInterrupt):
            job(folder, fake, "complex", "simple")
        fake.fail_at = -1
        report = job(folder, fake, "complex", "simple")
        assert report["final"] == expected["final"] and report["choices"] == expected["choices"]
        # Only what was interrupted was done twice.
        assert len(fake.trained) + len(fake.measured) == events + 1


def test_killed_for_good_it_ends_with_the_same_subset(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{_TESTS.parent / 'src'}{os.pathsep}{_TESTS}"}

    def start(folder: Path, kill_at: int) -> int:
        command = [sys.executable, "-m", "engine.curriculum_job", str(folder), str(kill_at)]
        return subprocess.run(command, env=environment, check=False, timeout=60).returncode

    assert start(tmp_path / "a", 4) == -signal.SIGKILL
    assert start(tmp_path / "a", -1) == 0 and start(tmp_path / "b", -1) == 0
    assert subset(tmp_path / "a") == subset(tmp_path / "b") != []


def test_sets_that_fill_no_step_are_not_trained(tmp_path: Path) -> None:
    fake, asked = FakeTraining(), settings(tmp_path)
    big = replace(asked.config, train=replace(asked.config.train, batch_sum=16))
    report = job(tmp_path, fake, "simple", config=big)
    # 0.6 keeps 15: fewer than the 16 samples of a step.
    assert report["choices"][0]["threshold"] == 0.5
    assert report["choices"][0]["evaluated"][1] == {"threshold": 0.6, "samples": 15, "performance": None}
    assert "not trained" in (tmp_path / "out" / "report.md").read_text("utf-8")


# ---- processes ---------------------------------------------------------------------------------------------------


@pytest.fixture
def script_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Job]:
    """A training whose process runs the given Python text instead of `mindground train`."""

    def make(text: str) -> Job:
        script = tmp_path / "train.py"
        script.write_text(text)
        monkeypatch.setattr(Launcher, "__init__", _plain_init(script))
        config = settings(tmp_path).config
        config = replace(config, train=replace(config.train, output_dir=str(tmp_path / "t"), experiment_name="run"))
        (tmp_path / "t").mkdir(exist_ok=True)
        return Job("k", tmp_path / "t", config, "a training", 3)

    return make


def _plain_init(script: Path) -> Callable[..., None]:
    real = Launcher.__init__

    def init(self: Launcher, *arguments: Any, **named: Any) -> None:
        real(self, *arguments, **named)
        self._train_arguments = [str(script)]

    return init


WRITES = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[2]).parent / "run"
folder.mkdir(exist_ok=True)
(folder / "metrics.json").write_text(json.dumps({"prec@0.5": 0.25, "step": 3}))
"""


def test_a_training_in_a_process(script_job: Callable[[str], Job]) -> None:
    task = script_job(WRITES)
    outcome = Launcher().train(task)
    assert outcome.performance == 0.25 and outcome.metrics["step"] == 3
    assert outcome.checkpoint == task.folder / "run" / "best.ckpt"
    assert load_config(task.folder / "config.yaml") == task.config


def test_a_failed_training_shows_the_end_of_its_log(script_job: Callable[[str], Job]) -> None:
    task = script_job("import sys; print('first'); sys.exit('the disk is full')")
    with pytest.raises(MindGroundError, match=r"(?s)a training: .* code 1.*the disk is full.*same command continues"):
        Launcher().train(task)
    with pytest.raises(MindGroundError, match="has no prec@0.5"):
        Launcher().train(script_job("pass"))


def test_a_signal_to_the_command_reaches_the_training(script_job: Callable[[str], Job], tmp_path: Path) -> None:
    task = script_job(
        f"import pathlib, signal, sys, time\nsaved = pathlib.Path({str(tmp_path / 'saved')!r})\n"
        "signal.signal(signal.SIGTERM, lambda *_: (saved.touch(), sys.exit(143)))\ntime.sleep(60)\n"
    )
    stop = StopRequest()
    launcher = Launcher(stop=stop)
    threading.Timer(0.8, lambda: setattr(stop, "signal", 15)).start()
    with pytest.raises(RunInterrupted, match="the same command continues") as caught:
        launcher.train(task)
    assert caught.value.code == 143 and (tmp_path / "saved").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="parents are watched on Linux only")
def test_a_killed_command_leaves_no_training_and_its_lock_is_waited_for(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    # Takes its time to save after it was asked to stop.
    script.write_text(
        "import pathlib, signal, sys, time\n"
        f"place = pathlib.Path({str(tmp_path)!r})\n"
        "def end(*_):\n    time.sleep(1)\n    (place / 'ended').touch()\n    sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, end)\n(place / 'started').touch()\ntime.sleep(60)\n"
    )
    (tmp_path / "command.py").write_text(
        "import pathlib\nfrom mindground.curriculum.launch import Launcher, locked\n"
        f"place = pathlib.Path({str(tmp_path)!r})\n"
        "with locked(place / 'out') as lock:\n"
        "    Launcher(lock=lock)._run([str(place / 'train.py')], place / 'log', 'a training')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(_TESTS.parent / "src")}
    command = subprocess.Popen([sys.executable, str(tmp_path / "command.py")], env=environment)
    deadline = time.monotonic() + 30
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    command.kill()
    command.wait()
    assert not (tmp_path / "ended").exists()
    with locked(tmp_path / "out"):
        assert (tmp_path / "ended").exists()


def test_the_command_starts_mpirun_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        Launcher(0)
    prefix = Launcher(3)._prefix
    assert Path(prefix[0]).name == "mpirun" and prefix[1:] == ["-n", "3"]
    monkeypatch.setattr(launch_module, "launched_size", lambda: 2)
    with pytest.raises(ConfigError, match="without mpirun, with --ranks N"):
        Launcher()


def test_a_training_is_the_command_train(tmp_path: Path) -> None:
    config = settings(tmp_path).config
    data = replace(config.data, dataset="jsonl", root=str(tmp_path / "none"), eval_splits=["val"])
    task = Job("k", tmp_path, replace(config, data=data), "a training", 3)
    with pytest.raises(MindGroundError, match=r"(?s)a training: .*code 2.*no train\.jsonl"):
        Launcher().train(task)


def test_a_measurement_in_a_process_names_its_mistake(tmp_path: Path) -> None:
    config = settings(tmp_path).config
    task = Measurement(tmp_path / "no.ckpt", tmp_path, tmp_path / "r", config, "reliability of x by x")
    (tmp_path / "train.jsonl").write_text('{"image": "a.png", "sentence": "a", "box": [0, 0, 1, 1]}\n')
    with pytest.raises(MindGroundError, match=r"(?s)reliability of x by x: .*code 2.*no\.ckpt does not exist"):
        Launcher().measure(task)
