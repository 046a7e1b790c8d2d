"""Score a model on a split: every rank its share, the numbers of all of them together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mindspore as ms
import numpy as np

from mindground.engine.progress import Progress
from mindground.engine.step import batch_tensors
from mindground.models.base import GroundingModel
from mindground.structures import Batch, Prediction

__all__ = ["Forward", "SplitForward", "evaluate"]


class Forward:
    """A model's raw outputs by name, from a batch; compiled once in graph mode.

    Args:
        model: in evaluation mode while it is called.
        graph: compile; False runs operator by operator.
        features: batches hold kept features in the place of images and tokens (`engine.features`).
    """

    def __init__(self, model: GroundingModel, *, graph: bool, features: bool = False) -> None:
        self.model = model
        self.inputs = model.feature_names if features else model.input_names

        def forward(*inputs: ms.Tensor) -> tuple[ms.Tensor, ...]:
            return model.ground(*inputs) if features else model(*inputs)

        self._forward = ms.jit(forward) if graph else forward

    def __call__(self, batch: Batch) -> dict[str, np.ndarray]:
        """Batch -> {output name: array}."""
        return _named(self.model, self._forward(*batch_tensors(batch, self.inputs)))


def _named(model: GroundingModel, outputs: Any) -> dict[str, np.ndarray]:
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return {
        name: value.astype(ms.float32).asnumpy() if value.dtype in (ms.float16, ms.bfloat16) else value.asnumpy()
        for name, value in zip(model.output_names, outputs, strict=True)
    }


class SplitForward:
    """The same in two halves, for many sentences about one image (families with `image_names`).

    Args:
        model: in evaluation mode while it is called.
        graph: compile; False runs operator by operator.
    """

    def __init__(self, model: GroundingModel, *, graph: bool) -> None:
        self.model = model
        texts = len(model.text_names)

        def image(*inputs: ms.Tensor) -> ms.Tensor:
            return model.encode_image(*inputs)

        def answer(features: ms.Tensor, *inputs: ms.Tensor) -> tuple[ms.Tensor, ...]:
            return model.ground(features, model.encode_text(*inputs[:texts]), *inputs[texts:])

        self._image: Callable[..., ms.Tensor] = ms.jit(image) if graph else image
        self._answer: Callable[..., tuple[ms.Tensor, ...]] = ms.jit(answer) if graph else answer

    def encode(self, batch: Batch) -> ms.Tensor:
        """Batch of one row -> features of its image."""
        return self._image(*batch_tensors(batch, self.model.image_names))

    def __call__(self, features: ms.Tensor, batch: Batch) -> dict[str, np.ndarray]:
        """Features of one image and a batch of sentences about it -> {output name: array}."""
        arrays = batch_tensors(batch, (*self.model.text_names, *self.model.joint_names))
        return _named(self.model, self._answer(features, *arrays))


def evaluate(
    forward: Forward, loader: Any, comm: Any, metrics: Any, *, title: str = "evaluate"
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Metrics of all ranks together, and one record per sample.

    Args:
        forward: of the model; its training flag is restored afterwards.
        loader: evaluation loader of this rank; ranks hold strided shards without duplicates.
        comm: `distributed.Comm`.
        metrics: fresh object with `update`, `state`, `merge`, `compute` and `records`.
        title: of the progress bar.

    Returns:
        The same on every rank: metrics by name, with `count`; records in the order of sample ids, each with what
        was found and the metrics' own figures for that sample.
    """
    model = forward.model
    training = model.training
    model.set_train(False)
    records: list[dict[str, Any]] = []
    try:
        with Progress(title, len(loader), every=max(1, len(loader) // 4), shown=comm.rank == 0) as bar:
            for batch in loader.epoch(0):
                predictions = model.decode(forward(batch), batch)
                metrics.update(predictions, batch)
                rows = zip(batch.samples[: batch.count], predictions[: batch.count], strict=True)
                records.extend(_record(sample, prediction) for sample, prediction in rows)
                bar.advance()
    finally:
        model.set_train(training)
    if comm.size > 1:
        metrics.merge(comm.all_gather_object(metrics.state()))
        gathered = [record for part in comm.all_gather_object(records) for record in part]
        # As the metrics do: a sample that several ranks looked at counts once.
        records = list({record["sample_id"]: record for record in reversed(gathered)}.values())
    figures = {entry["sample_id"]: entry for entry in metrics.records()}
    records = [{**record, **_rounded(figures.get(record["sample_id"], {}))} for record in records]
    records.sort(key=lambda record: record["sample_id"])
    values = {name: float(value) for name, value in metrics.compute().items()}
    return {**values, "count": float(len(records))}, records


def _record(sample: Any, prediction: Prediction) -> dict[str, Any]:
    return {
        "sample_id": sample.sample_id,
        "image_id": sample.image_id,
        "expression": sample.expression,
        "boxes_xyxy": np.round(prediction.boxes_xyxy.astype(np.float64), 2).tolist(),
        "scores": np.round(prediction.scores.astype(np.float64), 4).tolist(),
    }


def _rounded(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in entry.items()}
