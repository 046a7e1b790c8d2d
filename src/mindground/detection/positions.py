"""Sines and cosines of a pixel's place."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

__all__ = ["sine_positions"]


@lru_cache(maxsize=32)
def sine_positions(height: int, width: int, features: int, temperature: float = 1e4) -> np.ndarray:
    """(2 features, height, width) float32, read-only: channels of y, then of x, each sine and cosine in turn.

    Places are counted from 1 and divided by the side, times 2 pi (Carion et al. 2020, without padding).
    """
    rates = np.float32(temperature) ** (2 * (np.arange(features) // 2) / features).astype(np.float32)

    def axis(size: int) -> np.ndarray:
        places = np.arange(1, size + 1, dtype=np.float32) / np.float32(size + 1e-6) * np.float32(2 * np.pi)
        angles = places[None] / rates[:, None]
        angles[0::2], angles[1::2] = np.sin(angles[0::2]), np.cos(angles[1::2])
        return angles

    rows, columns = axis(height), axis(width)
    table = np.concatenate(
        [
            np.broadcast_to(rows[:, :, None], (features, height, width)),
            np.broadcast_to(columns[:, None, :], (features, height, width)),
        ]
    )
    table.flags.writeable = False
    return table
