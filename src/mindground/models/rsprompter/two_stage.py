"""A detector of two stages on Segment Anything's image encoder; its heirs say how the mask of a box is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindground.backbones.sam import SamEncoder
from mindground.detection.anchors import AnchorGrid
from mindground.detection.box_head import BoxHead, box_losses, find_detections
from mindground.detection.necks import FeatureAggregator, FeatureSplitter
from mindground.detection.roi_align import RoiAlign, flatten_levels
from mindground.detection.rpn import ProposalRules, RpnHead, rpn_losses
from mindground.models.base import Encoder, GroundingModel, ParameterGroup
from mindground.models.rsprompter.assign import (
    BOX_SIDE,
    LOSS_NAMES,
    MASK_SIDE,
    STRIDES,
    Plans,
    Rules,
    proposals_of,
    sampled_targets,
)
from mindground.models.rsprompter.config import PRETRAINED_PARTS
from mindground.models.rsprompter.targets import Objects, encode_objects, objects_of
from mindground.structures import Batch, Example

if TYPE_CHECKING:
    from mindground.detection.box_head import RoiTargets
    from mindground.detection.nms import Detections
    from mindground.models.base import Run
    from mindground.models.rsprompter.config import DetectorConfig

__all__ = ["TwoStage"]

_LEVELS = 4
"""Of the five, those that boxes look at."""


class TwoStage(GroundingModel):
    """Encoder, neck, proposals, and a class and a better box for each; the names of parts are those in checkpoints.

    Args:
        image_encoder: its states at `layers` go through the neck.
        layers: ascending indexes of states.
        detector: widths, and how boxes are drawn and kept.
        classes, scales: of the detector.
        input_size: side S of the canvas in pixels.
        max_objects: see `targets.encode_objects`.
        chunk: boxes whose masks are made together when a question is answered.
        encoder_learns: the whole encoder, or none of it.
    """

    encoders: ClassVar[Mapping[str, Encoder]] = {
        "image": Encoder(("image",), ("states", "embedding"), ("image_encoder.",))
    }
    input_names = ("image",)
    output_names = ("rpn_logits", "rpn_deltas", "level0", "level1", "level2", "level3", "embedding")
    scout_names = ("rpn_logits", "rpn_deltas")
    target_names = LOSS_NAMES
    term_names = ("rpn_cls", "rpn_bbox", "cls", "bbox", "mask")
    staged: ClassVar[bool] = True
    pretrained_parts = PRETRAINED_PARTS

    def __init__(
        self,
        *,
        image_encoder: SamEncoder,
        layers: tuple[int, ...],
        detector: DetectorConfig,
        classes: int,
        scales: tuple[int, ...],
        input_size: int,
        max_objects: int,
        chunk: int,
        encoder_learns: bool,
    ) -> None:
        super().__init__()
        width, cell = image_encoder.channels, input_size // image_encoder.patch_size
        self.image_encoder, self.layers = image_encoder, layers
        self.settings, self.classes, self.input_size = detector, classes, input_size
        self.max_objects, self.chunk, self.encoder_learns = max_objects, chunk, encoder_learns
        for parameter in image_encoder.get_parameters():
            parameter.requires_grad = parameter.requires_grad and encoder_learns
        self.aggregator = FeatureAggregator(image_encoder.width, detector.aggregator, width, len(layers))
        self.splitter = FeatureSplitter(width, width)
        strides = [stride * image_encoder.patch_size // 16 for stride in STRIDES]
        self.grid = AnchorGrid(strides, scales)
        self.rpn_head = RpnHead(width, width, self.grid.per_cell)
        self.box_head = BoxHead(width, BOX_SIDE, detector.hidden, classes)
        self.align = RoiAlign()
        sides = [4 * cell, 2 * cell, cell, cell // 2]
        self.sizes = [(side, side) for side in (*sides, -(-sides[-1] // 2))]
        self.plans = Plans(self.sizes[:_LEVELS], strides[:_LEVELS])
        self.rules = Rules(classes, detector.rpn_samples, detector.rpn_share, detector.roi_samples, detector.roi_share)

    # ---- what heirs say ------------------------------------------------------------------------------------------

    def placed(self, levels: tuple[ms.Tensor, ...]) -> tuple[ms.Tensor, ...]:
        """The four levels that boxes look at, with whatever the second stage adds to them."""
        return levels

    def masks_of(
        self, features: ms.Tensor, embedding: ms.Tensor, images: ms.Tensor, real: ms.Tensor | None = None
    ) -> ms.Tensor:
        """Mask logits of M boxes.

        Args:
            features: (M, C, 14, 14).
            embedding: (B, C, g, g).
            images: (M,) int32.
            real: (M,) float32, 0 for boxes that fill up; None = all are real.

        Returns:
            (M, A, h, w): one mask (A = 1), or one of every class.
        """
        raise TypeError(f"{type(self).__name__} does not define masks_of")

    def mask_term(
        self, logits: ms.Tensor, labels: ms.Tensor, real: ms.Tensor, truth: ms.Tensor, total: ms.Tensor
    ) -> ms.Tensor:
        """The loss of the masks of M boxes with labels (M,), by `total`, a scalar."""
        raise TypeError(f"{type(self).__name__} does not define mask_term")

    def mask_truth(self, sample: RoiTargets, objects: Objects, room: int) -> np.ndarray:
        """(room, h, w) uint8: what the masks of the first `room` boxes of one image are to be."""
        raise TypeError(f"{type(self).__name__} does not define mask_truth")

    # ---- inside compiled graphs ----------------------------------------------------------------------------------

    def encode_image(self, image: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """Image (B, 3, S, S) -> states (B, L, g, g, D) and embedding (B, C, g, g)."""
        found = self.image_encoder.states(image, self.layers)
        return ops.stack(found[:-1], 1), found[-1]

    def pyramid(self, states: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """States (B, L, g, g, D) -> five levels (B, C, ...)."""
        return self.splitter(self.aggregator(ops.unbind(states, 1)))

    def head(self, states: ms.Tensor, embedding: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """-> objectness (B, N), differences (B, N, 4), the first four levels and the embedding."""
        levels = self.pyramid(states)
        logits, deltas = self.rpn_head(levels)
        return (logits, deltas, *levels[:4], embedding)

    def construct(self, image: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """See `head`."""
        states, embedding = self.encode_image(image)
        return self.head(states, embedding)

    def scout(self, states: ms.Tensor, embedding: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """Objectness (B, N) and differences (B, N, 4)."""
        return self.rpn_head(self.pyramid(states))

    def rows(self, levels: tuple[ms.Tensor, ...]) -> ms.Tensor:
        """Four levels (B, C, h, w) -> the rows that `RoiAlign` gathers from."""
        return flatten_levels(self.placed(levels))

    def find_boxes(self, *arrays: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        """Four levels and a `RoiPlan` -> logits (R, classes + 1) and differences (R, 4 classes)."""
        rows = self.rows(arrays[:4])
        return self.box_head(self.align(rows, *arrays[4:]))

    def find_masks(self, *arrays: ms.Tensor) -> ms.Tensor:
        """Four levels of one image, its embedding and a `RoiPlan` -> `masks_of` its boxes."""
        rows = self.rows(arrays[:4])
        features = self.align(rows, *arrays[5:])
        return self.masks_of(features, arrays[4], ops.zeros((features.shape[0],), ms.int32))

    def loss(self, outputs: tuple[ms.Tensor, ...], *targets: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """-> (total, rpn_cls, rpn_bbox, cls, bbox, mask); all weigh 1. `targets` are the arrays of `LOSS_NAMES`."""
        where, far = rpn_losses(
            outputs[0], outputs[1], targets[0], targets[1], targets[2], targets[3], targets[4].reshape(())
        )
        rows = self.rows(outputs[2:6])
        logits, deltas = self.box_head(self.align(rows, *targets[5:8]))
        kind, moved = box_losses(
            logits, deltas, targets[8], targets[9], targets[10], targets[11], targets[12].reshape(())
        )
        images, real, labels, truth, total = targets[16:]
        masks = self.masks_of(self.align(rows, *targets[13:16]), outputs[6], images, real)
        mask = self.mask_term(masks, labels, real, truth, total.reshape(()))
        return where + far + kind + moved + mask, where, far, kind, moved, mask

    # ---- on the host ---------------------------------------------------------------------------------------------

    def encode_targets(self, example: Example, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """See `targets.encode_objects`."""
        return encode_objects(example, self.max_objects, self.classes)

    def assign(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, comm: Any, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Proposals of the network as it is, samples of them, and their targets; normalisers are means over ranks."""
        clips = [(float(height), float(width)) for height, width in batch.arrays["seen_size"]]
        limits = ProposalRules(self.settings.train_before, self.settings.proposal_iou, self.settings.train_proposals)
        return self.assigned(proposals_of(outputs, self.grid, self.sizes, clips, limits), batch, comm, rng)

    def assigned(
        self, proposals: list[np.ndarray], batch: Batch, comm: Any, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """`assign` with given proposals (K, 4) of every image."""
        canvas = (self.input_size, self.input_size)
        objects = [objects_of(batch.arrays, index, canvas) for index in range(len(proposals))]
        found, samples = sampled_targets(
            proposals, objects, self.rules, self.grid, self.sizes, canvas, self.plans, comm, rng
        )
        room = self.rules.most_positive
        truth = [self.mask_truth(one, item, room) for one, item in zip(samples, objects, strict=True)]
        return {**found, "mask_truth": np.concatenate(truth)}

    def infer(self, run: Run, arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Detections of every image by falling score, in fixed shapes; see `decode.decode_instances`."""
        outputs, settings = run.network(arrays), self.settings
        limits = ProposalRules(settings.before, settings.proposal_iou, settings.proposals)
        batch = len(outputs["rpn_logits"])
        clips = _seen(arrays.get("padding"), batch, self.input_size)
        proposals = proposals_of(outputs, self.grid, self.sizes, clips, limits)
        found: dict[str, np.ndarray] = {
            "det_boxes": np.zeros((batch, settings.detections, 4), np.float32),
            "det_scores": np.zeros((batch, settings.detections), np.float32),
            "det_labels": np.zeros((batch, settings.detections), np.int32),
            "det_count": np.zeros(batch, np.int32),
        }
        masks: list[np.ndarray] = []
        for image, boxes in enumerate(proposals):
            levels = [outputs[f"level{index}"][image : image + 1] for index in range(_LEVELS)]
            best = self._detections(run, levels, boxes, clips[image])
            count = len(best.boxes)
            found["det_boxes"][image, :count], found["det_scores"][image, :count] = best.boxes, best.scores
            found["det_labels"][image, :count], found["det_count"][image] = best.labels, count
            embedding = outputs["embedding"][image : image + 1]
            masks.append(self._masks(run, levels, embedding, found["det_boxes"][image], best.labels))
        return {**found, "det_logits": np.stack(masks)}

    def _detections(
        self, run: Run, levels: list[np.ndarray], boxes: np.ndarray, clip: tuple[float, float]
    ) -> Detections:
        """Detections of one image from its proposals (K, 4), inside (height, width) `clip`."""
        settings = self.settings
        filled = np.zeros((settings.proposals, 4), np.float32)
        filled[: len(boxes)] = boxes
        plan = self.plans("boxes", filled, np.zeros(len(filled), np.int64), 1, BOX_SIDE)
        logits, deltas = (value.asnumpy()[: len(boxes)] for value in run("find_boxes", *levels, *plan))
        return find_detections(
            logits, deltas, boxes, clip, (1.0, 1.0), settings.score_threshold, settings.nms_iou,
            settings.detections,
        )  # fmt: skip

    def _masks(
        self, run: Run, levels: list[np.ndarray], embedding: np.ndarray, boxes: np.ndarray, labels: np.ndarray
    ) -> np.ndarray:
        """(K, h, w) logits of boxes (K, 4), of which the first have labels; zeros for the others."""
        found: np.ndarray | None = None
        chunk = min(self.chunk, len(boxes))
        for start in range(0, max(len(labels), 1), chunk):
            part = np.zeros((chunk, 4), np.float32)
            real = min(chunk, len(boxes) - start)
            part[:real] = boxes[start : start + real]
            plan = self.plans("masks", part, np.zeros(chunk, np.int64), 1, MASK_SIDE)
            logits = run("find_masks", *levels, embedding, *plan)[0].asnumpy()
            if found is None:
                found = np.zeros((len(boxes), *logits.shape[2:]), np.float32)
            for place in range(min(real, len(labels) - start)):
                channel = int(labels[start + place]) if logits.shape[1] > 1 else 0
                found[start + place] = logits[place, channel]
        assert found is not None
        return found

    def evaluation_cells(self) -> Iterable[nn.Cell]:
        """An encoder that does not learn computes as in evaluation, so that its states can be kept."""
        return () if self.encoder_learns else (self.image_encoder,)

    def encoder_settings(self, encoder: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `GroundingModel.encoder_settings`."""
        own = {name: value for name, value in (settings.get("encoder") or {}).items() if name != "train"}
        return {"image": own, "layers": list(self.layers), "input_size": self.input_size}

    def parameter_groups(self) -> list[ParameterGroup]:
        """Encoder, mask decoder, and neck with heads. All parameters decay, as in the published trainings."""
        members: dict[str, list[ms.Parameter]] = {"encoder": [], "decoder": [], "detector": []}
        for name, parameter in self.parameters_and_names():
            if parameter.requires_grad:
                group = {"image_encoder": "encoder", "decoder": "decoder"}.get(name.split(".")[0], "detector")
                members[group].append(parameter)
        return [ParameterGroup(name, tuple(found)) for name, found in members.items()]


def _seen(padding: Any, batch: int, side: int) -> list[tuple[float, float]]:
    """(height, width) up to which boxes can lie, by `padding` (B, S, S) of 1 where no image lies; None = everywhere."""
    if padding is None:
        return [(float(side), float(side))] * batch
    found = []
    for one in padding.asnumpy() if isinstance(padding, ms.Tensor) else np.asarray(padding):
        rows, columns = np.flatnonzero((one == 0).any(1)), np.flatnonzero((one == 0).any(0))
        found.append((float(rows[-1] + 1), float(columns[-1] + 1)) if len(rows) else (float(side), float(side)))
    return found
