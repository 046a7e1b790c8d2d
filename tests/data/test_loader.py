"""Order, shards and threads of the loader."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from mindground.data.loader import Loader, eval_shard, shard, train_shard
from mindground.errors import ConfigError, DataError, ImageError
from mindground.structures import Example, Geometry, Sample

GEOMETRY = Geometry((1, 1), (1, 1), (1, 1))


def samples(count: int) -> list[Sample]:
    return [Sample(f"{i}.png", f"s{i}", f"i{i}", "a ship", [[0, 0, 1, 1]]) for i in range(count)]


def draw(sample: Sample, rng: np.random.Generator) -> Example:
    time.sleep(float(rng.random()) * 0.002)  # threads finish out of order
    return Example({"index": np.asarray([int(sample.sample_id[1:])]), "draw": rng.random(3)}, GEOMETRY, sample)


def make(count: int, batch: int, **options: object) -> Loader:
    options = {"training": True, "seed": 3, "workers": 0, **options}
    return Loader(samples(count), draw, batch, **options)  # type-checked by use


def rows(loader: Loader, epoch: int, **options: int) -> list[np.ndarray]:
    return [b.arrays["index"][:, 0] for b in loader.epoch(epoch, **options)]


@pytest.mark.parametrize("training", [True, False])
def test_threads_change_nothing(training: bool) -> None:
    plain, threaded = (list(make(23, 4, training=training, workers=w).epoch(2)) for w in (0, 5))
    assert len(plain) == len(threaded) == (5 if training else 6)
    for a, b in zip(plain, threaded, strict=True):
        np.testing.assert_array_equal(a.arrays["draw"], b.arrays["draw"])
        assert [s.sample_id for s in a.samples] == [s.sample_id for s in b.samples] and a.count == b.count


def test_epochs_differ_and_repeat() -> None:
    loader = make(40, 8)
    first, again, second = (np.concatenate(rows(loader, n)) for n in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert sorted(first) == sorted(second) == list(range(40)) and (first != second).any()
    draws = [next(loader.epoch(n)).arrays["draw"] for n in (0, 1)]
    assert (draws[0] != draws[1]).all()
    assert (np.concatenate(rows(make(40, 8, seed=4), 0)) != first).any()


def test_start_in_the_middle() -> None:
    whole = list(make(30, 4).epoch(1))
    rest = list(make(30, 4, workers=2).epoch(1, start_batch=3))
    assert len(rest) == len(whole) - 3
    for a, b in zip(whole[3:], rest, strict=True):
        np.testing.assert_array_equal(a.arrays["draw"], b.arrays["draw"])
    assert list(make(30, 4).epoch(1, start_batch=7)) == []


@pytest.mark.parametrize(("world", "count", "drop"), [(2, 37, True), (4, 50, True), (3, 20, False)])
def test_ranks_share_the_joint_batches_of_one_process(world: int, count: int, drop: bool) -> None:
    one = list(make(count, 4 * world, drop_last=drop).epoch(1))
    ranks = [list(make(count, 4, rank=r, world=world, drop_last=drop).epoch(1)) for r in range(world)]
    assert len({len(part) for part in ranks}) == 1 and len(ranks[0]) == len(one)
    for k, joint in enumerate(one):
        together = np.concatenate([part[k].arrays["draw"] for part in ranks])
        np.testing.assert_array_equal(together, joint.arrays["draw"])


@pytest.mark.parametrize(("count", "world", "batch"), [(10, 4, 2), (5, 4, 1), (7, 3, 4), (1, 4, 2), (8, 1, 3)])
def test_evaluation_scores_every_sample_once(count: int, world: int, batch: int) -> None:
    loaders = [make(count, batch, training=False, rank=r, world=world) for r in range(world)]
    scored: list[str] = []
    steps = set()
    for loader in loaders:
        batches = list(loader.epoch(0))
        steps.add(len(batches))
        assert len(batches) == len(loader)
        assert all(len(b.samples) == batch == len(b.arrays["index"]) for b in batches)
        scored += [name for b in batches for name in b.sample_ids()]
    assert steps == {len(loaders[0])} and sorted(scored) == sorted(s.sample_id for s in samples(count))


def test_shards() -> None:
    np.testing.assert_array_equal(shard(np.arange(10), 3, 4), [3, 7, 1])
    indices, real = eval_shard(10, 3, 4)
    assert indices.tolist() == [3, 7, 1] and real == 2
    assert len(train_shard(10, 0, 2, seed=0, epoch=0, batch_size=2)) == 4
    assert len(train_shard(10, 0, 2, seed=0, epoch=0, batch_size=2, drop_last=False)) == 6


@pytest.mark.parametrize("workers", [0, 2])
def test_errors_name_the_file_and_leave_no_thread(workers: int) -> None:
    def broken(sample: Sample, rng: np.random.Generator) -> Example:
        if sample.sample_id == "s9":
            raise KeyError("polygon")
        return draw(sample, rng)

    loader = Loader(samples(16), broken, 2, training=False, seed=0, workers=workers)
    with pytest.raises(DataError, match=r"9\.png.*KeyError.*polygon"):
        list(loader.epoch(0))
    assert not _loader_threads()


def test_errors_of_our_own_pass_unchanged() -> None:
    def broken(sample: Sample, rng: np.random.Generator) -> Example:
        raise ImageError(f"{sample.image_path} is empty")

    with pytest.raises(ImageError, match="0.png is empty"):
        list(Loader(samples(4), broken, 2, training=False, seed=0).epoch(0))


def test_closing_early_stops_the_threads() -> None:
    batches = make(400, 4, workers=3).epoch(0)
    next(batches)
    assert _loader_threads()
    batches.close()
    assert not _loader_threads()


def test_shapes_must_agree() -> None:
    def uneven(sample: Sample, rng: np.random.Generator) -> Example:
        return Example({"image": np.zeros(int(sample.sample_id[1:]) + 1)}, GEOMETRY, sample)

    with pytest.raises(DataError, match="'image' of sample 's1'"):
        next(Loader(samples(4), uneven, 2, training=False, seed=0, workers=0).epoch(0))


def test_impossible_sizes() -> None:
    with pytest.raises(ConfigError, match="train.batch_size"):
        make(7, 4, world=2)
    with pytest.raises(DataError, match="no sample"):
        make(0, 4)
    with pytest.raises(ConfigError):
        make(7, 4, rank=2, world=2)


def _loader_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("mindground-loader")]


def _told(sizes: list[int]) -> list[Sample]:
    """Objects with so many sentences each; their sentences are scattered over the split."""
    pairs = [(turn, obj) for turn in range(max(sizes)) for obj in range(len(sizes)) if turn < sizes[obj]]
    return [
        Sample(f"{obj}.png", f"s{place}", f"i{obj // 2}", "a ship", [[0, 0, 1, 1]], object_ids=(f"o{obj}",))
        for place, (_, obj) in enumerate(pairs)
    ]


def _objects(loader: Loader, epoch: int, **options: int) -> list[tuple[str, str]]:
    batches = loader.epoch(epoch, **options)
    return [(s.object_ids[0], s.sample_id) for b in batches for s in b.samples[: b.count]]


def test_one_sentence_of_every_object() -> None:
    told = _told([1, 2, 3, 4, 1, 2])
    loader = Loader(told, draw, 2, training=True, seed=3, workers=0, sentences="one")
    assert loader.count == 6 and len(loader) == 3
    seen: dict[str, list[str]] = {}
    for epoch in range(400):
        found = _objects(loader, epoch)
        assert sorted(name for name, _ in found) == [f"o{number}" for number in range(6)]
        for name, sample in found:
            seen.setdefault(name, []).append(sample)
    for number, size in enumerate([1, 2, 3, 4, 1, 2]):
        counts = np.asarray(list({s: seen[f"o{number}"].count(s) for s in seen[f"o{number}"]}.values()))
        # 400 draws: a share further than 5 standard deviations from 1 / size is no uniform draw.
        assert len(counts) == size and np.all(np.abs(counts - 400 / size) <= 5 * np.sqrt(400 / size) + 1)


@pytest.mark.parametrize("training", [True, False])
def test_the_draw_depends_on_neither_workers_nor_ranks_nor_the_start(training: bool) -> None:
    told = _told([1, 2, 3, 4, 1, 2, 5, 3])

    def make_one(**options: int) -> Loader:
        return Loader(
            told, draw, training=training, seed=3, sentences="one", **{"batch_size": 4, "workers": 0, **options}
        )

    whole = _objects(make_one(), 2)
    assert len(whole) == 8 and _objects(make_one(workers=3), 2) == whole and _objects(make_one(), 3) != whole
    assert _objects(make_one(), 2, start_batch=1) == whole[4:]
    halves = [_objects(make_one(batch_size=2, rank=rank, world=2), 2) for rank in (0, 1)]
    assert sorted(halves[0] + halves[1]) == sorted(whole)


def test_sentences_of_one_each_change_nothing() -> None:
    options = {"training": True, "seed": 3, "workers": 0}
    plain, drawn = (list(Loader(samples(12), draw, 4, sentences=s, **options).epoch(1)) for s in ("all", "one"))
    for a, b in zip(plain, drawn, strict=True):
        np.testing.assert_array_equal(a.arrays["draw"], b.arrays["draw"])
