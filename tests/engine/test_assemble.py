"""From a configuration to the parts of a run: precision, metrics and transforms by what the data ask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.fakes import FakeLoader, FakeMetrics, FakeModel, OneRank, fake_config, make_batch
from mindground.config import Config, load_config
from mindground.data import Dataset
from mindground.data.transforms import TRANSFORMS, ReferringTransform, transform_for
from mindground.engine import assemble as module
from mindground.engine.assemble import assemble, make_metrics
from mindground.engine.evaluator import Forward, evaluate
from mindground.engine.trainer import train
from mindground.errors import ConfigError, DeviceError
from mindground.metrics import ReferringMetrics
from mindground.metrics.instances import InstanceMetrics
from mindground.runtime import device
from mindground.runtime.device import DeviceInfo
from mindground.structures import Batch, Geometry, Prediction, Sample, encode_mask
from mindground.text import build_wordpiece

CPU = DeviceInfo("CPU", "GRAPH", "float32")


def small(folder: Path, *more: str) -> Config:
    """The embedded default, reduced to a few pictures."""
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


def instances() -> Dataset:
    return Dataset(
        [Sample("a.png", "a", "a", None, np.asarray([[0, 0, 4, 4]]))], name="coco", split="train", kind="instances"
    )


def test_parts_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    halved = FakeModel()
    monkeypatch.setattr(module, "build_model", lambda config: FakeModel())
    monkeypatch.setattr(device, "mixed_precision", lambda network, info: seen.append((network, info)) or halved)
    config, info = small(tmp_path), DeviceInfo("Ascend", "GRAPH", "bfloat16")
    parts = assemble(config, OneRank(), info)
    # The network that is trained is the one that computes in the precision asked for.
    assert parts.model is halved and isinstance(seen[0][0], FakeModel) and seen[0][1] is info
    assert isinstance(parts.loader.transform, ReferringTransform) and parts.loader.transform.training
    assert not parts.eval_loader.transform.training and isinstance(parts.make_metrics(), ReferringMetrics)
    assert config.model.text.vocab_size == parts.tokenizer.vocab_size > 0


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_a_precision_that_the_device_lacks_is_refused_before_anything_is_read(precision: str, tmp_path: Path) -> None:
    config = small(tmp_path / "data", f"--device.precision={precision}", "--device.device_target=CPU")
    with pytest.raises(DeviceError, match=f"precision={precision} is not offered on CPU.*use float32"):
        train(config, OneRank())
    assert not (tmp_path / "data").exists()


def test_data_without_sentences_have_their_own_metrics_and_need_their_own_transform(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = small(tmp_path)
    assert isinstance(make_metrics(config, instances()), InstanceMetrics)
    with pytest.raises(ConfigError, match="holds instances without sentences.*make_referring"):
        transform_for(instances(), config.data, None, True)
    made: list[tuple[Any, ...]] = []
    kind = ("instances", config.data.recipe)
    monkeypatch.setitem(TRANSFORMS, kind, lambda *arguments: made.append(arguments) or "theirs")
    with pytest.raises(ConfigError, match="no vocabulary"):
        transform_for(Dataset([Sample("a.png", "a", "a", "a ship")]), config.data, None, True)
    words = build_wordpiece(["a"])
    assert transform_for(instances(), config.data, words, False) == "theirs" and made == [(config.data, words, False)]


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

    metrics, records = evaluate(Forward(OneMask(), graph=False), Loader(2, rows=2), OneRank(), ReferringMetrics())
    assert [(r["sample_id"], r["box_iou"], r["mask_iou"]) for r in records] == [("a", 1.0, None), ("b", 0.5, 0.5)]
    assert metrics["mean_iou"] == 0.5 and records[1]["boxes_xyxy"] == [[0, 0, 4, 4]]
    assert records[1]["expression"] == "a thing" and records[1]["scores"] == [0.1]


def test_any_metrics_serve_the_evaluator() -> None:
    metrics, records = evaluate(Forward(FakeModel(), graph=False), FakeLoader(8, rows=16), OneRank(), FakeMetrics())
    assert len(records) == metrics["count"] == 16 and "prec@0.5" in metrics
    assert fake_config("x").eval.select_by in metrics
