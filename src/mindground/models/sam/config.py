"""What the `model` section of Segment Anything may hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from mindground.config.keys import check_ranges, key, refuse_outside
from mindground.errors import ConfigError
from mindground.models.interface import PretrainedPart

__all__ = [
    "LR_GROUPS",
    "PRETRAINED_PARTS",
    "PUBLISHED_DATASET",
    "VIT_PRESETS",
    "DecoderConfig",
    "EncoderConfig",
    "SamConfig",
    "TrainingConfig",
]


@dataclass
class EncoderConfig:
    """Image encoder; the defaults are ViT-B."""

    # Side in pixels that the position tables belong to; other input sizes resize them.
    img_size: int = key(1024, affects="numbers", low=16, high=1 << 14)
    patch_size: int = key(16, affects="numbers", low=1, high=256)
    embed_dim: int = key(768, affects="numbers", low=1, high=16384)
    depth: int = key(12, affects="numbers", low=1, high=256)
    num_heads: int = key(12, affects="numbers", low=1, high=1024)
    mlp_dim: int = key(3072, affects="numbers", low=1, high=1 << 17)
    window_size: int = key(14, affects="numbers", low=1, high=256)
    # Blocks that attend to the whole map, counted from 0.
    global_blocks: list[int] = key([2, 5, 8, 11], affects="numbers", low=0, high=255)
    # The whole encoder learns, or none of it.
    train: bool = key(True, affects="numbers", training_only=True)


@dataclass
class DecoderConfig:
    """Prompt encoder and mask decoder."""

    width: int = key(256, affects="numbers", low=8, high=4096)
    depth: int = key(2, affects="numbers", low=1, high=64)
    num_heads: int = key(8, affects="numbers", low=1, high=256)
    mlp_dim: int = key(2048, affects="numbers", low=1, high=1 << 16)
    iou_hidden: int = key(256, affects="numbers", low=1, high=1 << 14)
    mask_channels: int = key(16, affects="numbers", low=4, high=1024)
    # Of the norms inside the blocks: 1e-5 as the published weights were trained, 1e-6 as Hugging Face computes.
    norm_eps: float = key(1e-6, affects="numbers", low=1e-12, high=1)
    train: bool = key(True, affects="numbers", training_only=True)


@dataclass
class TrainingConfig:
    """Prompts drawn from the truth, answered, corrected by clicks into what is wrong, answered again."""

    # Objects of an image that are asked for at once.
    objects: int = key(4, affects="numbers", low=1, high=64)
    # The first prompt and the corrections after it.
    rounds: int = key(3, affects="numbers", low=1, high=16)
    # Share of first prompts that are boxes; the others are one point inside the object.
    box_share: float = key(0.5, affects="numbers", low=0, high=1)
    # Deviation of a drawn box's coordinates as a share of its sides, and the most pixels that one moves.
    box_noise: float = key(0.1, affects="numbers", low=0, high=1)
    box_noise_pixels: float = key(20.0, affects="numbers", low=0, high=1 << 14)
    focal_coef: float = key(20.0, affects="numbers", low=0, high=1e6)
    dice_coef: float = key(1.0, affects="numbers", low=0, high=1e6)
    iou_coef: float = key(1.0, affects="numbers", low=0, high=1e6)


@dataclass
class SamConfig:
    """Network and training."""

    # vit_b, vit_l, vit_h or default (= vit_h) replaces the sizes in `encoder`; empty keeps them as written.
    sam_type: Literal["", "default", "vit_b", "vit_l", "vit_h"] = ""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    prompts: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        for name, part in (("encoder", self.encoder), ("decoder", self.decoder), ("prompts", self.prompts)):
            check_ranges(part, f"model.{name}.")
        # So that `encoder` says what is built, whichever way it was named.
        self.encoder = self.vision()
        refuse_outside(self.prompts, "model.prompts.", ["box_share"], 0, 1)
        self._check()

    def _check(self) -> None:
        encoder, decoder = self.encoder, self.decoder
        if encoder.img_size % encoder.patch_size:
            raise ConfigError(
                f"model.encoder.img_size={encoder.img_size} is no multiple of model.encoder.patch_size="
                f"{encoder.patch_size}"
            )
        if encoder.embed_dim % encoder.num_heads:
            raise ConfigError(
                f"model.encoder.num_heads={encoder.num_heads} does not divide model.encoder.embed_dim="
                f"{encoder.embed_dim}"
            )
        if encoder.global_blocks and max(encoder.global_blocks) >= encoder.depth:
            raise ConfigError(
                f"model.encoder.global_blocks={encoder.global_blocks} names a block that {encoder.depth} blocks "
                "(model.encoder.depth) do not have; they are counted from 0"
            )
        if decoder.width % 8 or (decoder.width // 2) % decoder.num_heads:
            raise ConfigError(
                f"model.decoder.width={decoder.width} must be a multiple of 8, and its half one of "
                f"model.decoder.num_heads={decoder.num_heads}"
            )
        if decoder.mask_channels % 4:
            raise ConfigError(f"model.decoder.mask_channels={decoder.mask_channels} must be a multiple of 4")

    def vision(self) -> EncoderConfig:
        """The image encoder with the preset, if one is named, applied."""
        if not self.sam_type:
            return self.encoder
        width, depth, heads, global_blocks = VIT_PRESETS[self.sam_type]
        return replace(
            self.encoder,
            embed_dim=width,
            depth=depth,
            num_heads=heads,
            mlp_dim=4 * width,
            global_blocks=list(global_blocks),
        )


_HUGE = (1280, 32, 16, (7, 15, 23, 31))
# Name -> width, blocks, heads, blocks that attend to the whole map.
VIT_PRESETS: dict[str, tuple[int, int, int, tuple[int, ...]]] = {
    "default": _HUGE,
    "vit_b": (768, 12, 12, (2, 5, 8, 11)),
    "vit_l": (1024, 24, 16, (5, 11, 17, 23)),
    "vit_h": _HUGE,
}

# Group of parameters -> its usual factor on train.lr.
LR_GROUPS = {"encoder": 1.0, "decoder": 1.0, "no_decay": 1.0}
_FILES = "sam_vit_b_01ec64.pth, or model.safetensors of its Hugging Face page"
PRETRAINED_PARTS: Mapping[str, PretrainedPart] = {
    "image": PretrainedPart("image_encoder.", f"--train.pretrained.image ({_FILES})"),
}
PUBLISHED_DATASET = ""
