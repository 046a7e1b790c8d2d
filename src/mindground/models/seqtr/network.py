"""SeqTR and MSAM whole: expression and image in, a sequence of tokens out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindground.backbones.darknet import Darknet
from mindground.backbones.swin import Swin
from mindground.models.base import Encoder, GroundingModel, ParameterGroup
from mindground.models.seqtr.config import FRESH_PARTS, PRETRAINED_PARTS
from mindground.models.seqtr.decode import decode_sequences
from mindground.models.seqtr.generate import generate
from mindground.models.seqtr.losses import place_weights, smoothed_cross_entropy
from mindground.models.seqtr.sequence_head import SequenceHead
from mindground.models.seqtr.targets import encode_sequence, shuffled_batch
from mindground.nn.batch_norm import buffers
from mindground.structures import Batch, Example, Prediction

__all__ = ["Seqtr", "SwinMaps"]

_TERMS = {"box": "det", "contour": "mask", "multi": "multi_task"}


class SwinMaps(nn.Cell):
    """Swin whose last three maps stand in the place of DarkNet's.

    Args:
        backbone: exports stages 1, 2 and 3.
    """

    def __init__(self, backbone: Swin) -> None:
        super().__init__()
        self.backbone = backbone
        self.widths = backbone.widths[1:]

    def construct(self, image: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """Image (B, 3, H, W) -> maps (B, C_i, H_i, W_i)."""
        found = ()
        for item in self.backbone(image):
            found = found + (ops.transpose(item, (0, 3, 1, 2)),)
        return found


class Seqtr(GroundingModel):
    """The network of both papers.

    Args:
        visual_encoder: gives three maps, fine first.
        text_encoder: gives sentence, words and mask (`language`).
        fusion: makes one map of them (`fusion`, `aggregation`).
        sequence_head: from there to tokens.
        smoothing: of the labels.
        det_coord, det_coord_weight: places of a box that weigh more, and how much.
        end_weight: weight of a contour's end.
        shuffle_fraction: part of a batch whose vertices stand in another order.
        by_rays: contours are sampled by rays from their centre.
        top_p, sample_seed: tokens are drawn, with a generator that starts anew for every batch.
        split_groups: the image encoder is a group of its own (`visual`), with a tenth of the rate.
        hold_statistics: BatchNorms of frozen layers of the image encoder compute as in evaluation.
    """

    encoders: ClassVar[Mapping[str, Encoder]] = {
        "image": Encoder(("image",), ("map0", "map1", "map2"), ("visual_encoder.",)),
    }
    head_inputs: ClassVar[tuple[str, ...]] = ("padding", "token_ids", "token_mask", "previous")
    input_names = ("image", "padding", "token_ids", "token_mask", "previous")
    target_names = ("sequence",)
    output_names = ("logits",)
    shares_image_features: ClassVar[bool] = True
    pretrained_parts = PRETRAINED_PARTS
    fresh_parts = FRESH_PARTS

    def __init__(
        self,
        *,
        visual_encoder: Darknet | SwinMaps,
        text_encoder: nn.Cell,
        fusion: nn.Cell,
        sequence_head: SequenceHead,
        smoothing: float = 0.1,
        det_coord: tuple[int, ...] = (0,),
        det_coord_weight: float = 1.5,
        end_weight: float = 0.1,
        shuffle_fraction: float = 0.0,
        by_rays: bool = False,
        top_p: float = 0.0,
        sample_seed: int = 0,
        split_groups: bool = False,
        hold_statistics: bool = False,
    ) -> None:
        super().__init__()
        # The names of the attributes are the names in every checkpoint.
        self.visual_encoder = visual_encoder
        self.text_encoder = text_encoder
        self.fusion = fusion
        self.sequence_head = sequence_head
        layout = sequence_head.layout
        self.layout, self.smoothing = layout, smoothing
        self.term_names = (_TERMS[layout.task],)
        # A contour's end weighs less; boxes, and contours behind boxes, have no such weight.
        self.end_weight = end_weight if layout.task == "contour" else 1.0
        self.weights = ms.Tensor(place_weights(layout, det_coord, det_coord_weight))
        self.shuffle_fraction, self.by_rays = shuffle_fraction, by_rays
        self.top_p, self.sample_seed = top_p, sample_seed
        self.split_groups, self.hold_statistics = split_groups, hold_statistics

    # ---- inside compiled graphs ----------------------------------------------------------------------------------

    def encode_image(self, image: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """image (B, 3, H, W) -> three maps."""
        return self.visual_encoder(image)

    def fused(
        self, map0: ms.Tensor, map1: ms.Tensor, map2: ms.Tensor, token_ids: ms.Tensor, token_mask: ms.Tensor
    ) -> ms.Tensor:
        """Maps of B images, or of one, and tokens (B, T) -> (B, C, h, w)."""
        maps = (map0, map1, map2)
        batch = token_ids.shape[0]
        if map0.shape[0] != batch:
            maps = tuple([ops.broadcast_to(item, (batch,) + item.shape[1:]) for item in maps])
        return self.fusion(maps, *self.text_encoder(token_ids, token_mask))

    def head(self, *arrays: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """Three maps, padding (B, H, W), tokens and mask (B, T), previous (B, N) -> logits (B, N, classes)."""
        map0, map1, map2, padding, token_ids, token_mask, previous = arrays
        fused = self.fused(map0, map1, map2, token_ids, token_mask)
        return (self.sequence_head(fused, self._padding(padding, token_ids), previous),)

    def construct(
        self, image: ms.Tensor, padding: ms.Tensor, token_ids: ms.Tensor, token_mask: ms.Tensor, previous: ms.Tensor
    ) -> tuple[ms.Tensor, ...]:
        """image (B, 3, H, W), padding (B, H, W), tokens and mask (B, T), previous (B, N) -> logits (B, N, classes)."""
        map0, map1, map2 = self.encode_image(image)
        return self.head(map0, map1, map2, padding, token_ids, token_mask, previous)

    def _padding(self, padding: ms.Tensor, token_ids: ms.Tensor) -> ms.Tensor:
        batch = token_ids.shape[0]
        if padding.shape[0] != batch:
            padding = ops.broadcast_to(padding.astype(ms.float32), (batch,) + padding.shape[1:])
        return padding

    def prepare(self, *arrays: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """Three maps, padding, tokens and mask -> what every step of decoding shares; see `SequenceHead.prepare`."""
        map0, map1, map2, padding, token_ids, token_mask = arrays
        fused = self.fused(map0, map1, map2, token_ids, token_mask)
        return self.sequence_head.prepare(fused, self._padding(padding, token_ids))

    def advance(self, *arrays: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """One token of every sequence; see `SequenceHead.advance`."""
        return self.sequence_head.advance(*arrays)

    def loss(self, outputs: tuple[ms.Tensor, ...], *targets: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """Logits and the sequence (B, N) -> (total, the same under its own name)."""
        term = smoothed_cross_entropy(outputs[0], targets[0], self.weights, self.smoothing, self.end_weight)
        return term, term

    # ---- on the host ---------------------------------------------------------------------------------------------

    def encode_targets(self, example: Example, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """See `targets.encode_sequence`."""
        return encode_sequence(example, self.layout, self.by_rays)

    def encode_batch(self, batch: Batch, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """See `targets.shuffled_batch`; in training only."""
        if not self.training or self.shuffle_fraction <= 0:
            return {}
        return shuffled_batch(batch.arrays, self.layout, self.shuffle_fraction, rng)

    def infer(self, run: Any, arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Decode token by token with a cache; see `generate.generate` for what it gives."""
        maps = run.features("image", arrays)
        shared = run("prepare", *maps, *(arrays[name] for name in ("padding", "token_ids", "token_mask")))
        batch, head = len(arrays["token_ids"]), self.sequence_head
        shape = (batch * head.heads, self.layout.length, head.width // head.heads)
        empty = ms.Tensor(np.zeros(shape, np.float32))
        caches: tuple[ms.Tensor, ...] = (empty,) * (2 * len(head.decoder.layers))

        def advance(token: np.ndarray, place: np.ndarray) -> np.ndarray:
            nonlocal caches
            logits, *filled = run("advance", token, place, *shared, *caches)
            caches = tuple(filled)
            return logits.asnumpy()

        rng = np.random.default_rng(self.sample_seed) if self.top_p > 0 else None
        return generate(self.layout, batch, advance, self.top_p, rng)

    def decode(self, outputs: Mapping[str, np.ndarray], batch: Batch) -> list[Prediction]:
        """Tokens -> one `Prediction` per real sample, in original pixels."""
        return decode_sequences(outputs, batch, self.layout)

    def is_frozen(self, encoder: str) -> bool:
        """Statistics that follow the batches are learned, too: features can be kept only where they are held."""
        held = self.hold_statistics or not buffers(self.visual_encoder)
        return held and super().is_frozen(encoder)

    def encoder_settings(self, encoder: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `GroundingModel.encoder_settings`."""
        return {"visual": settings.get("visual")}

    def evaluation_cells(self) -> Iterable[nn.Cell]:
        """Frozen layers of the image encoder, where their statistics are held."""
        if not self.hold_statistics:
            return ()
        frozen = getattr(self.visual_encoder, "frozen_layers", None)
        if frozen is not None:
            return tuple(frozen())
        return () if self.visual_encoder.trainable_params() else (self.visual_encoder,)

    def parameter_groups(self) -> list[ParameterGroup]:
        """`base`, and `visual` where all of the image encoder learns."""
        visual: list[ms.Parameter] = []
        base: list[ms.Parameter] = []
        for name, parameter in self.parameters_and_names():
            if parameter.requires_grad:
                apart = self.split_groups and name.startswith("visual_encoder.")
                (visual if apart else base).append(parameter)
        return [ParameterGroup("base", tuple(base)), ParameterGroup("visual", tuple(visual), lr_factor=0.1)]
