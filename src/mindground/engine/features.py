"""Features of frozen encoders, computed once: what does not learn need not run in every epoch.

Every encoder is kept by itself (`models.base.Encoder`): an image encoder without text, a text encoder without images,
or both. Features are found by their inputs' contents, so two sentences about one unaugmented image share its features,
and a folder of them serves every later run with the same encoder (the trainings of a curriculum, for instance).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from mindground.data.loader import Loader
from mindground.engine.checkpoint import weights_hash
from mindground.engine.forward import Runner, evaluating, to_numpy
from mindground.errors import CheckpointError, ConfigError, MindGroundError
from mindground.files.atomic import atomic_file
from mindground.files.npy import read_npz_arrays
from mindground.models.base import GroundingModel
from mindground.structures import Batch, Example
from mindground.weights.load import parameter_arrays

__all__ = [
    "DiskStore",
    "FeatureLoader",
    "FeatureStore",
    "MemoryStore",
    "encoder_hash",
    "frozen_encoders",
    "open_stores",
]


class FeatureStore(Protocol):
    """What one encoder gave, by the key of its inputs."""

    def __contains__(self, key: str) -> bool: ...

    def get(self, key: str) -> tuple[np.ndarray, ...] | None: ...

    def put(self, key: str, values: Sequence[np.ndarray]) -> None: ...


class MemoryStore:
    """Features of one process, gone with it."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[np.ndarray, ...]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._kept

    def get(self, key: str) -> tuple[np.ndarray, ...] | None:
        """The arrays, or None."""
        return self._kept.get(key)

    def put(self, key: str, values: Sequence[np.ndarray]) -> None:
        """Keep copies: a view would keep the whole batch alive."""
        self._kept[key] = tuple(np.array(value) for value in values)


class DiskStore:
    """One .npz file per input; a file is whole or not there, so ranks and runs may share a folder."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"train.feature_cache={str(folder)!r} cannot be made: {error}") from error

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npz"

    def __contains__(self, key: str) -> bool:
        return self._path(key).is_file()

    def get(self, key: str) -> tuple[np.ndarray, ...] | None:
        """The arrays, or None."""
        path = self._path(key)
        if not path.is_file():
            return None
        try:
            arrays = read_npz_arrays(path, error=CheckpointError)
            return tuple(arrays[f"arr_{number}"] for number in range(len(arrays)))
        except (MindGroundError, KeyError) as error:
            raise CheckpointError(
                f"{path} is damaged ({error}); remove the folder {self.folder} and run again"
            ) from error

    def put(self, key: str, values: Sequence[np.ndarray]) -> None:
        """Write one file. Raises WriteError."""
        with atomic_file(self._path(key)) as stream:
            np.savez(stream, *values)


def frozen_encoders(model: GroundingModel) -> tuple[str, ...]:
    """Names of the encoders behind which nothing learns."""
    return tuple(name for name in model.encoders if model.is_frozen(name))


def open_stores(
    model: GroundingModel,
    place: str,
    *,
    family: str,
    settings: Mapping[str, Any],
    variants: int,
    dtype: str,
    precision: str,
) -> dict[str, FeatureStore]:
    """A store for every frozen encoder; empty where `place` is.

    Args:
        place: "" = keep nothing, "memory", or a folder.
        family: name of the family, part of a folder's key.
        settings: the `model` section; what of it an encoder depends on is part of its folder's key.
        variants: how many different augmentations a sample has; 0 = they never repeat.
        dtype: in which features are kept, float32 or float16.
        precision: in which they are computed (`device.precision`), part of a folder's key.

    Raises:
        ConfigError: no encoder is frozen, or augmentations never repeat, so that kept features would be wrong.
    """
    if not place:
        return {}
    if not model.encoders:
        raise ConfigError(
            f"train.feature_cache={place!r}: family {family} has no features of image or sentence alone; leave it empty"
        )
    frozen = frozen_encoders(model)
    if not frozen:
        raise ConfigError(
            f"train.feature_cache={place!r} needs encoders that do not learn, and parts of all of them do "
            "(model.train_clip=nothing freezes CLIP)"
        )
    if variants < 1:
        raise ConfigError(
            f"train.feature_cache={place!r} needs augmentations that repeat; set data.augment_variants to how many "
            "different ones every sample gets, for instance 1"
        )
    if place == "memory":
        return {name: MemoryStore() for name in frozen}
    kept = dtype if precision == "float32" else f"{dtype}-{precision}"
    return {
        name: DiskStore(Path(place) / f"{family}-{name}-{encoder_hash(model, name, settings)}-{kept}")
        for name in frozen
    }


def encoder_hash(model: GroundingModel, name: str, settings: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that change with the encoder's weights and with anything that says how they are used.

    Args:
        name: of the encoder, see `GroundingModel.encoders`.
        settings: the `model` section.
    """
    prefixes = model.encoders[name].parameter_prefixes
    weights = {key: value for key, value in parameter_arrays(model).items() if key.startswith(prefixes)}
    own = json.dumps(model.encoder_settings(name, settings), sort_keys=True, default=str)
    return hashlib.sha256(f"{weights_hash(weights)} {own}".encode()).hexdigest()[:16]


@dataclass
class _Entry:
    """A sample as one variant shows it: keys of its features by encoder, and the example with the other arrays."""

    keys: dict[str, str]
    example: Example


class FeatureLoader:
    """A loader whose batches hold features; after a variant's first time no image is read for it again.

    Args:
        loader: of the samples; its order, shards and draws are kept.
        model: a family with encoders.
        stores: encoder -> where its features are kept.
        graph: compile the encoders.
        dtype: in which features are kept; batches hold float32.
    """

    def __init__(
        self,
        loader: Loader,
        model: GroundingModel,
        stores: Mapping[str, FeatureStore],
        *,
        runner: Runner,
        dtype: Literal["float32", "float16"] = "float32",
    ) -> None:
        self.loader, self.model, self.stores, self.dtype = loader, model, dict(stores), np.dtype(dtype)
        self._runner = runner
        # What only kept encoders read need not be remembered.
        read = {name for kept in stores for name in model.encoders[kept].inputs}
        self._dropped = read - {*model.names_from(tuple(stores)), *model.target_names}
        self._entries: dict[tuple[int, int], _Entry] = {}
        self._shared: dict[bytes, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.loader)

    def epoch(self, n: int, start_batch: int = 0) -> Iterator[Batch]:
        """As `Loader.epoch`, with features in the place of the inputs of kept encoders."""
        variant = self.loader.variant(n)
        with ThreadPoolExecutor(max(1, self.loader.workers), thread_name_prefix="mindground-features") as pool:
            for number, (indices, count) in list(enumerate(self.loader.batches(n)))[start_batch:]:
                new = [int(i) for i in dict.fromkeys(indices.tolist()) if (variant, int(i)) not in self._entries]
                if new:
                    examples = list(pool.map(lambda index: self.loader.example(n, index), new))
                    for index, entry in zip(new, self._encode(examples), strict=True):
                        self._entries[variant, index] = entry
                batch = self._batch([self._entries[variant, int(i)] for i in indices], count)
                yield self.loader.completed(n, number, batch)

    def _encode(self, examples: Sequence[Example]) -> list[_Entry]:
        entries = [_Entry({}, example) for example in examples]
        for name, store in self.stores.items():
            inputs = self.model.encoders[name].inputs
            wanted: dict[str, Mapping[str, np.ndarray]] = {}
            for entry in entries:
                key = _digest(inputs, entry.example.arrays)
                entry.keys[name] = key
                if key not in store:
                    wanted.setdefault(key, entry.example.arrays)
            found = self._features(name, list(wanted.values()))
            for key, values in zip(wanted, found, strict=True):
                store.put(key, values)
        for entry in entries:
            arrays = entry.example.arrays
            entry.example.arrays = {
                name: self._intern(array) for name, array in arrays.items() if name not in self._dropped
            }
        return entries

    def _features(self, name: str, arrays: Sequence[Mapping[str, np.ndarray]]) -> list[list[np.ndarray]]:
        """What an encoder gives for each of several inputs, in batches of a fixed size, in evaluation mode."""
        inputs, size = self.model.encoders[name].inputs, self.loader.batch_size
        found: list[list[np.ndarray]] = []
        for start in range(0, len(arrays), size):
            part = list(arrays[start : start + size])
            filled = part + [part[-1]] * (size - len(part))
            stacked = {key: np.stack([entry[key] for entry in filled]) for key in inputs}
            with evaluating(self.model):
                outputs = [to_numpy(value) for value in self._runner.features(name, stacked)]
            for place in range(len(part)):
                found.append([self._packed(value[place]) for value in outputs])
        return found

    def _packed(self, value: np.ndarray) -> np.ndarray:
        """Floating-point numbers in the type in which they are kept."""
        return value.astype(self.dtype) if value.dtype.kind == "f" else value

    def _intern(self, array: np.ndarray) -> np.ndarray:
        """Equal arrays (the padding of images of one shape) are kept once."""
        key = hashlib.sha256(array.tobytes() + str((array.shape, array.dtype)).encode()).digest()
        return self._shared.setdefault(key, array)

    def _batch(self, entries: Sequence[_Entry], count: int) -> Batch:
        examples = [entry.example for entry in entries]
        arrays = {name: np.stack([example.arrays[name] for example in examples]) for name in examples[0].arrays}
        for name in self.stores:
            kept = [self._kept(name, entry.keys[name]) for entry in entries]
            for place, output in enumerate(self.model.encoders[name].outputs):
                value = np.stack([values[place] for values in kept])
                arrays[output] = value.astype(np.float32) if value.dtype == np.float16 else value
        return Batch(arrays, [example.sample for example in examples], [e.geometry for e in examples], count)

    def _kept(self, name: str, key: str) -> tuple[np.ndarray, ...]:
        values = self.stores[name].get(key)
        if values is None:
            raise CheckpointError(
                f"the kept features {key} of encoder {name} have gone from the cache during the run; start again with "
                "--train.resume=auto and leave the folder of train.feature_cache alone"
            )
        return values


def _digest(names: Sequence[str], arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in names:
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
