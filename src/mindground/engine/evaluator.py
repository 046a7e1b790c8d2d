"""Score a model on a split: every rank its share, the numbers of all of them together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mindground.engine.forward import Runner, evaluating
from mindground.engine.progress import Progress
from mindground.structures import Prediction, Sample

__all__ = ["evaluate"]


def evaluate(
    runner: Runner,
    loader: Any,
    comm: Any,
    metrics: Any,
    record: Callable[[Sample, Prediction], dict[str, Any]],
    *,
    title: str = "evaluate",
    batches: int = 0,
    epoch: int = 0,
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Metrics of all ranks together, and one record per sample.

    Args:
        runner: of the model; its training flag is restored afterwards.
        loader: evaluation loader of this rank; ranks hold strided shards without duplicates.
        comm: `runtime.distributed.Comm`.
        metrics: fresh object with `update`, `state`, `merge`, `compute` and `records`.
        record: (sample, prediction) -> what a result file says of it, as the task has it.
        title: of the progress bar.
        batches: stop after so many; 0 = all.
        epoch: of the training, where one sentence of each object is drawn anew for every epoch.

    Returns:
        The same on every rank: metrics by name, with `count`; records in the order of sample ids, each with what
        was found and the metrics' own figures for that sample.
    """
    model = runner.model
    records: list[dict[str, Any]] = []
    total = min(len(loader), batches) if batches else len(loader)
    with evaluating(model), Progress(title, total, every=max(1, total // 4), shown=comm.rank == 0) as bar:
        for number, batch in enumerate(loader.epoch(epoch), 1):
            predictions = model.decode(model.infer(runner, batch.arrays), batch)
            metrics.update(predictions, batch)
            pairs = zip(batch.samples[: batch.count], predictions[: batch.count], strict=True)
            records.extend(record(sample, prediction) for sample, prediction in pairs)
            bar.advance()
            if number == total:
                break
    if comm.size > 1:
        metrics.merge(comm.all_gather_object(metrics.state()))
        gathered = [entry for part in comm.all_gather_object(records) for entry in part]
        # As the metrics do: a sample that several ranks looked at counts once.
        records = list({entry["sample_id"]: entry for entry in reversed(gathered)}.values())
    figures = {entry["sample_id"]: entry for entry in metrics.records()}
    records = [{**entry, **_rounded(figures.get(entry["sample_id"], {}))} for entry in records]
    records.sort(key=lambda entry: entry["sample_id"])
    values = {name: float(value) for name, value in metrics.compute().items()}
    return {**values, "count": float(len(records))}, records


def _rounded(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in entry.items()}
