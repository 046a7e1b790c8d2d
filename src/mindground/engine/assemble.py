"""From a configuration to the parts of a run: data, tokeniser, model, metrics."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mindground.data import build_dataset, eval_splits
from mindground.data.loader import Loader
from mindground.data.transforms import transform_for
from mindground.engine.pretrained import load_pretrained
from mindground.metrics import metrics_for
from mindground.models import build_model
from mindground.models.base import GroundingModel
from mindground.runtime import device
from mindground.text import build_tokenizer

if TYPE_CHECKING:
    from mindground.config import Config
    from mindground.data import Dataset
    from mindground.metrics import ReferringMetrics
    from mindground.metrics.instances import InstanceMetrics
    from mindground.runtime.device import DeviceInfo
    from mindground.text import Tokenizer

__all__ = ["Parts", "assemble", "fill_vocabulary", "make_loader", "make_metrics"]

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
        eval_name: split of `eval_loader`.
        data_fingerprint: of the training data (`Dataset.fingerprint`); kept in checkpoints.
    """

    model: GroundingModel
    tokenizer: Tokenizer | None
    loader: Any
    eval_loader: Any | None
    make_metrics: Callable[[], Any]
    load_initial: Callable[[], Any] | None = None
    eval_name: str = ""
    data_fingerprint: str = ""


def fill_vocabulary(model_config: Any, size: int) -> None:
    """Replace every `vocab_size: 0` of a model section, which stands for "as the tokeniser", in place."""
    for field in dataclasses.fields(model_config):
        value = getattr(model_config, field.name)
        if dataclasses.is_dataclass(value):
            fill_vocabulary(value, size)
        elif field.name == "vocab_size" and value == 0:
            model_config.vocab_size = size


def make_loader(config: Config, dataset: Dataset, tokenizer: Tokenizer | None, comm: Any, *, training: bool) -> Loader:
    """Batches of a data set for this rank, prepared as its samples ask.

    Raises:
        ConfigError: no transform for such samples, or fewer of them than one joint batch.
    """
    return Loader(
        dataset,
        transform_for(dataset, config.data, tokenizer, training),
        config.train.batch_size if training else config.eval.batch_size,
        training=training,
        seed=config.train.seed,
        rank=comm.rank,
        world=comm.size,
        workers=config.data.num_workers,
        variants=config.data.augment_variants if training else 1,
    )


def make_metrics(config: Config, dataset: Dataset) -> ReferringMetrics | InstanceMetrics:
    """A fresh metrics object for what the samples of a data set ask."""
    limits = config.eval
    return metrics_for(
        dataset.samples,
        iou_threshold=limits.iou_threshold,
        mask_threshold=limits.mask_threshold,
        box_thresholds=limits.box_thresholds,
    )


def assemble(config: Config, comm: Any, info: DeviceInfo) -> Parts:
    """Read the data, build tokeniser and model; `config` gets its vocabulary size filled in.

    Args:
        config: resolved.
        comm: `distributed.Comm`.
        info: what `device.apply` selected; its precision is the model's.
    """
    data, train = config.data, config.train
    training = build_dataset(data, data.train_split)
    splits = eval_splits(data)
    asks = training.kind == "referring"
    tokenizer = build_tokenizer(data.tokenizer, data.vocab, training.sentences()) if asks else None
    if tokenizer is not None:
        fill_vocabulary(config.model, tokenizer.vocab_size)
    loader = make_loader(config, training, tokenizer, comm, training=True)
    scored = build_dataset(data, splits[0]) if splits else None
    left = len(training) - len(loader) * train.batch_size * comm.size
    _LOG.info(
        "%s: %d training samples%s, %s",
        training.name,
        len(training),
        f" ({left} a shuffled epoch leaves out: they fill no batch)" if left else "",
        f"{len(scored)} in {splits[0]}" if scored else "no split to evaluate",
    )
    model = device.mixed_precision(build_model(config), info)
    return Parts(
        model=model,
        tokenizer=tokenizer,
        loader=loader,
        eval_loader=make_loader(config, scored, tokenizer, comm, training=False) if scored else None,
        make_metrics=lambda: make_metrics(config, scored if scored else training),
        load_initial=lambda: load_pretrained(model, train, config),
        eval_name=splits[0] if splits else "",
        data_fingerprint=training.fingerprint,
    )
