"""Where a run is kept, and when an earlier one may be continued."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mindground.errors import CheckpointError

if TYPE_CHECKING:
    from mindground.config import Config

__all__ = ["RunFolder", "check_same_data", "check_same_run", "resume_path"]

_LOG = logging.getLogger("mindground")

# Keys that may change between the parts of one run: they move files, lengthen the run or change how it is watched.
_FREE = (
    "train.resume train.max_epochs train.max_steps train.output_dir train.experiment_name train.short_comment "
    "train.log_freq train.eval_step train.save_steps train.batch_size train.batch_sum train.pretrained_path "
    "train.text_pretrained_path train.feature_cache data.num_workers data.image_cache_mb data.root data.image_root "
    "data.mask_path data.vocab data.eval_splits"
).split()
_FREE_SECTIONS = ("eval.", "device.")


@dataclass(frozen=True)
class RunFolder:
    """Files of one run.

    best.ckpt    weights with the best `eval.select_by`     last.ckpt    everything needed to continue
    config.yaml  the resolved configuration                 log.jsonl    one line per record
    tensorboard/ curves                                     metrics.json results of the last evaluation
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


def check_same_run(stored: Mapping[str, Any], config: Config, path: Path) -> None:
    """Raises CheckpointError that names every key in which a run and its continuation disagree."""
    from mindground.config import to_dict

    before, now = _flat(stored), _flat(to_dict(config))
    changed = [
        f"{key} was {before.get(key)!r}, is {now.get(key)!r}"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key) and key not in _FREE and not key.startswith(_FREE_SECTIONS)
    ]
    if changed:
        raise CheckpointError(
            f"{path} belongs to a run with other settings ({'; '.join(changed)}); give the same settings, or start "
            "anew with --train.resume= and another --train.short_comment"
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


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
