"""How likely each pixel belongs to what was found, kept as small as the network gave it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mindground.structures.geometry import Geometry

__all__ = ["ProbabilityMap"]

_ROWS = 256  # converted at once, so that memory holds one map of the image's size in float32


@dataclass(frozen=True)
class ProbabilityMap:
    """The probability of a mask on the network's canvas, and the way to original pixels.

    Attributes:
        logits: (h, w) float32 on the canvas: log of the odds that a pixel belongs to the mask.
        geometry: how the image lies on the canvas.
    """

    logits: np.ndarray
    geometry: Geometry

    def original(self) -> np.ndarray:
        """(H, W) float32 in [0, 1] in original pixels.

        The logits are resized bilinearly and become probabilities then. Where a family decides its mask in original
        pixels the mask is this map above the family's threshold.
        """
        values = self.geometry.map_to_original(self.logits).astype(np.float32, copy=False)
        for top in range(0, len(values), _ROWS):
            part = values[top : top + _ROWS]
            values[top : top + _ROWS] = 1.0 / (1.0 + np.exp(-np.clip(part, -60.0, 60.0)))
        return values

    def scaled(self, highest: int) -> np.ndarray:
        """The same as whole numbers: 0 to 1 becomes 0 to `highest`; uint8 up to 255, uint16 above."""
        values = self.original()
        found = np.empty(values.shape, np.uint8 if highest < 256 else np.uint16)
        for top in range(0, len(values), _ROWS):
            found[top : top + _ROWS] = np.rint(values[top : top + _ROWS] * np.float32(highest))
        return found
