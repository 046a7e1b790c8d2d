"""The configuration of a training that starts from a checkpoint: `mindground train --from best.ckpt`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mindground.config import TrainConfig
from mindground.engine.checkpoint import read_description, stored_config
from mindground.engine.run_folder import RunFolder
from mindground.errors import ConfigError

if TYPE_CHECKING:
    from mindground.config import Config

__all__ = ["LR_FACTOR", "fine_tuning"]

_LOG = logging.getLogger("mindground")

# On the checkpoint's learning rate: its weights are good already, and the moments of the optimiser start anew.
LR_FACTOR = 0.1


def fine_tuning(checkpoint: str | Path, adjust: Callable[[Config], Config] = lambda config: config) -> Config:
    """The configuration of a run that starts from the weights and the vocabulary of a checkpoint.

    It is that of the checkpoint with a tenth of its learning rate, no warm-up, a run folder of its own
    (`runs/<name>_finetuned`), nothing else to start from, and `adjust` on top.

    Args:
        checkpoint: file of ours.
        adjust: lays a file and the command line over it.

    Raises:
        CheckpointError: no checkpoint, or a damaged one.
        ConfigError: an override that cannot work, or a run folder that is the checkpoint's own.
    """
    path = Path(checkpoint)
    stored = stored_config(read_description(path))
    start = replace(stored, train=_train(stored.train, path), data=replace(stored.data, vocab=""))
    start.device = replace(stored.device, device_target="auto")
    config = adjust(start)
    if config.data.dataset != stored.data.dataset:
        # Folders and splits of the other data set mean nothing for this one.
        usual = replace(start.data, image_root="", mask_path="", train_split="train")
        config = adjust(replace(start, data=usual))
    folder = RunFolder.of(config.train).path
    if folder.resolve() == path.parent.resolve():
        raise ConfigError(
            f"the run folder {folder} is that of the checkpoint; name another with --train.experiment_name"
        )
    _LOG.info(
        "training starts from %s: its configuration, vocabulary and weights, learning rate %g (it had %g; --train.lr "
        "sets another), no warm-up, run folder %s",
        path,
        config.train.lr,
        stored.train.lr,
        folder,
    )
    return config


def _train(stored: TrainConfig, path: Path) -> TrainConfig:
    schedule = list(stored.schedule)
    while len(schedule) > 1 and schedule[0].kind == "linear" and schedule[0].start < schedule[0].last:
        schedule = schedule[1:]
    name = stored.experiment_name + (f"_{stored.short_comment}" if stored.short_comment else "")
    # A checkpoint of somebody else must not say where we write.
    name = name if name.replace("_", "").replace("-", "").isalnum() else path.stem
    usual = TrainConfig()
    return replace(
        stored,
        lr=float(f"{stored.lr * LR_FACTOR:.12g}"),  # 0.0003, as a person writes it
        schedule=schedule,
        warmup_steps=0,
        pretrained={"model": str(path)},
        partial=False,
        fresh=[],
        resume="",
        output_dir=usual.output_dir,
        experiment_name=f"{name}_finetuned",
        short_comment="",
        feature_cache="",
    )
