"""RMSIN's own arrays of one example: the referent's mask on the canvas."""

from __future__ import annotations

import numpy as np

from mindground.structures import Example

__all__ = ["encode_mask"]


def encode_mask(example: Example) -> dict[str, np.ndarray]:
    """`mask` (1, S, S) float32 of 0 and 1, zeros when there is none, and `has_mask` (1,) float32."""
    height, width = example.geometry.canvas_size
    mask = np.zeros((1, height, width), np.float32)
    if example.masks is not None:
        mask[:] = example.masks()
    return {"mask": mask, "has_mask": np.asarray([example.masks is not None], np.float32)}
