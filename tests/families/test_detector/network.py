"""The network: a frozen encoder, one normalised convolution, and a box, classes and objectness for every cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindground.models.base import Encoder, GroundingModel, ParameterGroup
from mindground.nn.batch_norm import BatchNorm2d
from mindground.structures import Batch, Example, Prediction
from test_detector.decode import decode_cells
from test_detector.targets import encode_objects, match

__all__ = ["Detector"]


class Detector(GroundingModel):
    """Images (B, 3, S, S) to Q = (S / 16)^2 cells with a box each.

    Args:
        classes: C.
        width: channels.
        grid: cells per side.
        proposals: K cells that `assign` matches.
        max_objects: M, see `targets.encode_objects`.
        score_threshold, nms_iou: of `decode`.
    """

    encoders: ClassVar[Mapping[str, Encoder]] = {"image": Encoder(("image",), ("image_features",), ("stem.",))}
    input_names = ("image",)
    output_names = ("boxes", "class_logits", "objectness")
    scout_names = output_names
    # `proposal` ... `normaliser` are made by `assign`.
    target_names = ("cells", "proposal", "matched", "matched_box", "matched_class", "normaliser")
    term_names = ("objectness", "box", "class")
    staged: ClassVar[bool] = True

    def __init__(
        self,
        *,
        classes: int,
        width: int,
        grid: int,
        proposals: int,
        max_objects: int,
        score_threshold: float,
        nms_iou: float,
    ) -> None:
        super().__init__()
        self.classes, self.grid, self.proposals, self.max_objects = classes, grid, min(proposals, grid**2), max_objects
        self.score_threshold, self.nms_iou = score_threshold, nms_iou
        self.stem = nn.SequentialCell(
            nn.Conv2d(3, width, 4, 4, pad_mode="valid"), nn.ReLU(), nn.Conv2d(width, width, 4, 4, pad_mode="valid")
        )
        for parameter in self.stem.get_parameters():
            parameter.requires_grad = False
        self.mix = nn.Conv2d(width, width, 3, 1, pad_mode="same")
        self.norm = BatchNorm2d(width)
        self.predict = nn.Conv2d(width, 5 + classes, 1, has_bias=True)
        rows, columns = np.mgrid[:grid, :grid]
        centres = np.stack([columns, rows], -1).reshape(1, -1, 2).astype(np.float32) / grid
        self.centres = ms.Tensor(centres)

    def encode_image(self, image: ms.Tensor) -> ms.Tensor:
        """(B, 3, S, S) -> (B, W, G, G); nothing of it learns."""
        return self.stem(image)

    def head(self, features: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """(B, W, G, G) -> boxes (B, Q, 4) cxcywh in [0, 1], class logits (B, Q, C), objectness logits (B, Q)."""
        found = self.predict(ops.relu(self.norm(self.mix(features))))
        batch, channels = found.shape[0], found.shape[1]
        found = found.reshape(batch, channels, -1).transpose(0, 2, 1)
        shares = ops.sigmoid(found[:, :, :4])
        centre = ops.broadcast_to(self.centres, (batch, self.grid**2, 2)) + shares[:, :, :2] * (1.0 / self.grid)
        return ops.concat((centre, shares[:, :, 2:4]), -1), found[:, :, 5:], found[:, :, 4]

    def construct(self, image: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """See `head`."""
        return self.head(self.encode_image(image))

    def scout(self, features: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """See `head`."""
        return self.head(features)

    def loss(self, outputs: tuple[ms.Tensor, ...], *targets: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """Objectness of all cells, box and class of the matched proposals -> (total, objectness, box, class)."""
        boxes, logits, objectness = outputs
        cells, proposal, matched, matched_box, matched_class, normaliser = targets
        batch, count = proposal.shape
        share = 1.0 / normaliser.reshape(-1)[0]
        where = ops.binary_cross_entropy_with_logits(
            objectness, cells, ops.ones_like(cells), ops.ones_like(cells), reduction="mean"
        )
        flat = (proposal + ops.arange(batch).reshape(-1, 1).astype(ms.int32) * self.grid**2).reshape(-1)
        chosen = ops.gather(boxes.reshape(-1, 4), flat, 0)
        weight = matched.reshape(-1)
        box = (ops.abs(chosen - matched_box.reshape(-1, 4)).sum(-1) * weight).sum() * share
        chosen = ops.log_softmax(ops.gather(logits.reshape(-1, self.classes), flat, 0), -1)
        right = ops.one_hot(matched_class.reshape(-1), self.classes, ms.Tensor(1.0), ms.Tensor(0.0))
        kind = -((chosen * right).sum(-1) * weight).sum() * share
        return where * 4.0 + box * 5.0 + kind, where, box, kind

    def encode_targets(self, example: Example, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """See `targets.encode_objects`."""
        return encode_objects(example, self.grid, self.max_objects, self.classes)

    def assign(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, comm: Any, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """The K cells of the highest objectness, matched to objects; the normaliser is the mean over all ranks."""
        count, chosen = len(outputs["boxes"]), np.argsort(-outputs["objectness"], 1)[:, : self.proposals]
        found = {
            "proposal": chosen.astype(np.int32),
            "matched": np.zeros((count, self.proposals), np.float32),
            "matched_box": np.zeros((count, self.proposals, 4), np.float32),
            "matched_class": np.zeros((count, self.proposals), np.int32),
        }
        for index in range(count):
            real = batch.arrays["real"][index] > 0
            truth, labels = batch.arrays["boxes"][index][real], batch.arrays["labels"][index][real]
            ours = chosen[index]
            places, objects = match(outputs["boxes"][index][ours], outputs["class_logits"][index][ours], truth, labels)
            found["matched"][index, places] = 1
            found["matched_box"][index, places] = truth[objects]
            found["matched_class"][index, places] = labels[objects]
        mean = float(np.mean(comm.all_gather_object(float(found["matched"].sum()))))
        found["normaliser"] = np.asarray([max(mean, 1.0)], np.float32)
        return found

    def decode(self, outputs: Mapping[str, np.ndarray], batch: Batch) -> list[Prediction]:
        """See `decode.decode_cells`; a score is objectness times the class's probability."""
        shifted = np.exp(outputs["class_logits"] - outputs["class_logits"].max(-1, keepdims=True))
        objectness = 1 / (1 + np.exp(-np.clip(outputs["objectness"], -60, 60)))
        scores = objectness[..., None] * shifted / shifted.sum(-1, keepdims=True)
        return decode_cells(outputs["boxes"], scores, batch, self.score_threshold, self.nms_iou)

    def parameter_groups(self) -> list[ParameterGroup]:
        """One group."""
        return [ParameterGroup("base", tuple(self.trainable_params()))]
