"""The parts of SeqTR and MSAM from their configuration: the one place of the family that reads it."""

from __future__ import annotations

from typing import Any

from mindspore import nn

from mindground.backbones.darknet import Darknet
from mindground.backbones.swin import Swin
from mindground.errors import ConfigError
from mindground.models.seqtr.aggregation import KernelFusion
from mindground.models.seqtr.config import SeqtrConfig, TextConfig, VisualConfig
from mindground.models.seqtr.fusion import SimpleFusion
from mindground.models.seqtr.language import BertText, GruText, TextAttention
from mindground.models.seqtr.network import Seqtr, SwinMaps
from mindground.models.seqtr.sequence_head import SequenceHead
from mindground.models.seqtr.sequences import ABSOLUTE_SIDE, Layout
from mindground.models.text_encoder import bert_of

__all__ = ["build", "build_network"]

_MOST_STEPS = 512  # of a GRU, which are all part of the compiled graph


def build(config: Any) -> Seqtr:
    """Network of a resolved configuration (`mindground.config.Config`).

    Raises:
        ConfigError: a canvas that 32 does not divide or that `mapping` cannot say, sentences that exceed what the text
            encoder takes, or widths that do not fit together.
    """
    side, text = config.data.img_size, config.model.text
    if side % 32:
        raise ConfigError(f"data.img_size={side} must be a multiple of 32; use {-(-side // 32) * 32}")
    if config.model.head.mapping == "absolute" and side > ABSOLUTE_SIDE:
        raise ConfigError(
            f"data.img_size={side} is more than the {ABSOLUTE_SIDE} pixels that model.head.mapping=absolute can say; "
            f"use {ABSOLUTE_SIDE} or less, or mapping=relative"
        )
    if text.type == "gru" and config.data.max_len > _MOST_STEPS:
        raise ConfigError(
            f"data.max_len={config.data.max_len}: a GRU takes one step a token, and at most {_MOST_STEPS} of them"
        )
    positions = text.bert.max_position_embeddings
    if text.type == "bert" and config.data.max_len > positions:
        raise ConfigError(
            f"data.max_len={config.data.max_len} exceeds the {positions} positions of the text encoder "
            f"(model.text.bert.max_position_embeddings); use {positions} or less"
        )
    return build_network(config.model)


def build_network(config: SeqtrConfig) -> Seqtr:
    """The network, freshly initialised; `config.text.vocab_size` must be set.

    Raises:
        ConfigError: widths that do not fit together.
    """
    visual, head = config.visual, config.head
    widths = _widths(visual)
    text_width = _text_width(config, widths[-1])
    _check(config, widths, text_width)
    # Start values are drawn in the order of construction.
    text_encoder = _text_encoder(config.text, text_width)
    visual_encoder = _visual_encoder(visual)
    layout = Layout(config.task, head.num_bin, head.num_ray, head.mapping == "absolute")
    return Seqtr(
        visual_encoder=visual_encoder,
        text_encoder=text_encoder,
        fusion=_fusion(config, widths, text_width),
        sequence_head=SequenceHead(
            widths[-1], layout, head.width, head.heads, head.hidden, head.encoder_layers, head.decoder_layers,
            head.dropout,
        ),
        smoothing=head.neg_factor,
        det_coord=tuple(head.det_coord),
        det_coord_weight=head.det_coord_weight,
        end_weight=head.end_weight,
        shuffle_fraction=head.shuffle_fraction,
        by_rays=head.center_sampling,
        top_p=head.top_p,
        sample_seed=head.sample_seed,
        split_groups=visual.darknet.freeze_layer is None if visual.type == "darknet" else visual.swin.learns,
        hold_statistics=visual.hold_statistics,
    )  # fmt: skip


def _widths(visual: VisualConfig) -> tuple[int, int, int]:
    """Channels of the three maps."""
    fine = 8 * visual.darknet.first if visual.type == "darknet" else 2 * visual.swin.embed_dim
    return fine, 2 * fine, 4 * fine


def _text_width(config: SeqtrConfig, widest: int) -> int:
    text = config.text
    return 2 * text.gru.hidden if text.type == "gru" else text.bert.out or widest


def _check(config: SeqtrConfig, widths: tuple[int, ...], text_width: int) -> None:
    head, fusion, text = config.head, config.fusion, config.text
    if head.width % 32 or head.width % head.heads:
        raise ConfigError(
            f"model.head.width={head.width} must be a multiple of 32 and of model.head.heads={head.heads}"
        )
    if fusion.type == "simple" and text_width != widths[-1]:
        where = "twice model.text.gru.hidden" if text.type == "gru" else "model.text.bert.out"
        raise ConfigError(
            f"model.fusion.type=simple multiplies sentences of {text_width} channels ({where}) with maps of "
            f"{widths[-1]}; make them equal"
        )
    if fusion.type == "kernels" and widths[0] % fusion.head_dim:
        raise ConfigError(f"model.fusion.head_dim={fusion.head_dim} does not divide the {widths[0]} channels of a map")
    if text.type == "bert" and text.bert.hidden_size % text.bert.num_attention_heads:
        raise ConfigError(
            f"model.text.bert.num_attention_heads={text.bert.num_attention_heads} does not divide "
            f"model.text.bert.hidden_size={text.bert.hidden_size}"
        )
    swin = config.visual.swin
    if config.visual.type == "swin" and any(swin.embed_dim * 2**i % n for i, n in enumerate(swin.num_heads)):
        raise ConfigError(f"model.visual.swin.num_heads={swin.num_heads} do not divide the channels of their stages")


def _visual_encoder(visual: VisualConfig) -> Darknet | SwinMaps:
    if visual.type == "darknet":
        darknet = Darknet(visual.darknet.first, visual.darknet.blocks)
        if visual.darknet.freeze_layer is not None:
            darknet.freeze(visual.darknet.freeze_layer)
        return darknet
    swin = visual.swin
    maps = SwinMaps(
        Swin(swin.embed_dim, swin.depths, swin.num_heads, swin.window_size, swin.drop_path_rate, exports=(1, 2, 3))
    )
    for parameter in maps.get_parameters():
        parameter.requires_grad = swin.learns
    return maps


def _text_encoder(text: TextConfig, width: int) -> nn.Cell:
    if text.type == "gru":
        gru = text.gru
        attention = TextAttention(width, gru.masked_attention, gru.dropout) if gru.attention else None
        return GruText(text.vocab_size, gru.embedding, gru.hidden, gru.pool, attention, gru.freeze_embedding)
    bert = text.bert
    # As Hugging Face's tables: the padding token's embedding gets no gradient.
    encoder = bert_of(bert, text.vocab_size, pooler=False, padding_idx=0)
    return BertText(encoder, bert.hidden_size, width, bert.static, bert.frozen_layers)


def _fusion(config: SeqtrConfig, widths: tuple[int, ...], text_width: int) -> nn.Cell:
    fusion = config.fusion
    if fusion.type == "simple":
        return SimpleFusion(widths, fusion.direction)
    return KernelFusion(
        widths, text_width, fusion.depths, fusion.head_dim, fusion.window, fusion.mode, fusion.activation,
        fusion.aggregate,
    )  # fmt: skip
