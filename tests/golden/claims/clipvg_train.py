"""CLIP-VG's training: steps of its optimiser, its schedules. Apart from the networks, which need no engine."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from golden.case import Case
from golden.claim import Checks, claim
from golden.claims.clipvg import inputs_of, network
from golden.compute import fill
from mindground.config import TrainConfig
from mindground.engine.optim import optimizer_from_config
from mindground.engine.schedules import schedule_list, segments_of
from mindground.engine.step import TrainStep
from mindground.models.clipvg.weights import UPSTREAM_MAP
from mindground.structures import Batch


@claim(model="clipvg", holds=("optimizer",), suite=("graph",))
def check_optimizer(case: Case, mode: str, checks: Checks) -> None:
    net, settings = network(case), case.meta["optimizer"]
    fill(net, case, UPSTREAM_MAP)
    before = {name: p.asnumpy().copy() for name, p in net.parameters_and_names()}
    train = TrainConfig(
        lr=settings["lr"],
        lr_factors={"clip": 1.0},
        weight_decay=settings["weight_decay"],
        beta1=settings["betas"][0],
        beta2=settings["betas"][1],
        eps=settings["eps"],
        clip_max_norm=0.0,
    )
    comm = SimpleNamespace(rank=0, size=1, reduces_on_device=False)
    step = TrainStep(net, optimizer_from_config(net, train), comm, graph=mode == "graph")
    names = (*net.input_names, "box")
    arrays = {
        name: x.asnumpy()
        for name, x in zip(("image", "token_ids", "token_mask", "padding"), inputs_of(case), strict=True)
    }
    arrays["box"] = case.inputs["target_box"]
    assert set(names) == set(arrays)
    history = [step([Batch(arrays, [], [], 0)], 1.0, turn) for turn in range(settings["steps"])]
    for ours, theirs in (("total", "total"), ("bbox", "loss_bbox"), ("giou", "loss_giou")):
        checks.loss(theirs, np.asarray([row[ours] for row in history]), case.losses[theirs])
    net.set_train(False)
    checks.output("pred_box_after", net(*inputs_of(case))[0].asnumpy(), case.outputs["pred_box_after"])
    after = {name: p.asnumpy() for name, p in net.parameters_and_names()}
    moved = {name: float(np.linalg.norm((after[name] - before[name]).astype(np.float64))) for name in after}
    for name, norm in UPSTREAM_MAP.to_theirs(moved).items():
        key = f"delta_norm/{name}"
        if key in case.outputs:
            checks.output(key, np.float32(norm), case.outputs[key])


@claim(model="clipvg-lr", modes=("host",))
def check_schedules(case: Case, mode: str, checks: Checks) -> None:
    settings = case.config
    for name, reference in case.outputs.items():
        train = TrainConfig(
            lr_scheduler=name,
            lr_by_epoch=True,
            drop_epochs=[settings["lr_drop"]],
            drop_rate=settings["step_gamma"],
            poly_power=settings["lr_power"],
            lr_exponential=settings["lr_exponential"],
        )
        # Three steps an epoch, all of them at the epoch's rate.
        factors = np.asarray(schedule_list(segments_of(train), 3, 3 * settings["epochs"])).reshape(-1, 3)
        assert (factors == factors[:, :1]).all()
        checks.output(name, factors[:, 0] * settings["base_lr"], reference)
