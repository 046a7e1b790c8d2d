"""What queries are to say after matching, in fixed shapes, and the losses of one prediction (Cheng et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import mindspore as ms
import numpy as np
from mindspore import ops

from mindground.detection.matching import match_queries, matching_costs
from mindground.detection.points import sample_at, sample_each, sample_shared, uncertain_points
from mindground.losses.instances import EPSILON, binary_cross_entropy, point_dice_loss, weighted_cross_entropy

__all__ = ["QueryTargets", "class_loss", "point_losses", "query_targets"]


class QueryTargets(NamedTuple):
    """Targets of one prediction for a batch; S slots for matched queries, those that are used first.

    Attributes:
        labels: (B, Q) int32; `classes` for a query without an object.
        query: (S,) int32: image * Q + query, by image and query; 0 in slots that are not used.
        points: (S, P, 2) float32 x, y in [0, 1] at which the loss looks.
        truth: (S, P) float32 of the object there.
        real: (S,) float32.
        matched: (B,) int64: queries with an object of every image. The normaliser of dice is the mean over ranks of the
            sum over images of max(matched, 1), and at least 1.
        objects: (B, Q) int64: index of the object, -1 without one.
    """

    labels: np.ndarray
    query: np.ndarray
    points: np.ndarray
    truth: np.ndarray
    real: np.ndarray
    matched: np.ndarray
    objects: np.ndarray


def query_targets(
    logits: np.ndarray,
    masks: np.ndarray,
    truth_masks: Sequence[np.ndarray],
    truth_labels: Sequence[np.ndarray],
    match_points: np.ndarray,
    oversample: np.ndarray,
    extra: np.ndarray,
    number: int,
    slots: int,
    fine: np.ndarray | None = None,
) -> QueryTargets:
    """Match every image by itself and choose the points of its losses.

    Args:
        logits: (B, Q, C + 1) class logits.
        masks: (B, Q, h, w) mask logits that are matched.
        truth_masks: of every image (G, H, W), not 0 inside, with the canvas's sides.
        truth_labels: of every image (G,) from 0.
        match_points: (B, P', 2) random points of every image, shared by its queries and objects.
        oversample, extra: (at least as many rows as there are matches, ..., 2): see `uncertain_points`. A row belongs
            to a match, in the order of `QueryTargets.query`.
        number: P.
        slots: S.
        fine: (B, Q, h', w') mask logits whose least sure points are chosen; None = `masks`.

    Raises:
        ValueError: more matches than slots.
    """
    batch, count, classes = logits.shape[0], logits.shape[1], logits.shape[2] - 1
    fine = masks if fine is None else fine
    labels = np.full((batch, count), classes, np.int32)
    objects, matched = np.full((batch, count), -1, np.int64), np.zeros(batch, np.int64)
    for image, (truth, kinds) in enumerate(zip(truth_masks, truth_labels, strict=True)):
        if not len(kinds):
            continue
        seen = sample_shared(masks[image], match_points[image])
        goal = sample_shared(np.asarray(truth, np.float32), match_points[image])
        found = match_queries(matching_costs(logits[image], seen, goal, np.asarray(kinds)).total)
        objects[image, found.queries] = found.objects
        labels[image, found.queries] = np.asarray(kinds)[found.objects]
        matched[image] = len(found.queries)
    images, queries = np.nonzero(objects >= 0)
    total = len(images)
    if total > slots:
        raise ValueError(f"{total} matched queries need as many slots, and there are {slots}")
    result = QueryTargets(
        labels, np.zeros(slots, np.int32), np.zeros((slots, number, 2), np.float32),
        np.zeros((slots, number), np.float32), np.zeros(slots, np.float32), matched, objects,
    )  # fmt: skip
    result.query[:total], result.real[:total] = images * count + queries, 1
    if total:
        result.points[:total] = uncertain_points(fine[images, queries], oversample[:total], extra[:total], number)
        own = np.stack(
            [truth_masks[image][objects[image, query]] for image, query in zip(images, queries, strict=True)]
        )
        result.truth[:total] = sample_each(own.astype(np.float32), result.points[:total])
    return result


def class_loss(logits: ms.Tensor, labels: ms.Tensor, class_weights: ms.Tensor, normaliser: ms.Tensor) -> ms.Tensor:
    """Softmax cross entropy of all queries, weighted by class.

    Args:
        logits: (B, Q, C + 1).
        labels: (B, Q) int32.
        class_weights: (C + 1,); the last is that of "no object".
        normaliser: scalar; the sum of the weights of all labels, or its mean over ranks.
    """
    flat = logits.reshape((-1, logits.shape[2]))
    ones = ops.ones((flat.shape[0],), flat.dtype)
    return weighted_cross_entropy(flat, labels.reshape((-1,)), ones, normaliser, class_weights)


def point_losses(
    masks: ms.Tensor,
    query: ms.Tensor,
    points: ms.Tensor,
    truth: ms.Tensor,
    real: ms.Tensor,
    used: ms.Tensor,
    normaliser: ms.Tensor,
) -> tuple[ms.Tensor, ms.Tensor]:
    """Mean cross entropy over all points of used slots, and dice; both 0 where no slot is used.

    Args:
        masks: (B, Q, h, w) logits.
        query, points, truth, real: of `QueryTargets`.
        used: scalar, number of used slots, or its mean over ranks.
        normaliser: scalar, of dice.
    """
    height, width = masks.shape[2], masks.shape[3]
    chosen = ops.gather(masks.reshape((-1, height * width)), query, 0).reshape((-1, height, width))
    logits = sample_at(chosen, points)
    entropy = (binary_cross_entropy(logits, truth).mean(1) * real).sum() / (used + EPSILON)
    return entropy, point_dice_loss(logits, truth, real, normaliser)
