"""The list of samples that every format yields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import overload

from mindground.errors import DataError
from mindground.structures import Sample

__all__ = ["KINDS", "Dataset"]

KINDS = ("referring", "instances")


@dataclass
class Dataset(Sequence[Sample]):
    """Samples of one split, in a fixed order.

    Attributes:
        samples: one per question; several may share an image or an object.
        categories: category id -> name, empty when the format has none.
        name: the data set, for messages and result files.
        split: the split that was asked for.
        fingerprint: hexadecimal digits that change when the same numbers would mean other samples (another list of
            files behind a split given by numbers); empty where a split names its samples by itself.
        kind: what the samples ask, as their format says: `referring` (one sentence a sample) or `instances` (every
            object of an image, no sentence).

    Raises:
        DataError: an unknown kind, or a sample of the other one.
    """

    samples: list[Sample]
    categories: Mapping[int, str] = field(default_factory=dict)
    name: str = ""
    split: str = ""
    fingerprint: str = ""
    kind: str = "referring"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise DataError(f"{self.name or 'a data set'} is of kind {self.kind!r}; choose one of {', '.join(KINDS)}")
        for sample in self.samples:
            if (sample.expression is not None) != (self.kind == "referring"):
                has = "no sentence" if sample.expression is None else f"the sentence {sample.expression!r}"
                raise DataError(
                    f"split {self.split!r} of {self.name or 'a data set'} is of kind {self.kind}, and its sample "
                    f"{sample.sample_id!r} has {has}; give the set its kind, or leave the sample out"
                )

    def __len__(self) -> int:
        return len(self.samples)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        return self.samples[index]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def require_referents(self) -> None:
        """Complain about the first sentence without a box: before a training, not at its first evaluation.

        Raises:
            DataError: with the sample's id; sets without sentences have nothing to complain about.
        """
        for sample in self.samples:
            if sample.expression is not None and len(sample.segmentations) == 0:  # as many as boxes, never read
                raise DataError(
                    f"split {self.split!r} of {self.name or 'a data set'}: sample {sample.sample_id!r} "
                    f"({sample.image_path}) has a sentence and no box; run tools/data_check.py"
                )

    def sentences(self) -> list[str]:
        """Every expression in order; instance samples have none and are left out."""
        return [sample.expression for sample in self.samples if sample.expression is not None]
