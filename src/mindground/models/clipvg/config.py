"""What CLIP-VG's `model` section may hold, and what its upstream flags become here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from mindground.config.keys import check_ranges, key, refuse_outside
from mindground.errors import ConfigError
from mindground.models.interface import PretrainedPart

__all__ = [
    "CLIP_PRESETS",
    "FLAGS",
    "IGNORED_FLAGS",
    "LR_GROUPS",
    "OLD_PATHS",
    "OLD_RATES",
    "PRETRAINED_PARTS",
    "REFUSED_FLAGS",
    "ClipVGConfig",
    "TowersConfig",
    "published_blocks",
]


@dataclass
class TowersConfig:
    """CLIP's two towers; the defaults are ViT-B/16."""

    patch_size: int = key(16, affects="numbers", low=1, high=256)
    vision_width: int = key(768, affects="numbers", low=1, high=16384)
    vision_layers: int = key(12, affects="numbers", low=1, high=256)
    vision_heads: int = key(12, affects="numbers", low=1, high=256)
    # 0 stands for the tokenizer's size, which is filled in before the network is built.
    vocab_size: int = key(49408, affects="numbers", low=0, high=1 << 22)
    context_length: int = key(77, affects="numbers", low=1, high=1 << 14)
    text_width: int = key(512, affects="numbers", low=1, high=16384)
    text_layers: int = key(12, affects="numbers", low=1, high=256)
    text_heads: int = key(8, affects="numbers", low=1, high=256)
    # quick_gelu: OpenAI's weights. gelu: LAION's and others of open_clip. No shape tells.
    activation: Literal["quick_gelu", "gelu"] = key("quick_gelu", affects="numbers")
    # Width of the space that image and text share.
    embed_dim: int = key(512, affects="numbers", low=1, high=16384)


@dataclass
class ClipVGConfig:
    """Network and loss of CLIP-VG; the defaults are the published model."""

    # A preset name (CLIP_PRESETS) replaces the dimensions in `clip`; empty keeps `clip` as written.
    clip_model: str = "ViT-B/16"
    clip: TowersConfig = field(default_factory=TowersConfig)
    # multi_level: features of several blocks (published). last_layer: CLIP's own output, every token. prompt: as
    # multi_level, with `prompt_ids` in front of every sentence. The last two are ablations of the paper.
    variant: Literal["multi_level", "last_layer", "prompt"] = "multi_level"
    # Blocks (from 0) whose outputs are used; empty = as published for the preset.
    extract_layers: list[int] = field(default_factory=list)
    prompt_ids: list[int] = field(default_factory=lambda: [49406, 3797, 4341, 851, 17436, 531])
    # 0 = embed_dim, as published.
    vl_hidden_dim: int = key(0, affects="numbers", low=0, high=16384)
    # The head count changes no tensor's shape: a checkpoint fits with any, and is right with its own only.
    vl_nheads: int = key(8, affects="numbers", low=1, high=256)
    vl_dim_feedforward: int = key(2048, affects="numbers", low=1, high=1 << 17)
    vl_enc_layers: int = key(6, affects="numbers", low=1, high=256)
    vl_dropout: float = key(0.1, affects="numbers", training_only=True)
    # Rows that the joint position table keeps for text; sentences may be shorter (data.max_len).
    max_query_len: int = key(77, affects="numbers", low=1, high=1 << 14)
    # What of CLIP learns: nothing, the positions of image patches (published), or all of it.
    train_clip: Literal["nothing", "visual_positions", "all"] = key(
        "visual_positions", affects="numbers", training_only=True
    )
    # legacy: as trained upstream (no antialiasing); antialias: as newer torchvision shrinks a mask.
    padding_mask: Literal["legacy", "antialias"] = "legacy"
    # dior_legacy decodes checkpoints of the remote-sensing fork, which were trained on corners taken for sizes.
    box_code: Literal["cxcywh", "dior_legacy"] = "cxcywh"
    bbox_loss_coef: float = key(1.0, affects="numbers", training_only=True)
    giou_loss_coef: float = key(1.0, affects="numbers", training_only=True)
    # Above 0: the attention of REG on the image in the last layer is taught to lie on the referent (not in the paper;
    # for random start weights).
    attention_loss_coef: float = key(0.0, affects="numbers", training_only=True)
    # trunc_normal-like as CLIP starts, or sincos: from random weights a tower that knows places learns far sooner.
    position_start: Literal["normal", "sincos"] = key("normal", affects="numbers", training_only=True)

    def __post_init__(self) -> None:
        check_ranges(self, "model.")
        refuse_outside(self, "model.", [f.name for f in fields(self) if f.name.endswith("_loss_coef")], 0)
        refuse_outside(self, "model.", ["vl_dropout"], 0, 1)
        if self.clip_model and self.clip_model not in CLIP_PRESETS:
            raise ConfigError(
                f"model.clip_model={self.clip_model!r} is not supported; choose one of {', '.join(CLIP_PRESETS)}, or "
                "leave it empty and describe the towers in model.clip"
            )
        towers = self.towers()
        for name, width, heads in (
            ("clip.vision_heads", towers.vision_width, towers.vision_heads),
            ("clip.text_heads", towers.text_width, towers.text_heads),
            ("vl_nheads", self.width(), self.vl_nheads),
        ):
            if heads < 1 or width % heads:
                raise ConfigError(f"model.{name}={heads} must divide the width {width}")
        blocks = self.blocks()
        if not blocks or blocks != sorted(set(blocks)) or blocks[0] < 0 or blocks[-1] >= towers.vision_layers:
            raise ConfigError(
                f"model.extract_layers={blocks} must rise, without repeats, within 0 ... {towers.vision_layers - 1}"
            )
        if self.max_query_len > towers.context_length:
            raise ConfigError(
                f"model.max_query_len={self.max_query_len} exceeds the {towers.context_length} positions of CLIP's "
                f"text tower; use {towers.context_length}"
            )

    def towers(self) -> TowersConfig:
        """The towers with the preset, if one is named, applied."""
        return replace(self.clip, **CLIP_PRESETS[self.clip_model]) if self.clip_model else self.clip

    def width(self) -> int:
        """Width of the joint encoder."""
        return self.vl_hidden_dim or self.towers().embed_dim

    def blocks(self) -> list[int]:
        """Image blocks whose outputs the joint encoder sees, ascending."""
        return list(self.extract_layers) or published_blocks(self.towers().vision_layers)


def published_blocks(layers: int) -> list[int]:
    """0, 3, 7, 11 of twelve and 0, 7, 15, 23 of twenty-four blocks, as published; the same thirds of others."""
    third = layers // 3
    return sorted({0, *(max(third * k - 1, 0) for k in (1, 2, 3)), layers - 1})


def _preset(patch: int, vision: tuple[int, int, int], text: tuple[int, int, int]) -> dict[str, Any]:
    names = ("width", "layers", "heads")
    towers = {f"vision_{name}": value for name, value in zip(names, vision, strict=True)}
    towers |= {f"text_{name}": value for name, value in zip(names, text, strict=True)}
    return {"patch_size": patch, "embed_dim": text[0], **towers}


CLIP_PRESETS: dict[str, dict[str, Any]] = {
    "ViT-B/16": _preset(16, (768, 12, 12), (512, 12, 8)),
    "ViT-B/32": _preset(32, (768, 12, 12), (512, 12, 8)),
    "ViT-L/14": _preset(14, (1024, 24, 16), (768, 12, 12)),
    # Upstream names it and builds ViT-B/16 instead; here it is what it says (input of 336 pixels).
    "ViT-L/14@336px": _preset(14, (1024, 24, 16), (768, 12, 12)),
}

# Group of parameters -> its usual factor on train.lr; CLIP's parameters are those that model.train_clip lets learn.
LR_GROUPS = {"base": 1.0, "clip": 0.1}
PRETRAINED_PARTS: Mapping[str, PretrainedPart] = {
    "clip": PretrainedPart(
        "clip.",
        "--train.pretrained.model with one of OpenAI's CLIP archives (ViT-B-16.pt), Hugging Face's "
        "model.safetensors of the same model, or a CLIP-VG checkpoint",
    ),
}

# Keys of schema 1: rates that were absolute -> group ("" = no parameters of this family had it); paths -> part.
OLD_RATES = {"lr_base": "base", "lr_visual": "clip", "lr_lang": ""}
OLD_PATHS = {"pretrained_path": "model", "text_pretrained_path": "model"}

# Upstream's short flags -> keys of the configuration. General ones, such as --batch_size, --dataset, --lr_scheduler or
# --aug_crop, stand in `mindground.config`.
FLAGS: dict[str, str | tuple[str, ...]] = {
    "model": "model.clip_model",
    "imsize": "data.img_size",
    "max_query_len": "data.max_len",
    "vl_nheads": "model.vl_nheads",
    "vl_hidden_dim": "model.vl_hidden_dim",
    "vl_dim_feedforward": "model.vl_dim_feedforward",
    "vl_enc_layers": "model.vl_enc_layers",
    "vl_dropout": "model.vl_dropout",
    "epochs": "train.max_epochs",
    # One rate for all that learns.
    "lr": ("train.lr_base", "train.lr_visual"),
    "lr_base": "train.lr_base",
    "lr_visual": "train.lr_visual",
    "pretrained_path": "train.pretrained.model",
    "text_pretrained_path": "train.text_pretrained_path",
    "lr_drop": "train.drop_epochs",
    "lr_power": "train.poly_power",
    "lr_exponential": "train.lr_exponential",
    # Elsewhere --data_root is where annotations lie; here it is where images lie.
    "data_root": "data.image_root",
    "split_root": "data.root",
}

_RANKS = "mpirun says it"
_UNREAD = "upstream accepts it and never reads it"
IGNORED_FLAGS: dict[str, str] = {
    "lr_lang": "CLIP's text tower has the rate of --lr_visual",
    "lr_bert": "all trained parameters share one rate, also upstream",
    "lr_visu_cnn": "all trained parameters share one rate, also upstream",
    "lr_visu_tra": "all trained parameters share one rate, also upstream",
    "dropout": "the joint encoder has --vl_dropout",
    "nheads": "the joint encoder has --vl_nheads",
    "num_queries": _UNREAD,
    "pre_norm": _UNREAD,
    "dim_feedforward": "the joint encoder has --vl_dim_feedforward",
    "emb_size": _UNREAD,
    "light": _UNREAD,
    "vl_dec_layers": _UNREAD,
    "prompt": "sentences are taken as they are",
    "local_rank": _RANKS,
    "dist_url": _RANKS,
    "world_size": _RANKS,
}

# What upstream had and is not read here: flag -> value ("*" = any other) -> what to write instead; "" lets it pass.
REFUSED_FLAGS: dict[str, dict[str, str]] = {
    "sup_type": {
        "full": "write --data.train_split=train, which is what stands in the configurations",
        "*": "write --data.train_split=train_pseudo to train on pseudo labels",
    },
    "dataset": {"dior_rs": "write --dataset=dior_rsvg"},
    "data.dataset": {"dior_rs": "write --data.dataset=dior_rsvg"},
    "optimizer": {"rmsprop": "RMSprop is no optimiser of this program: choose adamw, adam or sgd"},
    "prompt": {"{pseudo_query}": "", "*": "write the words around a sentence into the list (tools/export_jsonl.py)"},
    "device": {
        "cuda": "write --device_target=GPU",
        "cpu": "write --device_target=CPU",
        "*": "write --device_target=auto, GPU, Ascend or CPU",
    },
    "eval": {"*": "start python src/eval.py --ckpt=X.ckpt"},
    "eval_set": {"*": "start python src/eval.py --ckpt=X.ckpt --split={value}"},
    "eval_model": {
        "*": "start tools/import_weights.py {value} --family clipvg --out X.ckpt, then python src/eval.py --ckpt=X.ckpt"
    },
    "retrain": {
        "*": "write --train.pretrained.model={value}, which takes CLIP's towers from it as well as the joint encoder"
    },
}
