"""Training of SeqTR and MSAM: ten steps of the product's own optimiser, schedule, averages and step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from golden.case import Case, draw
from golden.claim import Checks, claim
from golden.claims.schedules import seqtr_segments
from golden.claims.seqtr import Stages, arrays_of, check_tokens, given, settings_of
from golden.compute import fill
from mindground.config import TrainConfig
from mindground.config.schedule import check_schedule
from mindground.engine.ema import averaged_weights
from mindground.engine.forward import Runner
from mindground.engine.optim import optimizer_from_config
from mindground.engine.schedules import lr_factor, segments_of
from mindground.engine.step import TrainStep
from mindground.models.seqtr.builder import build_network
from mindground.models.seqtr.weights import UPSTREAM_MAP
from mindground.nn.batch_norm import buffers
from mindground.structures import Batch

# Ours may differ from the reference by these parts of a value; eight times the case's own rounding where that is more.
_FIRST_LOSS, _LAST_LOSS = 5e-5, 1e-3
_NORM = 1e-3
_CHANGE, _MEDIAN_CHANGE = 2e-2, 5e-3
_PROJECTION = 5e-2
_STATISTICS = 1e-3
_ROUNDINGS = 8.0
# A ReLU whose input changes sign on the way moves many parameters a little: so large a share must be inside.
_SHARE = 0.98


class _Run:
    """A network with a case's weights, trained on its batches."""

    def __init__(self, case: Case, mode: str) -> None:
        settings, how = case.config, case.config["optimizer"]
        self.case, self.net, self.graph = case, build_network(settings_of(settings)), mode == "graph"
        fill(self.net, case, UPSTREAM_MAP)
        segments = seqtr_segments(settings["scheduler"])
        check_schedule(segments)
        self.train = TrainConfig(
            optimizer="adam", lr=how["lr"], weight_decay=how["weight_decay"], beta1=how["betas"][0],
            beta2=how["betas"][1], eps=how["eps"], amsgrad=how["amsgrad"], clip_max_norm=settings["grad_norm_clip"],
            ema_decay=settings["ema_factor"], schedule=segments,
        )  # fmt: skip
        self.before = self.values()
        self.history: list[dict[str, float]] = []
        self.rates: list[list[float]] = []
        comm = SimpleNamespace(rank=0, size=1, reduces_on_device=False)
        self.optimizer = optimizer_from_config(self.net, self.train)
        clip = self.train.clip_max_norm
        self.step = TrainStep(self.net, self.optimizer, comm, graph=self.graph, clip_max_norm=clip)

    def run(self) -> None:
        """All steps of the case."""
        settings = self.case.config
        per_epoch, steps = settings["steps_per_epoch"], settings["steps"]
        for step in range(steps):
            arrays = arrays_of(self.case.inputs, self.net.layout, step)
            factor = lr_factor(segments_of(self.train), step, per_epoch, steps)
            self.rates.append([factor * lr for lr, _ in self.optimizer.groups_by_name.values()])
            self.history.append(self.step([Batch(arrays, [], [], 0)], factor, step))
        self.net.set_train(False)

    def values(self) -> dict[str, np.ndarray]:
        """Parameters and statistics under upstream's names, in float64."""
        return UPSTREAM_MAP.to_theirs(
            {name: item.asnumpy().astype(np.float64) for name, item in self.net.parameters_and_names()}
        )


def _within(values: Any, count: int) -> np.ndarray:
    """Eight times a rounding, as an array; what the case does not state counts as 0."""
    return _ROUNDINGS * np.broadcast_to(np.nan_to_num(np.asarray(values, np.float64)), (count,))


def _relative(ours: Any, theirs: np.ndarray) -> np.ndarray:
    return np.abs(np.asarray(ours, np.float64) - theirs) / np.maximum(np.abs(np.asarray(theirs, np.float64)), 1e-30)


def _check_errors(checks: Checks, name: str, errors: np.ndarray, allowed: np.ndarray) -> None:
    worst = int(np.argmax(errors / np.maximum(allowed, 1e-30)))
    detail = f"entry {worst}: error {errors[worst]:.2e}, allowed {allowed[worst]:.2e}"
    checks.true(name, bool((errors <= allowed).all()), detail)


def _steps(case: Case, checks: Checks, run: _Run) -> None:
    """Losses, gradient norms and rates of every step."""
    rounding, steps = case.meta["rounding"], case.config["steps"]
    floor = np.geomspace(_FIRST_LOSS, _LAST_LOSS, steps)
    ours = {name: np.asarray([row["total"] for row in run.history]) for name in case.losses}
    for name, values in ours.items():
        errors = _relative(values, case.losses[name])
        _check_errors(checks, f"loss {name}", errors, np.maximum(floor, _within(rounding["losses"][name], steps)))
        checks.worst["loss"] = max(checks.worst["loss"], float(errors.max()))
    norms = _relative([row["grad_norm"] for row in run.history], case.outputs["grad_norm"])
    _check_errors(checks, "grad_norm", norms, np.maximum(_NORM, _within(rounding["outputs"]["grad_norm"], steps)))
    checks.worst["grad"] = max(checks.worst["grad"], float(norms.max()))
    checks.output("lr", np.asarray(run.rates), case.outputs["lr"], 1e-6)


def _check_groups(case: Case, checks: Checks, run: _Run) -> None:
    """Upstream's groups: 0 holds what is outside the image encoder, 1 the encoder, -1 what does not learn."""
    groups = {}
    for index, group in enumerate(run.net.parameter_groups()):
        groups |= {id(parameter): index for parameter in group.parameters}
    ours = {name: np.asarray(groups.get(id(p), -1)) for name, p in run.net.parameters_and_names()}
    named = UPSTREAM_MAP.to_theirs(ours)
    theirs = dict(zip(case.meta["note"]["param_names"], case.meta["note"]["group"], strict=True))
    wrong = [name for name, group in theirs.items() if name in named and int(named[name]) != group]
    checks.true("groups", not wrong, f"{len(wrong)} parameters stand elsewhere, first {wrong[:3]}")


def _check_changes(case: Case, checks: Checks, run: _Run, prefix: str) -> None:
    """How far every parameter (or its average) moved, and where to."""
    note, rounding, after = case.meta["note"], case.meta["rounding"]["outputs"], run.values()
    names = note["param_names"]
    still = {n for n, group in zip(names, note["group"], strict=True) if group < 0 or n in note["no_gradient"]}
    # A pooler that takes no part is no part of our network.
    changes = {name: after[name] - run.before[name] for name in names if name in after}
    moved = [name for name in changes if name in still and np.any(changes[name])]
    checks.true(f"{prefix}frozen parameters stand still", not moved, f"{len(moved)} moved, first {moved[:3]}")
    inside, norms, ratios = [], [], []
    norms_there, projections = case.outputs[f"{prefix}delta_norm"], case.outputs[f"{prefix}proj"]
    for index, name in enumerate(names):
        if name in still or name in note["zero_grad"]:
            continue
        theirs, change = norms_there[index], changes[name].copy()
        for start, stop in note["key_entries"].get(name, ()):
            change[start:stop] = 0
        error, shape = float(_relative(np.linalg.norm(change), theirs)), change.shape
        fan_in = np.prod(shape[1:]) if len(shape) > 1 else np.prod(shape)
        directions = [draw(f"{name}.direction{k}", shape, "weight", case.salt).astype(np.float64) for k in (0, 1)]
        off = np.abs(np.asarray([np.sum(change * d) for d in directions]) - projections[index]).max()
        off /= max(float(theirs) / np.sqrt(fan_in), 1e-30)
        floors = (0.0, 0.0) if name in note["noisy"] else (_CHANGE, _PROJECTION)
        limits = [
            max(floor, _ROUNDINGS * rounding[prefix + key][index])
            for floor, key in zip(floors, ("delta_norm", "proj"), strict=True)
        ]
        inside.append(error <= limits[0] and off <= limits[1])
        norms.append(error)
        ratios.append((max(error / limits[0], off / limits[1]), name))
    checks.worst["output"] = max(checks.worst["output"], float(np.median(norms)))
    median = float(np.median(norms))
    checks.true(f"{prefix}median change", median <= _MEDIAN_CHANGE, f"median error {median:.2e}")
    worst = f"{np.mean(inside):.3f} of {len(inside)} inside; worst {sorted(ratios)[-3:]}"
    checks.true(f"{prefix}changes", np.mean(inside) >= _SHARE, worst)


def _check_buffers(case: Case, checks: Checks, run: _Run, prefix: str) -> None:
    """Running statistics, or their averages."""
    start, errors, allowed = 0, [], []
    after, joined = run.values(), case.outputs[f"{prefix}buffers"]
    roundings = case.meta["rounding"]["outputs"][f"{prefix}buffers"]
    for name, rounding in zip(case.meta["note"]["buffer_names"], roundings, strict=True):
        ours = after[name].reshape(-1)
        theirs = joined[start : start + ours.size]
        start += ours.size
        errors.append(np.abs(ours - theirs).max() / np.abs(theirs).max())
        allowed.append(max(_STATISTICS, _ROUNDINGS * rounding))
    checks.true(f"{prefix}all statistics", start == joined.size, f"{start} of {joined.size}")
    _check_errors(checks, f"{prefix}buffers", np.asarray(errors), np.asarray(allowed))


def _evaluate(case: Case, checks: Checks, run: _Run, prefix: str) -> None:
    """Logits, loss and greedy tokens of a batch that was not trained on."""
    net, rounding = run.net, case.meta["rounding"]["outputs"]
    arrays = arrays_of(case.inputs, net.layout, prefix="eval_")
    cell = Stages(net)
    cell.set_train(False)
    found = cell(*given(net, arrays))
    for name in ("logits", "loss"):
        limit = max(_STATISTICS, _ROUNDINGS * float(np.max(rounding[f"{prefix}/{name}"])))
        checks.output(f"{prefix}/{name}", found[name].asnumpy(), case.outputs[f"{prefix}/{name}"], limit)
    tokens = net.infer(Runner(net, graph=run.graph), arrays)
    for part in ("bbox", "mask"):
        if f"{prefix}/tokens_{part}" in case.outputs:
            noise = _ROUNDINGS * float(np.max(rounding[f"{prefix}/margin_{part}"]))
            scale = float(np.abs(case.outputs[f"{prefix}/margin_{part}"]).max())
            check_tokens(checks, case.outputs, tokens, part, f"{prefix}/", max(noise, 1e-3) * scale)


@claim(model=("seqtr", "msam"), kind="seqtr_train10", suite=())
def check_ten_steps(case: Case, mode: str, checks: Checks) -> None:
    run = _Run(case, mode)
    constants = [name for name in buffers(run.net) if "index" in name]
    checks.true("index buffers stay out of the averages", not constants, str(constants))
    _check_groups(case, checks, run)
    run.run()
    _steps(case, checks, run)
    _check_changes(case, checks, run, "")
    _check_buffers(case, checks, run, "")
    _evaluate(case, checks, run, "raw")
    with averaged_weights(run.optimizer):
        _check_changes(case, checks, run, "ema_")
        _check_buffers(case, checks, run, "ema_")
        _evaluate(case, checks, run, "ema")
