"""The training loop of every family: position, schedule, evaluation, checkpoints, an orderly end."""

from __future__ import annotations

import logging
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mindground.engine.agreement import check_same_job, check_same_parts, same_parameters
from mindground.engine.assemble import RunParts, assemble
from mindground.engine.checkpoint import Contents, check_finite, read_checkpoint, save_checkpoint
from mindground.engine.ema import averaged_weights
from mindground.engine.evaluator import evaluate
from mindground.engine.features import FeatureLoader, open_stores
from mindground.engine.forward import Runner
from mindground.engine.logs import RunLog
from mindground.engine.optim import Optimizer, optimizer_from_config, scaled_rate
from mindground.engine.progress import Progress
from mindground.engine.run_folder import RunFolder, check_same_data, check_same_run, resume_path
from mindground.engine.schedules import lr_factor, name_long_warm_up, segments_of
from mindground.engine.selection import improved, keep_best, mean_scores
from mindground.engine.signals import RunInterrupted, StopRequest, called
from mindground.engine.step import TrainStep
from mindground.engine.train_state import TrainState, continued
from mindground.engine.vocabulary import check_same_sentences
from mindground.errors import ConfigError
from mindground.files.atomic import write_json
from mindground.nn.batch_norm import average_buffers, set_batch_norm
from mindground.weights.load import load_into

if TYPE_CHECKING:
    from mindground.config import Config

__all__ = ["Trainer", "train"]

_LOG = logging.getLogger("mindground")


def train(config: Config, comm: Any | None = None) -> Path:
    """Run the job that a configuration describes; returns the run folder.

    Raises:
        MindGroundError: bad configuration, data, weights or checkpoint; a loss that is not finite.
        RunInterrupted: SIGTERM or Ctrl-C; the position was saved.
    """
    from mindground.runtime import device, distributed
    from mindground.runtime.watch import watched

    info = device.apply(**vars(config.device))
    comm = comm or distributed.get_comm()
    with watched(comm, RunFolder.of(config.train).ranks, orderly=(RunInterrupted,)):
        check_same_job(config, comm)
        device.seed_everything(config.train.seed)
        _LOG.info("device %s, %s mode, %s, %d rank(s)", info.target, config.device.mode_name, info.precision, comm.size)
        parts = assemble(config, comm)
        check_same_parts(parts, comm)
        return Trainer(config, comm, parts).run()


class Trainer:
    """One run: built from parts, continued from a checkpoint if asked, run to its end.

    Args:
        config: resolved; `train` says how long and how.
        comm: `runtime.distributed.Comm`.
        parts: model, data and metrics.
    """

    def __init__(self, config: Config, comm: Any, parts: RunParts) -> None:
        self.config, self.comm, self.parts, self.settings = config, comm, parts, config.train
        self.leads = comm.rank == 0
        self.micro = self.settings.micro_steps(comm.size)
        self.steps_per_epoch = len(parts.loader) // self.micro
        if self.steps_per_epoch == 0:
            raise ConfigError(
                f"an epoch has {len(parts.loader)} batches of {self.settings.batch_size} samples per rank, fewer than "
                f"the {self.micro} of one step: lower train.batch_size or train.batch_sum"
            )
        self.total_steps = self.settings.max_steps or self.settings.max_epochs * self.steps_per_epoch
        self.segments = segments_of(self.settings)
        name_long_warm_up(self.segments, self.steps_per_epoch, self.total_steps)
        self.folder = RunFolder.of(self.settings)
        self.state = TrainState(
            samples_per_step=self.micro * self.settings.batch_size * comm.size,
            seed=self.settings.seed,
            best_by=f"{parts.select_by} of {parts.judged_by}",
            judged_by=parts.judged_by,
        )
        self.stop = StopRequest()

    # ---- start -------------------------------------------------------------------------------------------------

    def run(self) -> Path:
        """Train to the end and return the run folder; at once if the run is complete already.

        Raises:
            CheckpointError: another process trains in the folder, or the file system refuses it.
        """
        with self.folder.locked() if self.leads else nullcontext():
            return self._run()

    def _run(self) -> Path:
        self.comm.barrier()  # no rank looks for a checkpoint before the first one has the folder
        resumed = self._start()
        if self.state.step >= self.total_steps and not self._owes_evaluation():
            _LOG.info("the run in %s is complete (%d steps)", self.folder.path, self.state.step)
            return self.folder.path
        self._open(resumed)
        try:
            with self.stop.listening():
                if not resumed:
                    self._try_evaluation()
                elif self._owes_evaluation():
                    # The run was stopped between an epoch's last step and its evaluation.
                    self._evaluate()
                    self._save_last()
                self._epochs()
        finally:
            self.log.close()
        self.comm.barrier()
        return self.folder.path

    def _start(self) -> bool:
        """Weights, optimiser and position, fresh or from a checkpoint, which is not kept; True for a resumed run."""
        source = resume_path(self.settings, self.folder)
        source = self.comm.broadcast_object(str(source) if source else None)
        contents = read_checkpoint(source) if source else None
        if contents is not None:
            check_same_run(contents.config, self.config, contents.path, contents.schema)
            check_same_data(contents.state, self.parts.data_fingerprint, f"continue {contents.path}")
            check_same_sentences(contents.state, self.parts.sentences, contents.path)
            check_finite(contents)
            self.state = continued(self.state, contents.state, self.settings.batch_size * self.comm.size)
            self._keep_best()
            if self.state.step >= self.total_steps and not self._owes_evaluation():
                return True
            load_into(self.parts.model, contents.part("model"), source=str(source))
        elif self.parts.load_initial is not None:
            self.parts.load_initial()
        set_batch_norm(self.parts.model, self.settings.batch_norm, self.comm)
        self._same_start_everywhere()
        optimizer = self._optimizer()
        if contents is not None:
            self._restore(optimizer, contents)
        self._compile(optimizer)
        if contents is not None:
            self.step.loss_scale = self.state.loss_scale
        return contents is not None

    def _keep_best(self) -> None:
        """A best checkpoint that is better than what the resumed one knows of stays."""
        found = keep_best(self.state, self.folder, self.parts.chosen_by) if self.leads else None
        self.state.best, self.state.best_step, self.state.others = self.comm.broadcast_object(found)

    def _optimizer(self) -> Optimizer:
        train, _ = scaled_rate(self.settings, self.state.samples_per_step)
        optimizer = optimizer_from_config(self.parts.model, train)
        self.names = {id(p): name for name, p in self.parts.model.parameters_and_names()}
        return optimizer

    def _restore(self, optimizer: Optimizer, contents: Contents) -> None:
        tensors = {**contents.part("optimizer"), **{f"ema/{k}": v for k, v in contents.part("ema").items()}}
        optimizer.load_state(tensors, self.names, self.state.updates)

    def _compile(self, optimizer: Optimizer) -> None:
        """The step, the forward pass, and loaders that keep features where frozen encoders allow it."""
        parts, train, device = self.parts, self.settings, self.config.device
        graph = device.mode_name == "GRAPH"
        self.runner = Runner(parts.model, graph=graph, precision=device.precision)
        stores = open_stores(
            parts.model,
            train.feature_cache,
            family=self.config.family,
            settings=asdict(self.config.model),
            variants=self.config.data.augment_variants,
            dtype=train.feature_dtype,
            precision=device.precision,
        )
        if stores:

            def keeping(loader: Any) -> FeatureLoader:
                return FeatureLoader(loader, parts.model, stores, runner=self.runner, dtype=train.feature_dtype)

            parts.loader = keeping(parts.loader)
            parts.eval_loader = None if parts.eval_loader is None else keeping(parts.eval_loader)
            parts.more_loaders = {name: keeping(loader) for name, loader in parts.more_loaders.items()}
        self.step = TrainStep(
            parts.model,
            optimizer,
            self.comm,
            graph=graph,
            kept=tuple(stores),
            clip_max_norm=train.clip_max_norm,
            accumulation=train.accumulation,
            seed=train.seed,
            precision=device.precision,
        )

    def _same_start_everywhere(self) -> None:
        """All ranks take the parameters of the first, whatever their own initialisation was."""
        same_parameters(self.parts.model, self.comm)

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
        curves = self.parts.task.curve_names(self.parts.metrics)
        since = self.state.step if resumed else None
        self.log = RunLog(
            self.folder, writes=self.leads, curves=curves, since=since, evaluated=self.state.evaluated_step
        )
        self._name_what_is_left_out()
        for name, (rate, decay) in self.step.optimizer.groups_by_name.items():
            _LOG.info("group %s: learning rate %g, weight decay %g", name, rate, decay)
        if resumed:
            _LOG.info("continue at step %d of %d (epoch %d)", self.state.step, self.total_steps, self.state.epoch)

    def _try_evaluation(self) -> None:
        """One batch through the whole evaluation, so that what is wrong with it shows before an epoch is trained."""
        if self.parts.eval_loader is not None:
            self._scores(batches=1)

    # ---- the loop ----------------------------------------------------------------------------------------------

    def _epochs(self) -> None:
        bar = Progress("train", self.total_steps, done=self.state.step, every=self.settings.log_freq, shown=self.leads)
        with bar:
            while self.state.step < self.total_steps:
                self._epoch(bar)
        if self.leads:
            _LOG.info("done: %s", self.folder.path)

    def _epoch(self, bar: Progress) -> None:
        joint = self.settings.batch_size * self.comm.size
        batches = self.parts.loader.epoch(self.state.epoch, start_batch=self.state.samples // joint)
        made = self.state.samples // self.state.samples_per_step
        for _ in range(made, self.steps_per_epoch):
            started = time.monotonic()
            group = [next(batches) for _ in range(self.micro)]
            waited = time.monotonic() - started
            factor = lr_factor(self.segments, self.state.step, self.steps_per_epoch, self.total_steps)
            terms = self.step(group, factor, self.state.step, stop=bool(self.stop.signal))
            stopping = terms.pop("stop") > 0
            self.state.step += 1
            self.state.samples += self.state.samples_per_step
            self._note(bar, terms, factor, waited, time.monotonic() - started)
            last = self.state.step >= self.total_steps
            if stopping:
                self._interrupted()
            if last:
                break
            if self.settings.save_steps and self.state.step % self.settings.save_steps == 0:
                self._save_last()
        self._end_epoch()

    def _turn_epoch(self) -> None:
        """What is saved after an epoch's last step says that the next has begun; a resumed run starts there."""
        if self.state.samples >= self.steps_per_epoch * self.state.samples_per_step:
            self.state.epoch, self.state.samples = self.state.epoch + 1, 0

    def _end_epoch(self) -> None:
        self._turn_epoch()
        if self._owes_evaluation():
            # What goes wrong in an evaluation must not cost the epoch before it.
            self._save_last()
            self._evaluate()
        self._save_last()

    def _owes_evaluation(self) -> bool:
        """True at the end of an epoch that is evaluated, or of the run, until the evaluation was made."""
        state = self.state
        if self.parts.eval_loader is None or state.evaluated_step == state.step or state.step == 0:
            return False
        epoch_ended = state.samples == 0 and state.epoch % self.settings.eval_step == 0
        return epoch_ended or state.step >= self.total_steps

    def _note(self, bar: Progress, terms: dict[str, float], factor: float, waited: float, spent: float) -> None:
        bar.advance(f"epoch {self.state.epoch + 1}, loss {terms['total']:.4f}")
        if self.state.step % self.settings.log_freq == 0 or self.state.step in (1, self.total_steps):
            self.log.record(
                "train",
                self.state.step,
                {
                    "epoch": self.state.epoch,
                    "lr_factor": factor,
                    **terms,
                    "seconds": round(spent, 4),
                    "waited_for_data": round(waited, 4),
                },
            )

    # ---- evaluation and checkpoints ----------------------------------------------------------------------------

    def _scores(self, *, batches: int = 0) -> dict[str, dict[str, float]]:
        """Metrics of every split that chooses, with averaged weights, where there are any."""
        parts, found = self.parts, {}
        self._average_buffers()
        with averaged_weights(self.step.optimizer):
            for split, loader in {parts.eval_name: parts.eval_loader, **parts.more_loaders}.items():
                found[split], _ = evaluate(
                    self.runner,
                    loader,
                    self.comm,
                    parts.task.metrics(parts.metrics),
                    parts.task.record,
                    title=f"{split}, one batch" if batches == 1 else split,
                    batches=batches,
                    epoch=self.state.epoch,
                )
        return found

    def _evaluate(self) -> None:
        found = self._scores()
        metrics, splits = mean_scores(found), " and ".join(found)
        self.state.metrics, self.state.evaluated_step = metrics, self.state.step
        about = {"split": splits, "sentences": self.parts.drawn}
        apart = {"splits": found} if len(found) > 1 else {}
        self.log.record("eval", self.state.step, {"epoch": self.state.epoch, **about, **metrics, **apart})
        for split, scores in {**found, **({f"mean of {splits}": metrics} if apart else {})}.items():
            _LOG.info("%s: %s", split, ", ".join(f"{k} {v:.4f}" for k, v in scores.items()))
        for name in improved(self.state, metrics, self.parts.chosen_by, splits):
            if not self.leads:
                continue
            if name != self.parts.select_by:
                self._save(self.folder.best_by(name), full=False)
                continue
            self._save(self.folder.best, full=False)
            write_json(self.folder.metrics, {**about, "step": self.state.step, **metrics, **apart})

    def _average_buffers(self) -> None:
        """BatchNorm statistics become equal on all ranks, averaged ones included."""
        average_buffers(self.parts.model, self.comm, also=self.step.optimizer.buffer_average)

    def _save_last(self) -> None:
        self.state.updates = self.step.optimizer.updates
        self.state.loss_scale = self.step.loss_scale
        self._average_buffers()
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
                **asdict(self.state),
                "complete": self.state.step >= self.total_steps and not self._owes_evaluation(),
                "data_fingerprint": self.parts.data_fingerprint,
                "sentences": self.parts.sentences,
                "categories": {str(number): name for number, name in self.parts.categories.items()},
            },
            extra=extra,
            weights=None if full else average,
        )

    def _interrupted(self) -> None:
        self._turn_epoch()
        self._save_last()
        number = self.comm.broadcast_object(self.stop.signal) or 15
        raise RunInterrupted(
            f"stopped by {called(int(number))} after step {self.state.step}, saved {self.folder.last}; "
            "continue with --train.resume=auto",
            128 + int(number),
        )
