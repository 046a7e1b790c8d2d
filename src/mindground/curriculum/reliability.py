"""Reliability of pseudo labels: the IoU of a pseudo box with the box that a trained model predicts for its sentence.

`measure` predicts with a checkpoint and the transforms of evaluation; the rest is NumPy and files:

    reliability.jsonl            sample id, reliability, predicted box, pseudo box, sentence
    refine_0_0 ... 1_0.jsonl     the samples above a threshold (1_0: equal to 1), ready for data.dataset=jsonl
    bad_label_0_0, 0_4.jsonl     the samples with reliability 0, and below 0.4, worst first; `meta` holds it
    histogram.json               how many are in (0, 0.1], (0.1, 0.2] ... and how many at 0
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mindground.curriculum.search import BAD_BELOW, THRESHOLDS, bad, keep
from mindground.data.dataset import Dataset
from mindground.data.formats.jsonl import write_jsonl
from mindground.errors import ConfigError, DataError, one_line, shown
from mindground.files.atomic import write_bytes
from mindground.files.text import read_lines
from mindground.structures import Batch, Prediction, box_iou, clip_boxes
from mindground.structures.truth import referent_box

if TYPE_CHECKING:
    from mindground.config import Config

__all__ = [
    "Measured",
    "ReliabilityCollector",
    "box_reliability",
    "histogram",
    "measure",
    "read_measured",
    "write_measured",
    "write_subsets",
]

FILE = "reliability.jsonl"


@dataclass(frozen=True)
class Measured:
    """One sample: its id, the IoU in [0, 1], the predicted and the pseudo box (xyxy, original pixels)."""

    sample_id: str
    reliability: float
    predicted: tuple[float, ...]
    pseudo: tuple[float, ...]
    sentence: str = ""


def box_reliability(predicted: np.ndarray, pseudo: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(...,) IoU of (..., 4) predicted xyxy boxes, clipped to an image of `size` (height, width), with pseudo boxes.

    The pseudo box is not clipped, like upstream's target.
    """
    return box_iou(clip_boxes(predicted, size), pseudo)


class ReliabilityCollector:
    """Replaces the metrics in `evaluate`: keeps the result of every sample instead of a mean."""

    def __init__(self) -> None:
        self._measured: list[Measured] = []

    def update(self, predictions: Sequence[Prediction], batch: Batch) -> None:
        """Collect the real samples of a batch; a prediction without a box has reliability 0."""
        for index in range(batch.count):
            sample, size = batch.samples[index], batch.geometries[index].original_size
            found, pseudo = predictions[index], referent_box(sample)
            box = np.zeros(4, np.float32)
            if len(found.scores):
                box = clip_boxes(found.boxes_xyxy[int(np.argmax(found.scores))], size)
            self._measured.append(
                Measured(
                    sample.sample_id,
                    float(box_reliability(box, pseudo, size)),
                    tuple(float(value) for value in box),
                    tuple(float(value) for value in pseudo),
                    sample.expression or "",
                )
            )

    def state(self) -> list[Measured]:
        """The measurements of this rank."""
        return self._measured

    def merge(self, states: Sequence[Sequence[Measured]]) -> None:
        """Replace them by the measurements of all ranks."""
        self._measured = [item for state in states for item in state]

    def compute(self) -> dict[str, float]:
        """The mean reliability, for the log; empty without samples."""
        if not self._measured:
            return {}
        return {"mean_reliability": float(np.mean([item.reliability for item in self._measured]))}

    def records(self) -> list[dict[str, Any]]:
        """Reliability by sample, for the evaluator's records."""
        return [{"sample_id": item.sample_id, "reliability": item.reliability} for item in self._measured]

    def measured(self) -> list[Measured]:
        """All measurements, unrounded."""
        return self._measured


def measure(
    checkpoint: str | Path, dataset: Dataset, adjust: Callable[[Config], Config] | None = None
) -> list[Measured]:
    """Reliability of every sample of a source by the model of a checkpoint; the same list on every rank.

    Transforms of evaluation, no augmentation. Samples come in the order of the source.

    Args:
        checkpoint: checkpoint of MindGround; it holds configuration and vocabulary.
        dataset: sentences with one pseudo box each.
        adjust: applies command-line overrides to the checkpoint's configuration.

    Raises:
        MindGroundError: the checkpoint or the data cannot be used.
    """
    from mindground.engine.assemble import make_loader
    from mindground.engine.checkpoint import load_checkpoint, read_checkpoint, stored_config
    from mindground.engine.evaluator import evaluate
    from mindground.engine.forward import Runner
    from mindground.models import model_interface
    from mindground.runtime import device, distributed
    from mindground.tasks import task_for

    contents = read_checkpoint(checkpoint)
    config = stored_config(contents)
    config = adjust(config) if adjust is not None else config
    task = task_for(dataset.kind, model_interface(config), dataset.name)
    if "box" not in task.interface.answers or task.interface.many:
        raise ConfigError(
            f"family {config.family} predicts no single box for a sentence, so it cannot measure reliabilities"
        )
    device.apply(**vars(config.device))
    comm = distributed.get_comm()
    loaded = load_checkpoint(contents, lambda _: config)
    del contents
    runner = Runner(loaded.model, graph=config.device.mode_name == "GRAPH", precision=config.device.precision)
    collector = ReliabilityCollector()
    loader = make_loader(config, dataset, task, loaded.model, loaded.tokenizer, comm, training=False)
    evaluate(runner, loader, comm, collector, task.record, title=f"reliability of {dataset.name}")
    by_id = {item.sample_id: item for item in collector.measured()}
    return [by_id[sample.sample_id] for sample in dataset]


def histogram(reliability: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """Counts: `count`, `zero`, `mean`, and `bins`, ten of width 0.1, each with its upper limit and without its lower.

    The samples above a threshold are the sum of the bins above it.
    """
    values = np.asarray(reliability, np.float64)
    above = [int(keep(values, threshold).sum()) for threshold in THRESHOLDS[:-1]] + [0]
    return {
        "count": len(values),
        "zero": int((values == 0).sum()),
        "mean": float(values.mean()) if values.size else 0.0,
        "bins": [above[index] - above[index + 1] for index in range(10)],
    }


def write_measured(path: Path, measured: Sequence[Measured]) -> None:
    """Write one JSON line per sample; the numbers read back exactly. Raises WriteError."""
    write_jsonl(
        path,
        [
            {
                "sample_id": item.sample_id,
                "reliability": item.reliability,
                "predicted": list(item.predicted),
                "pseudo": list(item.pseudo),
                "sentence": item.sentence,
            }
            for item in measured
        ],
    )


def read_measured(path: Path) -> list[Measured]:
    """Read what `write_measured` wrote.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        return [_measured(json.loads(text)) for text in read_lines(path)]
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        why = f"{type(error).__name__}: {one_line(error)}"
        raise DataError(f"{path} cannot be read ({why}); remove it, and the measurement is repeated") from error


def _measured(line: Mapping[str, Any]) -> Measured:
    """One line of the file; any of the usual errors where it is none."""
    sample_id, sentence = line["sample_id"], line["sentence"]
    if not isinstance(sample_id, str) or not isinstance(sentence, str):
        raise TypeError(f"sample_id {shown(sample_id)} and sentence {shown(sentence)} must be text")
    (reliability,) = _numbers([line["reliability"]], 1)
    if not 0 <= reliability <= 1:
        raise ValueError(f"the reliability is {shown(reliability)}, not 0 to 1")
    return Measured(sample_id, reliability, _numbers(line["predicted"], 4), _numbers(line["pseudo"], 4), sentence)


def _numbers(values: Any, count: int) -> tuple[float, ...]:
    given = values if isinstance(values, list) and len(values) == count else [None]
    if any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in given):
        raise TypeError(f"{shown(values)} is not {count} numbers")
    numbers = tuple(map(float, given))
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{shown(values)} is not finite")
    return numbers


def write_subsets(folder: Path, records: Sequence[Mapping[str, Any]], measured: Sequence[Measured]) -> dict[str, Any]:
    """Write the files that the module's description lists, except `reliability.jsonl`; returns the histogram.

    Args:
        folder: gets the files; it needs a `dataset.json` beside them.
        records: records of the source in the JSON-lines format, one per sample, in the order of `measured`.
        measured: reliabilities.
    """
    values = np.asarray([item.reliability for item in measured])
    for threshold in THRESHOLDS:
        chosen = np.flatnonzero(keep(values, threshold))
        write_jsonl(folder / f"refine_{_name(threshold)}.jsonl", [records[index] for index in chosen])
    for threshold in (0.0, BAD_BELOW):
        chosen = np.flatnonzero(bad(values, threshold))
        chosen = chosen[np.argsort(values[chosen], kind="stable")]
        lines = [{**records[index], "meta": {"reliability": float(values[index])}} for index in chosen]
        write_jsonl(folder / f"bad_label_{_name(threshold)}.jsonl", lines)
    counts = histogram(values)
    write_bytes(folder / "histogram.json", (json.dumps(counts, indent=2) + "\n").encode())
    return counts


def _name(threshold: float) -> str:
    return f"{threshold:.1f}".replace(".", "_")
