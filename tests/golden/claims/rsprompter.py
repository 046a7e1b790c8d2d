"""Whole networks of RSPrompter: losses, gradients and predictions of a small one; ten steps of its training."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn

from golden.case import Case, draw
from golden.claim import Checks, claim
from golden.compute import Apply, fill, loss_and_gradients
from mindground.backbones.sam_prompts import grid_positions
from mindground.config import TrainConfig
from mindground.config.schedule import Segment
from mindground.engine.forward import Runner
from mindground.engine.optim import optimizer_from_config
from mindground.engine.schedules import lr_factor
from mindground.engine.step import TrainStep
from mindground.models.rsprompter.builder import build_network
from mindground.models.rsprompter.config import DecoderConfig, DetectorConfig, EncoderConfig, RsPrompterConfig
from mindground.models.rsprompter.two_stage import TwoStage
from mindground.models.rsprompter.weights import UPSTREAM_MAP
from mindground.nn.batch_norm import restored_buffers
from mindground.structures import Batch, Geometry
from mindground.structures.boxes import clip_boxes

ONE_RANK = SimpleNamespace(rank=0, size=1, reduces_on_device=False, all_gather_object=lambda value: [value])
_TERMS = ("rpn_cls", "rpn_bbox", "cls", "bbox", "mask")


def configuration(case: Case, *, train: bool) -> RsPrompterConfig:
    """Our configuration of a case; `train` lets the encoder learn."""
    settings = case.config
    vision, roi, test = settings["sam"]["vision"], settings["roi"], settings["test_cfg"]
    decoder, prompter = settings["sam"].get("decoder", {}), settings.get("prompter", {})
    limits = settings["train_cfg"].get("rpn_proposal", test["rpn"])
    encoder = EncoderConfig(
        img_size=vision["image_size"], patch_size=vision["patch_size"], embed_dim=vision["hidden_size"],
        depth=vision["num_hidden_layers"], num_heads=vision["num_attention_heads"], mlp_dim=vision["mlp_dim"],
        window_size=vision["window_size"], global_blocks=list(vision["global_attn_indexes"]),
        select_layers=list(settings["aggregator"]["select_layers"]), train=train,
    )  # fmt: skip
    detector = DetectorConfig(
        aggregator=settings["aggregator"]["hidden_channels"], scales=list(settings["rpn"]["scales"]),
        hidden=roi["fc_out"], mask_hidden=roi.get("mask_channels", 256), rpn_samples=1 << 20, rpn_share=1.0,
        roi_samples=24, roi_share=1.0, train_before=limits["nms_pre"], train_proposals=limits["max_per_img"],
        before=test["rpn"]["nms_pre"], proposals=test["rpn"]["max_per_img"], proposal_iou=test["rpn"]["iou"],
        score_threshold=test["rcnn"]["score_thr"], nms_iou=test["rcnn"]["iou"],
        detections=test["rcnn"]["max_per_img"],
    )  # fmt: skip
    part = DecoderConfig(
        width=vision["output_channels"], num_heads=decoder.get("num_attention_heads", 4),
        mlp_dim=decoder.get("mlp_dim", 48), iou_hidden=decoder.get("iou_head_hidden_dim", 32),
        tokens=prompter.get("num_points", 5), chunk=4,
    )  # fmt: skip
    prompted = any(".point_emb." in name for name, *_ in case.meta["state_dict"])
    variant: Any = "anchor" if prompted else "samseg-maskrcnn"
    return RsPrompterConfig(
        variant=variant, classes=roi["num_classes"], max_objects=16, encoder=encoder, decoder=part, detector=detector
    )


def network(case: Case, *, train: bool) -> TwoStage:
    """A network with a case's weights."""
    net = build_network(configuration(case, train=train), img_size=case.config["input_size"][0])
    fill(net, case, UPSTREAM_MAP)
    return net


def batch_of(case: Case, image: np.ndarray, meta: np.ndarray, counts: np.ndarray, *truth: np.ndarray) -> Batch:
    """A batch of objects (boxes, labels, masks), joined over images, and how its images lie on the canvas."""
    del case
    room, size = 16, (image.shape[2], image.shape[3])
    arrays: dict[str, np.ndarray] = {
        "image": image,
        "object_boxes": np.zeros((len(image), room, 4), np.float32),
        "object_labels": np.zeros((len(image), room), np.int32),
        "object_masks": np.zeros((len(image), room, size[0] * size[1] // 8), np.uint8),
        "object_count": counts.astype(np.int32),
        "seen_size": meta[:, :2].astype(np.float32),
    }
    start = 0
    for index, count in enumerate(counts.tolist()):
        boxes, labels, masks = (item[start : start + count] for item in truth)
        arrays["object_boxes"][index, :count], arrays["object_labels"][index, :count] = boxes, labels
        arrays["object_masks"][index, :count] = np.packbits(masks.reshape(count, -1) != 0, axis=1)
        start += count
    return Batch(arrays, [], [geometry_of(row, size) for row in meta], len(image))


def geometry_of(meta: np.ndarray, canvas: tuple[int, int]) -> Geometry:
    """The way back that a row img_h, img_w, ori_h, ori_w, scale_w, scale_h describes; the scale says the size."""
    original = (int(meta[2]), int(meta[3]))
    resized = (int(meta[2] * meta[5]), int(meta[3] * meta[4]))
    return Geometry(original, resized, canvas, scale=(float(meta[4]), float(meta[5])))


class Loss(nn.Cell):
    """The total and the terms on arrays of a staged step."""

    def __init__(self, net: TwoStage, *, terms: bool = False) -> None:
        super().__init__()
        self.net, self.terms = net, terms

    def construct(self, image: ms.Tensor, *targets: ms.Tensor) -> Any:
        found = self.net.loss(self.net(image), *targets)
        return found if self.terms else found[0]


def check_evaluation(case: Case, checks: Checks, net: TwoStage, image: np.ndarray, meta: np.ndarray,
                     prefix: str = "", tolerance: float = 1e-4) -> None:  # fmt: skip
    """Detections of the whole pipeline."""
    net.set_train(False)
    runner, size = Runner(net, graph=ms.get_context("mode") == ms.GRAPH_MODE), (image.shape[2], image.shape[3])
    arrays = {"image": image}
    if (meta[:, :2] < size).any():
        arrays["padding"] = np.ones((len(image), *size), np.uint8)
        for index, row in enumerate(meta.astype(int)):
            arrays["padding"][index, : row[0], : row[1]] = 0
    found = net.infer(runner, arrays)
    batch = Batch({"image": image}, [], [geometry_of(row, size) for row in meta], len(image))
    for index, prediction in enumerate(net.decode(found, batch)):
        rows = np.concatenate([prediction.boxes_xyxy, prediction.scores[:, None]], 1)
        reference = case.outputs[f"{prefix}det.{index}"].copy()
        # The reference lets boxes reach into the padding; ours end with the image.
        reference[:, :4] = clip_boxes(reference[:, :4], prediction.size)
        checks.output(f"{prefix}det.{index}", rows, reference, tolerance)
        assert prediction.labels is not None
        checks.exact(f"{prefix}det_labels.{index}", prediction.labels - 1, case.outputs[f"{prefix}det_labels.{index}"])
        masks, theirs = prediction.mask_arrays() != 0, case.outputs[f"{prefix}det_masks.{index}"]
        if prefix:
            checks.true(
                f"{prefix}masks", int((masks != theirs).sum()) <= 24, f"{(masks != theirs).sum()} pixels differ"
            )
        else:
            checks.exact(f"det_masks.{index}", masks, theirs)


def _check_maps(case: Case, checks: Checks, found: list[np.ndarray], prefix: str = "") -> None:
    for level, value in enumerate(found):
        name = f"{prefix}fpn.{level}"
        if name in case.outputs:
            step = (4, 2)[level] if level < 2 else 1
            checks.output(name, value[:, ::4, ::step, ::step], case.outputs[name])


class _Pyramid(nn.Cell):
    def __init__(self, net: TwoStage) -> None:
        super().__init__()
        self.net = net

    def construct(self, image: ms.Tensor) -> tuple[ms.Tensor, ...]:
        states, embedding = self.net.encode_image(image)
        return (*self.net.pyramid(states), embedding)


class _Second(nn.Cell):
    """Logits and differences of boxes, and masks of boxes, in training."""

    def __init__(self, net: TwoStage) -> None:
        super().__init__()
        self.net = net

    def construct(self, image: ms.Tensor, *targets: ms.Tensor) -> tuple[ms.Tensor, ...]:
        outputs = self.net(image)
        rows = self.net.rows(outputs[2:6])
        logits, deltas = self.net.box_head(self.net.align(rows, *targets[5:8]))
        masks = self.net.masks_of(self.net.align(rows, *targets[13:16]), outputs[6], targets[16], targets[17])
        return logits, deltas, masks, outputs[4]


def _tensors(net: TwoStage, batch: Batch, extra: dict[str, np.ndarray]) -> list[ms.Tensor]:
    return [ms.Tensor(batch.arrays["image"]), *(ms.Tensor(extra[name]) for name in net.target_names)]


@claim(
    model="rsprompter",
    holds=("config.rpn", "config.roi", "config.aggregator", "input/proposals", "input/image", "output/det.0"),
    lacks=("config.lora", "config.detector"),
    whole=True,
    suite=("pynative",),
)
def check_tiny(case: Case, mode: str, checks: Checks) -> None:
    given = case.inputs
    net = network(case, train=True)
    net.set_train(False)
    found = [value.asnumpy() for value in _Pyramid(net)(ms.Tensor(given["image"]))]
    _check_maps(case, checks, found[:5])
    if "image_embedding" in case.outputs:
        checks.output("image_embedding", found[5], case.outputs["image_embedding"])
        places = np.asarray(Apply(grid_positions, *found[5].shape[2:])(net.decoder.frequencies).asnumpy())
        checks.output(
            "image_pe", places.transpose(0, 2, 1).reshape(case.outputs["image_pe"].shape), case.outputs["image_pe"]
        )
    check_evaluation(case, checks, net, given["image"], given["img_meta_test"])
    truth = (given["gt_boxes"], given["gt_labels"], given["gt_masks"])
    batch = batch_of(case, given["image"], given["img_meta"], given["gt_count"], *truth)
    extra = net.assigned(list(given["proposals"]), batch, ONE_RANK, np.random.default_rng(0))
    arrays = _tensors(net, batch, extra)
    net.set_train(True)
    logits, deltas, masks, level = (value.asnumpy() for value in _Second(net)(*arrays))
    checks.output("train_fpn.2", level[:, ::4], case.outputs["train_fpn.2"])
    real = extra["roi_real"] > 0
    checks.output("cls_score", logits[real], case.outputs["cls_score"])
    checks.output("bbox_pred", deltas[real], case.outputs["bbox_pred"])
    theirs = case.outputs["train_mask_logits"]
    step = masks.shape[2] // theirs.shape[2]
    checks.output("train_mask_logits", masks[extra["mask_real"] > 0][:, :, ::step, ::step], theirs)
    cell = Loss(net, terms=True)
    cell.set_train(True)
    for name, value in zip(("total", *_TERMS), cell(*arrays), strict=True):
        checks.loss(name, float(value.asnumpy()), case.losses[name])
    scalar = Loss(net)
    scalar.set_train(True)
    _, gradients = loss_and_gradients(scalar, net, arrays)
    checks.grad_norms(UPSTREAM_MAP.to_theirs(gradients), case.grad_norms)


# ---- ten steps of training ---------------------------------------------------------------------------------------

_LOSS, _NORM, _CHANGE, _PROJECTION, _DECAY = 2e-5, 1e-4, 5e-3, 2e-2, 3e-2
_MEDIAN_CHANGE, _MEDIAN_PROJECTION = 1e-4, 1e-3


class _Training:
    """A network with a case's weights, trained on its batches by the product's step, optimiser and schedule."""

    def __init__(self, case: Case, mode: str) -> None:
        self.case, self.net, recipe = case, network(case, train=False), case.config["train"]
        optimizer, plan = recipe["optimizer"], recipe["schedule"]
        self.steps = recipe["steps"]
        self.train = TrainConfig(
            optimizer="adamw", lr=optimizer["lr"], weight_decay=optimizer["weight_decay"], eps=optimizer["eps"],
            beta1=optimizer["betas"][0], beta2=optimizer["betas"][1], clip_max_norm=recipe["clip_grad_norm"] or 0.0,
        )  # fmt: skip
        self.segments = [
            Segment("linear", steps=plan["warmup_iters"] - 1, start=plan["warmup_start_factor"], beside=True),
            Segment("constant", epochs=1),
            Segment("cosine", epochs=plan["max_epochs"], end=plan["eta_min_factor"], by_epoch=True),
        ]
        self.per_epoch, self.total = plan["iters_per_epoch"], plan["iters_per_epoch"] * plan["max_epochs"]
        self.before = self.values()
        self.step = TrainStep(
            self.net, optimizer_from_config(self.net, self.train), ONE_RANK, graph=mode == "graph",
            clip_max_norm=self.train.clip_max_norm,
        )  # fmt: skip

    def batch(self, step: int) -> Batch:
        """The batch of a step; its image follows the case's rule."""
        given = self.case.inputs
        counts, ends = given["gt_count"][step], np.cumsum(given["gt_count"].sum(1))
        stop = int(ends[step])
        part = slice(stop - int(counts.sum()), stop)
        truth = (given[f"gt_{name}"][part] for name in ("boxes", "labels", "masks"))
        image = drawn_image(int(given["image_seed"][step]), given["img_meta"][step], self.case.config["input_size"][0])
        return batch_of(self.case, image, given["img_meta"][step], counts, *truth)

    def run(self, checks: Checks) -> None:
        """All steps, with their losses and norms."""
        case, rates, checksums = self.case, [], []
        for step in range(self.steps):
            batch = self.batch(step)
            checksums.append(batch.arrays["image"][:, :, 5::41, 3::29])
            factor = lr_factor(self.segments, step, self.per_epoch, self.total)
            rates.append([factor * self.train.lr])
            found = self.step([batch], factor, step)
            self._compare(checks, step, found)
        checks.output("lr", np.asarray(rates), case.outputs["lr"], 1e-6)
        checks.output("image_check", np.stack(checksums), case.outputs["image_check"], 1e-6)

    def _compare(self, checks: Checks, step: int, found: dict[str, float]) -> None:
        losses = self.case.losses
        total = float(losses["total"][step])
        for name in ("total", *self.net.term_names):
            theirs = float(losses[name][step])
            error = abs(found[name] - theirs) / max(abs(theirs), 1e-3 * total)
            checks.worst["loss"] = max(checks.worst["loss"], error)
            checks.true(f"step {step}: {name}", error <= _LOSS, f"{found[name]:.8g}, reference {theirs:.8g}")
        theirs = float(self.case.outputs["total_grad_norm"][step])
        error = abs(found["grad_norm"] - theirs) / theirs
        checks.worst["grad"] = max(checks.worst["grad"], error)
        checks.true(f"step {step}: gradient norm", error <= _NORM, f"error {error:.1e}")

    def values(self) -> dict[str, np.ndarray]:
        """Parameters and statistics under upstream's names, in float64."""
        ours = {name: item.asnumpy().astype(np.float64) for name, item in self.net.parameters_and_names()}
        return UPSTREAM_MAP.to_theirs(ours)


def drawn_image(seed: int, meta: np.ndarray, side: int) -> np.ndarray:
    """The images of a step by the rule of the case, 0 on padding."""
    rng = np.random.Generator(np.random.PCG64(seed))
    low = rng.standard_normal((len(meta), 3, side // 16, side // 16), dtype=np.float32)
    high = rng.standard_normal((len(meta), 3, side, side), dtype=np.float32)
    image = np.float32(0.8) * low.repeat(16, 2).repeat(16, 3) + np.float32(0.4) * high
    for index, row in enumerate(meta.astype(int)):
        image[index, :, row[0] :], image[index, :, :, row[1] :] = 0, 0
    return image


def _check_changes(case: Case, checks: Checks, run: _Training) -> None:
    note, after = case.meta["note"], run.values()
    still, uneven, decayed = {*note["frozen"], *note["unused"]}, {*note["zero_grad"]}, {*note["decay_only"]}
    norms, projections, moved = [], [], []
    for index, name in enumerate(note["param_names"]):
        change = after[name] - run.before[name]
        if name in still:
            moved += [name] if change.any() else []
            continue
        if name in uneven:
            continue
        for start, stop in note["partial_zero_grad"].get(name, ()):
            change.reshape(-1)[start:stop] = 0
        theirs = float(case.outputs["delta_norm"][index])
        error = abs(np.linalg.norm(change) - theirs) / theirs
        allowed = _DECAY if name in decayed else _CHANGE
        checks.true(f"change of {name}", error <= allowed, f"error {error:.1e}")
        size = float(np.linalg.norm(after[name]))
        checks.output(f"norm of {name}", size, case.outputs["param_norm"][index], 1e-5)
        if name in decayed:
            continue
        norms.append(error)
        for number in (0, 1):
            direction = draw(f"{name}.direction{number}", change.shape, "weight", "").astype(np.float64)
            scale = theirs * np.linalg.norm(direction) / np.sqrt(direction.size)
            off = abs(float((change * direction).sum()) - float(case.outputs[f"delta_proj{number}"][index])) / scale
            projections.append(off)
            checks.true(f"projection {number} of {name}", off <= _PROJECTION, f"error {off:.1e}")
    checks.worst["output"] = max(norms)
    checks.true("frozen parameters stand still", not moved, f"{len(moved)} moved, first {moved[:3]}")
    checks.true("median change", float(np.median(norms)) <= _MEDIAN_CHANGE, f"{np.median(norms):.1e}")
    checks.true(
        "median projection", float(np.median(projections)) <= _MEDIAN_PROJECTION, f"{np.median(projections):.1e}"
    )
    for kind, tolerance in (("mean", 2e-3), ("var", 1e-4)):
        joined = np.concatenate([after[f"{name}.running_{kind}"] for name in note["bn_names"]])
        checks.output(f"bn_running_{kind}", joined, case.outputs[f"bn_running_{kind}"], tolerance)


def _check_after(case: Case, checks: Checks, run: _Training) -> None:
    """The losses of the first batch after the training, and what the network answers."""
    net, given = run.net, case.inputs
    runner, batch = Runner(net, graph=ms.get_context("mode") == ms.GRAPH_MODE), run.batch(0)
    with restored_buffers(net):
        outputs = runner.scout(batch.arrays)
        extra = net.assign(outputs, batch, ONE_RANK, np.random.default_rng(0))
        cell = Loss(net, terms=True)
        cell.set_train(True)
        found = [float(value.asnumpy()) for value in cell(*_tensors(net, batch, extra))]
    theirs = case.outputs["loss_after"]
    for name, value, other in zip((*_TERMS, "total"), (*found[1:], found[0]), theirs.tolist(), strict=True):
        error = abs(value - other) / max(abs(other), 1e-3 * float(theirs[-1]))
        checks.true(f"{name} after the training", error <= 4 * _LOSS, f"error {error:.1e}")
    side = case.config["input_size"][0]
    image = drawn_image(int(given["eval_image_seed"]), given["eval_image_valid"], side)
    net.set_train(False)
    maps = [value.asnumpy() for value in _Pyramid(net)(ms.Tensor(image))]
    for level, step in ((0, 4), (2, 1)):
        name = f"eval.fpn.{level}"
        checks.output(name, maps[level][:, ::4, ::step, ::step], case.outputs[name], _ANSWERS)
    check_evaluation(case, checks, net, image, given["eval_img_meta"], "eval.", _ANSWERS)


_ANSWERS = 2e-2
_INNER = "an inner map of what eval.det.*, eval.fpn.* compare"


@claim(
    model="rsprompter",
    kind="rsprompter_train",
    holds=("config.rpn", "config.roi", "config.aggregator", "output/roi_pos"),
    lacks=("config.lora", "config.detector"),
    suite=(),
    unread={
        "output/eval.rpn_*": _INNER,
        "output/eval.roi_*": _INNER,
        "output/eval.det_mask_logits": _INNER,
        "input/eval_proposals": "boxes of eval.roi_*",
        "output/proposal*": "for finding the place of a disagreement",
        "output/r*_pos": "for finding the place of a disagreement",
    },
)
def check_ten_steps(case: Case, mode: str, checks: Checks) -> None:
    run = _Training(case, mode)
    run.run(checks)
    _check_changes(case, checks, run)
    _check_after(case, checks, run)
