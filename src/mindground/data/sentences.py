"""One sentence of every object: which one an epoch takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mindground.structures import Sample

__all__ = ["ObjectDraw"]

# Keeps the draws apart from those of the order and of the augmentations, which have the same seed and epoch.
_STREAM = 7


class ObjectDraw:
    """Groups of samples that ask for the same objects of an image, in the order of their first samples.

    Args:
        samples: of one split. A sample without object ids is a group of its own.
    """

    def __init__(self, samples: Sequence[Sample]) -> None:
        groups: dict[tuple[str, ...], list[int]] = {}
        for index, sample in enumerate(samples):
            objects = ("of", *sample.object_ids) if sample.object_ids else ("sample", sample.sample_id)
            groups.setdefault((sample.image_id, *objects), []).append(index)
        self._members = np.asarray([index for group in groups.values() for index in group], np.int64)
        self._sizes = np.asarray([len(group) for group in groups.values()], np.int64)
        self._starts = np.cumsum(self._sizes) - self._sizes

    def __len__(self) -> int:
        return len(self._sizes)

    def samples(self, seed: int, epoch: int) -> np.ndarray:
        """(objects,) index of one sample of every object; each has the same chance, and every epoch draws anew."""
        drawn = np.random.default_rng([seed, epoch, _STREAM]).random(len(self))
        return self._members[self._starts + np.minimum((drawn * self._sizes).astype(np.int64), self._sizes - 1)]
