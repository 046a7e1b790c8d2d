"""Where a run is kept, and when an earlier one may be continued."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mindground.data.dataset import Dataset
from mindground.errors import CheckpointError, ConfigError, DataError, printable
from mindground.files.atomic import remove_unfinished

try:
    import fcntl
except ImportError:  # systems without such locks
    fcntl = None  # type: ignore[assignment]

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
    best_M.ckpt  the same by M, where it names several
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

    def best_by(self, metric: str) -> Path:
        """The checkpoint that a further metric of `eval.select_by` chose."""
        return self.path / f"best_{metric}.ckpt"

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

    @property
    def lock(self) -> Path:
        """The file that a running training holds: beside the folder, which may be moved aside or deleted."""
        return self.path.with_name(f".{self.path.name}.lock")

    @property
    def ranks(self) -> Path:
        """The folder through which the ranks of a running training watch each other."""
        return self.path.with_name(f".{self.path.name}.ranks")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Inside the block no other process trains in this folder. The lock ends with the process, however it ends.

        Raises:
            CheckpointError: another process trains here, or the folder of the runs cannot be written.
        """
        if fcntl is None:
            yield
            return
        fresh = not self.lock.parent.exists()
        with self._told():
            self.lock.parent.mkdir(parents=True, exist_ok=True)
            stream = self._own_lock()
        try:
            yield
        finally:
            # Whoever waits for it notices that the file is another one.
            self.lock.unlink(missing_ok=True)
            stream.close()
            if fresh:
                with suppress(OSError):
                    self.lock.parent.rmdir()  # a run that was refused leaves no empty folder

    def _own_lock(self) -> BinaryIO:
        while True:
            stream = self.lock.open("ab")
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                stream.close()
                raise CheckpointError(
                    f"another process trains in {printable(self.path, 300)}; wait for its end, or choose another "
                    "folder with --train.short_comment"
                ) from error
            except OSError as error:
                _LOG.warning("%s: this file system has no locks (%s); start no second training here", self.lock, error)
                return stream
            if os.path.exists(self.lock) and os.path.samestat(os.fstat(stream.fileno()), os.stat(self.lock)):
                return stream
            # The former owner has removed the file between our opening and our locking it.
            stream.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What the file system refuses, in one sentence."""
        try:
            yield
        except OSError as error:
            place = printable(error.filename or self.path, 300)
            raise CheckpointError(
                f"run folder {printable(self.path, 300)} cannot be used ({place}: {error.strerror or error}); choose "
                "another with --train.output_dir or --train.experiment_name"
            ) from error

    def open(self, *, fresh: bool) -> None:
        """Make the folder; a fresh start moves an earlier run of the same name aside instead of mixing with it.

        Raises:
            CheckpointError: the file system refuses it.
        """
        with self._told():
            self._open(fresh)

    def _open(self, fresh: bool) -> None:
        if fresh and (self.last.exists() or self.best.exists() or self.log.exists()):
            number = 1
            while (aside := self.path.with_name(f"{self.path.name}.old-{number}")).exists():
                number += 1
            self.path.rename(aside)
            _LOG.warning("an earlier run was moved to %s; --train.resume=auto would have continued it", aside)
        self.path.mkdir(parents=True, exist_ok=True)
        for path in (self.last, self.best, self.config, self.metrics, self.curve, self.log):
            remove_unfinished(path)  # as large as a checkpoint, each
        for path in self.path.glob(".best_*.tmp"):
            path.unlink()


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
