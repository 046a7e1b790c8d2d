"""SAM-seg with the mask head of Mask R-CNN: a small mask inside every box, without prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mindspore as ms
import numpy as np

from mindground.detection.box_head import RoiTargets
from mindground.detection.mask_head import FcnMaskHead, crop_masks, mask_loss
from mindground.models.rsprompter.assign import MASK_SIDE
from mindground.models.rsprompter.decode import decode_instances, mask_in_box
from mindground.models.rsprompter.targets import Objects
from mindground.models.rsprompter.two_stage import TwoStage
from mindground.structures import Batch, Prediction

__all__ = ["SamSegMaskRcnn"]


class SamSegMaskRcnn(TwoStage):
    """See the module.

    Args:
        hidden: channels of the mask head.
        further: of `TwoStage`.
    """

    def __init__(self, *, hidden: int, **further: Any) -> None:
        super().__init__(**further)
        self.mask_head = FcnMaskHead(self.image_encoder.channels, hidden, self.classes)
        # Nothing looks at the embedding, so weight decay alone would move the encoder's neck.
        for parameter in self.image_encoder.neck.get_parameters():
            parameter.requires_grad = False

    def masks_of(
        self, features: ms.Tensor, embedding: ms.Tensor, images: ms.Tensor, real: ms.Tensor | None = None
    ) -> ms.Tensor:
        """(M, classes, 28, 28) inside the boxes."""
        return self.mask_head(features)

    def mask_term(
        self, logits: ms.Tensor, labels: ms.Tensor, real: ms.Tensor, truth: ms.Tensor, total: ms.Tensor
    ) -> ms.Tensor:
        """Mean binary cross entropy of the channel of the true class; truth (M, 28, 28)."""
        return mask_loss(logits, labels, truth.astype(ms.float32), real, total)

    def mask_truth(self, sample: RoiTargets, objects: Objects, room: int) -> np.ndarray:
        """(room, 28, 28): the object's mask inside the box."""
        side, first = 2 * MASK_SIDE, int(sample.positive.sum())
        found = np.zeros((room, side, side), np.uint8)
        if first:
            found[:first] = crop_masks(objects.masks(sample.objects[:first]), sample.boxes[:first], side)
        return found

    def decode(self, outputs: Mapping[str, np.ndarray], batch: Batch) -> list[Prediction]:
        """See `decode.decode_instances`; a mask lies inside its box."""
        return decode_instances(outputs, batch, mask_in_box)
