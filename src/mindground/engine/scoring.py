"""Evaluate a checkpoint on splits, with and without exchanged sentences, and say under which protocol."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mindground.data import build_dataset, eval_splits
from mindground.data.shuffle import shuffle_expressions
from mindground.data.transforms import Plan, transform_for
from mindground.engine.assemble import make_loader, make_metrics
from mindground.engine.checkpoint import load_checkpoint, read_checkpoint
from mindground.engine.evaluator import Forward, evaluate
from mindground.engine.run_folder import check_same_data
from mindground.files.atomic import write_json, write_text
from mindground.files.images import read_image
from mindground.metrics import ReferringMetrics
from mindground.metrics.baselines import best_constant_box
from mindground.structures.referent import referent_box

if TYPE_CHECKING:
    from mindground.config import Config

__all__ = ["score"]

_LOG = logging.getLogger("mindground")


def score(
    checkpoint: str | Path,
    adjust: Callable[[Config], Config] | None = None,
    *,
    splits: Sequence[str] | None = None,
    out: str = "",
    records: str = "",
    with_shuffled: bool = False,
    with_constant: bool = False,
) -> dict[str, Any]:
    """Metrics of a checkpoint.

    Args:
        checkpoint: file of ours.
        adjust: lays command-line overrides over the checkpoint's configuration.
        splits: which to score; None takes every evaluation split of the data set.
        out: JSON file for the result.
        records: JSON-lines file for one prediction per sample.
        with_shuffled: score a second time with exchanged sentences and add it as `shuffled`.
        with_constant: add as `constant_box` what the best fixed box reaches on the split.

    Returns:
        For one split its metrics, `protocol` and, if asked for, `shuffled`; for several the same by split, with the
        first split's values on top as well.

    Raises:
        MindGroundError: checkpoint, data set or split that cannot be used.
    """
    from mindground.config import fingerprint, from_dict
    from mindground.runtime import device, distributed

    contents = read_checkpoint(checkpoint)
    config = from_dict(contents.config, source=str(checkpoint))
    config = adjust(config) if adjust is not None else config
    info = device.apply(config.device)
    comm = distributed.get_comm(config.device)
    distributed.agree(comm, f"{contents.path} {fingerprint(config)} {list(splits or [])} {with_shuffled}", "task")
    loaded = load_checkpoint(contents)
    forward = Forward(device.mixed_precision(loaded.model, info), graph=config.device.mode_name == "GRAPH")
    results: dict[str, dict[str, Any]] = {}
    lines: list[dict[str, Any]] = []
    for split in splits or eval_splits(config.data):
        results[split] = _score_split(forward, config, loaded, comm, split, config.eval.shuffle_expressions, lines)
        results[split]["protocol"]["device"] = info.target
        results[split]["protocol"]["checkpoint"] = str(checkpoint)
        if with_shuffled:
            shuffled = _score_split(forward, config, loaded, comm, split, True, [])
            results[split]["shuffled"] = {k: v for k, v in shuffled.items() if k != "protocol"}
        if with_constant:
            results[split]["constant_box"] = _constant_box(config, split, loaded.tokenizer)
    first = next(iter(results.values()))
    result = first if len(results) == 1 else {**first, "splits": results}
    if comm.rank == 0:
        if out:
            write_json(Path(out), result)
        if records:
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            write_text(records, text)
        for split, values in results.items():
            _LOG.info("%s", _table(split, values))
    comm.barrier()
    return result


def _score_split(
    forward: Forward, config: Config, loaded: Any, comm: Any, split: str, shuffled: bool, lines: list[dict[str, Any]]
) -> dict[str, Any]:
    dataset = build_dataset(config.data, split)
    if not config.eval.allow_other_data:
        remedy = ", or set eval.allow_other_data=true for data that share nothing with it"
        check_same_data(loaded.state, dataset.fingerprint, f"score this checkpoint on {split}", remedy)
    if shuffled:
        dataset = shuffle_expressions(dataset, config.train.seed)
    loader = make_loader(config, dataset, loaded.tokenizer, comm, training=False)
    title = f"{split}, sentences exchanged" if shuffled else split
    meter = make_metrics(config, dataset)
    metrics, records = evaluate(forward, loader, comm, meter, title=title)
    lines.extend({"split": split, **record} for record in records)
    protocol = {
        "dataset": config.data.dataset,
        "split": split,
        "count": int(metrics["count"]),
        "resolution": config.data.img_size,
        "iou_threshold": config.eval.iou_threshold,
        "mask_threshold": config.eval.mask_threshold,
        "sentences": "exchanged" if shuffled else "as annotated",
        "seed": config.train.seed,
        "weights": loaded.hash,
        "step": loaded.state.get("step"),
    }
    if dataset.fingerprint:
        protocol["data"] = dataset.fingerprint[:12]
    parts = meter.breakdown() if isinstance(meter, ReferringMetrics) else {}
    return {**metrics, **parts, "protocol": protocol}


def _constant_box(config: Config, split: str, tokenizer: Any) -> dict[str, Any]:
    """`prec@t` of the best fixed box on the canvas, where pictures lie as the network sees them."""
    dataset = build_dataset(config.data, split)
    transform = transform_for(dataset, config.data, tokenizer, training=False)
    boxes = []
    for sample in dataset:
        height, width = sample.size or read_image(sample.image_path).shape[:2]
        geometry = transform.geometry(Plan(config.data.img_size), (height, width))
        boxes.append(geometry.boxes_to_canvas(referent_box(sample))[0] / config.data.img_size)
    value, box = best_constant_box(np.stack(boxes), config.eval.iou_threshold)
    return {f"prec@{config.eval.iou_threshold:g}": value, "box_xyxy_of_canvas": [round(float(v), 4) for v in box]}


def _by_area(split: str, classes: dict[str, dict[str, float]], threshold: float) -> list[str]:
    """One short line per class of area, where there are several; all scores and the words of place are in the file."""
    names = (f"prec@{threshold:g}", "box_mean_iou", "box_overall_iou")
    return [
        f"  {split:>8}  boxes, {area:<11} "
        + "   ".join(f"{name} {scores[name]:.4f}" for name in names)
        + f"   of {int(scores['count'])}"
        for area, scores in classes.items()
        if len(classes) > 1
    ]


def _table(split: str, values: dict[str, Any]) -> str:
    shuffled = values.get("shuffled", {})
    names = [name for name in values if isinstance(values[name], float) and name != "count"]
    lines = [", ".join(f"{key} {value}" for key, value in values["protocol"].items())]
    for name in names:
        beside = f"   exchanged sentences {shuffled[name]:.4f}" if name in shuffled else ""
        fixed = values.get("constant_box", {})
        beside += f"   best constant box {fixed[name]:.4f}" if name in fixed else ""
        lines.append(f"  {split:>8}  {name:<18} {values[name]:.4f}{beside}")
    lines += _by_area(split, values.get("by_area", {}), values["protocol"]["iou_threshold"])
    return "\n".join(lines)
