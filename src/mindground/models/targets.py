"""Arrays of one example that several families need."""

from __future__ import annotations

import numpy as np

from mindground.structures import Example, xyxy_to_cxcywh

__all__ = ["encode_box"]


def encode_box(example: Example) -> dict[str, np.ndarray]:
    """`box` (4,) float32: centre x, centre y, width, height of the referent as shares of the canvas."""
    side = np.float32(example.geometry.canvas_size[0])
    return {"box": xyxy_to_cxcywh(example.boxes_xyxy[0] / side)}
