"""The training loop of every family: position, schedule, evaluation, checkpoints, an orderly end."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mindspore as ms
import numpy as np

from mindground.engine.assemble import Parts, assemble
from mindground.engine.checkpoint import read_checkpoint, save_checkpoint
from mindground.engine.ema import averaged_weights
from mindground.engine.evaluator import Forward, evaluate
from mindground.engine.features import CachedLoader, FeatureEncoder, open_store
from mindground.engine.logs import RunLog
from mindground.engine.optim.adamw import AdamW, build_optimizer, scaled_rates
from mindground.engine.progress import Progress
from mindground.engine.run_folder import RunFolder, check_same_data, check_same_run, resume_path
from mindground.engine.schedules import lr_factor
from mindground.engine.signals import RunInterrupted, StopRequest
from mindground.engine.step import TrainStep
from mindground.errors import CheckpointError, ConfigError
from mindground.files.atomic import write_json
from mindground.weights.load import load_into

if TYPE_CHECKING:
    from mindground.config import Config

__all__ = ["Position", "Trainer", "train"]

_LOG = logging.getLogger("mindground")


@dataclass
class Position:
    """Where a run stands; everything random follows from it and the seed.

    Attributes:
        step: optimiser steps made.
        epoch: epoch under way, from 0.
        rows: samples of this epoch used so far, over all ranks.
        best: highest value of `eval.select_by` so far, or None.
        metrics: last evaluation.
    """

    step: int = 0
    epoch: int = 0
    rows: int = 0
    best: float | None = None
    best_step: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    updates: int = 0
    loss_scale: float = 1.0
    rows_per_step: int = 0
    seed: int = 0


def train(config: Config, comm: Any | None = None) -> Path:
    """Run the job that a configuration describes; returns the run folder.

    Raises:
        MindGroundError: bad configuration, data, weights or checkpoint; a loss that is not finite.
        RunInterrupted: SIGTERM or Ctrl-C; the position was saved.
    """
    from mindground.config import fingerprint
    from mindground.runtime import device, distributed

    info = device.apply(config.device)
    comm = comm or distributed.get_comm(config.device)
    distributed.agree(comm, fingerprint(config))
    device.seed_everything(config.train.seed)
    _LOG.info("device %s, %s mode, %s, %d rank(s)", info.target, config.device.mode_name, info.precision, comm.size)
    return Trainer(config, comm, assemble(config, comm, info)).run()


class Trainer:
    """One run: built from parts, continued from a checkpoint if asked, run to its end.

    Args:
        config: resolved; `train` says how long and how.
        comm: `distributed.Comm`.
        parts: model, data and metrics.
    """

    def __init__(self, config: Config, comm: Any, parts: Parts) -> None:
        self.config, self.comm, self.parts, self.settings = config, comm, parts, config.train
        self.leads = comm.rank == 0
        self.micro = self.settings.micro_steps(comm.size)
        self.steps_per_epoch = len(parts.loader) // self.micro
        if self.steps_per_epoch == 0:
            raise ConfigError(
                f"an epoch has {len(parts.loader)} batches of {self.settings.batch_size} rows per rank, fewer than the "
                f"{self.micro} of one step: lower train.batch_size or train.batch_sum"
            )
        self.total_steps = self.settings.max_steps or self.settings.max_epochs * self.steps_per_epoch
        self.folder = RunFolder.of(self.settings)
        self.position = Position(
            rows_per_step=self.micro * self.settings.batch_size * comm.size, seed=self.settings.seed
        )
        self.stop = StopRequest()

    # ---- start -------------------------------------------------------------------------------------------------

    def run(self) -> Path:
        """Train to the end and return the run folder; at once if the run is complete already."""
        source = resume_path(self.settings, self.folder)
        source = self.comm.broadcast_object(str(source) if source else None)
        contents = read_checkpoint(source) if source else None
        if contents is not None:
            check_same_run(contents.config, self.config, contents.path)
            check_same_data(contents.state, self.parts.data_fingerprint, f"continue {contents.path}")
            self._take_position(contents.state)
            if self.position.step >= self.total_steps:
                _LOG.info("the run in %s is complete (%d steps)", self.folder.path, self.position.step)
                return self.folder.path
        elif self.parts.load_initial is not None:
            self.parts.load_initial()
        if contents is not None:
            load_into(self.parts.model, contents.part("model"), source=str(source))
        self._same_start_everywhere()
        rated, factor = scaled_rates(self.settings, self.position.rows_per_step)
        if factor != 1.0:
            _LOG.info(
                "learning rates times %g: a step has %d rows, and the rates are those of %d (train.lr_reference_batch; "
                "0 takes the rates as they are)",
                factor,
                self.position.rows_per_step,
                self.settings.lr_reference_batch,
            )
        optimizer = build_optimizer(self.parts.model, rated)
        self.names = {id(p): name for name, p in self.parts.model.parameters_and_names()}
        if contents is not None:
            tensors = {**contents.part("optimizer"), **{f"ema/{k}": v for k, v in contents.part("ema").items()}}
            optimizer.load_state(tensors, self.names, self.position.updates)
        self._compile(optimizer)
        if contents is not None:
            self.step.loss_scale = self.position.loss_scale
        self._open(contents is not None)
        try:
            with self.stop.listening():
                self._epochs()
        finally:
            self.log.close()
        self.comm.barrier()
        return self.folder.path

    def _compile(self, optimizer: AdamW) -> None:
        """The step, the forward pass, and loaders that keep features where frozen encoders allow it."""
        parts, device = self.parts, self.config.device
        graph = device.mode_name == "GRAPH"
        store = open_store(self.config, parts.model)
        if store is not None:
            encoder = FeatureEncoder(parts.model, self.settings.batch_size, graph=graph)
            parts.loader = CachedLoader(parts.loader, encoder, store)
            if parts.eval_loader is not None:
                parts.eval_loader = CachedLoader(parts.eval_loader, encoder, store)
        kept = store is not None
        self.step = TrainStep(
            parts.model, optimizer, self.comm, self.settings, graph=graph, precision=device.precision, features=kept
        )
        self.forward = Forward(parts.model, graph=graph, features=kept)

    def _take_position(self, state: dict[str, Any]) -> None:
        known = asdict(self.position)
        position = Position(**{key: state[key] for key in known if key in state})
        if position.rows_per_step != self.position.rows_per_step:
            raise CheckpointError(
                f"the run used {position.rows_per_step} samples per step, this continuation "
                f"{self.position.rows_per_step}; set train.batch_sum={position.rows_per_step} "
                "(batch_size x ranks must divide it)"
            )
        joint = self.settings.batch_size * self.comm.size
        if position.rows % joint:
            raise CheckpointError(
                f"the run stopped {position.rows} samples into an epoch, no multiple of {joint} per batch"
            )
        self.position = position

    def _same_start_everywhere(self) -> None:
        """All ranks take the parameters of the first, whatever their own initialisation was."""
        if self.comm.size == 1:
            return
        for _, parameter in self.parts.model.parameters_and_names():
            value = self.comm.broadcast_object(parameter.asnumpy() if self.leads else None)
            if not self.leads:
                parameter.set_data(ms.Tensor(value, parameter.dtype))

    def _name_what_is_left_out(self) -> None:
        """Batches that do not fill a step at an epoch's end; epochs are shuffled, so they are others every time."""
        left = len(self.parts.loader) % self.micro
        if left:
            _LOG.info(
                "every epoch leaves out %d of its %d batches of %d samples: a step takes %d of them",
                left,
                len(self.parts.loader),
                self.settings.batch_size * self.comm.size,
                self.micro,
            )

    def _open(self, resumed: bool) -> None:
        from mindground.config import dump_yaml

        if self.leads:
            self.folder.open(fresh=not resumed)
            dump_yaml(self.config, self.folder.config)
        self.comm.barrier()
        self.log = RunLog(self.folder, writes=self.leads, since=self.position.step if resumed else None)
        self._name_what_is_left_out()
        for name, (rate, decay) in self.step.optimizer.groups_by_name.items():
            _LOG.info("group %s: learning rate %g, weight decay %g", name, rate, decay)
        if resumed:
            _LOG.info("continue at step %d of %d (epoch %d)", self.position.step, self.total_steps, self.position.epoch)

    # ---- the loop ----------------------------------------------------------------------------------------------

    def _epochs(self) -> None:
        bar = Progress(
            "train", self.total_steps, done=self.position.step, every=self.settings.log_freq, shown=self.leads
        )
        with bar:
            while self.position.step < self.total_steps:
                self._epoch(bar)
        if self.leads:
            _LOG.info("done: %s", self.folder.path)

    def _epoch(self, bar: Progress) -> None:
        joint = self.settings.batch_size * self.comm.size
        batches = self.parts.loader.epoch(self.position.epoch, start_batch=self.position.rows // joint)
        made = self.position.rows // self.position.rows_per_step
        for _ in range(made, self.steps_per_epoch):
            started = time.monotonic()
            group = [next(batches) for _ in range(self.micro)]
            waited = time.monotonic() - started
            factor = lr_factor(self.settings, self.position.step, self.steps_per_epoch, self.total_steps)
            terms = self.step(group, factor, self.position.step, stop=bool(self.stop.signal))
            stopping = terms.pop("stop") > 0
            self.position.step += 1
            self.position.rows += self.position.rows_per_step
            self._note(bar, terms, factor, waited, time.monotonic() - started)
            last = self.position.step >= self.total_steps
            if stopping:
                self._interrupted()
            if last:
                break
            if self.settings.save_steps and self.position.step % self.settings.save_steps == 0:
                self._save_last()
        self._end_epoch()

    def _turn_epoch(self) -> None:
        """What is saved after an epoch's last step says that the next has begun; a resumed run starts there."""
        if self.position.rows >= self.steps_per_epoch * self.position.rows_per_step:
            self.position.epoch, self.position.rows = self.position.epoch + 1, 0

    def _end_epoch(self) -> None:
        self._turn_epoch()
        last = self.position.step >= self.total_steps
        if self.parts.eval_loader is not None and (last or self.position.epoch % self.settings.eval_step == 0):
            self._evaluate()
        self._save_last()

    def _note(self, bar: Progress, terms: dict[str, float], factor: float, waited: float, spent: float) -> None:
        bar.advance(f"epoch {self.position.epoch + 1}, loss {terms['total']:.4f}")
        if self.position.step % self.settings.log_freq == 0 or self.position.step in (1, self.total_steps):
            self.log.record(
                "train",
                self.position.step,
                {
                    "epoch": self.position.epoch,
                    "lr_factor": factor,
                    **terms,
                    "seconds": round(spent, 4),
                    "waited_for_data": round(waited, 4),
                },
            )

    # ---- evaluation and checkpoints ----------------------------------------------------------------------------

    def _evaluate(self) -> None:
        with averaged_weights(self.step.optimizer):
            metrics, _ = evaluate(
                self.forward, self.parts.eval_loader, self.comm, self.parts.make_metrics(), title=self.parts.eval_name
            )
        self.position.metrics = metrics
        self.log.record(
            "eval", self.position.step, {"epoch": self.position.epoch, "split": self.parts.eval_name, **metrics}
        )
        key = self.config.eval.select_by
        if key not in metrics:
            raise ConfigError(f"eval.select_by={key!r} is no metric of this run; choose one of {', '.join(metrics)}")
        _LOG.info("%s: %s", self.parts.eval_name, ", ".join(f"{k} {v:.4f}" for k, v in metrics.items()))
        value = metrics[key]
        # NaN never becomes the best.
        if math.isfinite(value) and (self.position.best is None or value > self.position.best):
            self.position.best, self.position.best_step = value, self.position.step
            if self.leads:
                self._save(self.folder.best, full=False)
                write_json(self.folder.metrics, {"split": self.parts.eval_name, "step": self.position.step, **metrics})

    def _save_last(self) -> None:
        self.position.updates = self.step.optimizer.updates
        self.position.loss_scale = self.step.loss_scale
        if self.leads:
            self._save(self.folder.last, full=True)
        self.comm.barrier()

    def _save(self, path: Path, *, full: bool) -> None:
        state = self.step.optimizer.state(self.names)
        average = {name[4:]: value for name, value in state.items() if name.startswith("ema/")}
        extra: dict[str, np.ndarray] = {}
        if full:
            extra = {f"optimizer/{name}": value for name, value in state.items() if not name.startswith("ema/")}
            extra.update({f"ema/{name}": value for name, value in average.items()})
        save_checkpoint(
            path,
            self.parts.model,
            self.config,
            self.parts.tokenizer,
            {
                **asdict(self.position),
                "complete": self.position.step >= self.total_steps,
                "data_fingerprint": self.parts.data_fingerprint,
            },
            extra=extra,
            weights=None if full else average,
        )

    def _interrupted(self) -> None:
        self._turn_epoch()
        self._save_last()
        number = self.comm.broadcast_object(self.stop.signal) or 15
        raise RunInterrupted(
            f"stopped by signal {number} after step {self.position.step}, saved {self.folder.last}; "
            "continue with --train.resume=auto",
            128 + int(number),
        )
