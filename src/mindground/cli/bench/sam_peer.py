"""Segment Anything in PyTorch: transformers' own class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from transformers import SamConfig, SamModel

__all__ = ["PeerPieces", "build"]

_SHARED = "shared_image_embedding.positional_embedding"
_SECOND = "prompt_encoder.shared_embedding.positional_embedding"


def _config(config: Any) -> SamConfig:
    encoder, decoder, side = config.model.encoder, config.model.decoder, config.data.img_size
    return SamConfig(
        vision_config={
            "hidden_size": encoder.embed_dim,
            "output_channels": decoder.width,
            "num_hidden_layers": encoder.depth,
            "num_attention_heads": encoder.num_heads,
            "image_size": side,
            "patch_size": encoder.patch_size,
            "window_size": encoder.window_size,
            "global_attn_indexes": encoder.global_blocks,
            "num_pos_feats": decoder.width // 2,
            "mlp_dim": encoder.mlp_dim,
        },
        prompt_encoder_config={
            "hidden_size": decoder.width,
            "image_size": side,
            "patch_size": encoder.patch_size,
            "mask_input_channels": decoder.mask_channels,
        },
        mask_decoder_config={
            "hidden_size": decoder.width,
            "mlp_dim": decoder.mlp_dim,
            "num_hidden_layers": decoder.depth,
            "num_attention_heads": decoder.num_heads,
            "iou_head_hidden_dim": decoder.iou_hidden,
        },
    )


class PeerPieces:
    """See `worker.Side`.

    Args:
        network: with the weights of the shared file.
        arrays: what `cli/bench/sam.py` made.
    """

    def __init__(self, network: SamModel, arrays: Mapping[str, np.ndarray]) -> None:
        self.network = network.eval()
        self.given = {name: torch.from_numpy(value) for name, value in arrays.items()}

    def encoder(self) -> dict[str, np.ndarray]:
        """The embedding (1, C, g, g)."""
        with torch.inference_mode():
            found = self.network.vision_encoder(self.given["image"])
        return {"embedding": found[0].numpy()}

    def _decoder(self, count: int) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            found = self.network(
                image_embeddings=self.given["embedding"],
                input_points=self.given["points"][None, :count],
                input_labels=torch.ones((1, count, 1), dtype=torch.long),
                multimask_output=True,
            )
        return {"logits": found.pred_masks[0].numpy(), "expected": found.iou_scores[0].numpy()}

    def decoder_1(self) -> dict[str, np.ndarray]:
        """Three masks of one point."""
        return self._decoder(1)

    def decoder_64(self) -> dict[str, np.ndarray]:
        """Three masks of each of 64 points."""
        return self._decoder(64)


def build(config: Any, weights: Path, arrays: Mapping[str, np.ndarray], training: bool) -> PeerPieces:
    """The peer with the weights of the shared file; every tensor of either must find its partner."""
    network = SamModel._from_config(_config(config))
    with safe_open(weights, "pt") as file, torch.no_grad():
        state = network.state_dict()
        held = set(file.keys())
        if set(state) - {_SECOND} != held - {_SECOND}:
            raise KeyError(f"peer and file differ in {sorted(set(state) ^ held)}")
        for name, tensor in state.items():
            tensor.copy_(file.get_tensor(_SHARED if name == _SECOND else name))
    return PeerPieces(network, arrays)
