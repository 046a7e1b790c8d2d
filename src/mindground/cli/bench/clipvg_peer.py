"""CLIP-VG in PyTorch: transformers' CLIP, and the joint encoder written down as published.

Every row of every joint layer is computed, as in the paper; MindGround computes only the rows that are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel

from mindground.cli.bench.peer import PeerSide, giou, load_weights

__all__ = ["ClipVGPeer", "build"]


class JointLayer(nn.Module):
    """Post-norm encoder layer whose queries and keys carry the positions."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = dropout

    def _dropped(self, x: torch.Tensor) -> torch.Tensor:
        return functional.dropout(x, self.dropout, self.training)

    def forward(self, x: torch.Tensor, positions: torch.Tensor, ignored: torch.Tensor) -> torch.Tensor:
        """(B, N, C), (N, C), (B, N) -> (B, N, C)."""
        placed = x + positions
        attended = self.self_attn(placed, placed, x, key_padding_mask=ignored, need_weights=False)[0]
        x = self.norm1(x + self._dropped(attended))
        return self.norm2(x + self._dropped(self.linear2(self._dropped(self.linear1(x).relu()))))


class JointEncoder(nn.Module):
    """The stack of layers, under upstream's names."""

    def __init__(self, layers: list[JointLayer]) -> None:
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(layers)

    def forward(self, x: torch.Tensor, positions: torch.Tensor, ignored: torch.Tensor) -> torch.Tensor:
        """(B, N, C), (N, C), (B, N) -> (B, N, C)."""
        for layer in self.encoder.layers:
            x = layer(x, positions, ignored)
        return x


class Perceptron(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, 4)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C) -> (B, 4)."""
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x)


def _towers(config: Any) -> CLIPModel:
    towers = config.model.towers()
    clip = CLIPConfig(
        projection_dim=towers.embed_dim,
        vision_config={
            "hidden_size": towers.vision_width,
            "intermediate_size": 4 * towers.vision_width,
            "num_hidden_layers": towers.vision_layers,
            "num_attention_heads": towers.vision_heads,
            "image_size": config.data.img_size,
            "patch_size": towers.patch_size,
            "hidden_act": "quick_gelu",
        },
        text_config={
            "vocab_size": towers.vocab_size,
            "hidden_size": towers.text_width,
            "intermediate_size": 4 * towers.text_width,
            "num_hidden_layers": towers.text_layers,
            "num_attention_heads": towers.text_heads,
            "max_position_embeddings": towers.context_length,
            "hidden_act": "quick_gelu",
        },
    )
    return CLIPModel._from_config(clip, attn_implementation="sdpa")


class ClipVGPeer(nn.Module):
    """The whole network; `config` is a resolved `mindground.config.Config` of the published variant."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        model = config.model
        if model.variant != "multi_level":
            raise ValueError(f"model.variant={model.variant!r} has no peer; compare multi_level")
        towers, width = model.towers(), model.width()
        self.blocks = model.blocks()
        self.grid = config.data.img_size // towers.patch_size
        self.clip = _towers(config)
        self.visu_proj = nn.Linear(512, width)  # in every checkpoint, never used
        self.text_proj = nn.Linear(towers.embed_dim, width)
        self.ml_visu_proj = nn.Linear(len(self.blocks) * towers.vision_width, width)
        self.reg_token = nn.Embedding(1, width)
        self.vl_pos_embed = nn.Embedding(2 + model.max_query_len + self.grid**2, width)
        self.vl_transformer = JointEncoder(
            [
                JointLayer(width, model.vl_nheads, model.vl_dim_feedforward, model.vl_dropout)
                for _ in range(model.vl_enc_layers)
            ]
        )
        self.bbox_embed = Perceptron(width)
        for name, parameter in self.named_parameters():
            learns = not name.startswith("clip.") or model.train_clip == "all"
            if name == "clip.vision_model.embeddings.position_embedding.weight":
                learns = model.train_clip != "nothing"
            parameter.requires_grad_(learns and not name.startswith("visu_proj."))

    def forward(
        self, image: torch.Tensor, token_ids: torch.Tensor, token_mask: torch.Tensor, padding: torch.Tensor
    ) -> tuple[torch.Tensor]:
        """-> box (B, 4)."""
        states = self.clip.vision_model(image, output_hidden_states=True).hidden_states
        visual = self.ml_visu_proj(torch.cat([states[block + 1] for block in self.blocks], -1))
        words = self.clip.text_projection(self.clip.text_model(token_ids).last_hidden_state)
        small = functional.interpolate(padding[:, None], (self.grid, self.grid), mode="bilinear", align_corners=False)
        seen = torch.zeros(len(image), 1, dtype=torch.bool)
        ignored = torch.cat([seen, token_mask == 0, seen, small.flatten(1).round() != 0], 1)
        first = self.reg_token.weight.expand(len(image), 1, -1)
        x = torch.cat([first, self.text_proj(words), visual], 1)
        return (self.bbox_embed(self.vl_transformer(x, self.vl_pos_embed.weight, ignored)[:, 0]).sigmoid(),)


def build(config: Any, weights: Path, arrays: Mapping[str, np.ndarray], training: bool) -> PeerSide:
    """The peer with the weights of the shared file."""
    network = ClipVGPeer(config).train(training)
    load_weights(network, weights)
    given = {name: torch.from_numpy(value) for name, value in arrays.items()}
    truth, train = given["box"], config.train
    parts: dict[str, list[nn.Parameter]] = {"clip": [], "base": []}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            parts["clip" if name.startswith("clip.") else "base"].append(parameter)
    rates = {name: train.lr * factor for name, factor in train.lr_factors.items()}
    groups = [{"params": members, "lr": rates[name]} for name, members in parts.items() if members]

    def loss(box: torch.Tensor) -> torch.Tensor:
        return (box - truth).abs().sum() / len(box) + (1 - giou(box, truth)).mean()

    inputs = [given["image"], given["token_ids"].long(), given["token_mask"], given["padding"].float()]
    return PeerSide(network, inputs, loss, groups, train, ("box",), fused=True)
