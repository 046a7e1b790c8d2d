"""The interface of a task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from mindground.data.dataset import Dataset
from mindground.errors import ConfigError
from mindground.models.interface import ModelInterface
from mindground.structures import Batch, Prediction, Sample, Truth
from mindground.visualize.caption import Caption

__all__ = ["MetricSettings", "Metrics", "Task"]


class Metrics(Protocol):
    """Collects what predictions are worth; states of several ranks can be merged."""

    def update(self, predictions: Sequence[Prediction], batch: Batch) -> None: ...

    def state(self) -> Any: ...

    def merge(self, states: Sequence[Any]) -> None: ...

    def compute(self) -> dict[str, float]: ...

    def records(self) -> list[dict[str, Any]]: ...

    def breakdown(self) -> dict[str, dict[str, dict[str, float]]]: ...


@dataclass(frozen=True)
class MetricSettings:
    """Thresholds of the metrics and how masks count, as in the `eval` section."""

    iou_threshold: float = 0.5
    mask_threshold: float = 0.35
    box_thresholds: Sequence[float] = field(default_factory=tuple)
    mask_protocol: str = "vglaw"

    @classmethod
    def of(cls, section: Any) -> MetricSettings:
        """The thresholds of an `eval` section."""
        thresholds = (section.iou_threshold, section.mask_threshold, tuple(section.box_thresholds))
        return cls(*thresholds, section.mask_protocol)


class Task(ABC):
    """One kind of question, for a model with a given interface.

    Class attributes:
        kind: of the data sets that pose it (`Dataset.kind`).
        asks_expression: a tokeniser is needed, and a predictor wants a sentence.
        control: what `controlled` does to a data set, for protocols and messages.
        many_splits: a result file may hold several splits.
        has_classes: category ids are part of the answer, so that training and evaluation must agree on them.
    """

    kind: ClassVar[str] = ""
    asks_expression: ClassVar[bool] = False
    control: ClassVar[str] = ""
    many_splits: ClassVar[bool] = True
    has_classes: ClassVar[bool] = False

    def __init__(self, interface: ModelInterface) -> None:
        self.interface = interface

    @abstractmethod
    def truth(self, sample: Sample) -> Truth:
        """What is true of a sample."""

    @abstractmethod
    def metrics(self, settings: MetricSettings) -> Metrics:
        """A fresh metrics object."""

    @abstractmethod
    def metric_names(self, settings: MetricSettings, dataset: Dataset | None = None) -> tuple[str, ...]:
        """Names that `eval.select_by` may be; the first is its default.

        Args:
            dataset: the split that is scored: what its truth cannot give, because it has no masks or no object of a
                size class, is left out. None = a split that has everything.
        """

    def selecting_metric(self, wanted: str, settings: MetricSettings, dataset: Dataset | None = None) -> str:
        """The metric that chooses the best checkpoint: the one that is wanted, or the task's own.

        Args:
            dataset: see `metric_names`.

        Raises:
            ConfigError: the task, with what this model answers and this split holds, has no such metric.
        """
        names = self.metric_names(settings, dataset)
        if not names:
            split = dataset.split if dataset is not None else ""
            raise ConfigError(
                f"the split {split!r} gives no metric of this model, which answers with "
                f"{' and '.join(self.interface.answers)}: it needs objects that have one; name another one in "
                "data.eval_splits"
            )
        if wanted and wanted not in names:
            raise ConfigError(f"eval.select_by={wanted!r} is no metric of this run; choose one of {', '.join(names)}")
        return wanted or names[0]

    def selecting_metrics(
        self, wanted: Sequence[str], settings: MetricSettings, dataset: Dataset | None = None
    ) -> tuple[str, ...]:
        """The metric that chooses the best checkpoint, and those that choose further ones.

        Args:
            wanted: names in this order; empty for the task's own.
            dataset: see `metric_names`.

        Raises:
            ConfigError: see `selecting_metric`; or a name that stands twice.
        """
        names = tuple(self.selecting_metric(name, settings, dataset) for name in wanted or ("",))
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ConfigError(f"eval.select_by names {twice[0]!r} twice; every metric chooses one checkpoint")
        return names

    @abstractmethod
    def record(self, sample: Sample, prediction: Prediction) -> dict[str, Any]:
        """What a result file says of one sample."""

    @abstractmethod
    def write_results(self, path: str | Path, records: Sequence[Mapping[str, Any]]) -> Path:
        """Write the records of a split in the task's own format. Raises WriteError."""

    @abstractmethod
    def controlled(self, dataset: Dataset, seed: int) -> Dataset:
        """The data set with questions and answers taken apart: a model that looks and reads fails on it.

        Raises:
            DataError: it cannot be done with this data set.
        """

    @abstractmethod
    def constant_baseline(self, boxes: Callable[[], np.ndarray], settings: MetricSettings) -> dict[str, Any]:
        """What one answer reaches that looks at nothing.

        Args:
            boxes: () -> (N, 4) xyxy of all samples, relative to the canvas.

        Raises:
            DataError: the task has no such answer.
        """

    @abstractmethod
    def caption(
        self,
        sample: Sample | None,
        prediction: Prediction,
        categories: Mapping[int, str] | None = None,
        min_score: float | None = None,
    ) -> Caption:
        """What a figure of a prediction says, and which of its objects the figure shows.

        Args:
            sample: with the truth; None where there is none.
            categories: category id -> name.
            min_score: what scores less is not shown and not counted as found; None takes the task's own threshold.
        """

    @abstractmethod
    def curve_names(self, settings: MetricSettings) -> tuple[str, ...]:
        """The few metrics whose curves show how a run goes."""

    def summary_lines(self, values: Mapping[str, Any], settings: MetricSettings) -> list[str]:
        """The scores of one split under the names and in the unit of the papers; empty where a task has none."""
        return []

    @abstractmethod
    def area_names(self, settings: MetricSettings) -> tuple[str, ...]:
        """The metrics of one class of area in a printed table; empty where `Metrics.breakdown` has no such classes."""
