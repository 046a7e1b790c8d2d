"""Where a run is kept, and when an earlier one may be continued."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mindground.data.dataset import Dataset
from mindground.errors import CheckpointError, ConfigError, DataError

if TYPE_CHECKING:
    from mindground.config import Config

__all__ = ["RunFolder", "check_same_categories", "check_same_data", "check_same_run", "resume_path"]

_LOG = logging.getLogger("mindground")

# Kinds of keys that may change between the parts of one run, and three keys besides: the trainer compares the samples
# of a step, whatever batch_size, batch_sum and ranks make them up, and a run may move to another kind of device.
_FREE = ("start", "length", "report", "place", "speed")
_FREE_KEYS = ("train.batch_size", "train.batch_sum", "device.precision")


@dataclass(frozen=True)
class RunFolder:
    """Files of one run.

    best.ckpt    weights with the best `eval.select_by`     last.ckpt    everything needed to continue
    config.yaml  the resolved configuration                 log.jsonl    one line per record
    tensorboard/ curves                                     metrics.json results of the best evaluation
    """

    path: Path

    @classmethod
    def of(cls, train: Any) -> RunFolder:
        """<output_dir>/<experiment_name>[_<short_comment>]"""
        name = train.experiment_name + (f"_{train.short_comment}" if train.short_comment else "")
        return cls(Path(train.output_dir) / name)

    @property
    def best(self) -> Path:
        return self.path / "best.ckpt"

    @property
    def last(self) -> Path:
        return self.path / "last.ckpt"

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def log(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.json"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def curve(self) -> Path:
        return self.path / "curve.png"

    def open(self, *, fresh: bool) -> None:
        """Make the folder; a fresh start moves an earlier run of the same name aside instead of mixing with it."""
        if fresh and (self.last.exists() or self.best.exists() or self.log.exists()):
            number = 1
            while (aside := self.path.with_name(f"{self.path.name}.old-{number}")).exists():
                number += 1
            self.path.rename(aside)
            _LOG.warning("an earlier run was moved to %s; --train.resume=auto would have continued it", aside)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(
                f"run folder {self.path} cannot be made ({error.strerror}); choose another with --train.output_dir"
            ) from error


def resume_path(train: Any, folder: RunFolder) -> Path | None:
    """Checkpoint to continue from, or None for a fresh start.

    Raises:
        CheckpointError: `train.resume` names a file that is not there.
    """
    if not train.resume:
        return None
    if train.resume == "auto":
        return folder.last if folder.last.exists() else None
    path = Path(train.resume)
    path = path / "last.ckpt" if path.is_dir() else path
    if not path.is_file():
        raise CheckpointError(f"train.resume={train.resume}: no such checkpoint; use auto, or the path of a last.ckpt")
    return path


def check_same_run(stored: Mapping[str, Any], config: Config, path: Path, schema: int | None = None) -> None:
    """Raises CheckpointError that names every key in which a run and its continuation disagree.

    Keys that change nothing of what is computed may differ (`mindground.config.keys.AFFECTS`); keys that the older
    version did not have count as their defaults.

    Args:
        stored: configuration of the checkpoint, as it was written.
        config: of the continuation.
        path: of the checkpoint.
        schema: of `stored`, as the checkpoint says.
    """
    from mindground.config import from_dict, to_dict
    from mindground.config.keys import affected, flat

    try:
        earlier = from_dict(stored, str(path), schema)
    except ConfigError as error:
        raise CheckpointError(f"the run cannot be continued: {error}") from error
    before, now = flat(to_dict(earlier)), flat(to_dict(config))
    kinds = dict([*affected(earlier, usual="numbers"), *affected(config, usual="numbers")])
    changed = [
        f"{key} was {before.get(key)!r}, is {now.get(key)!r}"
        for key in sorted({*before, *now})
        if kinds[key] not in _FREE and key not in _FREE_KEYS and not _same(before.get(key), now.get(key))
    ]
    if changed:
        raise CheckpointError(
            f"{path} belongs to a run with other settings ({'; '.join(changed)}); give the same settings, or start "
            "anew with --train.resume= and another --train.short_comment"
        )


def _same(before: Any, now: Any) -> bool:
    """Equal up to the rounding of rates, which older files state each by itself and newer ones as factors."""
    if isinstance(before, float) and isinstance(now, float):
        return math.isclose(before, now, rel_tol=1e-12)
    return bool(before == now)


def check_same_categories(trained: Mapping[int, str], dataset: Dataset) -> None:
    """Refuses instances whose category ids mean other classes than those that a model is trained on.

    Args:
        trained: id -> name of the training data's classes; empty fits everything.
        dataset: the split that is scored. Classes that the training data do not have are no contradiction.

    Raises:
        DataError: an id has another name, or a name another id; the first are named.
    """
    ids = {name: number for number, name in trained.items()}
    other = [
        f"{number} is {name!r} here and was {trained[number]!r}"
        for number, name in sorted(dataset.categories.items())
        if trained.get(number, name) != name
    ]
    moved = [
        f"{name!r} is {number} here and was {ids[name]}"
        for number, name in sorted(dataset.categories.items())
        if ids.get(name, number) != number
    ]
    if other or moved:
        raise DataError(
            f"the categories of {dataset.name} {dataset.split} are not those of the training data: "
            f"{'; '.join((other + moved)[:4])}. Give every split the same ids; JSON lines take them from "
            f'dataset.json: {{"categories": {json.dumps({str(key): trained[key] for key in sorted(trained)})}}}'
        )


def check_same_data(state: Mapping[str, Any], fingerprint: str, what: str, remedy: str = "") -> None:
    """Refuses data whose numbers mean other samples than those that a checkpoint was trained on.

    Args:
        state: of the checkpoint; its `data_fingerprint` may be absent or empty, which fits everything.
        fingerprint: of the data at hand, empty where they have none.
        what: the doing that is refused.
        remedy: what to set for doing it all the same.

    Raises:
        CheckpointError: both fingerprints are known and differ; both are named.
    """
    before = str(state.get("data_fingerprint") or "")
    if before and fingerprint and before != fingerprint:
        raise CheckpointError(
            f"cannot {what}: it was trained on data with the fingerprint {before[:12]}, the data here have "
            f"{fingerprint[:12]}. Another list of annotation files, files numbered unsorted, or another division into "
            "splits: the same numbers mean other samples, and what is tested may have been trained on. Use the data of "
            f"the training{remedy}"
        )
