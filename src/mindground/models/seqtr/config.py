"""What the `model` section of SeqTR and MSAM may hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mindground.config.keys import key, refuse_outside
from mindground.errors import ConfigError
from mindground.models.interface import FreshPart, PretrainedPart

__all__ = [
    "FRESH_PARTS",
    "LR_GROUPS",
    "PRETRAINED_PARTS",
    "PUBLISHED_DATASET",
    "TEXT_LAYERS",
    "BertConfig",
    "DarknetConfig",
    "FusionConfig",
    "GruConfig",
    "HeadConfig",
    "SeqtrConfig",
    "SwinConfig",
    "TextConfig",
    "VisualConfig",
]


@dataclass
class DarknetConfig:
    """DarkNet-53; widths double from `first`."""

    first: int = key(32, affects="numbers", low=1)
    # Pairs of convolutions of modules 2, 4, 6, 8, 10 and 11.
    blocks: list[int] = key([1, 2, 8, 8, 4, 2], affects="numbers", low=0, high=256)
    # How many of the 14 modules learn, from the last one; none = all of them, at a tenth of the rate.
    freeze_layer: int | None = key(2, affects="numbers", training_only=True)

    def __post_init__(self) -> None:
        if len(self.blocks) != 6 or min(self.blocks) < 0:
            raise ConfigError(f"model.visual.darknet.blocks={self.blocks} needs six numbers of at least 0")
        if self.freeze_layer is not None and not 0 <= self.freeze_layer <= 14:
            raise ConfigError(f"model.visual.darknet.freeze_layer={self.freeze_layer} must be 0 to 14, or none")


@dataclass
class SwinConfig:
    """Swin as the image encoder; the defaults are Swin-B."""

    embed_dim: int = key(128, affects="numbers", low=1)
    depths: list[int] = key([2, 2, 18, 2], affects="numbers", low=1, high=256)
    num_heads: list[int] = key([4, 8, 16, 32], affects="numbers", low=1)
    window_size: int = key(7, affects="numbers", low=1)
    drop_path_rate: float = key(0.0, affects="numbers", training_only=True)
    learns: bool = key(True, affects="numbers", training_only=True)

    def __post_init__(self) -> None:
        refuse_outside(self, "model.visual.swin.", ["drop_path_rate"], 0, 1)
        if not len(self.depths) == len(self.num_heads) == 4:
            raise ConfigError(
                f"model.visual.swin.depths={self.depths} and num_heads={self.num_heads} need one number for each of 4 "
                "stages"
            )


@dataclass
class VisualConfig:
    """The image encoder."""

    type: Literal["darknet", "swin"] = "darknet"
    darknet: DarknetConfig = field(default_factory=DarknetConfig)
    swin: SwinConfig = field(default_factory=SwinConfig)
    # False: BatchNorm statistics of frozen layers follow the training batches (as published, and needed where weights
    # of images from 0 to 1 see images from 0 to 255). True: frozen layers stand still altogether.
    hold_statistics: bool = key(False, affects="numbers", training_only=True)


@dataclass
class GruConfig:
    """Word table and bidirectional GRU."""

    # Width of a word vector.
    embedding: int = key(300, affects="numbers", low=1)
    # Of one direction; sentences have twice as many channels.
    hidden: int = key(512, affects="numbers", low=1)
    # How words become a sentence; last = the final states of both directions.
    pool: Literal["max", "mean", "last"] = "max"
    freeze_embedding: bool = key(True, affects="numbers", training_only=True)
    # MSAM: words are weighted by an attention. `masked_attention` leaves padding out of it; upstream does not.
    attention: bool = False
    masked_attention: bool = False
    # Inside the attention.
    dropout: float = key(0.2, affects="numbers", training_only=True)

    def __post_init__(self) -> None:
        refuse_outside(self, "model.text.gru.", ["dropout"], 0, 1)


@dataclass
class BertConfig:
    """BERT; the defaults are bert-base-uncased."""

    hidden_size: int = key(768, affects="numbers", low=1)
    num_hidden_layers: int = key(12, affects="numbers", low=1, high=256)
    num_attention_heads: int = key(12, affects="numbers", low=1)
    intermediate_size: int = key(3072, affects="numbers", low=1)
    max_position_embeddings: int = key(512, affects="numbers", low=1)
    dropout: float = key(0.1, affects="numbers", training_only=True)
    # Layers that do not learn, from the first one; embeddings do.
    frozen_layers: int = key(11, affects="numbers", training_only=True)
    # Channels of sentence and words; 0 = those of the fusion's last map.
    out: int = 0
    # True = word pieces without any layer, as the code of MSAM computes that was released.
    static: bool = False
    layer_norm_eps: float = key(1e-12, affects="numbers", low=1e-12, high=1)

    def __post_init__(self) -> None:
        refuse_outside(self, "model.text.bert.", ["dropout"], 0, 1)
        refuse_outside(self, "model.text.bert.", ["frozen_layers", "out"], 0)


@dataclass
class TextConfig:
    """The text encoder."""

    type: Literal["gru", "bert"] = "gru"
    # 0 stands for the tokenizer's size, which is filled in before the network is built.
    vocab_size: int = 0
    gru: GruConfig = field(default_factory=GruConfig)
    bert: BertConfig = field(default_factory=BertConfig)


@dataclass
class FusionConfig:
    """How maps and text become one map."""

    # simple is SeqTR's, kernels is MSAM's.
    type: Literal["simple", "kernels"] = "simple"
    # Of simple: where the maps meet. none takes the coarsest map alone.
    direction: Literal["bottom_up", "to_mid", "none"] = "bottom_up"
    # Of kernels: both kernels, channel broadcast alone (qb) or cross attention alone (ca).
    mode: Literal["mixed", "qb", "ca"] = "mixed"
    activation: Literal["sigmoid", "tanh"] = "sigmoid"
    # kc compresses both kernels joined, sk chooses between them per channel first.
    aggregate: Literal["kc", "sk"] = "kc"
    # Swin blocks of every stage; every second one is shifted.
    depths: list[int] = key([2, 2, 2], affects="numbers", low=0, high=256)
    head_dim: int = key(32, affects="numbers", low=1)
    window: int = key(7, affects="numbers", low=1)

    def __post_init__(self) -> None:
        if len(self.depths) != 3 or min(self.depths) < 0:
            raise ConfigError(f"model.fusion.depths={self.depths} needs three numbers of at least 0")


@dataclass
class HeadConfig:
    """Transformer and sequences."""

    # A multiple of 32.
    width: int = key(256, affects="numbers", low=1)
    heads: int = key(8, affects="numbers", low=1)
    hidden: int = key(1024, affects="numbers", low=1)
    encoder_layers: int = key(6, affects="numbers", low=1, high=256)
    decoder_layers: int = key(3, affects="numbers", low=1, high=256)
    dropout: float = key(0.1, affects="numbers", training_only=True)
    # Values that a coordinate may have.
    num_bin: int = key(1000, affects="numbers", low=2, high=1 << 16)
    # Vertices of a contour.
    num_ray: int = key(18, affects="numbers", low=3, high=1024)
    # relative: shares of the image's own padded side. absolute: shares of 640 pixels.
    mapping: Literal["relative", "absolute"] = "relative"
    # Part of a batch whose vertices are put into another order.
    shuffle_fraction: float = key(0.0, affects="numbers", training_only=True)
    # True = contours are sampled by rays from their centre of mass, where that is inside.
    center_sampling: bool = key(False, affects="numbers", training_only=True)
    # Places of a box whose loss weighs det_coord_weight: 0 to 3 are left, top, right, bottom, 4 is the end.
    det_coord: list[int] = key([0], affects="numbers", training_only=True)
    det_coord_weight: float = key(1.5, affects="numbers", training_only=True)
    # Weight of the end in a contour's loss.
    end_weight: float = key(0.1, affects="numbers", training_only=True)
    # Smoothing of the labels.
    neg_factor: float = key(0.1, affects="numbers", training_only=True)
    # Above 0: tokens are drawn among the most probable ones that together reach this probability.
    top_p: float = key(0.0, affects="report")
    # Seed of these draws; every batch starts with it anew.
    sample_seed: int = key(0, affects="report")

    def __post_init__(self) -> None:
        refuse_outside(self, "model.head.", ["dropout", "neg_factor"], 0, 1)
        refuse_outside(self, "model.head.", ["det_coord_weight", "end_weight", "sample_seed"], 0)
        for name in ("shuffle_fraction", "top_p"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"model.head.{name}={getattr(self, name)} must be at least 0 and at most 1")
        wrong = [place for place in self.det_coord if place not in range(5)]
        if wrong:
            raise ConfigError(
                f"model.head.det_coord={self.det_coord}: {wrong[0]} is no place of a box; they are 0 to 4"
            )


@dataclass
class SeqtrConfig:
    """Network and loss."""

    # What is written: a box, a contour, or a box and then a contour.
    task: Literal["box", "contour", "multi"] = "box"
    visual: VisualConfig = field(default_factory=VisualConfig)
    text: TextConfig = field(default_factory=TextConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    head: HeadConfig = field(default_factory=HeadConfig)


# Group of parameters -> its usual factor on train.lr; `visual` is empty where layers of the image encoder are frozen.
LR_GROUPS = {"base": 1.0, "visual": 0.1}
PRETRAINED_PARTS: Mapping[str, PretrainedPart] = {
    "visual": PretrainedPart(
        "visual_encoder.",
        "--train.pretrained.visual (darknet.weights or yolov3.weights of DarkNet; a Swin classifier of Microsoft with "
        "model.visual.type=swin)",
    ),
    "words": PretrainedPart(
        "text_encoder.words.",
        "--train.pretrained.words (a text file of GloVe, plain or gzip, or SeqTR's word_emb.npz with its "
        "token_to_ix.pkl), or let the table learn with --model.text.gru.freeze_embedding=false",
        required=False,
        word_vectors=True,
    ),
    "text": PretrainedPart(
        "text_encoder.",
        "--train.pretrained.text (bert-base-uncased's model.safetensors or pytorch_model.bin, with "
        "model.text.type=bert)",
        required=False,
    ),
}

# What SeqTR's fine-tuning on another set leaves out of a pre-trained file.
FRESH_PARTS: Mapping[str, FreshPart] = {
    "words": FreshPart(r"text_encoder\.words\..*", vocabulary=True),
    "positions": FreshPart(r"sequence_head\.places", always=False),
    "tasks": FreshPart(r"sequence_head\.tasks", always=False),
}

PUBLISHED_DATASET = "refcoco"
TEXT_LAYERS = "model.text.bert.num_hidden_layers"
