"""The self-paced curriculum: search, reliability and its files, hashes and sources."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindground.config import DataConfig, load_config
from mindground.curriculum.entities import count_entities, mean_entities
from mindground.curriculum.reliability import (
    Measured,
    ReliabilityCollector,
    box_reliability,
    histogram,
    read_measured,
    write_measured,
    write_subsets,
)
from mindground.curriculum.search import Part, bad, greedy_threshold, keep, search_sources, simple_to_complex
from mindground.curriculum.subsets import digest_records, read_source, source_of, training_key
from mindground.data import build_dataset
from mindground.errors import ConfigError, DataError
from mindground.files.text import read_lines
from mindground.structures import Batch, Geometry, Prediction, Sample

# ---- search ------------------------------------------------------------------------------------------------------


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


# ---- reliability -------------------------------------------------------------------------------------------------


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


# ---- hashes and sources ------------------------------------------------------------------------------------------


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
