"""RMSIN and LAVT whole: expression and image in, one mask out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindground.backbones.bert import Bert
from mindground.backbones.swin import Swin
from mindground.models.base import Encoder, GroundingModel, ParameterGroup
from mindground.models.rmsin.cim import CrossScaleInteraction
from mindground.models.rmsin.config import PRETRAINED_PARTS
from mindground.models.rmsin.decode import decode_masks
from mindground.models.rmsin.decoder import Decoder
from mindground.models.rmsin.losses import pixel_weight, two_class_cross_entropy, two_class_dice
from mindground.models.rmsin.targets import encode_mask
from mindground.nn.resize import resize_maps
from mindground.structures import Batch, Example, Prediction

__all__ = ["Rmsin"]

# Parameters of the image encoder whose names hold one of these do not decay.
_NO_DECAY = ("norm", "absolute_pos_embed", "relative_position_bias_table")


class Rmsin(GroundingModel):
    """The network of both papers.

    Args:
        text_encoder: BERT.
        backbone: Swin whose hooks are `fusion.StageFusion`.
        cim: interaction between the stages; None for LAVT.
        decoder: four maps to logits of two classes.
        train_layers: layers of the text encoder that learn, from the first one.
        train_embeddings: whether its embeddings learn.
        coefficients: of cross-entropy and Dice; a Dice of 0 leaves that term out.
        class_weights: of background and referent in the cross-entropy.
        dice_reduction: sum or mean.
        mask_resize: nearest or bilinear (decode.py).
        joint: the loss of several ranks is that of one process with all their samples; `assign` brings its divisor.
    """

    encoders: ClassVar[Mapping[str, Encoder]] = {
        "text": Encoder(("token_ids", "token_mask"), ("text_features", "text_mask"), ("text_encoder.",)),
    }
    head_inputs: ClassVar[tuple[str, ...]] = ("image",)
    input_names = ("token_ids", "token_mask", "image")
    output_names = ("mask_logits",)
    scout_names: ClassVar[tuple[str, ...]] = ("text_mask",)
    pretrained_parts = PRETRAINED_PARTS

    def __init__(
        self,
        *,
        text_encoder: Bert,
        backbone: Swin,
        cim: CrossScaleInteraction | None,
        decoder: Decoder,
        train_layers: int = 10,
        train_embeddings: bool = False,
        coefficients: tuple[float, float] = (0.9, 0.1),
        class_weights: tuple[float, float] = (0.9, 1.1),
        dice_reduction: str = "sum",
        mask_resize: str = "nearest",
        joint: bool = False,
    ) -> None:
        super().__init__()
        # The names of the attributes are the names in every checkpoint.
        self.text_encoder = text_encoder
        self.backbone = backbone
        self.interacts = cim is not None
        if cim is not None:
            self.cim = cim
        self.decoder = decoder
        self.coefficients, self.class_weights = coefficients, class_weights
        self.dice_reduction, self.mask_resize = dice_reduction, mask_resize
        self.staged = joint  # type: ignore[misc]
        self.target_names = ("mask", "has_mask", "divisor") if joint else ("mask", "has_mask")
        self.uses_dice = coefficients[1] > 0
        self.term_names = ("ce", "dice") if self.uses_dice else ("ce",)
        self.text_learns = train_embeddings or train_layers > 0
        for parameter in text_encoder.embeddings.get_parameters():
            parameter.requires_grad = train_embeddings
        for index, layer in enumerate(text_encoder.encoder.layer):
            for parameter in layer.get_parameters():
                parameter.requires_grad = index < train_layers

    # ---- inside compiled graphs ----------------------------------------------------------------------------------

    def encode_text(self, token_ids: ms.Tensor, token_mask: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        """token_ids and token_mask (B, T) int32 -> words (B, T, Cl), and the mask as float32 (B, T)."""
        return self.text_encoder(token_ids, token_mask), token_mask.astype(ms.float32)

    def maps(self, image: ms.Tensor, text_features: ms.Tensor, text_mask: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """Image (B, 3, H, W) and words -> the maps that the decoder takes (B, C_i, H_i, W_i), fine to coarse."""
        found = ()
        for item in self.backbone(image, text_features, text_mask):
            found = found + (ops.transpose(item, (0, 3, 1, 2)),)
        return self.cim(found) if self.interacts else found

    def head(self, text_features: ms.Tensor, text_mask: ms.Tensor, image: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """Words and image -> mask_logits (B, 1, H, W): referent minus background."""
        low = self.decoder(self.maps(image, text_features, text_mask))
        # Resizing is linear and only the difference of the two classes is used, so that alone is resized.
        difference = low[:, 1:2] - low[:, 0:1]
        return (resize_maps(difference, (image.shape[2], image.shape[3]), "aligned"),)

    def construct(self, token_ids: ms.Tensor, token_mask: ms.Tensor, image: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """Tokens and mask (B, T) int32, image (B, 3, H, W) -> mask_logits (B, 1, H, W)."""
        text_features, text_mask = self.encode_text(token_ids, token_mask)
        return self.head(text_features, text_mask, image)

    def scout(self, text_features: ms.Tensor, text_mask: ms.Tensor, image: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """Nothing of the network is needed for the divisor: it follows from the masks."""
        return (text_mask,)

    def loss(self, outputs: tuple[ms.Tensor, ...], *targets: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """-> (total, ce[, dice]); terms are unweighted, the total is weighted.

        `divisor` (2,), where the loss is joint: of the cross-entropy, and the factor of a summed Dice.
        """
        batch = outputs[0].shape[0]
        logits, mask = outputs[0].reshape((batch, -1)), targets[0].reshape((batch, -1))
        present = targets[1].reshape((batch,))
        background, referent = self.class_weights
        divisor = targets[2][0] if self.staged else None
        ce = two_class_cross_entropy(logits, mask, present, background, referent, divisor)
        if not self.uses_dice:
            return ce * self.coefficients[0], ce
        dice = two_class_dice(logits, mask, present, self.dice_reduction)
        if self.staged and self.dice_reduction == "sum":
            dice = dice * targets[2][1]
        return ce * self.coefficients[0] + dice * self.coefficients[1], ce, dice

    # ---- on the host ---------------------------------------------------------------------------------------------

    def encode_targets(self, example: Example, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """`mask` and `has_mask`; see `targets`."""
        return encode_mask(example)

    def assign(
        self, outputs: Mapping[str, np.ndarray], batch: Batch, comm: Any, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """`divisor` (2,): mean over ranks of the weights of all pixels, and the number of ranks."""
        total = pixel_weight(batch.arrays["mask"], batch.arrays["has_mask"], *self.class_weights)
        shared = np.asarray([total], np.float32)
        if comm.size > 1:
            comm.all_reduce_mean_(shared)
        return {"divisor": np.asarray([shared[0], comm.size], np.float32)}

    def decode(self, outputs: Mapping[str, np.ndarray], batch: Batch) -> list[Prediction]:
        """Raw outputs -> one `Prediction` per real sample, in original pixels."""
        return decode_masks(outputs, batch, self.mask_resize)

    def evaluation_cells(self) -> Iterable[nn.Cell]:
        """A text encoder of which nothing learns computes without dropout, so that its features can be kept."""
        return () if self.text_learns else (self.text_encoder,)

    def encoder_settings(self, encoder: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `GroundingModel.encoder_settings`."""
        return {"text": settings.get("text")}

    def parameter_groups(self) -> list[ParameterGroup]:
        """Image encoder without and with decay, decoder, text encoder.

        Cross-scale interaction belongs to the image encoder, as in the published training.
        """
        members: dict[str, list[ms.Parameter]] = {
            name: [] for name in ("backbone_no_decay", "backbone", "decoder", "text")
        }
        for name, parameter in self.parameters_and_names():
            if not parameter.requires_grad:
                continue
            part = name.split(".", 1)[0]
            group = {"text_encoder": "text", "decoder": "decoder"}.get(part, "backbone")
            if group == "backbone" and any(word in name for word in _NO_DECAY):
                group = "backbone_no_decay"
            members[group].append(parameter)
        return [
            ParameterGroup(name, tuple(found), weight_decay=0.0 if name == "backbone_no_decay" else None)
            for name, found in members.items()
        ]
