"""VG-LAW in PyTorch: transformers' ViTDet and BERT, and the parts around them written down as published.

The mask head forms its pixel embeddings before the product with the sentence, and the low-rank term is a product of its
own, as in the paper; MindGround rearranges both (`models/vglaw/heads.py`, `law.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import BertConfig, BertModel, VitDetConfig, VitDetModel

from mindground.cli.bench.peer import PeerSide, giou, load_weights

__all__ = ["VGLawPeer", "build"]


class AdaptedQkv(nn.Linear):
    """qkv projection plus S Phi D of one sample; `given` is set before each forward pass."""

    given: tuple[torch.Tensor, torch.Tensor, torch.Tensor]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B * windows, h, w, C) -> (..., 3C)."""
        phi, s, d = self.given
        low = functional.linear(x, d.squeeze(-1)).reshape(len(phi), -1, phi.shape[-1])
        low = (low @ phi.transpose(1, 2)).reshape(*x.shape[:-1], phi.shape[-1])
        return super().forward(x) + functional.linear(low, s.squeeze(-1))


class Generator(nn.Module):
    """Token features -> one K x K matrix per block."""

    def __init__(self, layers: int, text: int, visual: int, rank: int, heads: int, eps: float) -> None:
        super().__init__()
        self.heads, self.rank = heads, rank
        self.layer_embedding = nn.Parameter(torch.empty(layers, 1, text))
        self.S = nn.Parameter(torch.empty(3 * visual, rank, 1))
        self.D = nn.Parameter(torch.empty(rank, visual, 1))
        inner = text // 16
        self.proj = nn.ModuleList(
            nn.Sequential(nn.Linear(text, inner), nn.LayerNorm(inner, eps), nn.GELU(), nn.Linear(inner, rank * rank))
            for _ in range(layers)
        )

    def forward(self, text: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
        """(B, L, T), (B, L) -> `layers` tensors (B, K, K)."""
        batch, length, width = text.shape
        keys = text.reshape(batch, length, self.heads, -1).transpose(1, 2)
        queries = self.layer_embedding.reshape(1, -1, self.heads, width // self.heads).transpose(1, 2)
        scores = queries @ keys.transpose(2, 3) / math.sqrt(width // self.heads)
        scores = scores.masked_fill(mask[:, None, None] == 0, -math.inf)
        summaries = (scores.softmax(-1) @ keys).transpose(1, 2).reshape(batch, -1, width)
        parts = zip(self.proj, summaries.unbind(1), strict=True)
        return [project(summary).reshape(batch, self.rank, self.rank) for project, summary in parts]


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, H, W)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The same shape."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Pool(nn.Module):
    """One attention step from the sentence over the visual tokens."""

    def __init__(self, text: int, visual: int, width: int) -> None:
        super().__init__()
        self.q_proj, self.k_proj = nn.Linear(text, width), nn.Linear(visual, width)

    def forward(self, sentence: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """(B, T), (B, N, C) -> (B, C)."""
        query, keys = self.q_proj(sentence)[:, None], self.k_proj(tokens)
        attention = (query @ keys.transpose(1, 2) / math.sqrt(keys.shape[-1])).softmax(-1)
        return (attention @ tokens)[:, 0]


class VGLawPeer(nn.Module):
    """The whole network; `config` is a resolved `mindground.config.Config` of the published form."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        model, text = config.model, config.model.text
        vit = model.visual()
        self.side = config.data.img_size
        self.visual = VitDetModel(
            VitDetConfig(
                hidden_size=vit.embed_dim, num_hidden_layers=vit.depth, num_attention_heads=vit.num_heads,
                mlp_ratio=vit.mlp_ratio, layer_norm_eps=vit.norm_eps, image_size=self.side, patch_size=vit.patch_size,
                pretrain_image_size=vit.pretrain_img_size, window_block_indices=list(vit.window_block_indexes),
                window_size=vit.window_size, use_relative_position_embeddings=True, drop_path_rate=0.0,
            )
        )  # fmt: skip
        for layer in self.visual.encoder.layer:
            layer.attention.qkv = AdaptedQkv(vit.embed_dim, 3 * vit.embed_dim)
        self.text = BertModel(
            BertConfig(
                vocab_size=text.vocab_size, hidden_size=text.hidden_size, num_hidden_layers=text.num_hidden_layers,
                num_attention_heads=text.num_attention_heads, intermediate_size=text.intermediate_size,
                max_position_embeddings=text.max_position_embeddings, layer_norm_eps=1e-12,
                hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, pad_token_id=None,
            )
        )  # fmt: skip
        wide, channels = text.hidden_size, model.up_channels
        self.generator = Generator(
            vit.depth, wide, vit.embed_dim, model.law_rank, model.generator_heads, model.generator_norm_eps
        )
        self.up_sample = nn.Sequential(
            nn.ConvTranspose2d(vit.embed_dim, channels, 2, 2),
            ChannelNorm(channels, 1e-6),
            nn.GELU(),
            nn.ConvTranspose2d(channels, wide, 2, 2),
        )
        self.pool = Pool(wide, vit.embed_dim, model.pool_dim)
        widths = (vit.embed_dim, model.box_hidden, model.box_hidden, 4)
        self.box = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))

    def forward(
        self, image: torch.Tensor, token_ids: torch.Tensor, token_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """-> box (B, 4), mask logits (B, 1, S, S)."""
        text = self.text(token_ids, token_mask).last_hidden_state
        for layer, phi in zip(self.visual.encoder.layer, self.generator(text, token_mask), strict=True):
            layer.attention.qkv.given = (phi, self.generator.S, self.generator.D)
        features = self.visual(image).last_hidden_state
        sentence = text[:, 0]
        x = self.pool(sentence, features.flatten(2).transpose(1, 2))
        for layer in self.box[:-1]:
            x = layer(x).relu()
        logits = torch.einsum("bc,bchw->bhw", sentence, self.up_sample(features))[:, None]
        logits = functional.interpolate(logits, (self.side, self.side), mode="bilinear", align_corners=True)
        return self.box[-1](x).sigmoid(), logits


def loss(box: torch.Tensor, logits: torch.Tensor, targets: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """L1 + GIoU + focal + dice, all with weight 1."""
    truth, mask = targets["box"], targets["mask"].flatten(1)
    logits = logits.flatten(1)
    p = logits.sigmoid()
    missing = p + mask - 2 * p * mask
    entropy = functional.binary_cross_entropy_with_logits(logits, mask, reduction="none")
    focal = ((0.75 - 0.5 * mask) * missing**2 * entropy).mean()
    dice = (1 - (2 * (p * mask).sum(1) + 1) / (p.sum(1) + mask.sum(1) + 1)).mean()
    return (box - truth).abs().sum() / len(box) + (1 - giou(box, truth)).mean() + focal + dice


def build(config: Any, weights: Path, arrays: Mapping[str, np.ndarray], training: bool) -> PeerSide:
    """The peer with the weights of the shared file."""
    network, train = VGLawPeer(config).train(training), config.train
    # BERT keeps its counters of positions beside the parameters.
    load_weights(network, weights, counters=(".position_ids", ".token_type_ids"))
    # Nothing reads BERT's pooler.
    network.text.pooler.requires_grad_(False)
    given = {name: torch.from_numpy(value) for name, value in arrays.items()}
    rates = {name: train.lr * factor for name, factor in train.lr_factors.items()}
    rates["text"] = rates["lang"]
    groups = [
        {"params": [p for p in part.parameters() if p.requires_grad], "lr": rates.get(name, train.lr)}
        for name, part in network.named_children()
    ]
    inputs = [given["image"], given["token_ids"].long(), given["token_mask"].long()]
    return PeerSide(network, inputs, lambda *outputs: loss(*outputs, given), groups, train, ("box", "mask_logits"))
