"""The networks of the family from their configuration: the one place that reads it."""

from __future__ import annotations

from typing import Any

from mindground.backbones.sam import SamEncoder
from mindground.backbones.sam_decoder import MaskDecoder
from mindground.errors import ConfigError
from mindground.models.rsprompter.anchor import AnchorPrompter
from mindground.models.rsprompter.config import RsPrompterConfig
from mindground.models.rsprompter.samseg import SamSegMaskRcnn
from mindground.models.rsprompter.two_stage import TwoStage

__all__ = ["build", "build_network"]


def build(config: Any) -> TwoStage:
    """Network of a resolved configuration (`mindground.config.Config`)."""
    return build_network(config.model, img_size=config.data.img_size)


def build_network(config: RsPrompterConfig, *, img_size: int) -> TwoStage:
    """The network, freshly initialised.

    Args:
        img_size: side of the canvas in pixels.

    Raises:
        ConfigError: the canvas is no even multiple of the patch.
    """
    vision, part, detector = config.encoder, config.decoder, config.detector
    if img_size % (2 * vision.patch_size):
        double = 2 * vision.patch_size
        raise ConfigError(
            f"data.img_size={img_size} must be a multiple of {double}, twice model.encoder.patch_size; use "
            f"{-(-img_size // double) * double}"
        )
    encoder = SamEncoder(
        vision.img_size, vision.patch_size, vision.embed_dim, vision.depth, vision.num_heads, vision.mlp_dim,
        vision.window_size, vision.global_blocks, part.width,
    )  # fmt: skip
    shared: dict[str, Any] = {
        "image_encoder": encoder,
        "layers": config.layers(),
        "detector": detector,
        "classes": config.classes,
        "scales": config.scales(),
        "input_size": img_size,
        "max_objects": config.max_objects,
        "chunk": part.chunk,
        "encoder_learns": vision.train,
    }
    if config.variant == "samseg-maskrcnn":
        return SamSegMaskRcnn(hidden=detector.mask_hidden, **shared)
    decoder = MaskDecoder(part.width, part.depth, part.num_heads, part.mlp_dim, part.iou_hidden, part.norm_eps)
    return AnchorPrompter(mask_decoder=decoder, tokens=part.tokens, decoder_learns=part.train, **shared)
