"""Features of frozen encoders, computed once: what does not learn need not run in every epoch.

Features are found by their input's contents, so two sentences about one unaugmented picture share its features, and a
folder of them serves every later run with the same encoders (the trainings of a curriculum, for instance).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import mindspore as ms
import numpy as np

from mindground.data.loader import Loader
from mindground.engine.checkpoint import weights_hash
from mindground.engine.step import batch_tensors
from mindground.errors import CheckpointError, ConfigError
from mindground.files.atomic import atomic_file
from mindground.models.base import GroundingModel
from mindground.structures import Batch, Geometry, Sample
from mindground.weights.load import parameter_arrays

if TYPE_CHECKING:
    from mindground.config import Config

__all__ = ["CachedLoader", "DiskStore", "FeatureEncoder", "MemoryStore", "Store", "open_store"]

_LOG = logging.getLogger("mindground")


class Store(Protocol):
    """Arrays by key."""

    def __contains__(self, key: str) -> bool: ...

    def get(self, key: str) -> np.ndarray | None: ...

    def put(self, key: str, value: np.ndarray) -> None: ...


class MemoryStore:
    """Features of one process, gone with it."""

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._arrays

    def get(self, key: str) -> np.ndarray | None:
        """The array, or None."""
        return self._arrays.get(key)

    def put(self, key: str, value: np.ndarray) -> None:
        """Keep a copy of its own: a view would keep the whole batch alive."""
        self._arrays[key] = np.array(value)


class DiskStore:
    """One .npy file per array; a file is whole or not there, so ranks and runs may share a folder."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"train.feature_cache={str(folder)!r} cannot be made: {error}") from error

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npy"

    def __contains__(self, key: str) -> bool:
        return self._path(key).is_file()

    def get(self, key: str) -> np.ndarray | None:
        """The array, or None."""
        path = self._path(key)
        if not path.is_file():
            return None
        try:
            return np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{path} is damaged ({error}); remove the folder {self.folder} and run again"
            ) from error

    def put(self, key: str, value: np.ndarray) -> None:
        """Write one file. Raises WriteError."""
        with atomic_file(self._path(key)) as stream:
            np.save(stream, value, allow_pickle=False)


def open_store(config: Config, model: GroundingModel) -> Store | None:
    """What `train.feature_cache` asks for; None when it is off.

    Raises:
        ConfigError: the encoders learn, or augmentations never repeat, so that kept features would be wrong.
    """
    place = config.train.feature_cache
    if not place:
        return None
    if not model.image_names:
        raise ConfigError(
            f"train.feature_cache={place!r}: family {config.family} has no features of image or sentence alone; leave "
            "it empty"
        )
    if not model.frozen_encoders:
        raise ConfigError(
            f"train.feature_cache={place!r} needs encoders that do not learn, and parts of them do "
            "(model.train_clip=nothing freezes CLIP)"
        )
    if config.data.augment_variants < 1:
        raise ConfigError(
            f"train.feature_cache={place!r} needs augmentations that repeat; set data.augment_variants to how many "
            "different ones every sample gets, for instance 1"
        )
    if place == "memory":
        return MemoryStore()
    return DiskStore(Path(place) / _encoders_hash(config, model))


def _encoders_hash(config: Config, model: GroundingModel) -> str:
    """Changes with the encoders' weights and with anything that says how they are used."""
    weights = {n: value for n, value in parameter_arrays(model).items() if n.startswith(model.encoder_prefixes)}
    settings = f"{weights_hash(weights)} {config.family} {config.data.img_size} {asdict(config.model)}"
    return hashlib.sha256(settings.encode()).hexdigest()[:16]


class FeatureEncoder:
    """Runs the two frozen encoders on batches of a fixed size.

    Args:
        model: a family with `image_names`.
        rows: rows per call.
        graph: compile.
    """

    def __init__(self, model: GroundingModel, rows: int, *, graph: bool) -> None:
        self.model, self.rows = model, rows

        def image(*inputs: ms.Tensor) -> ms.Tensor:
            return model.encode_image(*inputs)

        def text(*inputs: ms.Tensor) -> ms.Tensor:
            return model.encode_text(*inputs)

        self._image: Callable[..., ms.Tensor] = ms.jit(image) if graph else image
        self._text: Callable[..., ms.Tensor] = ms.jit(text) if graph else text

    def _run(self, function: Any, names: Sequence[str], arrays: Sequence[Mapping[str, np.ndarray]]) -> list[np.ndarray]:
        found: list[np.ndarray] = []
        for start in range(0, len(arrays), self.rows):
            part = list(arrays[start : start + self.rows])
            padded = part + [part[-1]] * (self.rows - len(part))
            batch = Batch({name: np.stack([row[name] for row in padded]) for name in names}, [], [], len(part))
            value = function(*batch_tensors(batch, names))
            found += list(value.astype(ms.float32).asnumpy()[: len(part)])
        return found

    def images(self, arrays: Sequence[Mapping[str, np.ndarray]]) -> list[np.ndarray]:
        """Features of each image."""
        return self._run(self._image, self.model.image_names, arrays)

    def texts(self, arrays: Sequence[Mapping[str, np.ndarray]]) -> list[np.ndarray]:
        """Features of each sentence."""
        return self._run(self._text, self.model.text_names, arrays)


@dataclass
class _Row:
    """A sample as one variant shows it: keys of its features, and the arrays that are kept as they are."""

    image: str
    text: str
    arrays: dict[str, np.ndarray]
    geometry: Geometry
    sample: Sample


class CachedLoader:
    """A loader whose batches hold features; after a variant's first time no picture is read for it again.

    Args:
        loader: of the samples; its order, shards and draws are kept.
        encoder: of the frozen model.
        store: where features are kept.
    """

    def __init__(self, loader: Loader, encoder: FeatureEncoder, store: Store) -> None:
        self.loader, self.encoder, self.store = loader, encoder, store
        model = encoder.model
        self._names = (*model.joint_names, *model.target_names)
        self._rows: dict[tuple[int, int], _Row] = {}
        self._shared: dict[bytes, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.loader)

    def epoch(self, n: int, start_batch: int = 0) -> Iterator[Batch]:
        """As `Loader.epoch`, with `image_features` and `text_features` in the place of image and tokens."""
        variant = self.loader.variant(n)
        with ThreadPoolExecutor(max(1, self.loader.workers), thread_name_prefix="mindground-features") as pool:
            for indices, count in self.loader.batches(n)[start_batch:]:
                new = [int(i) for i in dict.fromkeys(indices.tolist()) if (variant, int(i)) not in self._rows]
                if new:
                    examples = list(pool.map(lambda index: self.loader.example(n, index), new))
                    for index, row in zip(new, self._encode(examples), strict=True):
                        self._rows[variant, index] = row
                yield self._batch([self._rows[variant, int(i)] for i in indices], count)

    def _encode(self, examples: Sequence[Any]) -> list[_Row]:
        model = self.encoder.model
        rows = []
        wanted: tuple[dict[str, Mapping[str, np.ndarray]], dict[str, Mapping[str, np.ndarray]]] = ({}, {})
        for example in examples:
            keys = []
            for names, found in zip((model.image_names, model.text_names), wanted, strict=True):
                key = _digest(names, example.arrays)
                if key not in found and key not in self.store:
                    found[key] = example.arrays
                keys.append(key)
            kept = {name: self._intern(example.arrays[name]) for name in self._names if name in example.arrays}
            rows.append(_Row(keys[0], keys[1], kept, example.geometry, example.sample))
        for found, encode in zip(wanted, (self.encoder.images, self.encoder.texts), strict=True):
            for key, value in zip(found, encode(list(found.values())), strict=True):
                self.store.put(key, value)
        return rows

    def _intern(self, array: np.ndarray) -> np.ndarray:
        """Equal arrays (the padding of pictures of one shape) are kept once."""
        key = hashlib.sha256(array.tobytes() + str((array.shape, array.dtype)).encode()).digest()
        return self._shared.setdefault(key, array)

    def _batch(self, rows: Sequence[_Row], count: int) -> Batch:
        arrays = {name: np.stack([row.arrays[name] for row in rows]) for name in rows[0].arrays}
        arrays["image_features"] = np.stack([self._feature(row.image) for row in rows])
        arrays["text_features"] = np.stack([self._feature(row.text) for row in rows])
        return Batch(arrays, [row.sample for row in rows], [row.geometry for row in rows], count)

    def _feature(self, key: str) -> np.ndarray:
        value = self.store.get(key)
        if value is None:
            raise CheckpointError(
                f"the kept features {key}.npy have gone from the cache during the run; start again with "
                "--train.resume=auto and leave the folder of train.feature_cache alone"
            )
        return value


def _digest(names: Sequence[str], arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in names:
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
