"""The second stage of a detector: a class and a better box for every proposal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindground.detection.assigners import assign_by_iou
from mindground.detection.box_coder import ROI_DEVIATIONS, decode_boxes, encode_boxes
from mindground.detection.nms import Detections, detections_per_class
from mindground.detection.samplers import sample_boxes
from mindground.losses.instances import EPSILON, smooth_l1, weighted_cross_entropy
from mindground.nn import init
from mindground.nn.linear import Linear

__all__ = ["BoxHead", "RoiTargets", "box_losses", "find_detections", "sample_rois"]


class BoxHead(nn.Cell):
    """Two shared layers, then C + 1 class logits (background last) and four differences for every class.

    Args:
        channels: of the features of a box.
        side: of their grid.
        hidden: width of the shared layers.
        classes: C.
    """

    def __init__(self, channels: int, side: int, hidden: int, classes: int) -> None:
        super().__init__()
        widths = (channels * side * side, hidden)
        self.shared_fcs = nn.CellList([Linear(width, hidden, start="xavier_uniform") for width in widths])
        self.fc_cls = Linear(hidden, classes + 1)
        self.fc_reg = Linear(hidden, 4 * classes)
        self.fc_cls.weight.set_data(init.normal(self.fc_cls.weight.shape, 0.01))
        self.fc_reg.weight.set_data(init.normal(self.fc_reg.weight.shape, 0.001))

    def construct(self, features: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        """(R, channels, side, side) -> logits (R, C + 1) and differences (R, 4 C)."""
        x = features.reshape((features.shape[0], -1))
        for layer in self.shared_fcs:
            x = ops.relu(layer(x))
        return self.fc_cls(x), self.fc_reg(x)


class RoiTargets(NamedTuple):
    """Sampled boxes of one image in fixed shapes: S boxes, those that find objects first.

    Attributes:
        boxes: (S, 4); zeros where there are fewer.
        real: (S,) float32.
        positive: (S,) float32.
        labels: (S,) int32; `classes` for background.
        deltas: (S, 4) float32 in units of `ROI_DEVIATIONS`.
        objects: (S,) int32: index of the object that a box finds, -1 for background.
    """

    boxes: np.ndarray
    real: np.ndarray
    positive: np.ndarray
    labels: np.ndarray
    deltas: np.ndarray
    objects: np.ndarray


def sample_rois(
    proposals: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    classes: int,
    rng: np.random.Generator,
    samples: int = 256,
    share: float = 0.25,
    low_quality: bool = True,
) -> RoiTargets:
    """Assign (0.5, 0.5) and sample proposals. The objects themselves stand before the proposals.

    Args:
        proposals: (P, 4); what is not finite is dropped.
        boxes: (G, 4) objects, possibly none.
        labels: (G,) from 0.
        samples: S.
        share: at most this part of S finds objects; of more objects than that, some stay without a sample of theirs.
        low_quality: see `assign_by_iou`.
    """
    proposals = np.asarray(proposals, np.float32).reshape(-1, 4)
    proposals = proposals[np.isfinite(proposals).all(1)]
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    assigned = assign_by_iou(proposals, boxes, 0.5, 0.5, 0.5, low_quality)
    candidates = np.concatenate([boxes, proposals])
    objects = np.concatenate([np.arange(1, len(boxes) + 1), assigned.objects])
    found = sample_boxes(objects, samples, share, rng)
    first, total = len(found.positives), len(found.positives) + len(found.negatives)
    chosen = np.concatenate([found.positives, found.negatives])
    result = RoiTargets(
        np.zeros((samples, 4), np.float32),
        np.zeros(samples, np.float32),
        np.zeros(samples, np.float32),
        np.full(samples, classes, np.int32),
        np.zeros((samples, 4), np.float32),
        np.full(samples, -1, np.int32),
    )
    result.boxes[:total] = candidates[chosen]
    result.real[:total], result.positive[:first] = 1, 1
    if first:
        goals = objects[found.positives] - 1
        result.objects[:first] = goals
        result.labels[:first] = np.asarray(labels)[goals]
        result.deltas[:first] = encode_boxes(candidates[found.positives], boxes[goals], ROI_DEVIATIONS)
    return result


def box_losses(
    logits: ms.Tensor,
    deltas: ms.Tensor,
    labels: ms.Tensor,
    real: ms.Tensor,
    positive: ms.Tensor,
    goals: ms.Tensor,
    normaliser: ms.Tensor,
) -> tuple[ms.Tensor, ms.Tensor]:
    """Losses of classes and of differences over R sampled boxes; both are divided by the number of samples.

    Args:
        logits: (R, C + 1).
        deltas: (R, 4 C).
        labels: (R,) int32; C for background.
        real, positive: (R,).
        goals: (R, 4).
        normaliser: scalar; the number of real samples, or its mean over ranks.
    """
    count, classes = logits.shape[0], logits.shape[1] - 1
    kind = weighted_cross_entropy(logits, labels, real, normaliser)
    own = ops.minimum(labels, ops.zeros_like(labels) + (classes - 1))
    flat = own + ops.arange(count).astype(ms.int32) * classes
    chosen = ops.gather(deltas.reshape((-1, 4)), flat, 0)
    far = (smooth_l1(chosen, goals).sum(1) * positive).sum() / (normaliser + EPSILON)
    return kind, far


def find_detections(
    logits: np.ndarray,
    deltas: np.ndarray,
    proposals: np.ndarray,
    clip: tuple[float, float],
    scale: Sequence[float] = (1.0, 1.0),
    least: float = 0.05,
    overlap: float = 0.5,
    limit: int = 100,
) -> Detections:
    """Detections of one image.

    Args:
        logits: (P, C + 1).
        deltas: (P, 4 C).
        proposals: (P, 4) on the canvas.
        clip: (height, width) that boxes are clipped to.
        scale: (x, y) factors from the original image to the canvas; boxes are divided by them before suppression.
        least, overlap, limit: see `detections_per_class`.
    """
    count, classes = len(logits), logits.shape[1] - 1
    shifted = np.exp(logits - logits.max(1, keepdims=True, initial=-np.inf))
    scores = (shifted / shifted.sum(1, keepdims=True))[:, :classes]
    boxes = decode_boxes(np.repeat(proposals, classes, 0), deltas.reshape(-1, 4), clip, ROI_DEVIATIONS)
    boxes = boxes / np.asarray([scale[0], scale[1]] * 2, np.float32)
    return detections_per_class(boxes.reshape(count, classes, 4), scores, least, overlap, limit)
