"""Evaluate a checkpoint on splits, with and without its control, and say under which protocol."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mindground.data import Dataset, build_dataset, eval_splits
from mindground.data.transforms import TransformParams, build_transform
from mindground.engine.assemble import make_loader
from mindground.engine.checkpoint import Loaded, load_checkpoint, read_checkpoint
from mindground.engine.ema import other_weights
from mindground.engine.evaluator import evaluate
from mindground.engine.forward import Runner
from mindground.engine.run_folder import check_same_categories, check_same_data
from mindground.errors import ConfigError, printable
from mindground.files.atomic import write_json
from mindground.files.images import read_image
from mindground.models import model_interface
from mindground.tasks import MetricSettings, Task, task_for

if TYPE_CHECKING:
    from mindground.config import Config
    from mindground.runtime.device import DeviceInfo

__all__ = ["score"]

_LOG = logging.getLogger("mindground")


@dataclass
class _Scoring:
    """What stays the same for all splits of one call."""

    config: Config
    loaded: Loaded
    runner: Runner
    comm: Any
    averages: Mapping[str, np.ndarray]


def score(
    checkpoint: str | Path,
    adjust: Callable[[Config], Config] | None = None,
    *,
    splits: Sequence[str] | None = None,
    out: str = "",
    records: str = "",
    with_shuffled: bool = False,
    with_constant: bool = False,
    weights: Literal["all", "plain", "averaged"] = "all",
) -> dict[str, Any]:
    """Metrics of a checkpoint.

    Args:
        checkpoint: file of ours.
        adjust: lays command-line overrides over the checkpoint's configuration.
        splits: which to score; None takes every evaluation split of the data set.
        out: JSON file for the result.
        records: file for one prediction per sample, in the form of the task (JSON lines, COCO results).
        with_shuffled: score a second time with questions and answers taken apart and add it as `shuffled`.
        with_constant: add as `constant_box` what the best fixed box reaches on the split.
        weights: of a checkpoint that holds the weights of the last step and their averages (last.ckpt of a run with
            train.ema_decay), which to score: one of them, or both, the averages as `averaged`.

    Returns:
        For one split its metrics, `protocol` and, if asked for, `shuffled`; for several the same by split, with the
        first split's values on top as well.

    Raises:
        MindGroundError: checkpoint, data set, split or override that cannot be used.
    """
    scoring, info = _prepared(checkpoint, adjust, [*(splits or []), with_shuffled, weights])
    if weights == "averaged":
        with other_weights(scoring.loaded.model, _averages(scoring, checkpoint)):
            return _score(scoring, info, checkpoint, splits, out, records, with_shuffled, with_constant, False)
    both = weights == "all" and bool(scoring.averages)
    return _score(scoring, info, checkpoint, splits, out, records, with_shuffled, with_constant, both)


def _averages(scoring: _Scoring, checkpoint: str | Path) -> Mapping[str, np.ndarray]:
    if not scoring.averages:
        raise ConfigError(
            f"{printable(checkpoint, 300)} holds no averages beside its weights (a best.ckpt of a run with "
            "train.ema_decay holds the averages alone); leave --weights out"
        )
    return scoring.averages


def _score(
    scoring: _Scoring,
    info: DeviceInfo,
    checkpoint: str | Path,
    splits: Sequence[str] | None,
    out: str,
    records: str,
    with_shuffled: bool,
    with_constant: bool,
    both: bool,
) -> dict[str, Any]:
    config, comm = scoring.config, scoring.comm
    results: dict[str, dict[str, Any]] = {}
    lines: list[dict[str, Any]] = []
    names = list(splits or eval_splits(config.data))
    dataset = build_dataset(config.data, names[0])
    task = _task(config, dataset)
    if records and len(names) > 1 and not task.many_splits:
        raise ConfigError(
            f"a result file of {task.kind} holds one split, and {', '.join(names)} are scored; name one with --split"
        )
    for split in names:
        dataset = dataset if dataset.split == split else build_dataset(config.data, split)
        results[split], found = _score_split(scoring, dataset, config.eval.shuffle_expressions)
        lines += found
        results[split]["protocol"] |= {"device": info.target, "checkpoint": str(checkpoint)}
        results[split] |= _controls(scoring, dataset, with_shuffled, with_constant)
        if both:
            with other_weights(scoring.loaded.model, scoring.averages):
                averaged, _ = _score_split(scoring, dataset, config.eval.shuffle_expressions, ", averaged weights")
            results[split]["averaged"] = {key: value for key, value in averaged.items() if key != "protocol"}
    first = next(iter(results.values()))
    result = first if len(results) == 1 else {**first, "splits": results}
    if comm.rank == 0:
        if out:
            write_json(out, result)
        if records:
            task.write_results(records, lines)
        for split, values in results.items():
            _LOG.info("%s", _table(split, values, task, MetricSettings.of(config.eval)))
    comm.barrier()
    return result


def _prepared(
    checkpoint: str | Path, adjust: Callable[[Config], Config] | None, wishes: Sequence[Any]
) -> tuple[_Scoring, DeviceInfo]:
    """The network of a checkpoint on the device; `wishes` are what all ranks must have been asked for alike."""
    from mindground.config import fingerprint
    from mindground.engine.checkpoint import stored_config
    from mindground.runtime import device, distributed

    contents = read_checkpoint(checkpoint)
    config = stored_config(contents)
    config = adjust(config) if adjust is not None else config
    info = device.apply(**vars(config.device))
    comm = distributed.get_comm()
    distributed.agree(comm, f"{contents.path} {fingerprint(config)} {list(wishes)}", "task")
    loaded = load_checkpoint(contents, lambda _: config)
    runner = Runner(loaded.model, graph=config.device.mode_name == "GRAPH", precision=config.device.precision)
    return _Scoring(config, loaded, runner, comm, contents.part("ema")), info


def _controls(scoring: _Scoring, dataset: Dataset, with_shuffled: bool, with_constant: bool) -> dict[str, Any]:
    """What a model scores without the right question, and what a fixed box does: keys `shuffled`, `constant_box`."""
    found: dict[str, Any] = {}
    if with_shuffled:
        shuffled, _ = _score_split(scoring, dataset, True)
        found["shuffled"] = {key: value for key, value in shuffled.items() if key != "protocol"}
    if with_constant:
        found["constant_box"] = _constant_baseline(scoring, dataset)
    return found


def _task(config: Config, dataset: Dataset) -> Task:
    return task_for(dataset.kind, model_interface(config), f"data.dataset={config.data.dataset!r}")


def _score_split(
    scoring: _Scoring, dataset: Dataset, controlled: bool, note: str = ""
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    config, loaded, split = scoring.config, scoring.loaded, dataset.split
    task = _task(config, dataset)
    if not config.eval.allow_other_data:
        remedy = ", or set eval.allow_other_data=true for data that share nothing with it"
        check_same_data(loaded.state, dataset.fingerprint, f"score this checkpoint on {split}", remedy)
    if task.has_classes:
        check_same_categories(loaded.categories, dataset)
    if controlled:
        dataset = task.controlled(dataset, config.train.seed)
    drawn = config.eval.sentences
    loader = make_loader(
        config, dataset, task, loaded.model, loaded.tokenizer, scoring.comm, training=False, sentences=drawn
    )
    title = (f"{split}, {task.control}" if controlled else split) + note
    meter = task.metrics(MetricSettings.of(config.eval))
    metrics, records = evaluate(scoring.runner, loader, scoring.comm, meter, task.record, title=title)
    protocol = {
        "dataset": config.data.dataset,
        "split": split,
        "count": int(metrics["count"]),
        "resolution": config.data.img_size,
        "iou_threshold": config.eval.iou_threshold,
        "mask_threshold": config.eval.mask_threshold,
        "sentences": "exchanged" if controlled else "as annotated",
        "sentences_per_object": drawn,
        "seed": config.train.seed,
        "weights": loaded.hash,
        "step": loaded.state.get("step"),
    }
    if not task.asks_expression:
        protocol["sentences"] = "none"
        del protocol["sentences_per_object"]
        protocol["objects"] = "of another image" if controlled else "as annotated"
    if dataset.fingerprint:
        protocol["data"] = dataset.fingerprint[:12]
    found = [{"split": split, **record} for record in records]
    return {**metrics, **meter.breakdown(), "protocol": protocol}, found


def _constant_baseline(scoring: _Scoring, dataset: Dataset) -> dict[str, Any]:
    """What one fixed answer reaches on the canvas, where images lie as the network sees them."""
    config = scoring.config
    task = _task(config, dataset)
    transform = build_transform(config.data, dataset.kind, task.truth, tokenizer=scoring.loaded.tokenizer)

    def boxes() -> np.ndarray:
        found = []
        for sample in dataset:
            height, width = sample.size or read_image(sample.image_path).shape[:2]
            geometry = transform.geometry(TransformParams(config.data.img_size), (height, width))
            found.append(geometry.boxes_to_canvas(task.truth(sample).boxes_xyxy) / config.data.img_size)
        return np.concatenate(found)

    return task.constant_baseline(boxes, MetricSettings.of(config.eval))


def _by_area(split: str, classes: dict[str, dict[str, float]], names: Sequence[str]) -> list[str]:
    """One short line per class of area, where there are several; all scores and the words of place are in the file."""
    return [
        f"  {split:>8}  boxes, {area:<11} "
        + "   ".join(f"{name} {scores[name]:.4f}" for name in names)
        + f"   of {int(scores['count'])}"
        for area, scores in classes.items()
        if len(classes) > 1
    ]


def _table(split: str, values: dict[str, Any], task: Task, settings: MetricSettings) -> str:
    shuffled, averaged = values.get("shuffled", {}), values.get("averaged", {})
    names = [name for name in values if isinstance(values[name], float) and name != "count"]
    lines = [", ".join(f"{key} {value}" for key, value in values["protocol"].items())]
    for name in names:
        beside = f"   averaged weights {averaged[name]:.4f}" if name in averaged else ""
        beside += f"   {task.control} {shuffled[name]:.4f}" if name in shuffled else ""
        fixed = values.get("constant_box", {})
        beside += f"   best constant box {fixed[name]:.4f}" if name in fixed else ""
        lines.append(f"  {split:>8}  {name:<18} {values[name]:.4f}{beside}")
    lines += [f"  {split:>8}  {line}" for line in task.summary_lines(values, settings)]
    lines += _by_area(split, values.get("by_area", {}), task.area_names(settings))
    return "\n".join(lines)
