"""The self-paced curriculum: search, reliability and its files, hashes, and a job that is killed at every point."""

from __future__ import annotations

import json
import math
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

import numpy as np
import pytest

from engine.curriculum_job import FakeTraining, settings, source
from mindground.config import DataConfig, load_config
from mindground.curriculum import launch as launch_module
from mindground.curriculum.entities import count_entities, mean_entities
from mindground.curriculum.launch import Job, Launcher, Measurement, locked
from mindground.curriculum.reliability import (
    Measured,
    ReliabilityCollector,
    box_reliability,
    histogram,
    read_measured,
    write_measured,
    write_subsets,
)
from mindground.curriculum.run import Curriculum
from mindground.curriculum.search import Part, bad, greedy_threshold, keep, search_sources, simple_to_complex
from mindground.curriculum.subsets import digest_records, read_source, source_of, training_key
from mindground.data import build_dataset
from mindground.engine.signals import RunInterrupted, StopRequest
from mindground.errors import ConfigError, DataError, MindGroundError
from mindground.files.text import read_lines
from mindground.structures import Batch, Geometry, Prediction, Sample

_TESTS = Path(__file__).resolve().parents[1]

# ---- search ----------------------------------------------------------------------------------------------------


def climb(scores: list[float], start: float = 0.5) -> tuple[float, list[float]]:
    found = greedy_threshold(lambda h: scores[round(10 * h)], start)
    return found.threshold, [pair[0] for pair in found.evaluated]


def test_thresholds_are_strict_and_one_means_one() -> None:
    values = [0.0, 0.5, 0.5000001, 1.0]
    assert keep(values, 0.0).tolist() == [False, True, True, True]
    assert keep(values, 0.5).tolist() == [False, False, True, True]
    assert keep(values, 1.0).tolist() == [False, False, False, True]
    assert bad(values, 0.0).tolist() == [True, False, False, False]
    assert bad([0.4, 0.39], 0.4).tolist() == [False, True]


def test_search_climbs_and_stops() -> None:
    peak = [0, 1, 2, 3, 4, 5, 6, 5, 4, 3]
    assert climb(peak) == (0.6, [0.5, 0.6, 0.4, 0.7])
    assert climb(peak, 0.9) == (0.6, [0.9, 0.8, 0.7, 0.6, 0.5])
    assert climb(peak, 0.0)[0] == 0.6
    assert climb([7.0] * 10) == (0.5, [0.5, 0.6, 0.4])  # nothing is better: stay
    assert climb([0, 0, 0, 0, 2, 1, 2, 0, 0, 0])[0] == 0.6  # both are better by as much: up
    assert climb(list(range(10)), 0.8)[0] == 0.9  # 1.0 is never evaluated


def test_search_treats_what_cannot_be_trained_as_worst() -> None:
    assert climb([1, 2, 3, 4, 5, -math.inf, -math.inf, 0, 0, 0])[0] == 0.4
    assert climb([0, 0, 0, 0, 1, math.nan, 2, 0, 0, 0])[0] == 0.6
    with pytest.raises(DataError, match="no threshold around 0.5"):
        climb([-math.inf] * 10)
    for start in (-0.1, 1.0, 0.55):
        with pytest.raises(ConfigError, match=r"one of 0\.0, 0\.1"):
            climb([0.0] * 10, start)


def test_every_source_is_judged_together_with_what_was_chosen_before() -> None:
    asked: list[tuple[Part, ...]] = []

    def performance(parts: tuple[Part, ...]) -> float:
        asked.append(parts)
        last = parts[-1]
        return 10 * len(parts) + (last.measurer == 1) - abs((last.threshold or 0) - 0.7)

    choices = search_sources(simple_to_complex([3.0, 1.5]), performance)
    assert [(c.source, c.measurer, c.threshold) for c in choices] == [(1, 1, 0.7), (0, 1, 0.7)]
    assert all(parts[0] == Part(1, 1, 0.7) for parts in asked if len(parts) == 2)
    assert simple_to_complex([2.0, 1.0, 1.0]) == [1, 2, 0]


@pytest.mark.parametrize(
    ("sentence", "number"),
    [
        ("ship", 1),
        ("the large red ship", 1),
        ("the ship left of the pier", 2),
        ("a man in a hat holding an umbrella", 3),
        ("the tank in front of the house", 2),
        ("the plane next to a hangar, a truck and two cars", 4),
        ("on the left", 1),
        ("", 0),
        ("the", 1),
    ],
)
def test_entities_of_a_sentence(sentence: str, number: int) -> None:
    assert count_entities(sentence) == number


def test_mean_entities() -> None:
    assert mean_entities(["the ship", "the ship at the pier"]) == 1.5 and mean_entities([]) == 0


# ---- reliability -----------------------------------------------------------------------------------------------


def test_predictions_are_clipped_to_the_image_and_truths_are_not() -> None:
    pseudo = np.asarray([[0, 0, 10, 10], [5, 5, 15, 10]], np.float32)
    predicted = np.asarray([[-50, -5, 10, 10], [5, 5, 99, 10]], np.float32)
    np.testing.assert_allclose(box_reliability(predicted, pseudo, (10, 10)), [1.0, 0.5])


def test_collector_takes_real_samples_and_the_box_with_the_highest_score() -> None:
    samples = [Sample("x.png", name, "x", "a ship", np.asarray([[0, 0, 4, 4]])) for name in "abb"]
    batch = Batch({}, samples, [Geometry((8, 8), (8, 8), (8, 8))] * 3, 2)
    nothing = Prediction((8, 8), np.zeros((0, 4)), np.zeros(0))
    two = Prediction((8, 8), [[0, 0, 8, 8], [0, 0, 4, 2]], [0.2, 0.9])
    collector = ReliabilityCollector()
    collector.update([two, nothing, two], batch)
    assert [(item.sample_id, item.reliability) for item in collector.measured()] == [("a", 0.5), ("b", 0.0)]
    collector.merge([collector.state(), [Measured("c", 1.0, (), ())]])
    assert collector.compute() == {"mean_reliability": 0.5} and len(collector.records()) == 3


def test_reliability_of_a_model_through_the_evaluator() -> None:
    from engine.fakes import FakeLoader, FakeModel, OneRank
    from mindground.engine.evaluator import evaluate
    from mindground.engine.forward import Runner

    class Half(FakeModel):
        def decode(self, outputs: dict[str, np.ndarray], batch: Batch) -> list[Prediction]:
            return [Prediction((8, 8), [[0, 0, 4, 2 + 2 * (s.sample_id == "s3")]], [0.1]) for s in batch.samples]

    class Loader(FakeLoader):
        def epoch(self, n: int, start_batch: int = 0) -> Any:
            for batch in super().epoch(n, start_batch):
                boxed = [replace(sample, boxes_xyxy=np.asarray([[0, 0, 4, 4]])) for sample in batch.samples]
                yield Batch(batch.arrays, boxed, batch.geometries, batch.count)

    collector = ReliabilityCollector()
    runner, loader = Runner(Half(), graph=False), Loader(4, rows=8)
    values, records = evaluate(runner, loader, OneRank(), collector, lambda sample, _: {"sample_id": sample.sample_id})
    found = {item.sample_id: item.reliability for item in collector.measured()}
    assert found == {f"s{i}": 1.0 if i == 3 else 0.5 for i in range(8)}
    assert values["mean_reliability"] == pytest.approx(4.5 / 8) and records[3]["reliability"] == 1.0


def test_files_of_a_measurement(tmp_path: Path) -> None:
    records = [{"id": f"s{i}", "image": "a.png", "sentence": "a ship", "box": [0, 0, i + 1, 4]} for i in range(5)]
    values = [0.0, 0.1, 0.35, 0.4, 1.0]
    measured = [Measured(f"s{i}", value, (0.1, 0, 1, 1), (0, 0, 1, 1), "a ship") for i, value in enumerate(values)]
    write_measured(tmp_path / "reliability.jsonl", measured)
    assert read_measured(tmp_path / "reliability.jsonl") == measured
    counts = write_subsets(tmp_path, records, measured)
    assert counts == histogram(values) and counts["zero"] == 1
    assert counts["bins"] == [1, 0, 0, 2, 0, 0, 0, 0, 0, 1]  # 0.1 is in the first, 0.4 in the fourth

    def ids(name: str) -> list[str]:
        samples = build_dataset(DataConfig(dataset="jsonl", root=str(tmp_path / name)), "train").samples
        return [sample.sample_id for sample in samples]

    assert ids("refine_0_0.jsonl") == ["s1", "s2", "s3", "s4"] and ids("refine_0_4.jsonl") == ["s4"]
    assert ids("refine_1_0.jsonl") == ["s4"]
    assert ids("bad_label_0_0.jsonl") == ["s0"] and ids("bad_label_0_4.jsonl") == ["s0", "s1", "s2"]
    line = json.loads(read_lines(tmp_path / "bad_label_0_4.jsonl")[2])
    assert line["meta"] == {"reliability": 0.35}
    (tmp_path / "reliability.jsonl").write_text('{"sample_id": "s0"}\n')
    with pytest.raises(DataError, match="remove it"):
        read_measured(tmp_path / "reliability.jsonl")


# ---- hashes and sources ----------------------------------------------------------------------------------------


def test_hash_depends_on_samples_and_settings_not_on_folders(tmp_path: Path) -> None:
    weights = tmp_path / "a.ckpt"
    weights.write_bytes(b"one")
    config = load_config(None, [f"--train.pretrained.model={weights}"])
    key = training_key(config, "samples", "val", 1)
    moved = tmp_path / "b.ckpt"
    moved.write_bytes(b"one")
    elsewhere = ["--data.root=x", "--train.output_dir=y", "--train.log_freq=3", "--device.threads=2"]
    same = load_config(None, [*elsewhere, f"--train.pretrained.model={moved}"])
    assert training_key(same, "samples", "val", 1) == key
    assert training_key(same, "samples", "val", 2) == key  # batch_sum is given, so ranks change nothing
    for other in ("--train.lr=0.1", "--data.img_size=64", "--model.law_rank=8", "--train.max_steps=5"):
        assert training_key(load_config(None, [f"--train.pretrained.model={moved}", other]), "samples", "val", 1) != key
    moved.with_name("c.ckpt").write_bytes(b"two")
    changed = replace(config, train=replace(config.train, pretrained={"model": str(moved.with_name("c.ckpt"))}))
    assert len({key, *(training_key(changed, *names, 1) for names in (("samples", "val"), ("other", "val")))}) == 3
    assert training_key(config, "samples", "other", 1) != key
    loose = load_config(None, ["--train.batch_sum=0"])
    assert training_key(loose, "samples", "val", 1) != training_key(loose, "samples", "val", 2)


def test_digest_of_records() -> None:
    first = {"id": "a", "image": "x/1.png", "image_id": "1", "sentence": "s", "box": [0, 0, 1, 1]}
    second = {**first, "id": "b", "objects": [{"box": [0, 0, 1, 1]}, {"box": [2, 2, 3, 3]}]}
    key = digest_records([first, second])
    assert digest_records([second, {**first, "image": "y/1.png"}]) == key
    for change in ({"box": [0, 0, 1, 2]}, {"sentence": "t"}, {"id": "c"}, {"mask": [[0, 0, 1, 0, 1, 1]]}):
        assert digest_records([{**first, **change}, second]) != key


def test_wrong_sources_are_refused(tmp_path: Path) -> None:
    lines = [{"id": "a", "image": "a.png", "sentence": "the ship", "box": [0, 0, 1, 1]}]
    path = tmp_path / "set.jsonl"

    def write(*records: dict[str, Any]) -> str:
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return f"template={path}"

    found = read_source(write(*lines))
    assert (found.name, len(found.dataset), found.entities) == ("template", 1, 1.0)
    (tmp_path / "set.yaml").write_text(f"data:\n  dataset: jsonl\n  root: {path}\n")
    assert len(read_source(f"again={tmp_path / 'set.yaml'}").dataset) == 1
    for text in ("template", "=x", f"a/b={path}"):
        with pytest.raises(ConfigError):
            read_source(text)
    with pytest.raises(DataError, match="'a' occurs twice"):
        read_source(write(*lines, *lines))
    with pytest.raises(DataError, match="no sentence or no box"):
        read_source(write({"id": "a", "image": "a.png", "box": [0, 0, 1, 1]}))
    with pytest.raises(ConfigError, match="is called"):
        source_of("..", DataConfig(dataset="jsonl", root=str(path)))


# ---- the job ---------------------------------------------------------------------------------------------------


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


# ---- processes -------------------------------------------------------------------------------------------------


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
