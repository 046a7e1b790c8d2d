"""What VG-LAW's `model` section may hold, and what its upstream flags become here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from mindground.config.keys import key, refuse_outside
from mindground.errors import ConfigError
from mindground.models.interface import PretrainedPart

__all__ = [
    "FLAGS",
    "IGNORED_FLAGS",
    "LR_GROUPS",
    "OLD_PATHS",
    "OLD_RATES",
    "PRETRAINED_PARTS",
    "PUBLISHED_DATASET",
    "TEXT_LAYERS",
    "VIT_PRESETS",
    "TextConfig",
    "VGLawConfig",
    "VisualConfig",
]


@dataclass
class VisualConfig:
    """ViTDet backbone; the defaults are ViT-B as published (vit.py of detectron2)."""

    patch_size: int = key(16, affects="numbers", low=1, high=256)
    embed_dim: int = key(768, affects="numbers", low=1, high=16384)
    depth: int = key(12, affects="numbers", low=1, high=256)
    num_heads: int = key(12, affects="numbers", low=1, high=256)
    mlp_ratio: float = key(4.0, affects="numbers", low=0.01, high=64)
    window_size: int = key(14, affects="numbers", low=1, high=1024)
    window_block_indexes: list[int] = field(default_factory=lambda: [0, 1, 3, 4, 6, 7, 9, 10])
    drop_path_rate: float = key(0.1, affects="numbers", training_only=True)
    # detectron2 uses 1e-6; weights trained by the upstream MindSpore port want 1e-5.
    norm_eps: float = key(1e-6, affects="numbers", low=1e-12, high=1)
    pretrain_img_size: int = key(224, affects="numbers", low=1, high=8192)
    # trunc_normal, or sincos: from random weights a network that knows places from the start learns far sooner.
    position_start: Literal["trunc_normal", "sincos"] = key("trunc_normal", affects="numbers", training_only=True)

    def __post_init__(self) -> None:
        refuse_outside(self, "model.vit.", ["drop_path_rate"], 0, 1)


@dataclass
class TextConfig:
    """BERT encoder; the defaults are the first six layers of bert-base-uncased."""

    # 0 stands for the tokenizer's size, which is filled in before the network is built.
    vocab_size: int = key(0, affects="numbers", low=0, high=1 << 22)
    hidden_size: int = key(768, affects="numbers", low=1, high=16384)
    num_hidden_layers: int = key(6, affects="numbers", low=1, high=256)
    num_attention_heads: int = key(12, affects="numbers", low=1, high=256)
    intermediate_size: int = key(3072, affects="numbers", low=1, high=1 << 17)
    max_position_embeddings: int = key(512, affects="numbers", low=1, high=1 << 16)
    # As the published file has it, which no shape tells.
    layer_norm_eps: float = key(1e-12, affects="numbers", low=1e-12, high=1)
    dropout: float = key(0.1, affects="numbers", training_only=True)
    # Deviation of the start weights as a multiple of 1/sqrt(inputs); 0 = the published 0.02. Only for training from
    # random weights at small widths, where 0.02 leaves too little of the words in the sentence's summary.
    start_gain: float = key(0.0, affects="numbers", training_only=True)

    def __post_init__(self) -> None:
        refuse_outside(self, "model.text.", ["dropout"], 0, 1)
        refuse_outside(self, "model.text.", ["start_gain"], 0)


@dataclass
class VGLawConfig:
    """Network and loss of VG-LAW."""

    # A preset name (VIT_PRESETS) replaces the dimensions in `vit`; empty keeps `vit` as written.
    vit_model: str = ""
    vit: VisualConfig = field(default_factory=VisualConfig)
    text: TextConfig = field(default_factory=TextConfig)
    # How the expression adapts a block's qkv projection: svd, la, od1, od2, od3 or none.
    law_type: str = "svd"
    law_rank: int = key(32, affects="numbers", low=1, high=16384)
    # One number per block, 0 = this block is not adapted; for `la` the number of row groups. Empty = all 1.
    groups: list[int] = field(default_factory=list)
    # True: one S and D for all blocks (the published form); False: every block has its own.
    share_decomposition: bool = True
    use_activation: bool = False
    generator_heads: int = key(12, affects="numbers", low=1, high=256)
    generator_norm_eps: float = key(1e-7, affects="numbers", low=1e-12, high=1)
    up_channels: int = key(256, affects="numbers", low=1, high=16384)
    pool_dim: int = key(64, affects="numbers", low=1, high=16384)
    box_hidden: int = key(256, affects="numbers", low=1, high=1 << 17)
    # Loss weights; upstream accepts such flags and ignores them.
    bbox_loss_coef: float = key(1.0, affects="numbers", training_only=True)
    xiou_loss_coef: float = key(1.0, affects="numbers", training_only=True)
    focal_loss_coef: float = key(1.0, affects="numbers", training_only=True)
    dice_loss_coef: float = key(1.0, affects="numbers", training_only=True)
    # Above 0: the pooling attention is taught to lie on the referent (not in the paper; for random start weights).
    attention_loss_coef: float = key(0.0, affects="numbers", training_only=True)
    xiou_loss_type: str = key("giou", affects="numbers", training_only=True)

    def __post_init__(self) -> None:
        refuse_outside(self, "model.", [f.name for f in fields(self) if f.name.endswith("_loss_coef")], 0)
        if self.law_type not in LAW_TYPES:
            raise ConfigError(f"model.law_type={self.law_type!r} is unknown; choose one of {', '.join(LAW_TYPES)}")
        if self.xiou_loss_type not in ("iou", "giou", "diou", "ciou"):
            raise ConfigError(
                f"model.xiou_loss_type={self.xiou_loss_type!r} is unknown; choose iou, giou, diou or ciou"
            )
        if self.vit_model and self.vit_model not in VIT_PRESETS:
            raise ConfigError(
                f"model.vit_model={self.vit_model!r} is not supported; choose one of {', '.join(VIT_PRESETS)}"
            )

    def visual(self) -> VisualConfig:
        """The backbone's settings with the preset, if one is named, applied."""
        return replace(self.vit, **VIT_PRESETS[self.vit_model]) if self.vit_model else self.vit

    def block_groups(self) -> list[int]:
        """One entry per block: 0 where the expression does not adapt it."""
        depth = self.visual().depth
        groups = list(self.groups) or [1] * depth
        if len(groups) != depth or min(groups) < 0:
            raise ConfigError(f"model.groups={groups} needs one number >= 0 for each of the {depth} blocks")
        return [0] * depth if self.law_type == "none" else groups


LAW_TYPES = ("svd", "la", "od1", "od2", "od3", "none")


def _preset(width: int, depth: int, heads: int, global_blocks: tuple[int, ...]) -> dict[str, object]:
    windows = [i for i in range(depth) if i not in global_blocks]
    return {"embed_dim": width, "depth": depth, "num_heads": heads, "window_block_indexes": windows}


_BASE = _preset(768, 12, 12, (2, 5, 8, 11))
VIT_PRESETS: dict[str, dict[str, Any]] = {
    "vitdet_b": _BASE,
    # Upstream names the file that the backbone starts from; the network is the same.
    "vitdet_b_mrcnn": _BASE,
    "vitdet_b_cascade-mrcnn": _BASE,
    "vitdet_b_mrcnn_cocoe": _BASE,
    "vitdet_mae_pretrain_vit_base": _BASE,
    "vitdet_l": _preset(1024, 24, 16, (5, 11, 17, 23)),
    "vitdet_h": _preset(1280, 32, 16, (7, 15, 23, 31)),
}

# Group of parameters -> its usual factor on train.lr: both encoders learn at a tenth of the rest, as published.
LR_GROUPS = {"base": 1.0, "visual": 0.1, "lang": 0.1}
PRETRAINED_PARTS: Mapping[str, PretrainedPart] = {
    "text": PretrainedPart(
        "text_encoder.",
        "--train.pretrained.text (bert-base-uncased's model.safetensors or pytorch_model.bin, from its public "
        "model page)",
    ),
    "visual": PretrainedPart("visual_encoder.", "--train.pretrained.visual (a ViTDet or MAE file)", required=False),
}

# What `mindground weights import` builds where nothing else is said: the data set of the published weights, and the key
# that its --depth sets.
PUBLISHED_DATASET = "refcoco"
TEXT_LAYERS = "model.text.num_hidden_layers"

# Keys of schema 1: rates that were absolute -> group; paths -> part.
OLD_RATES = {"lr_base": "base", "lr_visual": "visual", "lr_lang": "lang"}
OLD_PATHS = {"pretrained_path": "model", "text_pretrained_path": "text"}

# Upstream's short flags -> keys of the configuration. General ones stand in `mindground.config`.
FLAGS: dict[str, str | tuple[str, ...]] = {
    # Absolute rates, as upstream has them: one of them leaves the others as they are.
    "lr_base": "train.lr_base",
    "lr_visual": "train.lr_visual",
    "lr_lang": "train.lr_lang",
    "pretrained_path": "train.pretrained.model",
    "text_pretrained_path": "train.pretrained.text",
    "vit_model": "model.vit_model",
    "vit_model_path": "train.pretrained.model",
    "bert_model_path": "train.pretrained.text",
    "law_type": "model.law_type",
    "groups": "model.groups",
    "use_activation": "model.use_activation",
    "text_encoder_layer": "model.text.num_hidden_layers",
    "dropout": "model.text.dropout",
    "xiou_loss_type": "model.xiou_loss_type",
    "bbox_loss_coef": "model.bbox_loss_coef",
    "xiou_loss_coef": "model.xiou_loss_coef",
    "focal_loss_coef": "model.focal_loss_coef",
    "dice_loss_coef": "model.dice_loss_coef",
}

_UNREAD = "upstream accepts it and never reads it"
IGNORED_FLAGS: dict[str, str] = {
    "reduction": "the box loss is always summed over coordinates and averaged over samples",
    "bert_model": "the encoder is described by model.text",
    "crop_prob": _UNREAD,
    "comments": _UNREAD,
    "local_rank": "mpirun says it",
    "trainable_layers": _UNREAD,
    "noam_gamma": "upstream's noam schedule does not exist",
    "pre_norm": _UNREAD,
    "use_selector": _UNREAD,
    "use_dilation": _UNREAD,
    "token_select": _UNREAD,
    "cnn_model": _UNREAD,
    "model_share_type": _UNREAD,
    "model_fix_layer": _UNREAD,
    "parameter_server": _UNREAD,
    "target_rate": _UNREAD,
    "relu_gate": _UNREAD,
    "no_abs": _UNREAD,
    "local_entropy_coef": _UNREAD,
    "arch_loss_coef": _UNREAD,
    "layer_loss_coef": _UNREAD,
    "trans_loss_coef": _UNREAD,
    "config_root": "paths come from the configuration",
    "work_dir": "use save_ckpt_dir",
}
