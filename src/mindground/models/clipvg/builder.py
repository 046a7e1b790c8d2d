"""CLIP-VG's parts from its configuration: the one place of the family that reads it."""

from __future__ import annotations

from typing import Any

from mindground.backbones.clip import Clip, ClipText, ClipVision
from mindground.models.clipvg.config import ClipVGConfig
from mindground.models.clipvg.joint import JointEncoder
from mindground.models.clipvg.network import ClipVG

__all__ = ["build", "build_network"]


def build(config: Any) -> ClipVG:
    """Network of a resolved configuration (`mindground.config.Config`)."""
    return build_network(config.model, img_size=config.data.img_size)


def build_network(config: ClipVGConfig, *, img_size: int) -> ClipVG:
    """The network of the paper and its ablations, freshly initialised.

    Args:
        config: the family's section; `clip.vocab_size` must be set.
        img_size: side of the square canvas in pixels, a multiple of the patch size.
    """
    towers, width = config.towers(), config.width()
    vision = ClipVision(
        img_size,
        towers.patch_size,
        towers.vision_width,
        towers.vision_layers,
        towers.vision_heads,
        towers.embed_dim,
        towers.activation,
    )
    text = ClipText(
        towers.context_length,
        towers.vocab_size,
        towers.text_width,
        towers.text_layers,
        towers.text_heads,
        towers.embed_dim,
        towers.activation,
    )

    def joint() -> JointEncoder:
        return JointEncoder(width, config.vl_nheads, config.vl_dim_feedforward, config.vl_enc_layers, config.vl_dropout)

    return ClipVG(
        clip=Clip(vision, text),
        make_joint=joint,
        width=width,
        visual_width=towers.vision_width,
        embed_dim=towers.embed_dim,
        blocks=config.blocks(),
        variant=config.variant,
        prompt_ids=config.prompt_ids,
        max_query_len=config.max_query_len,
        img_size=img_size,
        train_clip=config.train_clip,
        padding_mask=config.padding_mask,
        box_code=config.box_code,
        box_weight=config.bbox_loss_coef,
        giou_weight=config.giou_loss_coef,
        attention_weight=config.attention_loss_coef,
        sincos_positions=config.position_start == "sincos",
    )
