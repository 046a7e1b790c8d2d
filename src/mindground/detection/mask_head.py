"""A mask of 28 by 28 for every box and class (He et al. 2017), its targets, and its way back into the image."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindground.detection.roi_align import plan_rois
from mindground.losses.instances import EPSILON, binary_cross_entropy
from mindground.nn import init
from mindground.nn.conv import Conv2d
from mindground.nn.deconv import Deconv2x

__all__ = ["FcnMaskHead", "crop_masks", "mask_loss", "paste_mask", "paste_probability"]


class FcnMaskHead(nn.Cell):
    """Convolutions of kernel 3 with ReLU, twice the side, one logit for every class.

    Args:
        channels: of the features of a box.
        hidden: channels of the convolutions.
        classes: C.
        depth: number of convolutions.
    """

    def __init__(self, channels: int, hidden: int, classes: int, depth: int = 4) -> None:
        super().__init__()
        widths = (channels, *([hidden] * depth))
        self.convs = nn.CellList([Conv2d(a, b, 3, padding=1) for a, b in zip(widths[:-1], widths[1:], strict=True)])
        self.upsample = Deconv2x(widths[-1], hidden)
        self.conv_logits = Conv2d(hidden, classes)
        for layer, fan_out in (*((conv, 9 * hidden) for conv in self.convs), (self.conv_logits, classes)):
            layer.weight.set_data(init.normal(layer.weight.shape, (2.0 / fan_out) ** 0.5))
            layer.bias.set_data(init.constant(layer.bias.shape))
        # Of a transposed convolution the initialiser counts the input channels.
        self.upsample.weight.set_data(init.normal(self.upsample.weight.shape, (2.0 / (4 * widths[-1])) ** 0.5))
        self.upsample.bias.set_data(init.constant((hidden,)))

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(R, channels, h, w) -> logits (R, C, 2 h, 2 w)."""
        for conv in self.convs:
            x = ops.relu(conv(x))
        return self.conv_logits(ops.relu(self.upsample(x)))


def crop_masks(masks: np.ndarray, boxes: np.ndarray, side: int = 28) -> np.ndarray:
    """Binary targets (R, side, side) float32: mask r (R, H, W) inside box r (R, 4), clipped to the image."""
    masks, boxes = np.asarray(masks), np.asarray(boxes, np.float32).reshape(-1, 4)
    if not len(boxes):
        return np.zeros((0, side, side), np.float32)
    height, width = masks.shape[1:]
    boxes = np.clip(boxes, 0, np.asarray([width, height] * 2, np.float32))
    found = np.zeros((len(boxes), side, side), np.float32)
    for index, mask in enumerate(masks):  # one by one: a box of a large image covers millions of pixels
        plan = plan_rois(boxes[index : index + 1], np.zeros(1, np.int64), [(height, width)], [1], 1, side)
        values = mask.reshape(-1)[plan.pixels[0]].astype(np.float32)
        found[index] = (plan.row_weights[0] * values) @ plan.column_weights[0].T
    return (found >= 0.5).astype(np.float32)


def mask_loss(
    logits: ms.Tensor, labels: ms.Tensor, targets: ms.Tensor, weights: ms.Tensor, normaliser: ms.Tensor
) -> ms.Tensor:
    """Mean binary cross entropy of the channel of the true class.

    Args:
        logits: (R, C, h, w).
        labels: (R,) int32 below C.
        targets: (R, h, w).
        weights: (R,), 0 for boxes that fill up.
        normaliser: scalar; the number of real boxes, or its mean over ranks.
    """
    count, classes, height, width = logits.shape
    flat = labels + ops.arange(count).astype(ms.int32) * classes
    chosen = ops.gather(logits.reshape((-1, height * width)), flat, 0)
    losses = binary_cross_entropy(chosen, targets.reshape((count, -1))).mean(1)
    return (losses * weights).sum() / (normaliser + EPSILON)


def paste_probability(probability: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The probabilities (h, w) of a box, bilinear, on the pixels of an image that it may cover.

    Args:
        box: (4,) xyxy in pixels of the image, finite.
        size: (height, width) of the image.

    Returns:
        (H, W) float32 of the region, and the region as y0, y1, x0, x1.
    """
    left, top, right, bottom = (float(value) for value in np.asarray(box, np.float32))
    x0, y0 = max(int(np.floor(left)) - 1, 0), max(int(np.floor(top)) - 1, 0)
    x1, y1 = min(int(np.ceil(right)) + 1, size[1]), min(int(np.ceil(bottom)) + 1, size[0])
    region = np.asarray([y0, max(y1, y0), x0, max(x1, x0)], np.int64)
    down = _paste_weights(region[0], region[1], top, bottom, probability.shape[0])
    across = _paste_weights(region[2], region[3], left, right, probability.shape[1])
    return down @ probability.astype(np.float32) @ across.T, region


def paste_mask(probability: np.ndarray, box: np.ndarray, size: tuple[int, int], threshold: float = 0.5) -> np.ndarray:
    """(height, width) bool: where the pasted probability reaches the threshold; empty for a box that is not finite."""
    canvas = np.zeros(size, bool)
    if np.isfinite(box).all():
        values, (y0, y1, x0, x1) = paste_probability(probability, box, size)
        canvas[y0:y1, x0:x1] = values >= threshold
    return canvas


def _paste_weights(first: int, last: int, low: float, high: float, source: int) -> np.ndarray:
    """(last - first, source) float32: pixel centres from `first` on, looked up in `source` cells from `low` to `high`.

    A cell's value stands at its centre; beyond the cells stand zeros.
    """
    low, extent = np.float32(low), np.float32(high) - np.float32(low)
    pixels = np.arange(first, last, dtype=np.float32) + np.float32(0.5)
    # A box without an extent covers no pixel; the lookup is then far outside.
    share = (pixels - low) / extent if extent > 0 else np.full(len(pixels), -np.inf, np.float32)
    place = np.clip((share * 2 - 1 + 1) * np.float32(source) / 2 - np.float32(0.5), -2, source + 1)
    base = np.floor(place).astype(np.int64)
    weights = np.zeros((len(pixels), source), np.float32)
    for offset, value in ((0, 1 - (place - base)), (1, place - base)):
        column = base + offset
        inside = (column >= 0) & (column < source)
        weights[np.flatnonzero(inside), column[inside]] += value[inside]
    return weights
