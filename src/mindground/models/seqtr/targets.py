"""SeqTR's own arrays of one example, and the draw that belongs to a batch; NumPy only, in the loader's threads."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mindground.models.seqtr.contours import sample_vertices
from mindground.models.seqtr.sequences import Layout, sequence_of, shuffled_points
from mindground.structures import Example, Geometry

__all__ = ["encode_sequence", "padded_size", "shuffled_batch"]

_MULTIPLE = 32


def padded_size(geometry: Geometry) -> tuple[int, int]:
    """(height, width) of the canvas down to the image's lower right corner, rounded up to multiples of 32.

    Coordinates are shares of it: two images of one canvas may have different ones.
    """
    _, _, bottom, right = geometry.visible()
    height, width = (-(-side // _MULTIPLE) * _MULTIPLE for side in (bottom, right))
    return min(height, geometry.canvas_size[0]), min(width, geometry.canvas_size[1])


def encode_sequence(example: Example, layout: Layout, by_rays: bool) -> dict[str, np.ndarray]:
    """`sequence` and `previous` (N,) int32; for contours also `mask` (1, S, S) uint8 and `has_mask` (1,) float32.

    A sample without a mask has a contour of no vertices.

    Args:
        by_rays: see `contours.sample_vertices`.
    """
    padded = padded_size(example.geometry)
    arrays: dict[str, np.ndarray] = {}
    vertices = None
    if layout.task != "box":
        height, width = example.geometry.canvas_size
        mask = np.zeros((1, height, width), np.uint8)
        if example.masks is not None:
            mask[:] = example.masks()
        vertices = sample_vertices(mask[0, : padded[0], : padded[1]], layout.rays, by_rays)
        arrays = {"mask": mask, "has_mask": np.asarray([example.masks is not None], np.float32)}
    return {**sequence_of(layout, padded, example.boxes_xyxy[0], vertices), **arrays}


def shuffled_batch(
    arrays: Mapping[str, np.ndarray], layout: Layout, fraction: float, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """`sequence` and `previous` with the vertices of some samples in another order, the same for all of them.

    Args:
        fraction: of the samples, rounded down.
    """
    sequence, previous = np.array(arrays["sequence"]), np.array(arrays["previous"])
    count = int(len(sequence) * fraction)
    if layout.task == "box" or count == 0:
        return {}
    chosen, order = rng.permutation(len(sequence))[:count], rng.permutation(layout.rays)
    for index in chosen:
        sequence[index] = shuffled_points(sequence[index], layout, order)
        first = 5 if layout.task == "multi" else 0
        previous[index, first + 1 :] = sequence[index, first:-1]
    return {"sequence": sequence, "previous": previous}
