"""VG-LAW's arrays of one example: the referent's box and mask on the canvas."""

from __future__ import annotations

import numpy as np

from mindground.structures import Example, xyxy_to_cxcywh

__all__ = ["encode_box", "encode_mask"]


def encode_box(example: Example) -> dict[str, np.ndarray]:
    """`box` (4,) float32: centre x, centre y, width, height as shares of the canvas."""
    side = np.float32(example.geometry.canvas_size[0])
    return {"box": xyxy_to_cxcywh(example.boxes_xyxy[0] / side)}


def encode_mask(example: Example) -> dict[str, np.ndarray]:
    """`mask` (1, S, S) float32 of 0 and 1, zeros when there is none, and `has_mask` (1,) float32."""
    side = example.geometry.canvas_size[0]
    mask = np.zeros((1, side, side), np.float32)
    if example.masks is not None:
        mask[:] = example.masks()
    return {"mask": mask, "has_mask": np.asarray([example.masks is not None], np.float32)}
