"""What the `model` section of RSPrompter may hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from mindground.backbones.sam_sizes import VIT_PRESETS
from mindground.config.keys import check_ranges, key
from mindground.errors import ConfigError
from mindground.models.interface import PretrainedPart

__all__ = [
    "LR_GROUPS",
    "PRETRAINED_PARTS",
    "PUBLISHED_DATASET",
    "DecoderConfig",
    "DetectorConfig",
    "EncoderConfig",
    "RsPrompterConfig",
]

Variant = Literal["anchor", "samseg-maskrcnn"]


@dataclass
class EncoderConfig:
    """Image encoder of Segment Anything; the defaults are ViT-B."""

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
    # States that the neck sees: 0 are the patches, i is what block i - 1 gives. Empty = 1, 3, 5, ...
    select_layers: list[int] = key([], affects="numbers", low=0, high=256)
    # The paper freezes the encoder; the published code trains it, against its own intent.
    train: bool = key(False, affects="numbers", training_only=True)


@dataclass
class DecoderConfig:
    """Mask decoder of Segment Anything."""

    # Channels of the embedding, of the pyramid and of the decoder.
    width: int = key(256, affects="numbers", low=16, high=4096)
    depth: int = key(2, affects="numbers", low=1, high=64)
    num_heads: int = key(8, affects="numbers", low=1, high=256)
    mlp_dim: int = key(2048, affects="numbers", low=1, high=1 << 16)
    iou_hidden: int = key(256, affects="numbers", low=1, high=1 << 14)
    norm_eps: float = key(1e-6, affects="numbers", low=1e-12, high=1)
    # Prompt tokens of an object.
    tokens: int = key(5, affects="numbers", low=1, high=64)
    train: bool = key(True, affects="numbers", training_only=True)
    # Objects that are decoded together when a question is answered.
    chunk: int = key(16, affects="speed", low=1, high=1024)


@dataclass
class DetectorConfig:
    """Neck, proposals and the second stage."""

    # Channels inside the aggregator.
    aggregator: int = key(32, affects="numbers", low=1, high=4096)
    # Sides of square anchors in strides. Empty = those of the variant: 4 and 8, or 8 alone.
    scales: list[int] = key([], affects="numbers", low=1, high=256)
    # Width of the two layers that classes and boxes share.
    hidden: int = key(1024, affects="numbers", low=1, high=1 << 16)
    # Channels of the convolutions on the features of a box (samseg-maskrcnn).
    mask_hidden: int = key(256, affects="numbers", low=1, high=4096)
    # Anchors of an image that are drawn for the loss, and the largest part that finds objects.
    rpn_samples: int = key(256, affects="numbers", training_only=True, low=2, high=1 << 20)
    rpn_share: float = key(0.5, affects="numbers", training_only=True, low=0, high=1)
    # Boxes of an image that are drawn for the loss, and the largest part that finds objects.
    roi_samples: int = key(256, affects="numbers", training_only=True, low=1, high=1 << 16)
    roi_share: float = key(0.25, affects="numbers", training_only=True, low=0, high=1)
    # Anchors of a level that are decoded, and proposals of an image, in training and afterwards.
    train_before: int = key(2000, affects="numbers", training_only=True, low=1, high=1 << 20)
    train_proposals: int = key(1000, affects="numbers", training_only=True, low=1, high=1 << 16)
    before: int = key(1000, affects="numbers", low=1, high=1 << 20)
    proposals: int = key(1000, affects="numbers", low=1, high=1 << 16)
    proposal_iou: float = key(0.7, affects="numbers", low=0, high=1)
    # Detections of an image: least score, overlap of two of one class, number.
    score_threshold: float = key(0.05, affects="numbers", low=0, high=1)
    nms_iou: float = key(0.5, affects="numbers", low=0, high=1)
    detections: int = key(100, affects="numbers", low=1, high=1 << 14)


@dataclass
class RsPrompterConfig:
    """The `model` section."""

    # anchor: RSPrompter-anchor. samseg-maskrcnn: the same encoder and neck with the mask head of Mask R-CNN.
    variant: Variant = key("anchor", affects="numbers")
    # Classes of the data set; its category ids are 1 to this number.
    classes: int = key(10, affects="numbers", low=1, high=1 << 14)
    # vit_b, vit_l or vit_h replaces the sizes in `encoder`; empty keeps them as written.
    sam_type: Literal["", "vit_b", "vit_l", "vit_h"] = key("", affects="numbers")
    # Objects of one image that the arrays of a batch have room for.
    max_objects: int = key(100, affects="numbers", training_only=True, low=1, high=1 << 14)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    detector: DetectorConfig = field(default_factory=DetectorConfig)

    def __post_init__(self) -> None:
        for name, part in (("encoder", self.encoder), ("decoder", self.decoder), ("detector", self.detector)):
            check_ranges(part, f"model.{name}.")
        self.encoder = self._sized()
        self._check()

    def _sized(self) -> EncoderConfig:
        """The image encoder with the preset, if one is named, applied."""
        if not self.sam_type:
            return self.encoder
        width, depth, heads, blocks = VIT_PRESETS[self.sam_type]
        return replace(
            self.encoder,
            embed_dim=width,
            depth=depth,
            num_heads=heads,
            mlp_dim=4 * width,
            global_blocks=list(blocks),
        )

    def _check(self) -> None:
        encoder, width, heads = self.encoder, self.decoder.width, self.decoder.num_heads
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
        for name, layers, limit in (
            ("global_blocks", encoder.global_blocks, encoder.depth - 1),
            ("select_layers", encoder.select_layers, encoder.depth),
        ):
            if layers and (max(layers) > limit or sorted(set(layers)) != layers):
                raise ConfigError(
                    f"model.encoder.{name}={layers} must rise and end at {limit} or before, as model.encoder.depth="
                    f"{encoder.depth}"
                )
        if width % 8 or (width // 2) % heads:
            raise ConfigError(
                f"model.decoder.width={width} must be a multiple of 8, and its half one of model.decoder.num_heads="
                f"{heads}"
            )

    def layers(self) -> tuple[int, ...]:
        """States of the encoder that the neck sees."""
        return tuple(self.encoder.select_layers or range(1, self.encoder.depth + 1, 2))

    def scales(self) -> tuple[int, ...]:
        """Sides of square anchors in strides."""
        return tuple(self.detector.scales or ((4, 8) if self.variant == "anchor" else (8,)))


# Group of parameters -> its usual factor on train.lr.
LR_GROUPS = {"encoder": 1.0, "decoder": 1.0, "detector": 1.0}
_FILES = "sam_vit_b_01ec64.pth, or model.safetensors of its Hugging Face page"
PRETRAINED_PARTS: Mapping[str, PretrainedPart] = {
    "image": PretrainedPart("image_encoder.", f"--train.pretrained.image ({_FILES})"),
    "decoder": PretrainedPart("decoder.", f"--train.pretrained.decoder ({_FILES})", required=False),
}
PUBLISHED_DATASET = ""
