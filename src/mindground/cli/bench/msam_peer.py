"""MSAM in PyTorch: transformers' BERT, and everything else written down plainly, with the names of its checkpoints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import BertConfig, BertModel

from mindground.cli.bench.msam_fusion_peer import ConvUnit, KernelFusion
from mindground.cli.bench.peer import PeerSide, load_weights

__all__ = ["MsamPeer", "build"]


class Residual(nn.Module):
    """Pairs of a narrow and a wide convolution."""

    def __init__(self, channels: int, count: int, shortcut: bool) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.module_list = nn.ModuleList(
            nn.ModuleList([ConvUnit(channels, channels // 2, 1), ConvUnit(channels // 2, channels, 3)])
            for _ in range(count)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> the same shape."""
        for narrow, wide in self.module_list:
            y = wide(narrow(x))
            x = x + y if self.shortcut else y
        return x


class Darknet(nn.Module):
    """Image -> three maps; the first modules do not learn."""

    def __init__(self, first: int, blocks: Sequence[int], learning: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [ConvUnit(3, first, 3)]
        width = first
        for count in blocks[:5]:
            layers += [ConvUnit(width, 2 * width, 3, 2), Residual(2 * width, count, True)]
            width *= 2
        layers += [Residual(width, blocks[5], False), ConvUnit(width, width // 2, 1), ConvUnit(width // 2, width, 3)]
        self.darknet = nn.ModuleList(layers)
        for layer in layers[: len(layers) - learning]:
            layer.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B, 3, H, W) -> maps at 1/8, 1/16, 1/32."""
        maps = []
        for index, layer in enumerate(self.darknet):
            x = layer(x)
            if index in (6, 8, 13):
                maps.append(x)
        return maps


class Language(nn.Module):
    """BERT and a map to the width of the fusion."""

    def __init__(self, text: Any, width: int) -> None:
        super().__init__()
        bert = text.bert
        self.bert = BertModel(
            BertConfig(
                vocab_size=text.vocab_size, hidden_size=bert.hidden_size, num_hidden_layers=bert.num_hidden_layers,
                num_attention_heads=bert.num_attention_heads, intermediate_size=bert.intermediate_size,
                max_position_embeddings=bert.max_position_embeddings, layer_norm_eps=1e-12,
                hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
            ),
            add_pooling_layer=False,
        )  # fmt: skip
        self.mapping = nn.ModuleList([nn.Linear(bert.hidden_size, width)])
        for layer in self.bert.encoder.layer[: bert.frozen_layers]:
            layer.requires_grad_(False)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, T) -> (B, T, D)."""
        words: torch.Tensor = self.mapping[0](self.bert(ids, mask).last_hidden_state)
        return words


class EncoderLayer(nn.Module):
    """Post-norm, positions in queries and keys."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: torch.Tensor, places: torch.Tensor, ignored: torch.Tensor) -> torch.Tensor:
        """(B, M, C) -> (B, M, C)."""
        placed = x + places
        x = self.norm1(x + self.self_attn(placed, placed, x, key_padding_mask=ignored, need_weights=False)[0])
        return self.norm2(x + self.linear2(self.linear1(x).relu()))


class DecoderLayer(EncoderLayer):
    """Self-attention to earlier tokens, attention to the memory, feed-forward."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__(width, heads, hidden)
        self.multihead_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm3 = nn.LayerNorm(width)

    def decode(
        self, x: torch.Tensor, places: torch.Tensor, memory: torch.Tensor, grid: torch.Tensor, ignored: torch.Tensor
    ) -> torch.Tensor:
        """(B, N, C), (B, M, C) -> (B, N, C)."""
        placed = x + places
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        x = self.norm1(x + self.self_attn(placed, placed, x, attn_mask=later, need_weights=False)[0])
        found = self.multihead_attn(
            x + places, memory + grid, memory, key_padding_mask=ignored, need_weights=False
        )[0]  # fmt: skip
        x = self.norm2(x + found)
        return self.norm3(x + self.linear2(self.linear1(x).relu()))


def grid_positions(real: torch.Tensor, width: int) -> torch.Tensor:
    """(B, h, w) of 1 and 0 -> (B, h * w, width): sines and cosines of normalised places."""
    down, across = real.cumsum(1), real.cumsum(2)
    down = down / (down[:, -1:] + 1e-6) * 2 * math.pi
    across = across / (across[:, :, -1:] + 1e-6) * 2 * math.pi
    half = width // 2
    rates = 10000 ** (2 * torch.div(torch.arange(half), 2, rounding_mode="floor") / half)
    found = []
    for share in (down, across):
        angles = share[..., None] / rates
        found.append(torch.stack((angles[..., 0::2].sin(), angles[..., 1::2].cos()), 4).flatten(3))
    return torch.cat(found, 3).flatten(1, 2)


class Head(nn.Module):
    """From the fused map to logits of tokens."""

    def __init__(self, channels: int, head: Any) -> None:
        super().__init__()
        width, self.bins = head.width, head.num_bin
        part = nn.Module()
        part.encoder, part.decoder = nn.Module(), nn.Module()
        part.encoder.layers = nn.ModuleList(
            EncoderLayer(width, head.heads, head.hidden) for _ in range(head.encoder_layers)
        )
        part.decoder.layers = nn.ModuleList(
            DecoderLayer(width, head.heads, head.hidden) for _ in range(head.decoder_layers)
        )
        part.decoder.norm = nn.LayerNorm(width)
        part.query_embedding = nn.Embedding(head.num_bin + 1, width)
        part.seq_positional_encoding = nn.Module()
        part.seq_positional_encoding.embedding = nn.Embedding(5, width)
        part.input_proj = nn.Module()
        part.input_proj.conv, part.input_proj.gn = nn.Conv2d(channels, width, 1), nn.GroupNorm(32, width)
        self.transformer = part
        self.predictor = nn.ModuleList(nn.Module() for _ in range(3))
        for step, out in zip(self.predictor, (width, width, head.num_bin + 1), strict=True):
            step.fc = nn.Linear(width, out)

    def forward(self, fused: torch.Tensor, padding: torch.Tensor, previous: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w), (B, H, W), (B, 5) -> (B, 5, classes)."""
        part = self.transformer
        x = part.input_proj.gn(part.input_proj.conv(fused))
        outside = functional.interpolate(padding[:, None], x.shape[-2:], mode="nearest")[:, 0] > 0
        places, ignored = grid_positions((~outside).float(), x.shape[1]), outside.flatten(1)
        memory = x.flatten(2).transpose(1, 2)
        for layer in part.encoder.layers:
            memory = layer(memory, places, ignored)
        start = torch.zeros(len(previous), 1, x.shape[1])
        tokens = torch.cat([start, part.query_embedding(previous[:, 1:])], 1)
        sequence = part.seq_positional_encoding.embedding.weight[None]
        for layer in part.decoder.layers:
            tokens = layer.decode(tokens, sequence, memory, places, ignored)
        hidden = part.decoder.norm(tokens)
        for step in self.predictor[:-1]:
            hidden = step.fc(hidden).relu()
        logits: torch.Tensor = self.predictor[-1].fc(hidden)
        return logits


class MsamPeer(nn.Module):
    """The whole network; `config` is a resolved `mindground.config.Config`."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        model = config.model
        dark, fusion = model.visual.darknet, model.fusion
        widths = tuple(8 * dark.first * 2**i for i in range(3))
        text = model.text.bert.out or widths[-1]
        self.vis_enc = Darknet(dark.first, dark.blocks, dark.freeze_layer)
        self.lan_enc = Language(model.text, text)
        self.fusion = KernelFusion(widths, text, fusion.depths, fusion.head_dim, fusion.window)
        self.head = Head(widths[-1], model.head)

    def forward(
        self, image: torch.Tensor, padding: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor, previous: torch.Tensor
    ) -> tuple[torch.Tensor]:
        """-> logits (B, 5, classes)."""
        fused = self.fusion(self.vis_enc(image), self.lan_enc(ids, mask), mask)
        return (self.head(fused, padding, previous),)


def build(config: Any, weights: Path, arrays: Mapping[str, np.ndarray], training: bool) -> PeerSide:
    """The peer with the weights of the shared file."""
    network, train, head = MsamPeer(config).train(training), config.train, config.model.head
    load_weights(network, weights, counters=(".position_ids", ".token_type_ids", ".num_batches_tracked"))
    given = {name: torch.from_numpy(value) for name, value in arrays.items()}
    target = given["sequence"].long()
    place = torch.ones(target.shape[1])
    place[list(head.det_coord)] = head.det_coord_weight

    def loss(logits: torch.Tensor) -> torch.Tensor:
        terms = functional.cross_entropy(
            logits.flatten(0, 1), target.flatten(), reduction="none", label_smoothing=head.neg_factor
        )
        # Labels sum to 1 - a / C here, as published: what PyTorch's have more is taken off again.
        surprise = -functional.log_softmax(logits, -1).gather(2, target[..., None])[..., 0]
        terms = terms.view_as(target) - head.neg_factor / logits.shape[-1] * surprise
        return (terms * place).sum() / target.numel()

    groups = [{"params": [p for p in network.parameters() if p.requires_grad], "lr": train.lr}]
    inputs = [given["image"], given["padding"].float()]
    inputs += [given[name].long() for name in ("token_ids", "token_mask", "previous")]
    return PeerSide(network, inputs, loss, groups, train, ("logits",), fused=True)
