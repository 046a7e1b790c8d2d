"""Fixed-shape arrays for a network, with the way back to original pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mindground.structures.geometry import Geometry
from mindground.structures.sample import Sample

__all__ = ["Batch"]


@dataclass
class Batch:
    """Fixed-shape arrays for the network, and what is needed to come back from them.

    Attributes:
        arrays: name -> array with the batch on its first axis. A model says in `input_names` and
            `target_names` which of them it takes.
        samples: the B samples; when `count` < B the rest repeats a sample to keep the shape.
        geometries: one per row.
        count: rows that are real; metrics and predictions use only these.
    """

    arrays: dict[str, np.ndarray]
    samples: list[Sample]
    geometries: list[Geometry]
    count: int

    def __len__(self) -> int:
        return self.count

    def sample_ids(self) -> list[str]:
        """Ids of the real rows, for error messages."""
        return [sample.sample_id for sample in self.samples[: self.count]]
