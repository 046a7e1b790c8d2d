"""The parts of RMSIN and LAVT from their configuration: the one place of the family that reads it."""

from __future__ import annotations

from typing import Any

from mindspore import nn

from mindground.backbones.bert import Bert
from mindground.backbones.swin import Swin
from mindground.errors import ConfigError
from mindground.models.rmsin.cim import CrossScaleInteraction
from mindground.models.rmsin.config import RmsinConfig, TextConfig
from mindground.models.rmsin.decoder import Decoder
from mindground.models.rmsin.fusion import StageFusion
from mindground.models.rmsin.network import Rmsin
from mindground.models.text_encoder import bert_of
from mindground.nn import init
from mindground.nn.linear import Linear

__all__ = ["build", "build_network", "coarsest_side"]


def build(config: Any) -> Rmsin:
    """Network of a resolved configuration (`mindground.config.Config`).

    Raises:
        ConfigError: sentences exceed the text encoder's positions, or widths that heads do not divide.
    """
    length, positions = config.data.max_len, config.model.text.max_position_embeddings
    if length > positions:
        raise ConfigError(
            f"data.max_len={length} exceeds the {positions} positions of the text encoder "
            f"(model.text.max_position_embeddings); use {positions} or less"
        )
    return build_network(config.model, img_size=config.data.img_size)


def coarsest_side(side: int) -> int:
    """Side of the coarsest map of an image: a quarter, then halved three times, always rounded up."""
    side = -(-side // 4)
    for _ in range(3):
        side = -(-side // 2)
    return side


def build_network(config: RmsinConfig, *, img_size: int) -> Rmsin:
    """The network, freshly initialised.

    Args:
        config: the family's section; `config.text.vocab_size` must be set.
        img_size: side of the canvas in pixels; the grid of the cross-scale interaction follows from it where the
            configuration names none.
    """
    swin, text = config.visual(), config.text
    widths = [swin.embed_dim * 2**stage for stage in range(4)]
    _check(config, widths)

    def hook(stage: int, width: int) -> nn.Cell:
        heads = config.fusion_heads[stage]
        return StageFusion(width, text.hidden_size, heads, config.fusion_dropout, config.rotates, last=stage == 3)

    # Start values are drawn in the order of construction.
    text_encoder = _text_encoder(text)
    backbone = Swin(swin.embed_dim, swin.depths, swin.num_heads, swin.window_size, swin.drop_path_rate, hooks=hook)
    cim = None
    if config.rotates:
        grid = config.cim.grid or coarsest_side(img_size)
        cim = CrossScaleInteraction(widths, grid, config.cim.heads, config.cim.key_dim, config.cim.blocks)
    background, referent = config.class_weights
    return Rmsin(
        text_encoder=text_encoder,
        backbone=backbone,
        cim=cim,
        decoder=Decoder(widths, config.rotated_kernels if config.rotates else 0, config.routing_dropout),
        train_layers=text.train_layers,
        train_embeddings=text.train_embeddings,
        coefficients=config.coefficients(),
        class_weights=(background, referent),
        dice_reduction=config.dice_reduction,
        mask_resize=config.mask_resize,
        joint=config.loss_over == "joint",
    )


def _check(config: RmsinConfig, widths: list[int]) -> None:
    """Heads divide their widths."""
    pairs = (("model.swin.num_heads", config.visual().num_heads), ("model.fusion_heads", config.fusion_heads))
    for name, heads in pairs:
        for width, count in zip(widths, heads, strict=True):
            if count < 1 or width % count:
                raise ConfigError(f"{name}={list(heads)}: {count} heads do not divide the {width} channels of a stage")
    text = config.text
    if text.hidden_size % text.num_attention_heads:
        raise ConfigError(
            f"model.text.num_attention_heads={text.num_attention_heads} does not divide "
            f"model.text.hidden_size={text.hidden_size}"
        )
    if config.rotates and config.rotated_kernels < 1:
        raise ConfigError(f"model.rotated_kernels={config.rotated_kernels} must be at least 1")
    if widths[0] % 4:
        raise ConfigError(f"model.swin.embed_dim={widths[0]} must be a multiple of 4")


def _text_encoder(text: TextConfig) -> Bert:
    # As Hugging Face's tables: the padding token's embedding gets no gradient.
    encoder = bert_of(text, text.vocab_size, pooler=False, padding_idx=0)
    if text.start_gain:
        for _, cell in encoder.cells_and_names():
            if isinstance(cell, Linear):
                cell.weight.set_data(init.trunc_normal(cell.weight.shape, text.start_gain * cell.in_features**-0.5))
    return encoder
