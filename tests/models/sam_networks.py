"""A Segment Anything of a few thousand parameters, and what opens images with it."""

from __future__ import annotations

from typing import Any

import numpy as np

from mindground.data.transforms.long_side import LongSideTransform
from mindground.inference.predictor import Predictor
from mindground.models.sam.builder import build_network
from mindground.models.sam.config import DecoderConfig, EncoderConfig, SamConfig, TrainingConfig
from mindground.structures import instance_truth

SIDE, CELLS = 64, 16

__all__ = ["CELLS", "SIDE", "network", "noise_image", "predictor", "settings", "transform"]


def settings(**prompts: Any) -> SamConfig:
    """Two blocks, one of them windowed, on a grid of 4 x 4."""
    encoder = EncoderConfig(
        img_size=SIDE, embed_dim=16, depth=2, num_heads=2, mlp_dim=24, window_size=3, global_blocks=[1]
    )
    decoder = DecoderConfig(width=16, num_heads=2, mlp_dim=24, iou_hidden=16, mask_channels=8)
    return SamConfig(encoder=encoder, decoder=decoder, prompts=TrainingConfig(**prompts))


def network(**prompts: Any) -> Any:
    """Freshly initialised, in evaluation mode."""
    model = build_network(settings(**prompts), img_size=SIDE)
    model.set_train(False)
    return model


def transform() -> LongSideTransform:
    """As Segment Anything prepares images."""
    return LongSideTransform(img_size=SIDE, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), truth=instance_truth)


def predictor(model: Any) -> Predictor:
    """Operator by operator: nothing is compiled."""
    return Predictor(model, transform(), asks_expression=False, graph=False, name="tiny")


def noise_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8 noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
