"""Checkpoints chosen by several metrics, and by means over several splits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine.fakes import TASK, FakeLoader, FakeMetrics, FakeTask, OneRank, fake_config, fake_parts
from mindground.engine.checkpoint import read_checkpoint
from mindground.engine.logs import read_log
from mindground.engine.selection import improved, keep_best, mean_scores
from mindground.engine.train_state import TrainState, continued
from mindground.engine.trainer import Trainer
from mindground.errors import ConfigError
from mindground.models.interface import ModelInterface
from mindground.tasks import MetricSettings


@dataclass
class _Opposed(FakeMetrics):
    """A second score that falls while the first one rises."""

    def compute(self) -> dict[str, float]:
        return {**super().compute(), "against": 1.0 - super().compute()["prec@0.5"]}


class _Task(FakeTask):
    def metrics(self, settings: MetricSettings) -> Any:
        return _Opposed()


def test_every_metric_has_a_checkpoint_of_its_own(tmp_path: Path) -> None:
    """One training: two opposed metrics over two splits, continued from a checkpoint that knows less."""

    def trainer(epochs: int) -> Trainer:
        config = fake_config(tmp_path, max_epochs=epochs, resume="auto")
        parts = fake_parts(config)
        parts.task = _Task(ModelInterface("expression", ("box",)))
        parts.also_by, parts.more_loaders = ("against",), {"testA": FakeLoader(8, rows=24, seed=4)}
        return Trainer(config, OneRank(), parts)

    first = trainer(3)
    first.run()
    folder = first.folder
    history = [record for record in read_log(folder.log) if record["kind"] == "eval"]
    for record in history:
        val, test = (record["splits"][name] for name in ("val", "testA"))
        assert record["against"] == pytest.approx((val["against"] + test["against"]) / 2)
        assert record["count"] == val["count"] + test["count"] and record["split"] == "val and testA"
    assert first.state.best_by.startswith("prec@0.5 of val and testA, ")
    for name, path in (("prec@0.5", folder.best), ("against", folder.best_by("against"))):
        best = max(history, key=lambda record: record[name])
        assert read_checkpoint(path).state["step"] == best["step"] and read_checkpoint(path).state["metrics"] == {
            key: best[key] for key in ("prec@0.5", "against", "count")
        }
    assert folder.best_by("against").name == "best_against.ckpt"
    stored, before = read_checkpoint(folder.last).state, folder.best_by("against").read_bytes()
    after = trainer(4)
    state = continued(after.state, {**stored, "others": {"against": -1.0, "gone": 2.0}}, 8)
    best, _, others = keep_best(state, folder, after.parts.chosen_by)
    assert best == first.state.best and others == first.state.others
    assert continued(after.state, {**stored, "judged_by": "another split"}, 8).others == {}
    after.run()
    assert folder.best_by("against").read_bytes() == before


def test_a_metric_improves_by_itself() -> None:
    state = TrainState(step=4)
    assert improved(state, {"a": 0.5, "b": 0.2}, ("a", "b"), "val") == ["a", "b"]
    state.step = 8
    assert improved(state, {"a": 0.4, "b": 0.3}, ("a", "b"), "val") == ["b"]
    assert (state.best, state.best_step, state.others) == (0.5, 4, {"b": 0.3})
    with pytest.raises(ConfigError, match="val gives no b"):
        improved(state, {"a": 0.4}, ("a", "b"), "val")


def test_means_are_of_what_all_splits_have() -> None:
    one = {"x": 1.0, "y": 2.0, "count": 3.0}
    assert mean_scores({"a": one}) == one
    assert mean_scores({"a": one, "b": {"x": 0.0, "count": 1.0}}) == {"x": 0.5, "count": 4.0}


def test_the_metrics_are_checked_before_anything_is_trained() -> None:
    settings = MetricSettings()
    assert TASK.selecting_metrics([], settings) == ("prec@0.5",)
    assert TASK.selecting_metrics(["box_mean_iou", "prec@0.5"], settings) == ("box_mean_iou", "prec@0.5")
    for wanted, says in ((["prec@0.5", "prec@0.5"], "twice"), (["prec@0.5", "nonsense"], "'nonsense' is no metric")):
        with pytest.raises(ConfigError, match=says):
            TASK.selecting_metrics(wanted, settings)
