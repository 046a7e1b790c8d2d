"""Prompts drawn from the truth of one example, and the noise that later clicks are drawn with."""

from __future__ import annotations

import cv2
import numpy as np

from mindground.models.sam.config import TrainingConfig
from mindground.models.sam.kinds import BOTTOM_RIGHT, FOREGROUND, NOT_A_POINT, TOP_LEFT
from mindground.structures import Example

__all__ = ["encode_prompts"]


def encode_prompts(
    example: Example, rng: np.random.Generator, settings: TrainingConfig, low_side: int
) -> dict[str, np.ndarray]:
    """Arrays of Q = `settings.objects` prompts on a canvas of S x S pixels.

    Objects come in random order; where there are fewer than Q, they are asked for again by other prompts.

    Args:
        low_side: s, side of the network's logits.

    Returns:
        `prompt_masks` (Q, S, S) uint8 and `prompt_low` (Q, s, s) float32 of 0 and 1; `prompt_places` (Q, 2, 2) float32
        xy and `prompt_kinds` (Q, 2) int32 of the first prompt; `prompt_boxes` (Q, 4) float32 xyxy of the masks;
        `prompt_noise` (Q, max(1, rounds - 1), s, s) float32 in (0, 1]; `prompt_valid` (Q,) float32, 0 where there
        is no object; `prompt_new` (Q,) float32, 0 for an object that was asked for before.
    """
    count, (height, width) = settings.objects, example.geometry.canvas_size
    masks = example.masks() if example.masks is not None else np.zeros((0, height, width), np.uint8)
    masks = masks[masks.any((1, 2))]
    arrays: dict[str, np.ndarray] = {
        "prompt_masks": np.zeros((count, height, width), np.uint8),
        "prompt_low": np.zeros((count, low_side, low_side), np.float32),
        "prompt_places": np.zeros((count, 2, 2), np.float32),
        "prompt_kinds": np.zeros((count, 2), np.int32),
        "prompt_boxes": np.zeros((count, 4), np.float32),
        "prompt_valid": np.zeros(count, np.float32),
        "prompt_new": np.zeros(count, np.float32),
    }
    noise = rng.random((count, max(1, settings.rounds - 1), low_side, low_side), dtype=np.float32)
    arrays["prompt_noise"] = 1.0 - noise
    order = rng.permutation(len(masks))
    for place in range(count if len(masks) else 0):
        mask = masks[order[place % len(masks)]]
        arrays["prompt_masks"][place], arrays["prompt_low"][place] = mask, _shrunk(mask, low_side)
        arrays["prompt_valid"][place] = 1.0
        arrays["prompt_new"][place] = float(place < len(masks))
        box = _tight_box(mask)
        arrays["prompt_boxes"][place] = box
        places, kinds = _first_prompt(mask, box, rng, settings)
        arrays["prompt_places"][place], arrays["prompt_kinds"][place] = places, kinds
    return arrays


def _shrunk(mask: np.ndarray, side: int) -> np.ndarray:
    """(side, side) of 0 and 1: the object covers at least half of the pixel; of a tiny object its fullest pixel."""
    covered = cv2.resize(mask.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
    return (covered >= min(0.5, float(covered.max()))).astype(np.float32)


def _tight_box(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.asarray([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


def _first_prompt(
    mask: np.ndarray, box: np.ndarray, rng: np.random.Generator, settings: TrainingConfig
) -> tuple[np.ndarray, tuple[int, int]]:
    """Places (2, 2) and kinds of two tokens: a point inside the object and no point, or the corners of a moved box."""
    height, width = mask.shape
    as_box, choice, moves = rng.random() < settings.box_share, rng.random(), rng.standard_normal(4)
    if not as_box:
        inside = np.flatnonzero(mask)
        row, column = divmod(int(inside[int(choice * len(inside))]), width)
        return np.asarray([[column, row], [0.0, 0.0]], np.float32), (FOREGROUND, NOT_A_POINT)
    sides = np.tile(box[2:] - box[:2], 2)
    moved = np.clip(moves * settings.box_noise * sides, -settings.box_noise_pixels, settings.box_noise_pixels)
    corners = np.clip(box + moved, 0, [width, height, width, height])
    low, high = np.minimum(corners[:2], corners[2:]), np.maximum(corners[:2], corners[2:])
    return np.stack([low, high]).astype(np.float32), (TOP_LEFT, BOTTOM_RIGHT)
