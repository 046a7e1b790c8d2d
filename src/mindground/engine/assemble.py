"""From a configuration to the parts of a run: data, tokeniser, model, metrics."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mindground.data import build_dataset, eval_splits
from mindground.engine.pretrained import load_pretrained
from mindground.models import build_model
from mindground.models.base import GroundingModel

if TYPE_CHECKING:
    from mindground.config import Config
    from mindground.data import Dataset
    from mindground.text import Tokenizer

__all__ = ["Parts", "assemble", "eval_loader", "fill_vocabulary", "make_metrics"]

_LOG = logging.getLogger("mindground")


@dataclass
class Parts:
    """What a run is made of.

    Attributes:
        model: freshly initialised; `load_initial` puts pretrained weights into it.
        tokenizer: kept in checkpoints; None for a family without text.
        loader: training batches of this rank.
        eval_loader: batches of the split that chooses the best checkpoint, or None.
        make_metrics: a fresh metrics object for every evaluation.
        load_initial: called once for a run that starts anew, never on resume.
    """

    model: GroundingModel
    tokenizer: Tokenizer | None
    loader: Any
    eval_loader: Any | None
    make_metrics: Callable[[], Any]
    load_initial: Callable[[], Any] | None = None
    eval_name: str = ""


def fill_vocabulary(model_config: Any, size: int) -> None:
    """Replace every `vocab_size: 0` of a model section, which stands for "as the tokeniser", in place."""
    for field in dataclasses.fields(model_config):
        value = getattr(model_config, field.name)
        if dataclasses.is_dataclass(value):
            fill_vocabulary(value, size)
        elif field.name == "vocab_size" and value == 0:
            model_config.vocab_size = size


def eval_loader(config: Config, dataset: Dataset, tokenizer: Tokenizer, comm: Any) -> Any:
    """Batches of an evaluation split for this rank."""
    from mindground.data.loader import Loader
    from mindground.data.transforms import ReferringTransform

    transform = ReferringTransform(config.data, tokenizer, training=False)
    return Loader(
        dataset,
        transform,
        config.eval.batch_size,
        training=False,
        seed=config.train.seed,
        rank=comm.rank,
        world=comm.size,
        workers=config.data.num_workers,
    )


def make_metrics(config: Config) -> Any:
    """A fresh metrics object for the configured task."""
    from mindground.metrics.referring import ReferringMetrics

    return ReferringMetrics(config.eval.iou_threshold, config.eval.mask_threshold)


def assemble(config: Config, comm: Any) -> Parts:
    """Read the data, build tokeniser and model; `config` gets its vocabulary size filled in."""
    from mindground.data.loader import Loader
    from mindground.data.transforms import ReferringTransform
    from mindground.text import build_tokenizer

    data, train = config.data, config.train
    training = build_dataset(data, data.train_split)
    splits = eval_splits(data)
    tokenizer = build_tokenizer(data, training.sentences())
    fill_vocabulary(config.model, tokenizer.vocab_size)
    loader = Loader(
        training,
        ReferringTransform(data, tokenizer, training=True),
        train.batch_size,
        training=True,
        seed=train.seed,
        rank=comm.rank,
        world=comm.size,
        workers=data.num_workers,
    )
    scored = build_dataset(data, splits[0]) if splits else None
    _LOG.info(
        "%s: %d training samples, %s", training.name, len(training), f"{len(scored)} in {splits[0]}" if scored else "-"
    )
    model = build_model(config)
    return Parts(
        model=model,
        tokenizer=tokenizer,
        loader=loader,
        eval_loader=eval_loader(config, scored, tokenizer, comm) if scored else None,
        make_metrics=lambda: make_metrics(config),
        load_initial=lambda: load_pretrained(model, train),
        eval_name=splits[0] if splits else "",
    )
