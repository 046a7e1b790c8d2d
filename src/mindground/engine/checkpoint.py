"""Checkpoints that are either whole or not there, and hold all that a later process needs.

A checkpoint is a safetensors container: `model/<parameter>`, and in `last.ckpt` also `optimizer/m/...`,
`optimizer/v/...` and `ema/...`; its metadata carries the configuration, the tokeniser and the position of the run.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mindground.config import SCHEMA
from mindground.engine.description import KEY, Description, read_description
from mindground.errors import (
    CheckpointError,
    ConfigError,
    MindGroundError,
    NonFiniteWeightsError,
    WeightsError,
    shown,
)
from mindground.files.safetensors import write_safetensors_atomic
from mindground.nn.init import at_most
from mindground.weights.load import load_into, parameter_arrays, parameter_shapes
from mindground.weights.words import table_rows

if TYPE_CHECKING:
    from mindground.config import Config
    from mindground.models.base import GroundingModel
    from mindground.text import Tokenizer

__all__ = [
    "SCHEMA",
    "Contents",
    "Description",
    "Loaded",
    "check_finite",
    "check_vocabulary",
    "load_checkpoint",
    "read_checkpoint",
    "read_description",
    "save_checkpoint",
    "stored_config",
    "weights_hash",
]

_LOG = logging.getLogger("mindground")


@dataclass
class Contents(Description):
    """A checkpoint file read whole, nothing built from it yet."""

    tensors: dict[str, np.ndarray] = field(default_factory=dict)

    def part(self, prefix: str) -> dict[str, np.ndarray]:
        """Tensors whose names start with `prefix`/, the prefix taken off."""
        start = f"{prefix}/"
        return {name[len(start) :]: value for name, value in self.tensors.items() if name.startswith(start)}


@dataclass
class Loaded:
    """A checkpoint ready for use.

    Attributes:
        model: with the weights, in evaluation mode.
        config: as it was resolved for training.
        tokenizer: the one that the model was trained with.
        state: `step`, `epoch`, `metrics` and the like.
        hash: first 16 digits of the SHA-256 of the weights.
    """

    model: GroundingModel
    config: Config
    tokenizer: Tokenizer | None
    state: dict[str, Any] = field(default_factory=dict)
    hash: str = ""

    @property
    def categories(self) -> dict[int, str]:
        """Id -> name of the classes that the model was trained on; empty where there were none."""
        return {int(number): str(name) for number, name in dict(self.state.get("categories") or {}).items()}


def save_checkpoint(
    path: str | Path,
    model: GroundingModel,
    config: Config,
    tokenizer: Tokenizer | None,
    state: Mapping[str, Any],
    *,
    extra: Mapping[str, np.ndarray] | None = None,
    weights: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Write a checkpoint; a kill at any moment leaves the one that was there before.

    Args:
        path: destination, replaced at the end in one move.
        model: its parameters and buffers are stored.
        config: resolved configuration.
        tokenizer: stored with its whole vocabulary.
        state: JSON-able position and results of the run.
        extra: further tensors by full name (optimiser moments, averages).
        weights: values that replace the model's own, by parameter name (averaged weights).

    Raises:
        WriteError: the disk is full or fails; the earlier file is unchanged.
        NonFiniteWeightsError: a tensor holds NaN or an infinity; the earlier file is unchanged.
    """
    from mindground.config import to_dict

    tensors = {f"model/{name}": value for name, value in {**parameter_arrays(model), **(weights or {})}.items()}
    tensors.update(extra or {})
    _check_finite(Path(path), tensors)
    payload = {
        "schema": SCHEMA,
        "config": to_dict(config),
        "tokenizer": tokenizer.to_payload() if tokenizer is not None else None,
        "state": dict(state),
    }
    return write_safetensors_atomic(path, tensors, {KEY: json.dumps(payload, ensure_ascii=False)})


def _check_finite(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    # The sum of float32 numbers as float64 cannot overflow, and one NaN or infinity is not lost in it.
    with np.errstate(invalid="ignore"):
        sums = {name: value.sum(dtype=np.float64) for name, value in tensors.items() if value.dtype.kind == "f"}
    broken = [name for name, value in sums.items() if not math.isfinite(value)]
    if broken:
        kept = "; the one that was there before is unchanged" if path.exists() else ""
        raise NonFiniteWeightsError(
            f"{path} was not written{kept}: {len(broken)} of {len(tensors)} tensors hold numbers that are not finite "
            f"({broken[0]} is the first). In a training the learning rate is too high: lower train.lr or set "
            "train.clip_max_norm, and start anew or from the checkpoint before"
        )


def read_checkpoint(path: str | Path) -> Contents:
    """Read one of our checkpoints whole; `read_description` reads its description alone.

    Raises:
        CheckpointError: no such file, truncated, not one of ours, damaged, or of a newer version.
        UnsafeFileError: a pickle that calls for code; nothing of it ran, and the message names what it calls.
    """
    from safetensors import SafetensorError, safe_open

    said = read_description(path)
    try:
        with safe_open(str(said.path), framework="np") as file:
            tensors = {name: file.get_tensor(name) for name in said.shapes}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{said.path} changed while it was read ({error}); read it again") from error
    return Contents(**vars(said), tensors=tensors)


def check_finite(contents: Contents) -> None:
    """Raises CheckpointError that names the first weight of a model that is NaN or infinite."""
    for name, array in contents.part("model").items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            count = int(array.size - np.isfinite(array).sum())
            raise CheckpointError(
                f"{contents.path}: {count} of the {array.size} numbers of {shown(name, 160)} are NaN or infinite, so "
                "the network gives no answers: its training failed. Take a checkpoint of before that, or train again "
                "with a lower train.lr"
            )


def load_checkpoint(path: str | Path | Contents, adjust: Callable[[Config], Config] | None = None) -> Loaded:
    """Model, configuration and tokeniser of a checkpoint; the device must have been chosen before.

    Args:
        path: the file, or what `read_checkpoint` made of it.
        adjust: lays overrides over the stored configuration before the network is built, so that they act.

    Raises:
        CheckpointError: the file is damaged, foreign, or does not fit the model that it describes.
        ConfigError: an override that cannot work with this checkpoint.
    """
    from mindground.engine.vocabulary import vocabulary_of
    from mindground.models import build_model

    contents = path if isinstance(path, Contents) else read_checkpoint(path)
    path = contents.path
    config = stored_config(contents)
    adjusted = adjust(config) if adjust is not None else config
    changed = "" if adjusted == config else " with the overrides laid over it"
    check_finite(contents)
    try:
        tokenizer = vocabulary_of(contents)
        # Parameters may be drawn twice, and small ones are not all in the file.
        with at_most(3 * contents.numbers("model") + 1_000_000):
            model = build_model(adjusted)
        weights = contents.part("model")
        load_into(model, weights, source=str(path))
        check_vocabulary(tokenizer, parameter_shapes(model), str(path))
    except WeightsError as error:
        raise CheckpointError(f"{path} does not fit the model that it describes{changed}: {error}") from error
    except _UNBUILDABLE as error:
        if isinstance(error, MindGroundError) and (changed or not isinstance(error, ConfigError)):
            raise
        raise CheckpointError(f"{path} describes a network that cannot be built{changed}: {error}") from error
    model.set_train(False)
    return Loaded(model, adjusted, tokenizer, contents.state, weights_hash(weights))


# What builders raise for sizes that do not go together.
_UNBUILDABLE = (MindGroundError, ValueError, ArithmeticError, IndexError, MemoryError)


def check_vocabulary(
    tokenizer: Tokenizer | None,
    shapes: Mapping[str, Sequence[int]],
    source: str,
    error: type[MindGroundError] = CheckpointError,
) -> None:
    """Refuses ids for which the word table has no rows, before a network sees them.

    Args:
        tokenizer: of the network, or None.
        shapes: of its parameters, by name.
        source: what brings the two together, for messages.
        error: what is raised.

    Raises:
        MindGroundError: the vocabulary has more entries than the table rows; the first without one is named.
    """
    rows = table_rows(shapes)
    if tokenizer is not None and rows and tokenizer.vocab_size > rows:
        entries = getattr(tokenizer, "tokens", ())
        first = f" (the first without a row is {shown(entries[rows])})" if rows < len(entries) else ""
        raise error(
            f"{source}: the vocabulary has {tokenizer.vocab_size} entries and the word table {rows} rows{first}; they "
            "belong to different models, take the vocabulary that the network was trained with"
        )


def stored_config(contents: Description) -> Config:
    """The configuration that a checkpoint carries, brought up to the present keys.

    Raises:
        CheckpointError: it names keys or a family that this version does not know.
    """
    from mindground.config import from_dict

    try:
        return from_dict(contents.config, source=str(contents.path), schema=contents.schema)
    except MindGroundError as error:
        raise CheckpointError(f"{contents.path} was written by another version: {error}") from error
    except (AttributeError, TypeError, ValueError, LookupError, ArithmeticError, RecursionError) as error:
        # Values of strangers under keys of ours: whatever a section stumbles over is told as damage.
        raise CheckpointError(
            f"{contents.path}: its configuration is damaged ({shown(str(error))}); take another copy"
        ) from error


def weights_hash(weights: Mapping[str, np.ndarray]) -> str:
    """16 hexadecimal digits that change with any weight."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(weights[name]).tobytes())
    return digest.hexdigest()[:16]
