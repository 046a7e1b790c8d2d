"""VG-LAW whole: expression and image in, one box and one mask out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import ops

from mindground.backbones.bert import Bert
from mindground.backbones.vitdet import ViTDet
from mindground.losses import attention_loss, box_iou_loss, box_l1_loss, dice_loss, sigmoid_focal_loss
from mindground.models.base import GroundingModel, ParameterGroup
from mindground.models.targets import encode_box
from mindground.models.vglaw.config import PRETRAINED_PARTS
from mindground.models.vglaw.decode import decode_referent
from mindground.models.vglaw.generator import WeightGenerator
from mindground.models.vglaw.heads import AdaptivePool, MaskHead
from mindground.models.vglaw.targets import encode_mask
from mindground.nn.mlp import MultiLayerPerceptron
from mindground.nn.resize import BilinearResize
from mindground.structures import Batch, Example, Prediction

__all__ = ["LossWeights", "VGLaw"]


@dataclass(frozen=True)
class LossWeights:
    """Weights of the loss terms; `attention` 0 leaves that term, and the output it needs, out."""

    box: float = 1.0
    iou: float = 1.0
    focal: float = 1.0
    dice: float = 1.0
    attention: float = 0.0


class VGLaw(GroundingModel):
    """The network of the paper, multi-task or box-only.

    Args:
        text_encoder, visual_encoder: the two backbones.
        weight_generator: makes what adapts the blocks in `adapted`; None where none is adapted.
        shares_decomposition: the generator's S and D belong to every adapted block.
        pool: image features to one vector, guided by the sentence.
        box_head, mask_head: None leaves masks and their two losses out.
        img_size, patch_size: of the square canvas, in pixels.
        iou_kind: of the second box term: iou, giou, diou or ciou.
        mask_threshold: probability above which a pixel belongs to the mask.
    """

    input_names = ("image", "token_ids", "token_mask")
    pretrained_parts = PRETRAINED_PARTS

    def __init__(
        self,
        *,
        text_encoder: Bert,
        visual_encoder: ViTDet,
        weight_generator: WeightGenerator | None,
        adapted: Sequence[int],
        shares_decomposition: bool,
        pool: AdaptivePool,
        box_head: MultiLayerPerceptron,
        mask_head: MaskHead | None,
        img_size: int,
        patch_size: int,
        iou_kind: str = "giou",
        loss_weights: LossWeights | None = None,
        mask_threshold: float = 0.35,
    ) -> None:
        super().__init__()
        weights = loss_weights or LossWeights()
        self.img_size, self.mask_threshold, self.iou_kind = img_size, mask_threshold, iou_kind
        self.adapted, self.shared = list(adapted), shares_decomposition
        self.depth = len(visual_encoder.blocks)
        self.use_mask, self.shows_attention = mask_head is not None, weights.attention > 0
        # The names of the attributes are the names in every checkpoint.
        self.text_encoder = text_encoder
        self.visual_encoder = visual_encoder
        if weight_generator is not None:
            self.weight_generator = weight_generator
        self.ada_gap = pool
        self.bbox_pred = box_head
        terms = [("bbox", weights.box), (iou_kind, weights.iou)]
        self.output_names: tuple[str, ...] = ("box",)
        self.target_names: tuple[str, ...] = ("box",)
        if mask_head is not None:
            self.up_sample = mask_head
            grid = 4 * (img_size // patch_size)
            self.mask_resize = BilinearResize((grid, grid), (img_size, img_size), align_corners=True)
            self.output_names = ("box", "mask_logits")
            self.mask_logits = "mask_logits"
            self.target_names = ("box", "mask", "has_mask")
            terms += [("focal", weights.focal), ("dice", weights.dice)]
        if self.shows_attention:
            self.output_names += ("attention",)
            terms.append(("attention", weights.attention))
        self.term_names = tuple(name for name, _ in terms)
        self.coefficients = tuple(float(value) for _, value in terms)

    def generate(self, text_feat: ms.Tensor, token_mask: ms.Tensor) -> tuple[tuple[ms.Tensor, ...], ...]:
        """What each ViT block's qkv projection receives beside its input; empty where not adapted."""
        extras = ()
        if not self.adapted:
            return ((),) * self.depth
        weights = self.weight_generator(text_feat, token_mask)
        used = 0
        for index in range(self.depth):
            if index not in self.adapted:
                extras = extras + ((),)
            else:
                extra = (weights[used],)
                if self.shared:
                    extra = (weights[used], self.weight_generator.S, self.weight_generator.D)
                extras = extras + (extra,)
                used = used + 1
        return extras

    def construct(self, image: ms.Tensor, token_ids: ms.Tensor, token_mask: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """image (B, 3, S, S), tokens and mask (B, L) int32 -> box (B, 4) cxcywh in [0, 1], mask_logits (B, 1, S, S).

        Where attention has a loss, also the pooling attention (B, G*G).
        """
        text_feat = self.text_encoder(token_ids, token_mask)
        extras = self.generate(text_feat, token_mask)
        features = self.visual_encoder(image, extras).transpose(0, 2, 3, 1)
        return self.heads(features, text_feat[:, 0])

    def heads(self, features: ms.Tensor, sentence: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """Features (B, G, G, C) and the CLS feature (B, T) -> outputs."""
        batch, height, width, channels = features.shape
        pooled, attention = self.ada_gap(sentence, features.reshape(batch, height * width, channels))
        outputs = (ops.sigmoid(self.bbox_pred(pooled)),)
        if self.use_mask:
            logits = self.up_sample(features, sentence).expand_dims(1)
            outputs = outputs + (self.mask_resize(logits),)
        if self.shows_attention:
            outputs = outputs + (attention,)
        return outputs

    def loss(self, outputs: tuple[ms.Tensor, ...], *targets: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """-> (total, bbox, iou kind[, focal, dice][, attention]); terms are unweighted, the total is weighted."""
        terms = (box_l1_loss(outputs[0], targets[0]), box_iou_loss(outputs[0], targets[0], self.iou_kind))
        if self.use_mask:
            batch = outputs[1].shape[0]
            logits, mask = outputs[1].reshape(batch, -1), targets[1].reshape(batch, -1)
            has_mask = targets[2].reshape(batch)
            terms = terms + (sigmoid_focal_loss(logits, mask, has_mask), dice_loss(logits, mask, has_mask))
        if self.shows_attention:
            terms = terms + (attention_loss(outputs[-1], targets[0]),)
        total = terms[0] * self.coefficients[0]
        for index in range(1, len(terms)):
            total = total + terms[index] * self.coefficients[index]
        return (total, *terms)

    def encode_targets(self, example: Example, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """`box` and, with a mask head, `mask` and `has_mask`; see `targets`."""
        return encode_box(example) | (encode_mask(example) if self.use_mask else {})

    def decode(self, outputs: Mapping[str, np.ndarray], batch: Batch) -> list[Prediction]:
        """Raw outputs -> one `Prediction` per real sample, in original pixels."""
        return decode_referent(outputs, batch, self.mask_threshold)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Text encoder (`lang`), visual encoder (`visual`) and the rest (`base`)."""
        names = {"text_encoder": "lang", "visual_encoder": "visual", "": "base"}
        members: dict[str, list[ms.Parameter]] = {prefix: [] for prefix in names}
        for parameter in self.trainable_params():
            prefix = parameter.name.split(".", 1)[0]
            members[prefix if prefix in names else ""].append(parameter)
        return [ParameterGroup(name, tuple(members[prefix])) for prefix, name in names.items()]
