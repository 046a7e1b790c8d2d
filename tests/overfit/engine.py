"""The few functions of the engine that a learning proof uses; nothing else in this folder imports it."""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Trained", "asks_expressions", "configure", "first_batch", "judge", "source_file", "train"]

_HERE = Path(__file__).resolve().parent
# Keys of a transform, wherever it keeps them, that make an image another one in every epoch.
_SWITCHES = {"multi_scale", "translate", "aug_crop", "aug_scale", "aug_blur", "legacy_augmentation"}


@dataclass
class Trained:
    """What a training left.

    Attributes:
        checkpoint: with the weights of the last step.
        steps: optimiser steps made.
        seconds: from the first look at the data to the last checkpoint, compilation included.
        history: (step, metrics) of every evaluation on the samples themselves.
        losses: total loss of the steps that were logged.
    """

    checkpoint: Path
    steps: int
    seconds: float
    history: list[tuple[int, dict[str, float]]]
    losses: list[float]


def source_file(family: str, variant: str = "") -> Path:
    """The small configuration that a proof trains: `<family>[-<variant>].yaml` here, else the family's small default.

    Raises:
        FileNotFoundError: none of them is there.
    """
    own = _HERE / f"{family}{f'-{variant}' if variant else ''}.yaml"
    from mindground.config import registry

    places = [own]
    default = registry.family(family).default_file
    if not variant and default is not None:
        places.append(default)
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise FileNotFoundError(f"no configuration for a learning proof: write {own}, with `base:` naming a small one")
    return found


def configure(source: Path, data: Path, out: Path, *, steps: int, samples: int, seed: int, extra: Sequence[str]) -> Any:
    """The resolved configuration of a proof: `samples` a step, no augmentation, an evaluation after every epoch."""
    from mindground.config import load_config

    overrides = [
        "--data.dataset=jsonl",
        f"--data.root={data}",
        "--data.train_split=train",
        "--data.eval_splits=[same]",
        f"--train.batch_size={samples}",
        f"--train.batch_sum={samples}",
        f"--eval.batch_size={samples}",
        f"--train.max_steps={steps}",
        "--train.eval_step=1",
        f"--train.seed={seed}",
        "--train.resume=",
        f"--train.output_dir={out}",
        "--train.experiment_name=overfit",
    ]
    config = load_config(source, [*overrides, *extra])
    _still(config.data)
    return config


def _still(section: Any) -> None:
    """Take augmentation out of a section of the configuration, in place."""
    if dataclasses.is_dataclass(section):
        values: MutableMapping[str, Any] = vars(section)
    elif isinstance(section, MutableMapping):
        values = section
    else:
        return
    for name, value in values.items():
        if name.endswith("_prob"):
            values[name] = 0.0
        elif name in _SWITCHES:
            values[name] = False
        else:
            _still(value)


def asks_expressions(source: Path) -> bool:
    """Whether the family of a configuration answers sentences."""
    from mindground.config import load_config
    from mindground.models import model_interface

    return model_interface(load_config(source)).asks == "expression"


def train(config: Any) -> Trained:
    """Train on the samples of a proof.

    Raises:
        ValueError: an image is another one in the next epoch, so that augmentation is still at work.
    """
    from mindground.engine.assemble import assemble
    from mindground.engine.trainer import Trainer
    from mindground.runtime import device, distributed

    start = time.monotonic()
    device.apply(**vars(config.device))
    comm = distributed.get_comm()
    device.seed_everything(config.train.seed)
    parts = assemble(config, comm)
    _check_still(parts.loader)
    folder = Trainer(config, comm, parts).run()
    seconds = time.monotonic() - start
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").split("\n") if line]
    history = [(line["step"], line) for line in lines if line["kind"] == "eval"]
    losses = [line["total"] for line in lines if line["kind"] == "train"]
    return Trained(folder / "last.ckpt", history[-1][0], seconds, history, losses)


def first_batch(config: Any) -> Any:
    """The first training batch of a configuration, with every array that its network and its loss take."""
    from mindground.engine.assemble import assemble
    from mindground.runtime import device, distributed

    device.apply(**vars(config.device))
    return next(iter(assemble(config, distributed.get_comm()).loader.epoch(0)))


def _check_still(loader: Any) -> None:
    first, second = ({} for _ in range(2))
    for number, seen in enumerate((first, second)):
        for batch in loader.epoch(number):
            for row, sample_id in enumerate(batch.sample_ids()):
                seen[sample_id] = np.array(batch.arrays["image"][row])
    moved = [name for name, image in first.items() if name in second and not np.array_equal(image, second[name])]
    if moved or not first:
        raise ValueError(f"samples {moved[:4]} differ between two epochs; switch off the augmentation of this recipe")


def judge(checkpoint: Path, split: str) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Metrics and per-sample records of a checkpoint on one split of its own data."""
    from mindground.engine.scoring import score

    with tempfile.TemporaryDirectory() as place:
        records = Path(place) / "records.jsonl"
        metrics = score(checkpoint, splits=[split], records=str(records))
        text = records.read_text(encoding="utf-8") if records.is_file() else ""
    lines = []
    for line in text.split("\n"):
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue  # instance results are one COCO list and not needed here
    return {name: value for name, value in metrics.items() if isinstance(value, float)}, lines
