"""From a configuration to the parts of a run: precision, metrics and transforms by what the data ask."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.fakes import TASK, FakeLoader, FakeMetrics, FakeModel, OneRank, make_batch
from mindground.config import Config, load_config
from mindground.data import Dataset
from mindground.data.transforms import ReferentWindowTransform
from mindground.engine import assemble as module
from mindground.engine.assemble import assemble, make_loader
from mindground.engine.evaluator import evaluate
from mindground.engine.forward import Runner
from mindground.engine.trainer import train
from mindground.errors import ConfigError, DeviceError
from mindground.metrics import ReferringMetrics
from mindground.metrics.instances import InstanceMetrics
from mindground.models.interface import ModelInterface
from mindground.structures import Batch, Geometry, Prediction, Sample, encode_mask
from mindground.tasks import MetricSettings, task_for


def small(folder: Path, *more: str) -> Config:
    """The embedded default, reduced to a few images."""
    return load_config(
        None,
        [
            f"--data.root={folder}",
            "--data.synthetic.train_images=6",
            "--data.synthetic.val_images=2",
            "--train.batch_size=4",
            "--train.batch_sum=4",
            *more,
        ],
    )


def test_parts_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "build_model", lambda config: FakeModel())
    config = small(tmp_path)
    parts = assemble(config, OneRank())
    assert isinstance(parts.loader.transform, ReferentWindowTransform) and parts.loader.transform.training
    assert not parts.eval_loader.transform.training
    assert isinstance(parts.task.metrics(parts.metrics), ReferringMetrics) and parts.select_by == "prec@0.5"
    assert config.model.text.vocab_size == parts.tokenizer.vocab_size > 0


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_a_precision_that_the_device_lacks_is_refused_before_anything_is_read(precision: str, tmp_path: Path) -> None:
    config = small(tmp_path / "data", f"--device.precision={precision}", "--device.device_target=CPU")
    with pytest.raises(DeviceError, match=f"precision={precision} is not offered on CPU.*use float32"):
        train(config, OneRank())
    assert not (tmp_path / "data").exists()


def test_the_task_follows_from_data_and_model(tmp_path: Path) -> None:
    """And nowhere else is decided what a kind of samples means."""
    settings = MetricSettings(box_thresholds=(0.7,))
    asks, detects = ModelInterface("expression", ("box",)), ModelInterface("nothing", ("box", "mask"), many=True)
    referring, every = task_for("referring", asks), task_for("instances", detects)
    assert referring.asks_expression and isinstance(referring.metrics(settings), ReferringMetrics)
    assert not every.asks_expression and isinstance(every.metrics(settings), InstanceMetrics)
    assert referring.metric_names(settings)[:2] == ("prec@0.5", "prec@0.7")
    assert every.metric_names(settings)[0] == "mask_ap" and "box_ap50" in every.metric_names(settings)
    assert "mean_iou" not in referring.metric_names(settings)
    assert task_for("referring", ModelInterface("expression", ("mask",))).metric_names(settings)[0] == "mean_iou"
    with pytest.raises(ConfigError, match="holds instances without sentences.*make_referring"):
        task_for("instances", asks, "data.dataset='coco'")
    with pytest.raises(ConfigError, match="finds every instance without one"):
        task_for("referring", detects)
    prompted = task_for("instances", ModelInterface("prompt", ("mask",)))
    assert prompted.metric_names(settings)[0] == "iou_box" and not prompted.has_classes


def test_sentences_need_a_vocabulary(tmp_path: Path) -> None:
    task = task_for("referring", ModelInterface("expression", ("box",)))
    data = Dataset([Sample("a.png", "a", "a", "a ship", np.asarray([[0, 0, 1, 1]]))])
    with pytest.raises(ConfigError, match="no vocabulary"):
        make_loader(small(tmp_path), data, task, FakeModel(), None, OneRank(), training=False)


def test_records_carry_the_metrics_figures() -> None:
    class OneMask(FakeModel):
        def decode(self, outputs: dict[str, np.ndarray], batch: Batch) -> list[Prediction]:
            mask = np.zeros((8, 8), np.uint8)
            mask[:4, :4] = 1
            return [Prediction((8, 8), [[0, 0, 4, 4]], [0.1], masks=(encode_mask(mask),)) for _ in batch.samples]

    class Loader(FakeLoader):
        def epoch(self, n: int, start_batch: int = 0) -> Any:
            square = ([[0.0, 0, 8, 0, 8, 4, 0, 4]],)
            truths = (np.asarray([[0, 0, 8, 4]]), np.asarray([[0, 0, 4, 4]]))
            samples = [
                Sample("none.png", name, name, "a thing", box, square if name == "b" else ())
                for name, box in zip("ba", truths, strict=True)
            ]
            arrays = {"image": make_batch(np.arange(2)).arrays["image"]}
            yield Batch(arrays, samples, [Geometry((8, 8), (8, 8), (8, 8))] * 2, 2)

    metrics, records = evaluate(
        Runner(OneMask(), graph=False), Loader(2, rows=2), OneRank(), ReferringMetrics(), TASK.record
    )
    assert [(r["sample_id"], r["box_iou"], r["mask_iou"]) for r in records] == [("a", 1.0, None), ("b", 0.5, 0.5)]
    assert metrics["mean_iou"] == 0.5 and records[1]["boxes_xyxy"] == [[0, 0, 4, 4]]
    assert records[1]["expression"] == "a thing" and records[1]["scores"] == [0.1]


def test_any_metrics_serve_the_evaluator() -> None:
    metrics, records = evaluate(
        Runner(FakeModel(), graph=False), FakeLoader(8, rows=16), OneRank(), FakeMetrics(), TASK.record
    )
    assert len(records) == metrics["count"] == 16 and "prec@0.5" in metrics


def test_sentences_are_drawn_only_where_there_are_some() -> None:
    task = SimpleNamespace(asks_expression=False)
    dataset = Dataset([Sample("a.png", "a", "a")], kind="instances")
    with pytest.raises(ConfigError, match=r"no sentences.*data\.sentences.*eval\.sentences"):
        make_loader(Config("vglaw", None), dataset, task, None, None, None, training=True, sentences="one")  # type: ignore[arg-type]
