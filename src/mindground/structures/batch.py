"""One sample on the network's canvas, and fixed-shape batches of them, with the way back to original pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from mindground.structures.geometry import Geometry
from mindground.structures.sample import Sample

__all__ = ["Batch", "Example"]


@dataclass
class Example:
    """One sample on the canvas of S x S pixels: what a transform ends at.

    A family makes its own arrays of it (`models/<family>/targets.py`).

    Attributes:
        arrays: without a batch axis. `image` (3, S, S) float32, normalised, 0 on padding; `padding` (S, S) uint8, 1
            where the canvas shows no image; for expressions `token_ids` and `token_mask` (L,) int32.
        geometry: the way back to original pixels.
        sample: where it came from.
        boxes_xyxy: (N, 4) float32 in canvas pixels, clipped to what is seen of each object.
        labels: (N,) int64 category ids.
        masks: () -> (N, S, S) uint8, drawn only when called; None where an object has no outline.
    """

    arrays: dict[str, np.ndarray]
    geometry: Geometry
    sample: Sample
    boxes_xyxy: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    labels: np.ndarray = field(default_factory=lambda: np.zeros((0,), np.int64))
    masks: Callable[[], np.ndarray] | None = None


@dataclass
class Batch:
    """Fixed-shape arrays for the network, and what is needed to come back from them.

    Attributes:
        arrays: name -> array with the batch on its first axis. A model says in `input_names` and
            `target_names` which of them it takes.
        samples: the B samples; when `count` < B the rest repeats a sample to keep the shape.
        geometries: one for each sample.
        count: samples that are real; metrics and predictions use only these.
    """

    arrays: dict[str, np.ndarray]
    samples: list[Sample]
    geometries: list[Geometry]
    count: int

    def __len__(self) -> int:
        return self.count

    def sample_ids(self) -> list[str]:
        """Ids of the real samples, for error messages."""
        return [sample.sample_id for sample in self.samples[: self.count]]
