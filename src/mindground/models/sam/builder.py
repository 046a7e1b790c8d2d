"""Segment Anything from its configuration: the one place of the family that reads it."""

from __future__ import annotations

from typing import Any

from mindground.backbones.sam import SamEncoder
from mindground.errors import ConfigError
from mindground.models.sam.config import EncoderConfig, SamConfig
from mindground.models.sam.mask_decoder import MaskDecoder
from mindground.models.sam.network import Sam
from mindground.models.sam.prompt_encoder import PromptEncoder

__all__ = ["build", "build_encoder", "build_network"]


def build(config: Any) -> Sam:
    """Network of a resolved configuration (`mindground.config.Config`).

    Raises:
        ConfigError: the canvas is no multiple of the patch.
    """
    return build_network(config.model, img_size=config.data.img_size)


def build_encoder(config: EncoderConfig, channels: int) -> SamEncoder:
    """The image encoder alone, with an embedding of `channels`."""
    return SamEncoder(
        config.img_size,
        config.patch_size,
        config.embed_dim,
        config.depth,
        config.num_heads,
        config.mlp_dim,
        config.window_size,
        config.global_blocks,
        channels,
    )


def build_network(config: SamConfig, *, img_size: int) -> Sam:
    """The network, freshly initialised.

    Args:
        img_size: side of the canvas in pixels.
    """
    patch, part = config.encoder.patch_size, config.decoder
    if img_size % patch:
        raise ConfigError(
            f"data.img_size={img_size} must be a multiple of model.encoder.patch_size={patch}; use "
            f"{-(-img_size // patch) * patch}"
        )
    return Sam(
        image_encoder=build_encoder(config.encoder, part.width),
        prompt_encoder=PromptEncoder(part.width, part.mask_channels),
        mask_decoder=MaskDecoder(part.width, part.depth, part.num_heads, part.mlp_dim, part.iou_hidden, part.norm_eps),
        input_size=img_size,
        training=config.prompts,
        learns=(config.encoder.train, part.train),
    )
