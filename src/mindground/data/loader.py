"""Batches for one rank: read by threads, in an order that depends on seed and epoch only.

Two ranks with 4 samples see, batch by batch, what one process with 8 sees, and any number of threads gives the same
arrays: every sample draws from its own generator, seeded by (seed, epoch, sample index).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

import cv2
import numpy as np

from mindground.data.sentences import ObjectDraw
from mindground.data.transforms.base import NothingLeft
from mindground.errors import ConfigError, DataError, MindGroundError
from mindground.structures import Batch, Example, Sample

__all__ = ["Loader", "collate", "eval_shard", "shard", "train_shard"]

# Batches under way ahead of the one in use: enough to hide a slow image, few enough for memory.
_PREFETCH = 3
# Samples that are tried in the place of one whose objects augmentation hides.
_REDRAWS = 100


def shard(order: np.ndarray, rank: int, world: int) -> np.ndarray:
    """Every `world`-th index from `rank` on, after wrapping to a multiple of `world` with the head."""
    short = -len(order) % world
    return np.resize(order, len(order) + short)[rank::world]


def eval_shard(count: int, rank: int, world: int) -> tuple[np.ndarray, int]:
    """Indices of one rank in evaluation, and how many of them are real.

    Every rank gets equally many, so that all make the same steps; what was wrapped to reach that
    stands at the end and must not be scored.

    Returns:
        (ceil(count / world),) int64 indices, and the number of leading ones that no other rank has.
    """
    return shard(np.arange(count), rank, world), len(range(rank, count, world))


def train_shard(
    count: int, rank: int, world: int, *, seed: int, epoch: int, batch_size: int, drop_last: bool = True
) -> np.ndarray:
    """Indices of one rank in one epoch, (batches * batch_size,).

    The k-th joint batch is the k-th run of `batch_size * world` indices of the epoch's permutation,
    and each rank has a contiguous part of it. Without `drop_last` the last joint batch is filled from
    the head of the permutation.
    """
    order = np.random.default_rng([seed, epoch]).permutation(count)
    joint = batch_size * world
    batches = count // joint if drop_last else -(-count // joint)
    return np.resize(order, batches * joint).reshape(batches, world, batch_size)[:, rank].reshape(-1)


def collate(examples: Sequence[Example], count: int) -> Batch:
    """Stack examples of equal array names and shapes; the first `count` are real.

    Raises:
        DataError: an array's shape differs within the batch; the message names array and sample.
    """
    arrays = {}
    for name, first in examples[0].arrays.items():
        values = [example.arrays[name] for example in examples]
        for example, value in zip(examples, values, strict=True):
            if value.shape != first.shape:
                raise DataError(
                    f"array {name!r} of sample {example.sample.sample_id!r} has shape {value.shape}, "
                    f"others in its batch have {first.shape}; transforms and targets must give fixed shapes"
                )
        arrays[name] = np.stack(values)
    return Batch(arrays, [example.sample for example in examples], [example.geometry for example in examples], count)


class Loader:
    """Batches of one rank, epoch by epoch.

    Args:
        dataset: samples.
        transform: (sample, generator) -> `Example` with arrays of fixed shape.
        batch_size: samples per batch and rank.
        training: shuffle; otherwise samples come in order, and those that only fill the shape do not
            count (`Batch.count`).
        seed: of order and augmentation.
        rank, world: which of how many processes this is.
        workers: threads; 0 works in the caller's thread.
        drop_last: leave out an incomplete joint batch; None = when training.
        variants: 0 = every epoch augments anew; K = epoch n repeats the augmentations of epoch n % K.
        encode_targets: (example, generator) -> the family's own arrays; it draws from the sample's generator.
        encode_batch: (batch, generator) -> further arrays, where a draw belongs to the whole batch.
        sentences: all = every sample is part of an epoch; one = of the samples about one object, every epoch has one
            that seed and epoch draw, the same for any number of workers and ranks.

    Raises:
        ConfigError: sizes that cannot work, or fewer samples than one joint batch.
        DataError: no samples at all.
    """

    def __init__(
        self,
        dataset: Sequence[Sample],
        transform: Callable[[Sample, np.random.Generator], Example],
        batch_size: int,
        *,
        training: bool,
        seed: int,
        rank: int = 0,
        world: int = 1,
        workers: int = 2,
        drop_last: bool | None = None,
        variants: int = 0,
        encode_targets: Callable[[Example, np.random.Generator], dict[str, np.ndarray]] | None = None,
        encode_batch: Callable[[Batch, np.random.Generator], dict[str, np.ndarray]] | None = None,
        sentences: Literal["all", "one"] = "all",
    ) -> None:
        if batch_size < 1 or workers < 0 or not 0 <= rank < world:
            raise ConfigError(
                f"batch_size={batch_size}, workers={workers}, rank={rank} of {world} cannot work; "
                "set train.batch_size to at least 1 and data.num_workers to at least 0"
            )
        if len(dataset) == 0:
            raise DataError("the data set holds no sample; check data.root and the split")
        self.dataset, self.transform, self.batch_size = dataset, transform, batch_size
        self.training, self.seed, self.rank, self.world, self.workers = training, seed, rank, world, workers
        self.drop_last = training if drop_last is None else drop_last
        self.variants, self.encode_targets, self.encode_batch = variants, encode_targets, encode_batch
        self.sentences = sentences
        self._draw = ObjectDraw(dataset) if sentences == "one" else None
        if len(self) == 0:
            raise ConfigError(
                f"{self.count} samples are fewer than one batch of {batch_size} on {world} ranks; "
                "lower train.batch_size"
            )

    @property
    def count(self) -> int:
        """Samples of an epoch over all ranks, those that fill no batch included."""
        return len(self.dataset) if self._draw is None else len(self._draw)

    def __len__(self) -> int:
        """Batches per epoch of this rank, the same on every rank."""
        joint = self.batch_size * self.world
        return self.count // joint if self.drop_last else -(-self.count // joint)

    def epoch(self, n: int, start_batch: int = 0) -> Iterator[Batch]:
        """Batches of epoch `n` from `start_batch` on. Closing the iterator stops its threads.

        Raises:
            DataError: a sample cannot be read or transformed; the message names its file.
        """
        numbered = list(enumerate(self.batches(n)))[start_batch:]
        if self.workers == 0:
            return (
                self.completed(n, number, collate([self.example(n, index) for index in indices], count))
                for number, (indices, count) in numbered
            )
        return self._threaded(n, numbered)

    def batches(self, n: int) -> list[tuple[np.ndarray, int]]:
        """(indices of the samples, how many of them are real) of every batch."""
        parts = self._places(n)
        if self._draw is None:
            return parts
        drawn = self._draw.samples(self.seed, n)
        return [(drawn[places], real) for places, real in parts]

    def _places(self, n: int) -> list[tuple[np.ndarray, int]]:
        size, total = self.batch_size, self.count
        if self.training:
            order = train_shard(
                total, self.rank, self.world, seed=self.seed, epoch=n, batch_size=size, drop_last=self.drop_last
            )
            return [(part, size) for part in order.reshape(-1, size)]
        indices, real = eval_shard(total, self.rank, self.world)
        parts = [indices[start : start + size] for start in range(0, len(indices), size)][: len(self)]
        # The last batch repeats its last sample, because compiled networks want one shape.
        filled = [np.pad(part, (0, size - len(part)), mode="edge") for part in parts]
        return [(part, min(max(real - place * size, 0), size)) for place, part in enumerate(filled)]

    def variant(self, n: int) -> int:
        """Number of the augmentations that epoch `n` uses."""
        return n % self.variants if self.variants else n

    def example(self, n: int, index: int) -> Example:
        """One sample as epoch `n` shows it. Raises DataError that names its file."""
        sample = self.dataset[int(index)]
        rng = np.random.default_rng([self.seed, self.variant(n), int(index)])
        try:
            sample, example = self._transformed(sample, rng)
            if self.encode_targets is not None:
                example.arrays.update(self.encode_targets(example, rng))
            example.masks = None  # it holds on to the whole image
            return example
        except MindGroundError:
            raise
        except Exception as error:
            raise DataError(
                f"sample {sample.sample_id!r} of {sample.image_path} cannot be prepared: "
                f"{type(error).__name__}: {error}; run tools/data_check.py"
            ) from error

    def _transformed(self, sample: Sample, rng: np.random.Generator) -> tuple[Sample, Example]:
        """A sample, or another one where augmentation hides all its objects, and its example."""
        for _ in range(_REDRAWS):
            try:
                return sample, self.transform(sample, rng)
            except NothingLeft:
                sample = self.dataset[int(rng.integers(len(self.dataset)))]
        raise DataError(
            f"augmentation hid all objects of {_REDRAWS} samples in turn, of {sample.image_path} at last; lower "
            "data.transform.jitter_max"
        )

    def completed(self, n: int, number: int, batch: Batch) -> Batch:
        """A batch with the arrays of `encode_batch`; `number` is its place in epoch `n`."""
        if self.encode_batch is not None:
            rng = np.random.default_rng([self.seed, self.variant(n), number, self.rank, 1])
            batch.arrays.update(self.encode_batch(batch, rng))
        return batch

    def _threaded(self, n: int, numbered: list[tuple[int, tuple[np.ndarray, int]]]) -> Iterator[Batch]:
        # OpenCV's own threads on top of ours, times the ranks, would fight for the same cores.
        cv2.setNumThreads(1)
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="mindground-loader")
        under_way: deque[tuple[int, list[Future[Example]], int]] = deque()
        following = iter(numbered)

        def submit() -> None:
            for number, (indices, count) in following:
                under_way.append((number, [pool.submit(self.example, n, index) for index in indices], count))
                return

        try:
            for _ in range(_PREFETCH):
                submit()
            while under_way:
                number, futures, count = under_way.popleft()
                batch = collate([future.result() for future in futures], count)
                submit()
                yield self.completed(n, number, batch)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
