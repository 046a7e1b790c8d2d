"""Region proposal network (Ren et al. 2015): where anything is, and roughly how large."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindground.detection.anchors import AnchorGrid
from mindground.detection.assigners import assign_by_iou
from mindground.detection.box_coder import decode_boxes, encode_boxes
from mindground.detection.nms import suppress_in_groups
from mindground.detection.samplers import sample_boxes
from mindground.losses.instances import EPSILON, binary_cross_entropy, smooth_l1
from mindground.nn import init
from mindground.nn.conv import Conv2d

__all__ = ["ProposalRules", "Proposals", "RpnHead", "RpnTargets", "join_levels", "propose", "rpn_losses", "rpn_targets"]


class RpnHead(nn.Cell):
    """One convolution of kernel 3, then for every anchor an objectness logit and four differences, on every level.

    Args:
        channels: of every level.
        hidden: channels after the convolution.
        anchors: of a cell.
    """

    def __init__(self, channels: int, hidden: int, anchors: int) -> None:
        super().__init__()
        self.anchors = anchors
        self.rpn_conv = Conv2d(channels, hidden, 3, padding=1)
        self.rpn_cls = Conv2d(hidden, anchors)
        self.rpn_reg = Conv2d(hidden, 4 * anchors)
        for layer in (self.rpn_conv, self.rpn_cls, self.rpn_reg):
            layer.weight.set_data(init.normal(layer.weight.shape, 0.01))
            layer.bias.set_data(init.constant(layer.bias.shape))

    def maps(self, level: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        """(B, C, h, w) -> logits (B, A, h, w) and differences (B, 4 A, h, w), channel = anchor * 4 + coordinate."""
        hidden = ops.relu(self.rpn_conv(level))
        return self.rpn_cls(hidden), self.rpn_reg(hidden)

    def construct(self, levels: tuple[ms.Tensor, ...]) -> tuple[ms.Tensor, ms.Tensor]:
        """Levels (B, C, h, w) -> logits (B, N) and differences (B, N, 4) in the order of `AnchorGrid.grid`."""
        logits, deltas = (), ()
        for level in levels:
            found, shift = self.maps(level)
            logits = logits + (found,)
            deltas = deltas + (shift,)
        return join_levels(logits, 1).squeeze(-1), join_levels(deltas, 4)


def join_levels(maps: tuple[ms.Tensor, ...], values: int) -> ms.Tensor:
    """Maps (B, A * values, h, w) of all levels -> (B, N, values) in the order of anchors."""
    parts = ()
    for item in maps:
        batch = item.shape[0]
        parts = parts + (ops.transpose(item, (0, 2, 3, 1)).reshape((batch, -1, values)),)
    return ops.concat(parts, 1)


class RpnTargets(NamedTuple):
    """What a batch's anchors are to say, in fixed shapes; `samples` is S.

    Attributes:
        anchors: (B, S) int32: sampled anchors; 0 where there are fewer.
        positive: (B, S) float32: 1 where an anchor finds an object.
        real: (B, S) float32: 1 for sampled anchors, 0 for what fills up.
        deltas: (B, S, 4) float32, 0 for background.
        total: samples of the batch, of every image at least one of each sort: what the losses are divided by.
    """

    anchors: np.ndarray
    positive: np.ndarray
    real: np.ndarray
    deltas: np.ndarray
    total: float


def rpn_targets(
    grid: AnchorGrid,
    sizes: Sequence[tuple[int, int]],
    boxes: Sequence[np.ndarray],
    padded: Sequence[tuple[int, int]],
    rng: np.random.Generator,
    samples: int = 256,
    share: float = 0.5,
) -> RpnTargets:
    """Assign (0.7, 0.3, with low quality from 0.3) and sample the anchors of every image.

    Args:
        sizes: (rows, columns) of every level.
        boxes: (G, 4) objects of every image, possibly none.
        padded: (height, width) of every image with its padding; anchors of cells beyond take no part.
        samples: S anchors of an image, fewer if there are fewer.
        share: at most this part of them finds objects.
    """
    anchors = grid.grid(sizes)
    room = min(samples, len(anchors))
    batch = len(boxes)
    index, real = np.zeros((batch, room), np.int32), np.zeros((batch, room), np.float32)
    positive, deltas, count = np.zeros((batch, room), np.float32), np.zeros((batch, room, 4), np.float32), 0
    for image, objects in enumerate(boxes):
        valid = np.flatnonzero(grid.valid(sizes, padded[image]))
        assigned = assign_by_iou(anchors[valid], objects, 0.7, 0.3, 0.3, True)
        found = sample_boxes(assigned.objects, samples, share, rng)
        first, total = len(found.positives), len(found.positives) + len(found.negatives)
        index[image, :total] = valid[np.concatenate([found.positives, found.negatives])]
        real[image, :total], positive[image, :first] = 1, 1
        if first:
            goals = np.asarray(objects, np.float32)[assigned.objects[found.positives] - 1]
            deltas[image, :first] = encode_boxes(anchors[valid[found.positives]], goals)
        count += max(first, 1) + max(total - first, 1)
    return RpnTargets(index, positive, real, deltas, float(count))


def rpn_losses(
    logits: ms.Tensor,
    deltas: ms.Tensor,
    index: ms.Tensor,
    positive: ms.Tensor,
    real: ms.Tensor,
    goals: ms.Tensor,
    normaliser: ms.Tensor,
) -> tuple[ms.Tensor, ms.Tensor]:
    """Losses of objectness and of differences, by the arrays of `RpnTargets`.

    Args:
        logits: (B, N).
        deltas: (B, N, 4).
        normaliser: scalar; the total of `RpnTargets`, or its mean over ranks.
    """
    batch, anchors = logits.shape
    offsets = ops.arange(batch).astype(ms.int32).reshape((batch, 1)) * anchors
    flat = (index + ops.broadcast_to(offsets, index.shape)).reshape((-1,))
    chosen = ops.gather(logits.reshape((-1,)), flat, 0)
    share = 1.0 / (normaliser + EPSILON)
    where = (binary_cross_entropy(chosen, positive.reshape((-1,))) * real.reshape((-1,))).sum() * share
    moved = ops.gather(deltas.reshape((-1, 4)), flat, 0)
    far = (smooth_l1(moved, goals.reshape((-1, 4))).sum(1) * positive.reshape((-1,))).sum() * share
    return where, far


class ProposalRules(NamedTuple):
    """How many proposals an image keeps.

    Attributes:
        before: anchors of a level with the highest scores that are decoded (2000 in training, 1000 in a test).
        overlap: of the suppression inside a level.
        limit: proposals of an image.
    """

    before: int = 2000
    overlap: float = 0.7
    limit: int = 1000


class Proposals(NamedTuple):
    """Of one image, by falling score: boxes (K, 4) and objectness (K,) in [0, 1]."""

    boxes: np.ndarray
    scores: np.ndarray


def propose(
    logits: np.ndarray,
    deltas: np.ndarray,
    grid: AnchorGrid,
    sizes: Sequence[tuple[int, int]],
    clip: tuple[float, float],
    rules: ProposalRules,
) -> Proposals:
    """Proposals of one image. What is not finite, or has no area after clipping, is dropped.

    Args:
        logits: (N,).
        deltas: (N, 4).
        sizes: (rows, columns) of every level.
        clip: (height, width) that boxes are clipped to.
    """
    anchors = grid.grid(sizes)
    with np.errstate(over="ignore"):
        scores = (1 / (1 + np.exp(-logits.astype(np.float32)))).astype(np.float32)
    finite = np.isfinite(scores) & np.isfinite(deltas).all(1)
    chosen, groups, start = [], [], 0
    for level, count in enumerate(grid.counts(sizes)):
        members = start + np.flatnonzero(finite[start : start + count])
        members = members[np.argsort(-scores[members], kind="stable")[: rules.before]]
        chosen.append(members)
        groups.append(np.full(len(members), level))
        start += count
    index, group = np.concatenate(chosen), np.concatenate(groups)
    boxes = decode_boxes(anchors[index], deltas[index], clip)
    kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    boxes, found, group = boxes[kept], scores[index[kept]], group[kept]
    best = suppress_in_groups(boxes, found, group, rules.overlap)[: rules.limit]
    return Proposals(boxes[best], found[best])
