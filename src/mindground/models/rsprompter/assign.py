"""What the loss graph needs beside the outputs: proposals, samples and their targets, in fixed shapes, on the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mindground.detection.anchors import AnchorGrid
from mindground.detection.box_head import RoiTargets, sample_rois
from mindground.detection.roi_align import RoiPlan, plan_rois
from mindground.detection.rpn import ProposalRules, propose, rpn_targets
from mindground.models.rsprompter.targets import Objects

__all__ = ["BOX_SIDE", "LOSS_NAMES", "MASK_SIDE", "STRIDES", "Plans", "Rules", "proposals_of", "sampled_targets"]

STRIDES = (4, 8, 16, 32, 64)
"""Pixels between cells of the pyramid for a patch of 16 pixels."""
BOX_SIDE, MASK_SIDE = 7, 14
"""Side of a box's features for its class, and for its mask."""
_PLAN = ("pixels", "down", "across")
LOSS_NAMES = (
    *("rpn_index", "rpn_positive", "rpn_real", "rpn_goals", "rpn_total"),
    *(f"roi_{name}" for name in _PLAN),
    *("roi_labels", "roi_real", "roi_positive", "roi_goals", "roi_total"),
    *(f"mask_{name}" for name in _PLAN),
    *("mask_image", "mask_real", "mask_labels", "mask_truth", "mask_total"),
)
"""Arrays of `sampled_targets`, in the order in which the loss takes them."""


class Rules(NamedTuple):
    """How anchors and boxes are drawn; see `config.DetectorConfig`."""

    classes: int
    rpn_samples: int
    rpn_share: float
    roi_samples: int
    roi_share: float

    @property
    def most_positive(self) -> int:
        """Boxes of one image that can find objects."""
        return max(1, int(self.roi_samples * self.roi_share))


class Plans:
    """RoI plans whose number of pixels never falls, so that a graph compiles for few of them.

    Args:
        sizes: (rows, columns) of the four levels that boxes look at.
        strides: of these levels.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]], strides: Sequence[int]) -> None:
        self.sizes, self.strides = tuple(sizes), tuple(strides)
        self._lengths: dict[str, int] = {}

    def __call__(self, name: str, boxes: np.ndarray, images: np.ndarray, batch: int, side: int) -> RoiPlan:
        """The plan of boxes (R, 4) in images (R,) of a batch; `name` tells apart who remembers the length."""
        plan = plan_rois(boxes, images, self.sizes, self.strides, batch, side)
        length = max(plan.pixels.shape[1], self._lengths.get(name, 0))
        self._lengths[name] = length
        more = length - plan.pixels.shape[1]
        if not more:
            return plan
        wide = ((0, 0), (0, 0), (0, more))
        return RoiPlan(np.pad(plan.pixels, wide[1:]), np.pad(plan.row_weights, wide), np.pad(plan.column_weights, wide))


def proposals_of(
    outputs: Mapping[str, np.ndarray],
    grid: AnchorGrid,
    sizes: Sequence[tuple[int, int]],
    clips: Sequence[tuple[float, float]],
    rules: ProposalRules,
) -> list[np.ndarray]:
    """Boxes (K, 4) of every image from `rpn_logits` (B, N) and `rpn_deltas` (B, N, 4), clipped to (height, width)."""
    logits, deltas = outputs["rpn_logits"], outputs["rpn_deltas"]
    return [propose(logits[b], deltas[b], grid, sizes, clip, rules).boxes for b, clip in enumerate(clips)]


def _mean(comm: Any, value: float) -> np.ndarray:
    """(1,) the mean of a count over all ranks."""
    return np.asarray([np.mean(comm.all_gather_object(float(value)))], np.float32)


def sampled_targets(
    proposals: Sequence[np.ndarray],
    objects: Sequence[Objects],
    rules: Rules,
    grid: AnchorGrid,
    sizes: Sequence[tuple[int, int]],
    canvas: tuple[int, int],
    plans: Plans,
    comm: Any,
    rng: np.random.Generator,
) -> tuple[dict[str, np.ndarray], list[RoiTargets]]:
    """The arrays of `LOSS_NAMES`, but for `mask_truth`, and the samples of every image.

    Boxes for masks are those that find objects, P = `rules.most_positive` an image; what fills up has `mask_real` 0.
    """
    anchors = rpn_targets(
        grid, sizes, [item.boxes for item in objects], [canvas] * len(objects), rng, rules.rpn_samples, rules.rpn_share
    )
    found: dict[str, np.ndarray] = {
        "rpn_index": anchors.anchors,
        "rpn_positive": anchors.positive,
        "rpn_real": anchors.real,
        "rpn_goals": anchors.deltas,
        "rpn_total": _mean(comm, anchors.total),
    }
    samples = [
        sample_rois(boxes, item.boxes, item.labels, rules.classes, rng, rules.roi_samples, rules.roi_share)
        for boxes, item in zip(proposals, objects, strict=True)
    ]
    batch, room = len(samples), rules.most_positive
    images = np.repeat(np.arange(batch), rules.roi_samples)
    joined = RoiTargets(*(np.concatenate([getattr(one, name) for one in samples]) for name in RoiTargets._fields))
    found |= zip((f"roi_{name}" for name in _PLAN), plans("roi", joined.boxes, images, batch, BOX_SIDE), strict=True)
    found |= {"roi_labels": joined.labels, "roi_real": joined.real, "roi_positive": joined.positive}
    found |= {"roi_goals": joined.deltas, "roi_total": _mean(comm, joined.real.sum())}
    places = (np.arange(batch)[:, None] * rules.roi_samples + np.arange(room)[None]).reshape(-1)
    images = images[places].astype(np.int32)
    plan = plans("mask", joined.boxes[places], images, batch, MASK_SIDE)
    found |= zip((f"mask_{name}" for name in _PLAN), plan, strict=True)
    found |= {"mask_image": images, "mask_real": joined.positive[places]}
    found |= {"mask_labels": np.minimum(joined.labels[places], rules.classes - 1)}
    found["mask_total"] = _mean(comm, joined.positive[places].sum())
    return found, samples
