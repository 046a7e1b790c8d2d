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
from mindground.engine.answers import narrow_answers
from mindground.engine.checkpoint import check_vocabulary
from mindground.engine.description import Description, read_description
from mindground.engine.pretrained import load_pretrained
from mindground.engine.run_folder import RunFolder, check_same_categories, resume_path
from mindground.engine.vocabulary import choose_vocabulary, digest_of_sentences
from mindground.errors import ConfigError
from mindground.models import build_model, model_interface
from mindground.models.base import GroundingModel
from mindground.runtime.agreement import agree_on_files
from mindground.tasks import MetricSettings, Task, task_for
from mindground.weights.load import parameter_shapes

if TYPE_CHECKING:
    from mindground.config import Config, DataConfig
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
        also_by: metrics that choose further checkpoints.
        more_loaders: further splits, by name, over which the metrics that choose are averaged.
        metrics: thresholds of the metrics.
        load_initial: called once for a run that starts anew, never on resume.
        eval_name: split of `eval_loader`.
        data_fingerprint: of the training data (`Dataset.fingerprint`); kept in checkpoints.
        sentences: digest of the training sentences (`engine.vocabulary`); kept in checkpoints.
        categories: id -> name of the training data's classes; kept in checkpoints.
        drawn: which sentences of an object training and evaluation take (`data.sentences`), for the log.
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
    sentences: str = ""
    also_by: tuple[str, ...] = ()
    more_loaders: dict[str, Any] = field(default_factory=dict)
    categories: Mapping[int, str] = field(default_factory=dict)
    drawn: str = "all"

    @property
    def chosen_by(self) -> tuple[str, ...]:
        """All metrics that choose a checkpoint, that of the best one first."""
        return (self.select_by, *self.also_by)

    @property
    def judged_by(self) -> str:
        """Splits and thresholds that they are values of."""
        return f"{' and '.join((self.eval_name, *self.more_loaders))}, {self.metrics}"


def fill_vocabulary(model_config: Any, size: int, *, grows: bool = False) -> None:
    """Replace every `vocab_size: 0` of a model section, which stands for "as the tokeniser", in place.

    Args:
        model_config: the section.
        size: entries of the tokeniser.
        grows: entries were appended to a checkpoint's vocabulary, so a smaller number is that of before.
    """
    for entry in dataclasses.fields(model_config):
        value = getattr(model_config, entry.name)
        if dataclasses.is_dataclass(value):
            fill_vocabulary(value, size, grows=grows)
        elif entry.name == "vocab_size" and (value == 0 or (grows and value < size)):
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


def _resumed(config: Config, comm: Any) -> Description | None:
    """What the checkpoint says that this run continues, or None for a fresh start."""
    source = resume_path(config.train, RunFolder.of(config.train)) if comm.rank == 0 else None
    source = comm.broadcast_object(str(source) if source else None)
    agree_on_files(comm, [source] if source else [])
    return read_description(source) if source else None


def _datasets(data: DataConfig) -> tuple[Dataset, Dataset | None, str]:
    """Training split, evaluated split (or None) and its name; what is wrong in either is told before the first step."""
    training = build_dataset(data, data.train_split)
    name = next(iter(eval_splits(data)), "")
    scored = build_dataset(data, name) if name else None
    for dataset in filter(None, (training, scored)):
        dataset.require_referents()
    if scored is not None and scored.kind != training.kind:
        raise ConfigError(
            f"data.dataset={data.dataset!r}: split {data.train_split!r} is of the kind {training.kind}, "
            f"{name!r} of the kind {scored.kind}; name splits of one kind"
        )
    return training, scored, name


def _further_splits(config: Config) -> dict[str, Dataset]:
    """The evaluation splits behind the first one, where checkpoints are chosen by the mean over all of them."""
    if config.eval.select_over == "first":
        return {}
    found = {name: build_dataset(config.data, name) for name in list(eval_splits(config.data))[1:]}
    for dataset in found.values():
        dataset.require_referents()
    return found


def _vocabulary_sentences(data: DataConfig, training: Dataset, scored: Dataset | None) -> list[str]:
    """Sentences that a vocabulary is built from: those of the training, or of all splits, each split once."""
    sentences = training.sentences()
    if data.vocab_from == "all" and not data.vocab:
        for name in dict.fromkeys(eval_splits(data)):
            if name != data.train_split:
                known = scored is not None and scored.split == name
                sentences += (scored if known and scored is not None else build_dataset(data, name)).sentences()
    return sentences


def _tell_counts(name: str, loader: Loader, eval_loader: Loader | None, eval_name: str, joint_batch: int) -> None:
    """Say how many samples there are, what an epoch leaves out, and which sentences are drawn."""
    left = loader.count - len(loader) * joint_batch
    _LOG.info(
        "%s: %d training samples%s, %s",
        name,
        loader.count,
        f" ({left} a shuffled epoch leaves out: they fill no batch)" if left else "",
        f"{eval_loader.count} in {eval_name}" if eval_loader is not None else "no split to evaluate",
    )
    if loader.sentences == "one":
        _LOG.info(
            "every epoch takes one sentence of each object (data.sentences=one): %d objects with %d sentences%s",
            loader.count,
            len(loader.dataset),
            f", {eval_loader.count} with {len(eval_loader.dataset)} in {eval_name}" if eval_loader else "",
        )


def assemble(config: Config, comm: Any) -> RunParts:
    """Read the data, choose the vocabulary, build the model.

    `config` gets its vocabulary size filled in, and answers that the data cannot teach left out (`narrow_answers`).

    Args:
        config: resolved.
        comm: `runtime.distributed.Comm`.
    """
    data = config.data
    training, scored, eval_name = _datasets(data)
    narrow_answers(config, training)
    task = task_for(training.kind, model_interface(config), f"data.dataset={data.dataset!r}")
    thresholds = MetricSettings.of(config.eval)
    vocabulary = None
    if task.asks_expression:
        vocabulary = choose_vocabulary(config, _vocabulary_sentences(data, training, scored), _resumed(config, comm))
        fill_vocabulary(config.model, vocabulary.tokenizer.vocab_size, grows=bool(vocabulary.source))
    tokenizer = vocabulary.tokenizer if vocabulary is not None else None
    if scored is not None and task.has_classes:
        check_same_categories(training.categories, scored)
    chooses = task.selecting_metrics(config.eval.select_by, thresholds, scored)
    model = build_model(config)
    check_vocabulary(tokenizer, parameter_shapes(model), "the configuration", error=ConfigError)
    drawn = data.sentences
    loader = make_loader(config, training, task, model, tokenizer, comm, training=True, sentences=drawn)
    eval_loader, more_loaders = None, {}
    if scored is not None:
        eval_loader = make_loader(config, scored, task, model, tokenizer, comm, training=False, sentences=drawn)
        for split, further in _further_splits(config).items():
            more_loaders[split] = make_loader(
                config, further, task, model, tokenizer, comm, training=False, sentences=drawn
            )
    _tell_counts(training.name, loader, eval_loader, eval_name, config.train.batch_size * comm.size)
    return RunParts(
        model=model,
        task=task,
        tokenizer=tokenizer,
        loader=loader,
        eval_loader=eval_loader,
        select_by=chooses[0],
        also_by=chooses[1:],
        more_loaders=more_loaders,
        metrics=thresholds,
        load_initial=lambda: load_pretrained(
            model,
            config.train.pretrained,
            partial=config.train.partial,
            random_parts=config.train.random_encoders,
            fresh=config.train.fresh,
            config=config,
            built_vocabulary=vocabulary is not None and vocabulary.built,
            tokenizer=tokenizer,
        ),
        eval_name=eval_name,
        data_fingerprint=training.fingerprint,
        sentences=digest_of_sentences(training.sentences()),
        categories=dict(training.categories),
        drawn=drawn,
    )
