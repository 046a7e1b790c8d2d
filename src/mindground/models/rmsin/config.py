"""What the `model` section of RMSIN, LAVT and LAVT-one may hold."""

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
    "SWIN_PRESETS",
    "TEXT_LAYERS",
    "CimConfig",
    "RmsinConfig",
    "SwinConfig",
    "TextConfig",
]


@dataclass
class SwinConfig:
    """Image encoder; the defaults are Swin-B with windows of 12 tokens."""

    embed_dim: int = key(128, affects="numbers", low=1, high=16384)
    depths: list[int] = key([2, 2, 18, 2], affects="numbers", low=1, high=256)
    num_heads: list[int] = key([4, 8, 16, 32], affects="numbers", low=1, high=1024)
    window_size: int = key(12, affects="numbers", low=1, high=64)
    drop_path_rate: float = key(0.3, affects="numbers", training_only=True)

    def __post_init__(self) -> None:
        refuse_outside(self, "model.swin.", ["drop_path_rate"], 0, 1)
        if not len(self.depths) == len(self.num_heads) == 4:
            raise ConfigError(
                f"model.swin.depths={self.depths} and num_heads={self.num_heads} need one number for each of 4 stages"
            )


@dataclass
class TextConfig:
    """BERT; the defaults are bert-base-uncased."""

    # 0 stands for the tokenizer's size, which is filled in before the network is built.
    vocab_size: int = key(0, affects="numbers", low=0, high=1 << 22)
    hidden_size: int = key(768, affects="numbers", low=1, high=16384)
    num_hidden_layers: int = key(12, affects="numbers", low=1, high=256)
    num_attention_heads: int = key(12, affects="numbers", low=1, high=256)
    intermediate_size: int = key(3072, affects="numbers", low=1, high=1 << 17)
    max_position_embeddings: int = key(512, affects="numbers", low=1, high=1 << 16)
    layer_norm_eps: float = key(1e-12, affects="numbers", low=1e-12, high=1)
    dropout: float = key(0.1, affects="numbers", training_only=True)
    # How many layers learn, from the first one; upstream gives ten to the optimiser, and no embeddings.
    # 0 freezes the whole encoder, whose features can then be kept (train.feature_cache).
    train_layers: int = key(10, affects="numbers", training_only=True)
    train_embeddings: bool = key(False, affects="numbers", training_only=True)
    # Deviation of the start weights as a multiple of 1/sqrt(inputs); 0 = the published 0.02 (random weights only).
    start_gain: float = key(0.0, affects="numbers", training_only=True)

    def __post_init__(self) -> None:
        refuse_outside(self, "model.text.", ["dropout"], 0, 1)
        refuse_outside(self, "model.text.", ["train_layers", "start_gain"], 0)


@dataclass
class CimConfig:
    """Cross-scale interaction of `variant: rmsin`."""

    # Side of the common grid; 0 = that of the coarsest map, 15 at 480 pixels. Weights belong to one grid.
    grid: int = key(0, affects="numbers", low=0, high=256)
    heads: int = key(8, affects="numbers", low=1, high=256)
    key_dim: int = key(32, affects="numbers", low=1, high=1024)
    blocks: int = key(1, affects="numbers", low=1, high=64)


@dataclass
class RmsinConfig:
    """Network and loss."""

    # rmsin, or LAVT; lavt and lavt_one are one network whose files keep BERT apart or inside.
    variant: Literal["rmsin", "lavt", "lavt_one"] = "rmsin"
    # A preset name (tiny, small, base, large) replaces width, depths and heads in `swin`; empty keeps them as written.
    swin_type: Literal["", "tiny", "small", "base", "large"] = ""
    swin: SwinConfig = field(default_factory=SwinConfig)
    text: TextConfig = field(default_factory=TextConfig)
    # Heads of the attention of pixels on words, for every stage (upstream: --mha 1-1-1-1).
    fusion_heads: list[int] = key([1, 1, 1, 1], affects="numbers", low=1, high=1024)
    fusion_dropout: float = key(0.0, affects="numbers", training_only=True)
    cim: CimConfig = field(default_factory=CimConfig)
    # Kernels of the rotated convolution, which RMSIN's decoder turns; published weights have one.
    rotated_kernels: int = key(1, affects="numbers", low=1, high=64)
    routing_dropout: float = key(0.2, affects="numbers", training_only=True)
    # Weights of the two terms; none = 0.9 and 0.1 for rmsin, 1 and 0 for LAVT.
    cross_entropy_coef: float | None = key(None, affects="numbers", training_only=True)
    dice_coef: float | None = key(None, affects="numbers", training_only=True)
    # Weight of a pixel of background and referent in the cross-entropy.
    class_weights: list[float] = key([0.9, 1.1], affects="numbers", training_only=True)
    # sum (as published) over the samples of a device, so that its part grows with the batch; or mean.
    dice_reduction: Literal["sum", "mean"] = key("sum", affects="numbers", training_only=True)
    # Where several ranks train: rank takes the mean of every rank's own loss (as published); joint takes the loss of
    # one process with the samples of all ranks: one divisor of the cross-entropy, a Dice that counts every sample.
    loss_over: Literal["rank", "joint"] = key("rank", affects="numbers", training_only=True)
    # How a mask reaches original pixels: nearest repeats decided pixels (as published), bilinear resizes logits.
    mask_resize: Literal["nearest", "bilinear"] = key("nearest", affects="report")

    def __post_init__(self) -> None:
        check_ranges(self, "model.")
        refuse_outside(self, "model.", ["fusion_dropout", "routing_dropout"], 0, 1)
        # So that `swin` says what is built, whichever way it was named.
        self.swin = self.visual()
        if len(self.fusion_heads) != 4 or min(self.fusion_heads) < 1:
            raise ConfigError(f"model.fusion_heads={self.fusion_heads} needs one number above 0 for each of 4 stages")
        if len(self.class_weights) != 2 or min(self.class_weights) < 0 or max(self.class_weights) == 0:
            raise ConfigError(
                f"model.class_weights={self.class_weights} needs two numbers, background and referent, none below 0 "
                "and not both 0"
            )
        given = [name for name in ("cross_entropy_coef", "dice_coef") if getattr(self, name) is not None]
        refuse_outside(self, "model.", given, 0)
        if max(self.coefficients()) == 0:
            raise ConfigError("model.cross_entropy_coef and model.dice_coef are both 0: nothing would be learned")

    @property
    def rotates(self) -> bool:
        """Whether cross-scale interaction, visual branches and rotated convolutions are part of the network."""
        return self.variant == "rmsin"

    def visual(self) -> SwinConfig:
        """The image encoder with the preset, if one is named, applied."""
        if not self.swin_type:
            return self.swin
        width, depths, heads = SWIN_PRESETS[self.swin_type]
        return replace(self.swin, embed_dim=width, depths=list(depths), num_heads=list(heads))

    def coefficients(self) -> tuple[float, float]:
        """Weights of cross-entropy and Dice."""
        usual = (0.9, 0.1) if self.rotates else (1.0, 0.0)
        given = (self.cross_entropy_coef, self.dice_coef)
        return tuple(own if value is None else value for value, own in zip(given, usual, strict=True))  # type: ignore[return-value]


# The same numbers as backbones.swin.SWIN_SIZES, which needs MindSpore.
SWIN_PRESETS: dict[str, tuple[int, tuple[int, ...], tuple[int, ...]]] = {
    "tiny": (96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "small": (96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "base": (128, (2, 2, 18, 2), (4, 8, 16, 32)),
    "large": (192, (2, 2, 18, 2), (6, 12, 24, 48)),
}

# Group of parameters -> its usual factor on train.lr.
LR_GROUPS = {"backbone_no_decay": 1.0, "backbone": 1.0, "decoder": 1.0, "text": 1.0}
PRETRAINED_PARTS: Mapping[str, PretrainedPart] = {
    "text": PretrainedPart(
        "text_encoder.",
        "--train.pretrained.text (bert-base-uncased's model.safetensors or pytorch_model.bin, from its public "
        "model page)",
    ),
    "visual": PretrainedPart(
        "backbone.",
        "--train.pretrained.visual (a Swin classifier of Microsoft, swin_base_patch4_window12_384_22k.pth)",
    ),
}

PUBLISHED_DATASET = "rrsisd"
TEXT_LAYERS = "model.text.num_hidden_layers"
