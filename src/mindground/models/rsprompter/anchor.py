"""RSPrompter-anchor: the features of a box become prompt tokens, and Segment Anything's decoder draws its mask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindground.backbones.sam_decoder import MaskDecoder
from mindground.backbones.sam_prompts import grid_positions
from mindground.detection.box_head import RoiTargets
from mindground.detection.positions import sine_positions
from mindground.detection.prompter import RoiPrompter
from mindground.losses.instances import EPSILON, binary_cross_entropy
from mindground.models.rsprompter.assign import MASK_SIDE
from mindground.models.rsprompter.decode import decode_instances, mask_of_canvas
from mindground.models.rsprompter.targets import Objects
from mindground.models.rsprompter.two_stage import TwoStage
from mindground.nn import init
from mindground.nn.resize import linear_matrix, resize_maps
from mindground.structures import Batch, Prediction

__all__ = ["AnchorPrompter", "PromptedDecoder"]


class PromptedDecoder(nn.Cell):
    """The decoder with what it takes from the prompt encoder: frequencies of positions, and the code of "no mask"."""

    def __init__(self, mask_decoder: MaskDecoder) -> None:
        super().__init__()
        width = mask_decoder.width
        self.mask_decoder = mask_decoder
        self.frequencies = init.parameter(init.normal((2, width // 2), 1.0), "frequencies", requires_grad=False)
        self.no_mask = init.parameter(init.normal((1, width), 1.0), "no_mask")
        # Nothing asks for the expected IoU, so weight decay alone would move its head.
        for parameter in mask_decoder.iou_head.get_parameters():
            parameter.requires_grad = False

    def construct(self, embedding: ms.Tensor, images: ms.Tensor, tokens: ms.Tensor) -> ms.Tensor:
        """Embedding (B, C, g, g), images (M,) int32, tokens (M, K, C) -> the first mask, logits (M, 1, 4g, 4g)."""
        batch, width, rows, columns = embedding.shape
        source = ops.transpose(embedding.reshape((batch, width, rows * columns)), (0, 2, 1))
        source = source + ops.broadcast_to(self.no_mask.expand_dims(0), source.shape)
        if batch > 1:
            source = ops.gather(source, images, 0)
        places = grid_positions(self.frequencies, rows, columns)
        return self.mask_decoder(source, places, tokens, (rows, columns))[0][:, :1]


def _placed(sizes: list[tuple[int, int]], features: int) -> list[ms.Tensor]:
    """Sines of the finest level (1, 2 features, h, w), resized for every level."""
    finest = sine_positions(*sizes[0], features)
    found = []
    for rows, columns in sizes:
        down, across = linear_matrix(sizes[0][0], rows), linear_matrix(sizes[0][1], columns)
        found.append(ms.Tensor((down @ finest @ across.T)[None].astype(np.float32)))
    return found


class AnchorPrompter(TwoStage):
    """See the module.

    Args:
        mask_decoder: Segment Anything's.
        tokens: prompt tokens of a box.
        decoder_learns: the decoder with the code of "no mask"; the frequencies never learn.
        further: of `TwoStage`.
    """

    def __init__(self, *, mask_decoder: MaskDecoder, tokens: int, decoder_learns: bool, **further: Any) -> None:
        super().__init__(**further)
        width = self.image_encoder.channels
        self.prompter = RoiPrompter(width, MASK_SIDE, tokens)
        self.decoder = PromptedDecoder(mask_decoder)
        for parameter in self.decoder.get_parameters():
            parameter.requires_grad = parameter.requires_grad and decoder_learns
        self.sines = tuple(_placed(self.sizes[:4], width // 2))

    def placed(self, levels: tuple[ms.Tensor, ...]) -> tuple[ms.Tensor, ...]:
        """Both boxes and prompts see where a pixel lies."""
        found = ()
        for index in range(4):
            found = found + (levels[index] + ops.broadcast_to(self.sines[index], levels[index].shape),)
        return found

    def masks_of(
        self, features: ms.Tensor, embedding: ms.Tensor, images: ms.Tensor, real: ms.Tensor | None = None
    ) -> ms.Tensor:
        """One mask of every box, on the whole canvas: (M, 1, 4g, 4g)."""
        return self.decoder(embedding, images, self.prompter(features, real))

    def mask_term(
        self, logits: ms.Tensor, labels: ms.Tensor, real: ms.Tensor, truth: ms.Tensor, total: ms.Tensor
    ) -> ms.Tensor:
        """Binary cross entropy, a mean over all pixels of the canvas and all real boxes; truth (M, S, S)."""
        count, height, width = truth.shape
        wide = resize_maps(logits, (height, width)).reshape((count, height * width))
        losses = binary_cross_entropy(wide, truth.astype(ms.float32).reshape((count, height * width))).mean(1)
        return (losses * real).sum() / (total + EPSILON)

    def mask_truth(self, sample: RoiTargets, objects: Objects, room: int) -> np.ndarray:
        """(room, S, S): the whole mask of the object that a box finds."""
        found = np.zeros((room, self.input_size, self.input_size), np.uint8)
        first = int(sample.positive.sum())
        if first:
            found[:first] = objects.masks(sample.objects[:first])
        return found

    def decode(self, outputs: Mapping[str, np.ndarray], batch: Batch) -> list[Prediction]:
        """See `decode.decode_instances`; a mask is not cut to its box."""
        return decode_instances(outputs, batch, mask_of_canvas)
