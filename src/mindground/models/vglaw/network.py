"""VG-LAW whole: expression and image in, one box and one mask out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindground.backbones.bert import Bert
from mindground.backbones.vitdet import ViTDet
from mindground.losses import attention_loss, box_iou_loss, box_l1_loss, dice_loss, sigmoid_focal_loss
from mindground.models.base import GroundingModel, ParameterGroup
from mindground.models.vglaw.config import VGLawConfig, VisualConfig
from mindground.models.vglaw.decode import decode_referent
from mindground.models.vglaw.generator import WeightGenerator
from mindground.models.vglaw.heads import AdaptivePool, MaskHead
from mindground.models.vglaw.law import law_linear, law_size
from mindground.models.vglaw.weights import WEIGHT_MAPS
from mindground.nn import init
from mindground.nn.linear import Linear
from mindground.nn.mlp import MultiLayerPerceptron
from mindground.nn.resize import BilinearResize

__all__ = ["VGLaw", "build"]


class VGLaw(GroundingModel):
    """The network of the paper, multi-task or box-only.

    Args:
        config: the family's section; `config.text.vocab_size` must be set.
        img_size: side of the square canvas in pixels, a multiple of the patch size.
        use_mask: build the mask head and its two losses.
        mask_threshold: probability above which a pixel belongs to the mask.
    """

    input_names = ("image", "token_ids", "token_mask")
    pretrained_parts: ClassVar[Mapping[str, str]] = {
        "text_encoder.": "--train.text_pretrained_path (bert-base-uncased's model.safetensors or pytorch_model.bin, "
        "from its public model page)"
    }

    def __init__(self, config: VGLawConfig, img_size: int, use_mask: bool = True, mask_threshold: float = 0.35) -> None:
        super().__init__()
        vit, text = config.visual(), config.text
        self.config, self.use_mask, self.mask_threshold = config, use_mask, mask_threshold
        self.img_size = img_size
        groups = config.block_groups()
        self.adapted = [index for index, group in enumerate(groups) if group]
        self.depth = vit.depth
        self.shared = config.law_type == "svd" and config.share_decomposition
        self.text_encoder = Bert(
            vocab_size=text.vocab_size,
            hidden_size=text.hidden_size,
            num_hidden_layers=text.num_hidden_layers,
            num_attention_heads=text.num_attention_heads,
            intermediate_size=text.intermediate_size,
            max_position_embeddings=text.max_position_embeddings,
            dropout=text.dropout,
        )
        # The pooler takes no part in the forward pass; it is kept so that files can be read and written whole.
        for parameter in self.text_encoder.pooler.get_parameters():
            parameter.requires_grad = False

        def qkv(index: int) -> nn.Cell:
            own = not config.share_decomposition
            return law_linear(config.law_type, vit.embed_dim, groups[index], config.law_rank, own)

        self.visual_encoder = ViTDet(
            img_size=img_size,
            patch_size=vit.patch_size,
            embed_dim=vit.embed_dim,
            depth=vit.depth,
            num_heads=vit.num_heads,
            mlp_ratio=vit.mlp_ratio,
            window_size=vit.window_size,
            window_block_indexes=vit.window_block_indexes,
            drop_path_rate=vit.drop_path_rate,
            norm_eps=vit.norm_eps,
            pretrain_img_size=vit.pretrain_img_size,
            qkv_layers=qkv,
        )
        self._start(vit, text.start_gain)
        if self.adapted:
            self.weight_generator = self._generator(config, vit.embed_dim, groups)
        self.ada_gap = AdaptivePool(text.hidden_size, vit.embed_dim, config.pool_dim)
        self.bbox_pred = MultiLayerPerceptron((vit.embed_dim, config.box_hidden, config.box_hidden, 4))
        terms = [("bbox", config.bbox_loss_coef), (config.xiou_loss_type, config.xiou_loss_coef)]
        self.output_names: tuple[str, ...] = ("box",)
        self.target_names: tuple[str, ...] = ("box",)
        if use_mask:
            self.up_sample = MaskHead(vit.embed_dim, text.hidden_size, config.up_channels)
            grid = 4 * (img_size // vit.patch_size)
            self.mask_resize = BilinearResize((grid, grid), (img_size, img_size), align_corners=True)
            self.output_names = ("box", "mask_logits")
            self.target_names = ("box", "mask", "has_mask")
            terms += [("focal", config.focal_loss_coef), ("dice", config.dice_loss_coef)]
        if config.attention_loss_coef > 0:
            self.output_names += ("attention",)
            terms.append(("attention", config.attention_loss_coef))
        self.term_names = tuple(name for name, _ in terms)
        self.coefficients = tuple(float(value) for _, value in terms)

    def _start(self, vit: VisualConfig, gain: float) -> None:
        """Start values for training from random weights, where the configuration asks for others than published."""
        if vit.position_start == "sincos":
            side = vit.pretrain_img_size // vit.patch_size
            table = np.concatenate([np.zeros((1, vit.embed_dim)), init.sincos_positions(side, side, vit.embed_dim)])
            self.visual_encoder.pos_embed.set_data(ms.Tensor(table[None].astype(np.float32)))
        linears = [cell for _, cell in self.text_encoder.cells_and_names() if isinstance(cell, Linear)]
        for cell in linears if gain else ():
            cell.weight.set_data(init.trunc_normal(cell.weight.shape, gain * cell.in_features**-0.5))

    @staticmethod
    def _generator(config: VGLawConfig, width: int, groups: list[int]) -> WeightGenerator:
        law, rank = config.law_type, config.law_rank
        generator = WeightGenerator(
            [law_size(law, width, group, rank) for group in groups if group],
            config.text.hidden_size,
            config.generator_heads,
            config.generator_norm_eps,
            config.use_activation,
            neutral=0.0 if law == "svd" else 1.0,
            # A ReLU on top of zeros passes no gradient, so that pair would never learn from a zero start.
            last_std=0.02 if law == "svd" and config.use_activation else 0.0,
        )
        if law == "svd" and config.share_decomposition:
            generator.S = init.parameter(init.kaiming_uniform((3 * width, rank, 1), rank), "S")
            generator.D = init.parameter(init.kaiming_uniform((rank, width, 1), width), "D")
        return generator

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

        With `attention_loss_coef` also the pooling attention (B, G*G).
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
        if self.config.attention_loss_coef > 0:
            outputs = outputs + (attention,)
        return outputs

    def loss(self, outputs: tuple[ms.Tensor, ...], *targets: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """-> (total, bbox, iou kind[, focal, dice][, attention]); terms are unweighted, the total is weighted."""
        terms = (
            box_l1_loss(outputs[0], targets[0]),
            box_iou_loss(outputs[0], targets[0], self.config.xiou_loss_type),
        )
        if self.use_mask:
            batch = outputs[1].shape[0]
            logits, mask = outputs[1].reshape(batch, -1), targets[1].reshape(batch, -1)
            has_mask = targets[2].reshape(batch)
            terms = terms + (sigmoid_focal_loss(logits, mask, has_mask), dice_loss(logits, mask, has_mask))
        if self.config.attention_loss_coef > 0:
            terms = terms + (attention_loss(outputs[-1], targets[0]),)
        total = terms[0] * self.coefficients[0]
        for index in range(1, len(terms)):
            total = total + terms[index] * self.coefficients[index]
        return (total, *terms)

    def decode(self, outputs: Mapping[str, np.ndarray], batch: Any) -> list[Any]:
        """Raw outputs -> one `Prediction` per real row, in original pixels."""
        return decode_referent(outputs, batch, self.mask_threshold)

    def parameter_groups(self, train: Any) -> list[ParameterGroup]:
        """Text encoder, visual encoder and the rest, each at its own rate (spec of the published recipe)."""
        rates = {"text_encoder": train.lr_lang, "visual_encoder": train.lr_visual, "": train.lr_base}
        members: dict[str, list[ms.Parameter]] = {prefix: [] for prefix in rates}
        for parameter in self.trainable_params():
            prefix = parameter.name.split(".", 1)[0]
            members[prefix if prefix in rates else ""].append(parameter)
        names = {"text_encoder": "lang", "visual_encoder": "visual", "": "base"}
        return [
            ParameterGroup(names[prefix], tuple(members[prefix]), lr, train.weight_decay)
            for prefix, lr in rates.items()
            if members[prefix]
        ]

    @classmethod
    def weight_maps(cls) -> dict[str, Any]:
        """Files that VG-LAW starts from or is exported to."""
        return WEIGHT_MAPS


def build(config: Any) -> VGLaw:
    """Network of a resolved configuration (`mindground.config.Config`)."""
    return VGLaw(config.model, config.data.img_size, config.data.use_mask, config.eval.mask_threshold)
