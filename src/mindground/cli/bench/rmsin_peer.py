"""RMSIN and LAVT in PyTorch: transformers' BERT and, written down as published, Swin and the parts around them.

Names are those of published checkpoints. The turned convolution is one convolution with as many groups as samples, as
the authors compute it.
"""

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

from mindground.cli.bench.peer import PeerSide, load_weights
from mindground.cli.bench.rmsin_cim_peer import CrossScaleInteraction
from mindground.cli.bench.swin_peer import Block, Merging, PatchEmbed

__all__ = ["RmsinPeer", "build"]


class _Words(nn.Module):
    """Attention of pixels on words; tensors are (B, channels, positions)."""

    def __init__(self, width: int, text: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, width**-0.5
        self.f_key, self.f_value = nn.Sequential(nn.Conv1d(text, width, 1)), nn.Sequential(nn.Conv1d(text, width, 1))
        self.f_query = nn.Sequential(nn.Conv1d(width, width, 1), nn.InstanceNorm1d(width))
        self.W = nn.Sequential(nn.Conv1d(width, width, 1), nn.InstanceNorm1d(width))

    def forward(self, x: torch.Tensor, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, C, L), (B, Cl, T), (B, 1, T) -> (B, C, L)."""
        batch, width, _ = x.shape
        q, k, v = self.f_query(x), self.f_key(words) * mask, self.f_value(words) * mask
        q, k, v = (one.reshape(batch, self.heads, width // self.heads, -1) for one in (q, k, v))
        logits = q.transpose(2, 3) @ k * self.scale + (1e4 * mask - 1e4)[:, None]
        found = (logits.softmax(-1) @ v.transpose(2, 3)).transpose(2, 3)
        return self.W(found.reshape(batch, width, -1))


class _Fusion(nn.Module):
    def __init__(self, width: int, text: int, heads: int) -> None:
        super().__init__()
        self.vis_project = nn.Sequential(nn.Conv1d(width, width, 1), nn.GELU())
        self.image_lang_att = _Words(width, text, heads)
        self.project_mm = nn.Sequential(nn.Conv1d(width, width, 1), nn.GELU())

    def forward(self, x: torch.Tensor, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        pixels = x.flatten(1, 2).transpose(1, 2)
        found = self.project_mm(self.vis_project(pixels) * self.image_lang_att(pixels, words, mask))
        return found.transpose(1, 2).reshape(x.shape)


def _gate(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width, bias=False), nn.ReLU(), nn.Linear(width, width, bias=False), nn.Tanh())


class _Wide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1)
        self.conv2, self.bn2 = nn.Conv2d(1, 1, 3, padding=1, bias=False), nn.BatchNorm2d(1)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.bn2(self.conv2(self.bn1(self.conv1(z))))


class _Point(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(z))


class _Receptive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.repblock = nn.ModuleDict()
        for suffix in ("", "_2"):
            self.repblock[f"brb_3x3{suffix}"] = _Wide()
            self.repblock[f"brb_1x1{suffix}"] = _Point()
            self.repblock[f"brb_identity{suffix}"] = nn.BatchNorm2d(1)

    def _branches(self, z: torch.Tensor, suffix: str) -> torch.Tensor:
        parts = (self.repblock[name + suffix](z) for name in ("brb_1x1", "brb_3x3", "brb_identity"))
        total: torch.Tensor = sum(parts, torch.zeros(()))
        return total

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) -> the same shape."""
        inner = self._branches(x.mean(-1)[:, None], "").relu()
        return x * self._branches(inner, "_2").sigmoid()[:, 0, :, :, None]


class _Stage(nn.Module):
    def __init__(
        self, width: int, depth: int, heads: int, window: int, text: int, mha: int, last: bool, iim: bool
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, window, window // 2 * (i % 2)) for i in range(depth))
        self.fusion, self.res_gate = _Fusion(width, text, mha), _gate(width)
        self.last, self.iim = last, iim
        if iim:
            self.visual_residual, self.visual_gate = _Receptive(), _gate(width)
        if not last:
            self.downsample = Merging(width)

    def forward(self, x: torch.Tensor, words: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        for block in self.blocks:
            x = block(x)
        fused = self.fusion(x, words, mask)
        if self.last:
            return fused, fused
        total = x + self.res_gate(fused) * fused
        if self.iim:
            seen = self.visual_residual(x)
            total = total + self.visual_gate(seen) * seen
        return fused, self.downsample(total)


class _ChannelNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x.permute(0, 2, 3, 1))


class _Routing(nn.Module):
    def __init__(self, width: int, kernels: int) -> None:
        super().__init__()
        self.dwc, self.norm = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False), _ChannelNorm(width)
        self.fc_alpha, self.fc_theta = nn.Linear(width, kernels), nn.Linear(width, kernels, bias=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean = self.norm(self.dwc(x)).relu().mean((1, 2))
        return self.fc_alpha(mean).sigmoid(), functional.softsign(self.fc_theta(mean)) * math.radians(40)


class _Turned(nn.Module):
    """3x3 convolution whose kernels turn by an angle of the sample's."""

    taps: torch.Tensor

    def __init__(self, width: int, kernels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(kernels, width, width, 3, 3))
        self.rounting_func = _Routing(width, kernels)
        taps = torch.cartesian_prod(torch.arange(-1.0, 2.0), torch.arange(-1.0, 2.0))
        self.register_buffer("taps", taps, persistent=False)

    def _matrices(self, theta: torch.Tensor) -> torch.Tensor:
        """(B, n) -> (B, n, 9, 9): taps of the turned kernel from those of the stored one."""
        cosine, sine = theta.cos()[..., None], theta.sin()[..., None]
        row, column = self.taps[:, 0], self.taps[:, 1]
        down, across = (row * cosine + column * sine).clamp(-1, 1), (column * cosine - row * sine).clamp(-1, 1)
        return (1 - (down[..., None] - row).abs()).clamp(min=0) * (1 - (across[..., None] - column).abs()).clamp(min=0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        alpha, theta = self.rounting_func(x)
        (batch, width, height, columns), kernels = x.shape, len(self.weight)
        turn = self._matrices(theta) * alpha[:, :, None, None]  # (B, n, 9, 9)
        turn = turn.permute(0, 2, 1, 3).reshape(batch * 9, kernels * 9)
        stored = self.weight.flatten(3).permute(0, 3, 1, 2).reshape(kernels * 9, -1)
        weight = (turn @ stored).reshape(batch, 9, width, width).permute(0, 2, 3, 1)
        weight = weight.reshape(batch * width, width, 3, 3)
        found = functional.conv2d(x.reshape(1, batch * width, height, columns), weight, padding=1, groups=batch)
        return found.reshape(x.shape)


class _Decoder(nn.Module):
    def __init__(self, widths: Sequence[int], kernels: int) -> None:
        super().__init__()
        hidden = widths[3] // 2
        for level, inputs in ((4, widths[3] + widths[2]), (3, hidden + widths[1]), (2, hidden + widths[0])):
            plain = nn.Conv2d(hidden, hidden, 3, padding=1, bias=False)
            self.add_module(f"conv1_{level}", nn.Conv2d(inputs, hidden, 3, padding=1, bias=False))
            self.add_module(f"bn1_{level}", nn.BatchNorm2d(hidden))
            self.add_module(f"conv2_{level}", _Turned(hidden, kernels) if kernels else plain)
            self.add_module(f"bn2_{level}", nn.BatchNorm2d(hidden))
        self.conv1_1 = nn.Conv2d(hidden, 2, 1)

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        parts = dict(self.named_children())
        x = maps[3]
        for level, fine in ((4, maps[2]), (3, maps[1]), (2, maps[0])):
            x = functional.interpolate(x, fine.shape[2:], mode="bilinear", align_corners=True)
            for step, given in ((1, [x, fine]), (2, [x])):
                x = torch.cat(given, 1) if step == 1 else x
                x = parts[f"bn{step}_{level}"](parts[f"conv{step}_{level}"](x)).relu()
        return self.conv1_1(x)


class _Backbone(nn.Module):
    def __init__(self, config: Any, grid: int) -> None:
        super().__init__()
        model, swin = config.model, config.model.visual()
        widths = [swin.embed_dim * 2**stage for stage in range(4)]
        self.patch_embed = PatchEmbed(widths[0])
        self.layers = nn.ModuleList(
            _Stage(
                width, swin.depths[i], swin.num_heads[i], swin.window_size, model.text.hidden_size,
                model.fusion_heads[i], i == 3, model.rotates,
            )
            for i, width in enumerate(widths)
        )  # fmt: skip
        for stage, width in enumerate(widths):
            self.add_module(f"norm{stage}", nn.LayerNorm(width))
        self.cim = (
            CrossScaleInteraction(widths, grid, model.cim.heads, model.cim.key_dim, model.cim.blocks)
            if model.rotates
            else None
        )

    def forward(self, image: torch.Tensor, words: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
        x, maps = self.patch_embed(image), []
        for stage, layer in enumerate(self.layers):
            fused, x = layer(x, words, mask)
            maps.append(self.get_submodule(f"norm{stage}")(fused).permute(0, 3, 1, 2))
        return maps if self.cim is None else self.cim(maps)


class RmsinPeer(nn.Module):
    """The whole network; `config` is a resolved `mindground.config.Config` of the published form."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        text, model = config.model.text, config.model
        self.text_encoder = BertModel(
            BertConfig(
                vocab_size=text.vocab_size, hidden_size=text.hidden_size, num_hidden_layers=text.num_hidden_layers,
                num_attention_heads=text.num_attention_heads, intermediate_size=text.intermediate_size,
                max_position_embeddings=text.max_position_embeddings, layer_norm_eps=1e-12,
                hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
            ),
            add_pooling_layer=False,
        )  # fmt: skip
        # A quarter of the side, then halved three times, always rounded up.
        self.backbone = _Backbone(config, model.cim.grid or math.ceil(config.data.img_size / 32))
        widths = [model.visual().embed_dim * 2**stage for stage in range(4)]
        self.classifier = _Decoder(widths, model.rotated_kernels if model.rotates else 0)

    def logits(self, image: torch.Tensor, token_ids: torch.Tensor, token_mask: torch.Tensor) -> torch.Tensor:
        """-> (B, 2, H, W)."""
        words = self.text_encoder(token_ids, token_mask).last_hidden_state.transpose(1, 2)
        low = self.classifier(self.backbone(image, words, token_mask[:, None].float()))
        return functional.interpolate(low, image.shape[2:], mode="bilinear", align_corners=True)

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """image, token_ids, token_mask -> referent minus background (B, 1, H, W)."""
        both = self.logits(*inputs)
        return (both,) if self.training else (both[:, 1:] - both[:, :1],)


def loss(logits: torch.Tensor, mask: torch.Tensor, model: Any) -> torch.Tensor:
    """Weighted cross-entropy and summed Dice of both classes."""
    entropy, dice = model.coefficients()
    target = mask[:, 0].long()
    total = entropy * functional.cross_entropy(logits, target, weight=torch.tensor(model.class_weights))
    if dice:
        truth = functional.one_hot(target, 2).permute(0, 3, 1, 2).flatten(2).float()
        p = logits.softmax(1).flatten(2)
        total = total + dice * (1 - (2 * (p * truth).sum(2) + 1e-6) / (p.sum(2) + truth.sum(2) + 1e-6)).sum()
    return total


def build(config: Any, weights: Path, arrays: Mapping[str, np.ndarray], training: bool) -> PeerSide:
    """The peer with the weights of the shared file."""
    network, train, text = RmsinPeer(config).train(training), config.train, config.model.text
    load_weights(network, weights, counters=(".position_ids", ".token_type_ids", "num_batches_tracked"))
    network.text_encoder.embeddings.requires_grad_(text.train_embeddings)
    for index, layer in enumerate(network.text_encoder.encoder.layer):
        layer.requires_grad_(index < text.train_layers)
    last = network.backbone.layers[3]
    for part in (last.res_gate, *((last.visual_residual, last.visual_gate) if last.iim else ())):
        part.requires_grad_(False)
    given = {name: torch.from_numpy(value) for name, value in arrays.items()}
    groups: dict[float, list[nn.Parameter]] = {0.0: [], train.weight_decay: []}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            spared = name.startswith("backbone.") and ("norm" in name or "relative_position_bias_table" in name)
            groups[0.0 if spared else train.weight_decay].append(parameter)
    inputs = [given["image"], given["token_ids"].long(), given["token_mask"].long()]
    return PeerSide(
        network,
        inputs,
        lambda logits: loss(logits, given["mask"], config.model),
        [{"params": members, "weight_decay": decay, "lr": train.lr} for decay, members in groups.items()],
        train,
        ("mask_logits",),
    )
