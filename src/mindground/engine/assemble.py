"""From a configuration to the parts of a run: data, tokeniser, model, metrics.

Here, in the `build` functions of families and in `trainer`, the configuration is read; everything below takes explicit
arguments.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mindground.data import build_dataset, eval_splits
from mindground.data.loader import Loader
from mindground.data.transforms import build_transform
from mindground.engine.pretrained import load_pretrained
from mindground.engine.run_folder import check_same_categories
from mindground.errors import ConfigError
from mindground.models import build_model, model_interface
from mindground.models.base import GroundingModel
from mindground.tasks import MetricSettings, Task, task_for
from mindground.text import build_tokenizer

if TYPE_CHECKING:
    from mindground.config import Config
    from mindground.data import Dataset
    from mindground.text import Tokenizer

__all__ = ["RunParts", "assemble", "fill_vocabulary", "make_loader"]

_LOG = logging.getLogger("mindground")


@dataclass
class RunParts:
    """What a run is made of.

    Attributes:
        model: freshly initialised; `load_initial` puts pretrained weights into it.
        task: what the data ask and the model answers.
        tokenizer: kept in checkpoints; None for a family that asks no expressions.
        loader: training batches of this rank.
        eval_loader: batches of the split that chooses the best checkpoint, or None.
        select_by: metric that chooses it.
        metrics: thresholds of the metrics.
        load_initial: called once for a run that starts anew, never on resume.
        eval_name: split of `eval_loader`.
        data_fingerprint: of the training data (`Dataset.fingerprint`); kept in checkpoints.
        categories: id -> name of the training data's classes; kept in checkpoints.
        sentences: which sentences of an object training and evaluation take, for the log.
    """

    model: GroundingModel
    task: Task
    tokenizer: Tokenizer | None
    loader: Any
    eval_loader: Any | None
    select_by: str
    metrics: MetricSettings = MetricSettings()
    load_initial: Callable[[], Any] | None = None
    eval_name: str = ""
    data_fingerprint: str = ""
    categories: Mapping[int, str] = field(default_factory=dict)
    sentences: str = "all"


def fill_vocabulary(model_config: Any, size: int) -> None:
    """Replace every `vocab_size: 0` of a model section, which stands for "as the tokeniser", in place."""
    for entry in dataclasses.fields(model_config):
        value = getattr(model_config, entry.name)
        if dataclasses.is_dataclass(value):
            fill_vocabulary(value, size)
        elif entry.name == "vocab_size" and value == 0:
            model_config.vocab_size = size


def make_loader(
    config: Config,
    dataset: Dataset,
    task: Task,
    model: GroundingModel,
    tokenizer: Tokenizer | None,
    comm: Any,
    *,
    training: bool,
    sentences: Literal["all", "one"] = "all",
) -> Loader:
    """Batches of a data set for this rank, with the arrays of the model's family.

    Args:
        sentences: all, or of several about one object one that is drawn for every epoch.

    Raises:
        ConfigError: sentences to draw in a set that has none, no transform for such samples, no vocabulary to read
            them, or fewer than one joint batch.
    """
    if task.asks_expression and tokenizer is None:
        raise ConfigError(
            f"data.dataset={config.data.dataset!r} holds sentences, but there is no vocabulary to read them with: "
            "take a checkpoint that has one, or name a file in data.vocab"
        )
    if sentences == "one" and not task.asks_expression:
        raise ConfigError(
            f"data.dataset={config.data.dataset!r} has no sentences, so none can be drawn: set data.sentences and "
            "eval.sentences to all"
        )
    transform = build_transform(config.data, dataset.kind, task.truth, tokenizer=tokenizer, training=training)
    return Loader(
        dataset,
        transform,
        config.train.batch_size if training else config.eval.batch_size,
        training=training,
        seed=config.train.seed,
        rank=comm.rank,
        world=comm.size,
        workers=config.data.num_workers,
        variants=config.data.augment_variants if training else 1,
        encode_targets=model.encode_targets,
        encode_batch=model.encode_batch,
        sentences=sentences,
    )


def assemble(config: Config, comm: Any) -> RunParts:
    """Read the data, build tokeniser and model; `config` gets its vocabulary size filled in.

    Args:
        config: resolved.
        comm: `runtime.distributed.Comm`.
    """
    data = config.data
    training = build_dataset(data, data.train_split)
    splits = eval_splits(data)
    task = task_for(training.kind, model_interface(config), f"data.dataset={data.dataset!r}")
    thresholds = MetricSettings.of(config.eval)
    tokenizer = None
    if task.asks_expression:
        tokenizer = build_tokenizer(data.tokenizer, data.vocab, training.sentences())
        fill_vocabulary(config.model, tokenizer.vocab_size)
    scored = build_dataset(data, splits[0]) if splits else None
    if scored is not None and task.has_classes:
        check_same_categories(training.categories, scored)
    chooses = task.selecting_metric(config.eval.select_by, thresholds, scored)
    model = build_model(config)
    drawn = data.sentences
    loader = make_loader(config, training, task, model, tokenizer, comm, training=True, sentences=drawn)
    left = loader.count - len(loader) * config.train.batch_size * comm.size
    eval_loader = None
    if scored is not None:
        eval_loader = make_loader(config, scored, task, model, tokenizer, comm, training=False, sentences=drawn)
    _LOG.info(
        "%s: %d training samples%s, %s",
        training.name,
        loader.count,
        f" ({left} a shuffled epoch leaves out: they fill no batch)" if left else "",
        f"{eval_loader.count} in {splits[0]}" if eval_loader is not None else "no split to evaluate",
    )
    if drawn == "one":
        _LOG.info(
            "every epoch takes one sentence of each object (data.sentences=one): %d objects with %d sentences%s",
            loader.count,
            len(training),
            f", {eval_loader.count} with {len(scored)} in {splits[0]}" if eval_loader and scored else "",
        )
    return RunParts(
        model=model,
        task=task,
        tokenizer=tokenizer,
        loader=loader,
        eval_loader=eval_loader,
        select_by=chooses,
        metrics=thresholds,
        load_initial=lambda: load_pretrained(
            model,
            config.train.pretrained,
            partial=config.train.partial,
            random_parts=config.train.random_encoders,
            config=config,
        ),
        eval_name=splits[0] if splits else "",
        data_fingerprint=training.fingerprint,
        categories=dict(training.categories),
        sentences=drawn,
    )
