"""VG-LAW's parts from its configuration: the one place of the family that reads it."""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn

from mindground.backbones.bert import Bert
from mindground.backbones.vitdet import ViTDet
from mindground.errors import ConfigError
from mindground.models.text_encoder import bert_of
from mindground.models.vglaw.config import VGLawConfig
from mindground.models.vglaw.generator import WeightGenerator
from mindground.models.vglaw.heads import AdaptivePool, MaskHead
from mindground.models.vglaw.law import law_linear, law_size
from mindground.models.vglaw.network import LossWeights, VGLaw
from mindground.nn import init
from mindground.nn.linear import Linear
from mindground.nn.mlp import MultiLayerPerceptron

__all__ = ["build", "build_network"]


def build(config: Any) -> VGLaw:
    """Network of a resolved configuration (`mindground.config.Config`).

    Raises:
        ConfigError: the patch size does not divide the canvas, or sentences exceed the text encoder's positions.
    """
    size, patch = config.data.img_size, config.model.visual().patch_size
    if size % patch:
        near = max(1, round(size / patch)) * patch
        raise ConfigError(f"data.img_size={size} is no multiple of the {patch} pixels of a patch; use {near}")
    length, positions = config.data.max_len, config.model.text.max_position_embeddings
    if length > positions:
        raise ConfigError(
            f"data.max_len={length} exceeds the {positions} positions of the text encoder "
            f"(model.text.max_position_embeddings); use {positions} or less"
        )
    _check_divisions(config.model)
    return build_network(
        config.model,
        img_size=config.data.img_size,
        use_mask=config.data.use_mask,
        mask_threshold=config.eval.mask_threshold,
    )


def _check_divisions(model: VGLawConfig) -> None:
    """Raises ConfigError where a width is no multiple of what divides it."""
    vit, text = model.visual(), model.text
    divided = [
        ("vit.num_heads", vit.num_heads, "vit.embed_dim", vit.embed_dim),
        ("text.num_attention_heads", text.num_attention_heads, "text.hidden_size", text.hidden_size),
        ("vit.patch_size", vit.patch_size, "vit.pretrain_img_size", vit.pretrain_img_size),
    ]
    if any(model.block_groups()):
        divided += [("generator_heads", model.generator_heads, "text.hidden_size", text.hidden_size)]
        if text.hidden_size % 16:
            raise ConfigError(f"model.text.hidden_size={text.hidden_size} must be a multiple of 16")
    for name, number, of, width in divided:
        if width % number:
            raise ConfigError(f"model.{name}={number} must divide model.{of}={width}")


def build_network(config: VGLawConfig, *, img_size: int, use_mask: bool = True, mask_threshold: float = 0.35) -> VGLaw:
    """The network of the paper, multi-task or box-only, freshly initialised.

    Args:
        config: the family's section; `config.text.vocab_size` must be set.
        img_size: side of the square canvas in pixels, a multiple of the patch size.
        use_mask: build the mask head and its two losses.
        mask_threshold: probability above which a pixel belongs to the mask.
    """
    vit, text, groups = config.visual(), config.text, config.block_groups()
    # Start values are drawn in the order of construction.
    text_encoder = _text_encoder(config)
    visual_encoder = _visual_encoder(config, groups, img_size)
    if vit.position_start == "sincos":
        _start_positions(visual_encoder, vit.pretrain_img_size // vit.patch_size, vit.embed_dim)
    if text.start_gain:
        _start_text(text_encoder, text.start_gain)
    return VGLaw(
        text_encoder=text_encoder,
        visual_encoder=visual_encoder,
        weight_generator=_generator(config, vit.embed_dim, groups) if any(groups) else None,
        adapted=[index for index, group in enumerate(groups) if group],
        shares_decomposition=config.law_type == "svd" and config.share_decomposition,
        pool=AdaptivePool(text.hidden_size, vit.embed_dim, config.pool_dim),
        box_head=MultiLayerPerceptron((vit.embed_dim, config.box_hidden, config.box_hidden, 4)),
        mask_head=MaskHead(vit.embed_dim, text.hidden_size, config.up_channels) if use_mask else None,
        img_size=img_size,
        patch_size=vit.patch_size,
        iou_kind=config.xiou_loss_type,
        loss_weights=LossWeights(
            box=config.bbox_loss_coef,
            iou=config.xiou_loss_coef,
            focal=config.focal_loss_coef,
            dice=config.dice_loss_coef,
            attention=config.attention_loss_coef,
        ),
        mask_threshold=mask_threshold,
    )


def _text_encoder(config: VGLawConfig) -> Bert:
    text = config.text
    encoder = bert_of(text, text.vocab_size)
    # The pooler takes no part in the forward pass; it is kept so that files can be read and written whole.
    for parameter in encoder.pooler.get_parameters():
        parameter.requires_grad = False
    return encoder


def _visual_encoder(config: VGLawConfig, groups: list[int], img_size: int) -> ViTDet:
    vit = config.visual()

    def qkv(index: int) -> nn.Cell:
        own = not config.share_decomposition
        return law_linear(config.law_type, vit.embed_dim, groups[index], config.law_rank, own)

    return ViTDet(
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


def _start_positions(encoder: ViTDet, side: int, width: int) -> None:
    """Sines and cosines of row and column in place of random positions, for training from random weights."""
    table = np.concatenate([np.zeros((1, width)), init.sincos_positions(side, side, width)])
    encoder.pos_embed.set_data(ms.Tensor(table[None].astype(np.float32)))


def _start_text(encoder: Bert, gain: float) -> None:
    """Linear layers that start with a deviation of gain / sqrt(inputs)."""
    for _, cell in encoder.cells_and_names():
        if isinstance(cell, Linear):
            cell.weight.set_data(init.trunc_normal(cell.weight.shape, gain * cell.in_features**-0.5))


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
