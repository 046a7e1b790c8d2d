"""The curriculum as one resumable job: measurers, reliabilities, search, final set and model.

All decisions depend on numbers that are stored in files, so a resumed job makes the same decisions again: a training
whose hash has a result is not repeated, an interrupted one continues from its checkpoint.

    <out>/trainings/<hash>/    data/ (the set), config.yaml, train.log, run/ (the run folder), result.json
    <out>/sources/<name>/      the source as JSON lines
    <out>/reliability/<source>-by-<measurer>/   see reliability.py
    <out>/subset/              the chosen samples, ready for data.dataset=jsonl       <out>/best.ckpt   trained on it
    <out>/progress.json        trainings so far      <out>/report.json, report.md, histogram.png, curve.png
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mindground.curriculum.launch import Job, Launcher, Measurement, Outcome, locked, selecting_metric
from mindground.curriculum.reliability import FILE, Measured, read_measured, write_measured, write_subsets
from mindground.curriculum.report import write_report
from mindground.curriculum.search import Choice, Part, keep, search_sources, simple_to_complex
from mindground.curriculum.subsets import Source, SubsetWriter, digest_records, training_key
from mindground.data import Dataset, build_dataset, eval_splits
from mindground.engine.progress import duration
from mindground.engine.signals import StopRequest
from mindground.errors import CheckpointError, ConfigError, DataError
from mindground.files.atomic import atomic_file, write_json

if TYPE_CHECKING:
    from mindground.config import Config

__all__ = ["Curriculum", "CurriculumSettings", "Trained", "run_curriculum"]

_LOG = logging.getLogger("mindground")
Train = Callable[[Job], Outcome]
Measure = Callable[[Measurement], list[Measured]]


@dataclass(frozen=True)
class CurriculumSettings:
    """Settings of a curriculum.

    Attributes:
        config: configuration of every training; its `data` section describes the evaluation split, `eval.select_by`
            the metric.
        out: work folder.
        start: threshold at which every search begins.
        order: names of the sources from simple to complex; empty = by entities per sentence.
        ranks: number of processes of every training and measurement.
    """

    config: Config
    out: Path
    start: float = 0.5
    order: tuple[str, ...] = ()
    ranks: int = 1


@dataclass(frozen=True)
class Trained:
    """A finished training, with its hash as `key`; `reused` is True if an earlier job ran it."""

    key: str
    title: str
    samples: int
    performance: float
    checkpoint: Path
    seconds: float
    reused: bool


def run_curriculum(settings: CurriculumSettings, sources: Sequence[Source]) -> dict[str, Any]:
    """Run a curriculum with one process per training; returns the report.

    Raises:
        MindGroundError: the configuration or the data cannot be used, or a training failed.
        RunInterrupted: SIGTERM or Ctrl-C; the same command continues.
    """
    split = eval_splits(settings.config.data)[0]
    evaluation = build_dataset(settings.config.data, split)
    stop = StopRequest()
    with stop.listening(), locked(settings.out, stop) as lock:
        launcher = Launcher(settings.ranks, stop, lock)
        return Curriculum(settings, sources, evaluation, train=launcher.train, measure=launcher.measure).run()


class Curriculum:
    """One curriculum job.

    Args:
        settings: settings of the job.
        sources: in the order given by the user; with one source only its threshold is searched.
        evaluation: the split on which every training is evaluated.
        train: runs a training and returns its result; it may be called again for an interrupted one.
        measure: returns the reliability of every sample of a source, in its order.
    """

    def __init__(
        self,
        settings: CurriculumSettings,
        sources: Sequence[Source],
        evaluation: Dataset,
        *,
        train: Train,
        measure: Measure,
    ) -> None:
        self.settings, self._train, self._measure = settings, train, measure
        self.subsets = SubsetWriter(sources, evaluation)
        self.names = [source.name for source in self.subsets.sources]
        self.order = self._order()
        self._trained: dict[str, Trained] = {}
        self._reliability: dict[tuple[int, int], np.ndarray] = {}
        self._histograms: dict[tuple[int, int], dict[str, Any]] = {}
        train_section = settings.config.train
        self._fewest = train_section.batch_sum or train_section.batch_size * settings.ranks

    def _order(self) -> list[int]:
        if not self.settings.order:
            return simple_to_complex([source.entities for source in self.subsets.sources])
        if sorted(self.settings.order) != sorted(self.names):
            raise ConfigError(
                f"--order {','.join(self.settings.order)} must name every source once: {', '.join(self.names)}"
            )
        return [self.names.index(name) for name in self.settings.order]

    def run(self) -> dict[str, Any]:
        """Run the job and return the report; results of earlier calls in the work folder are used."""
        number = len(self.names)
        for given in self.subsets.sources:
            _LOG.info("source %s: %d samples, %.2f entities a sentence", given.name, len(given.dataset), given.entities)
        _LOG.info("order: %s; some %d trainings", ", ".join(self.names[s] for s in self.order), _expected(number))
        measurers = [self._training((Part(source),)) for source in range(number)]
        for source in range(number):
            for measurer in range(number):
                self._measured(source, measurer, measurers[measurer])
        choices = search_sources(self.order, self._performance, self.settings.start)
        final = self._training(tuple(choice.part for choice in choices))
        return self._write_results(measurers, choices, final)

    # ---- sets --------------------------------------------------------------------------------------------------

    def _records(self, parts: Sequence[Part]) -> list[dict[str, Any]]:
        chosen: dict[int, Sequence[int] | None] = {}
        for part in parts:
            chosen[part.source] = None
            if part.measurer is not None and part.threshold is not None:
                values = self._reliability[part.source, part.measurer]
                chosen[part.source] = np.flatnonzero(keep(values, part.threshold)).tolist()
        return self.subsets.chosen(chosen)

    def _title(self, parts: Sequence[Part]) -> str:
        texts = []
        for part in parts:
            name = self.names[part.source]
            if part.measurer is None:
                texts.append(f"all of {name}")
            else:
                by = f" by {self.names[part.measurer]}" if len(self.names) > 1 else ""
                texts.append(f"{name} above {part.threshold:.1f}{by}")
        return " + ".join(texts)

    # ---- trainings ---------------------------------------------------------------------------------------------

    def _performance(self, parts: tuple[Part, ...]) -> float:
        count = len(self._records(parts))
        if count < self._fewest:
            _LOG.info(
                "%s: %d samples, less than the %d of one step; not trained", self._title(parts), count, self._fewest
            )
            return -math.inf
        return self._training(parts).performance

    def _training(self, parts: Sequence[Part]) -> Trained:
        records = self._records(parts)
        config = self.settings.config
        key = training_key(config, digest_records(records), self.subsets.evaluation_digest, self.settings.ranks)
        if key in self._trained:
            return self._trained[key]
        title = self._title(parts)
        folder = self.settings.out / "trainings" / key[:16]
        found = _result(folder, key)
        if found is None:
            _LOG.info("training %d: %s, %d samples", len(self._trained) + 1, title, len(records))
            self.subsets.write_training(folder / "data", records)
            started = time.monotonic()
            outcome = self._train(Job(key, folder, _child_config(config, folder), title, len(records)))
            found = _keep_result(folder, key, title, len(records), outcome, time.monotonic() - started)
        how = "reused" if found.reused else f"in {duration(found.seconds)}"
        _LOG.info(
            "training %d: %s, %d samples: %.4f, %s",
            len(self._trained) + 1,
            title,
            found.samples,
            found.performance,
            how,
        )
        self._trained[key] = found
        write_json(self.settings.out / "progress.json", {"trainings": [_line(item) for item in self._trained.values()]})
        return found

    def _measured(self, source: int, measurer: int, model: Trained) -> None:
        records = self.subsets.records(source)
        folder = self.settings.out / "reliability" / f"{self.names[source]}-by-{self.names[measurer]}"
        marker, key = (
            folder / "measured.json",
            hashlib.sha256(f"{model.key} {digest_records(records)}".encode()).hexdigest(),
        )
        title = f"reliability of {self.names[source]} by {self.names[measurer]}"
        if _read_json(marker).get("key") == key:
            measured = read_measured(folder / FILE)
        else:
            data = self.settings.out / "sources" / self.names[source]
            self.subsets.write_training(data, records)
            measured = self._measure(Measurement(model.checkpoint, data, folder, self.settings.config, title))
        if [item.sample_id for item in measured] != [record["id"] for record in records]:
            raise DataError(f"{folder} does not belong to source {self.names[source]}; remove it and start again")
        self.subsets.describe(folder)
        write_measured(folder / FILE, measured)
        self._histograms[source, measurer] = write_subsets(folder, records, measured)
        self._reliability[source, measurer] = np.asarray([item.reliability for item in measured])
        write_json(marker, {"key": key, "checkpoint": model.key})
        _LOG.info(
            "%s: mean %.3f, %d of %d at 0",
            title,
            *(self._histograms[source, measurer][k] for k in ("mean", "zero", "count")),
        )

    # ---- results -----------------------------------------------------------------------------------------------

    def _write_results(self, measurers: Sequence[Trained], choices: Sequence[Choice], final: Trained) -> dict[str, Any]:
        out, parts = self.settings.out, [choice.part for choice in choices]
        records = self._records(parts)
        self.subsets.write_training(out / "subset", records)
        with final.checkpoint.open("rb") as source, atomic_file(out / "best.ckpt") as target:
            shutil.copyfileobj(source, target)
        report = {
            "metric": selecting_metric(self.settings.config),
            "start_threshold": self.settings.start,
            "order": [self.names[source] for source in self.order],
            "sources": [
                {
                    "name": source.name,
                    "samples": len(source.dataset),
                    "entities": round(source.entities, 4),
                    "performance_of_all": trained.performance,
                    "measurer": trained.key,
                }
                for source, trained in zip(self.subsets.sources, measurers, strict=True)
            ],
            "reliability": [
                {"source": self.names[s], "measurer": self.names[m], **counts}
                for (s, m), counts in self._histograms.items()
            ],
            "choices": [self._chosen(choice) for choice in choices],
            "final": {
                "performance": final.performance,
                "samples": len(records),
                "subset": "subset/train.jsonl",
                "subset_sha256": digest_records(records),
                "checkpoint": "best.ckpt",
                "training": final.key,
            },
            "trainings": [_line(item) for item in self._trained.values()],
        }
        write_report(out, report)
        _LOG.info("%d samples in %s, %.4f; %s", len(records), out / "subset", final.performance, out / "report.md")
        return report

    def _chosen(self, choice: Choice) -> dict[str, Any]:
        values = self._reliability[choice.source, choice.measurer]
        # With one source the measurer is not chosen.
        compared = self.names if choice.measurers else []
        return {
            "source": self.names[choice.source],
            "measurer": self.names[choice.measurer],
            "threshold": choice.threshold,
            "kept": int(keep(values, choice.threshold).sum()),
            "of": len(values),
            "performance": choice.performance,
            "evaluated": [
                {"threshold": h, "samples": int(keep(values, h).sum()), "performance": _finite(score)}
                for h, score in choice.evaluated
            ],
            "measurers": {name: _finite(score) for name, score in zip(compared, choice.measurers, strict=True)},
        }


def _expected(sources: int) -> int:
    """Number of trainings: the measurers, the choice of measurers, and about three steps of every search."""
    return 1 + 3 if sources == 1 else sources + sources * (sources + 3)


def _child_config(config: Config, folder: Path) -> Config:
    data = replace(
        config.data,
        dataset="jsonl",
        splitBy="",
        root=str(folder / "data"),
        image_root="",
        mask_path="",
        train_split="train",
        eval_splits=["val"],
    )
    train = replace(config.train, output_dir=str(folder), experiment_name="run", short_comment="", resume="auto")
    return replace(config, data=data, train=train)


def _line(item: Trained) -> dict[str, Any]:
    """One training for the report; equal for a resumed and an uninterrupted job, except for its time."""
    return {
        "key": item.key,
        "title": item.title,
        "samples": item.samples,
        "performance": item.performance,
        "seconds": round(item.seconds, 1),
    }


def _finite(score: float) -> float | None:
    return score if math.isfinite(score) else None


def _read_json(path: Path) -> dict[str, Any]:
    """A small JSON file of ours; empty where it is missing or damaged, so that its step is repeated."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _result(folder: Path, key: str) -> Trained | None:
    """The result of a training that has finished, or None."""
    stored = _read_json(folder / "result.json")
    if stored.get("key") != key:
        return None
    checkpoint = folder / str(stored["checkpoint"])
    if not checkpoint.is_file():
        return None
    return Trained(
        key, stored["title"], int(stored["samples"]), float(stored["performance"]), checkpoint, stored["seconds"], True
    )


def _keep_result(folder: Path, key: str, title: str, samples: int, outcome: Outcome, seconds: float) -> Trained:
    """Store the result of a finished training and remove `last.ckpt`, whose optimiser state is no longer needed."""
    if not math.isfinite(outcome.performance):
        raise CheckpointError(f"{title}: the training reached {outcome.performance}; see {folder / 'train.log'}")
    write_json(
        folder / "result.json",
        {
            "key": key,
            "checkpoint": outcome.checkpoint.relative_to(folder).as_posix(),
            "title": title,
            "samples": samples,
            "performance": outcome.performance,
            "seconds": round(seconds, 1),
            "metrics": outcome.metrics,
        },
    )
    outcome.checkpoint.with_name("last.ckpt").unlink(missing_ok=True)
    return Trained(key, title, samples, outcome.performance, outcome.checkpoint, seconds, False)
