"""Prompts in chunks of a few fixed sizes, so that graph mode compiles for few shapes and memory stays bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mindground.models.sam.kinds import BOTTOM_RIGHT, NOT_A_POINT, NOTHING, TOP_LEFT

if TYPE_CHECKING:
    from mindground.models.base import Run

__all__ = ["MOST_PROMPTS", "ask", "prompt_tokens"]

_COUNTS = (1, 4, 16)
"""Prompts that run together; others are filled up by repeating the last one."""
MOST_PROMPTS = _COUNTS[-1]
_EXACT = 2
"""Tokens of a point (with the token that stands for no box) and of a box; prompts of more are filled up."""


def prompt_tokens(
    points: np.ndarray | None, labels: np.ndarray | None, boxes: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Places and kinds of the tokens of P prompts, in pixels of the canvas.

    Args:
        points: (P, N, 2) xy, labels (P, N): 1, 0, -1 (no point) or -10 (zeros); or None.
        boxes: (P, 4) xyxy, or None. Without boxes one token stands for the absence of a point.

    Returns:
        (P, T, 2) float32 and (P, T) int32.
    """
    places, kinds = [], []
    if points is not None and labels is not None:
        marks = np.asarray(labels)
        places.append(np.asarray(points, np.float32))
        kinds.append(np.where(marks == -10, NOTHING, marks + 1).astype(np.int32))
    count = len(points) if points is not None else len(boxes) if boxes is not None else 0
    if boxes is None:
        places.append(np.zeros((count, 1, 2), np.float32))
        kinds.append(np.full((count, 1), NOT_A_POINT, np.int32))
    else:
        places.append(np.asarray(boxes, np.float32).reshape(count, 2, 2))
        kinds.append(np.tile(np.asarray([TOP_LEFT, BOTTOM_RIGHT], np.int32), (count, 1)))
    return np.concatenate(places, 1), np.concatenate(kinds, 1)


def ask(
    run: Run, embedding: Any, places: np.ndarray, kinds: np.ndarray, mask_input: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """All four masks of P prompts about one image.

    Args:
        run: calls pieces of the network.
        embedding: (1, C, g, g).
        places, kinds: (P, T, 2) and (P, T), as `prompt_tokens` gives them.
        mask_input: (P, 1, 4g, 4g), or None.

    Returns:
        logits (P, 4, 4g, 4g) and expected IoU (P, 4), float32.
    """
    count, length = kinds.shape
    width = length if length <= _EXACT else 1 << (length - 1).bit_length()
    present = np.ones((count, width), np.float32)
    if width > length:
        present[:, length:] = 0
        places = np.concatenate([places, np.zeros((count, width - length, 2), np.float32)], 1)
        kinds = np.concatenate([kinds, np.full((count, width - length), NOTHING, np.int32)], 1)
    arrays: list[np.ndarray] = [places.astype(np.float32), kinds.astype(np.int32)]
    piece = "answer"
    if length > _EXACT:
        piece, arrays = piece + "_filled", [*arrays, present]
    if mask_input is not None:
        piece, arrays = piece + "_masked", [*arrays, np.asarray(mask_input, np.float32)]
    logits: np.ndarray | None = None
    expected: np.ndarray | None = None
    for start in range(0, count, MOST_PROMPTS):
        parts = [array[start : start + MOST_PROMPTS] for array in arrays]
        real = len(parts[0])
        size = next(size for size in _COUNTS if size >= real)
        parts = [np.concatenate([part, np.repeat(part[-1:], size - real, 0)]) for part in parts]
        found = [value.asnumpy() for value in run(piece, embedding, *parts)]
        if logits is None or expected is None:
            logits = np.empty((count, *found[0].shape[1:]), np.float32)
            expected = np.empty((count, *found[1].shape[1:]), np.float32)
        logits[start : start + real], expected[start : start + real] = found[0][:real], found[1][:real]
    if logits is None or expected is None:
        side = 4 * embedding.shape[2]
        return np.zeros((0, 4, side, side), np.float32), np.zeros((0, 4), np.float32)
    return logits, expected
