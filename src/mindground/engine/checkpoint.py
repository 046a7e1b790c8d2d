"""Checkpoints that are either whole or not there, and hold all that a later process needs.

A checkpoint is a safetensors container: `model/<parameter>`, and in `last.ckpt` also `optimizer/m/...`,
`optimizer/v/...` and `ema/...`; its metadata carries the configuration, the tokeniser and the position of the run.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from mindground.config import SCHEMA
from mindground.errors import CheckpointError, MindGroundError, UnsafeFileError, WeightsError
from mindground.files.safetensors import write_safetensors_atomic
from mindground.weights.load import load_into, parameter_arrays

if TYPE_CHECKING:
    from mindground.config import Config
    from mindground.models.base import GroundingModel
    from mindground.text import Tokenizer

__all__ = [
    "SCHEMA",
    "Contents",
    "Loaded",
    "load_checkpoint",
    "read_checkpoint",
    "save_checkpoint",
    "stored_config",
    "weights_hash",
]

_LOG = logging.getLogger("mindground")
_KEY = "mindground"


@dataclass
class Contents:
    """What stands in a checkpoint file, nothing built from it yet."""

    path: Path
    config: dict[str, Any]
    tokenizer: dict[str, Any] | None
    state: dict[str, Any]
    tensors: dict[str, np.ndarray]
    schema: int = SCHEMA

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
        CheckpointError: the disk is full or fails; the earlier file is unchanged.
    """
    from mindground.config import to_dict

    tensors = {f"model/{name}": value for name, value in {**parameter_arrays(model), **(weights or {})}.items()}
    tensors.update(extra or {})
    payload = {
        "schema": SCHEMA,
        "config": to_dict(config),
        "tokenizer": tokenizer.to_payload() if tokenizer is not None else None,
        "state": dict(state),
    }
    return write_safetensors_atomic(path, tensors, {_KEY: json.dumps(payload, ensure_ascii=False)})


def read_checkpoint(path: str | Path, *, with_tensors: bool = True) -> Contents:
    """Read one of our checkpoints: whole, or its description alone.

    Raises:
        CheckpointError: no such file, truncated, not one of ours, or of a newer version.
        UnsafeFileError: a pickle that calls for code; nothing of it ran, and the message names what it calls.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; name a checkpoint such as runs/quickstart/best.ckpt")
    try:
        with safe_open(str(path), framework="np") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()} if with_tensors else {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise _refusal(path, error) from error
    if _KEY not in metadata:
        raise CheckpointError(
            f"{path} holds tensors but no configuration; convert foreign weights with tools/import_weights.py"
        )
    try:
        payload = json.loads(metadata[_KEY])
        schema, config, state = payload["schema"], payload["config"], payload["state"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: its description is damaged ({error}); take another copy") from error
    if not isinstance(schema, int) or not 1 <= schema <= SCHEMA:
        raise CheckpointError(f"{path} has format {schema!r}; this version reads 1 to {SCHEMA}: update MindGround")
    _check_description(path, config, payload.get("tokenizer"), state)
    return Contents(path, config, payload.get("tokenizer"), _upgraded_state(state, schema), tensors, schema)


# Entries of a run's position that are counted, those of older schemas among them.
_COUNTS = (
    "step",
    "epoch",
    "samples",
    "best_step",
    "evaluated_step",
    "updates",
    "samples_per_step",
    "seed",
    "rows",
    "rows_per_step",
)


def _check_description(path: Path, config: Any, tokenizer: Any, state: Any) -> None:
    """Raises CheckpointError for an entry of another type than this code writes, so that no later line stumbles."""
    tables = {"config": config, "tokenizer": tokenizer if tokenizer is not None else {}, "state": state}
    for name, value in tables.items():
        if not isinstance(value, dict):
            _damaged(path, name, value, "a table")
    for name in [name for name in _COUNTS if name in state]:
        if isinstance(state[name], bool) or not isinstance(state[name], int) or state[name] < 0:
            _damaged(path, f"state.{name}", state[name], "a number that counts")
    for name in ("best", "loss_scale"):
        value = state.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            _damaged(path, f"state.{name}", value, "a number")
    for name in ("metrics", "categories"):
        if not isinstance(state.get(name) or {}, dict):
            _damaged(path, f"state.{name}", state[name], "a table")
    for number in state.get("categories") or {}:
        if not number.removeprefix("-").isdecimal():
            _damaged(path, "state.categories", number, "a table of whole numbers and names")


def _damaged(path: Path, name: str, value: Any, wanted: str) -> NoReturn:
    raise CheckpointError(
        f"{path}: its description is damaged: {name} is {str(value)[:40]!r}, not {wanted}; take another copy"
    )


# What the position of a run was called -> what it is called now, by the schema in which that changed.
_RENAMED_STATE = {2: {"rows": "samples", "rows_per_step": "samples_per_step"}}


def _upgraded_state(state: Mapping[str, Any], schema: int) -> dict[str, Any]:
    upgraded = dict(state)
    for since, names in sorted(_RENAMED_STATE.items()):
        if schema < since:
            upgraded = {names.get(key, key): value for key, value in upgraded.items()}
    return upgraded


def _refusal(path: Path, error: Exception) -> MindGroundError:
    """Why a file that is no safetensors container is no checkpoint."""
    from mindground.files.weights import read_weights

    try:
        found = read_weights(path)
    except UnsafeFileError as unsafe:
        return unsafe
    except MindGroundError:
        return CheckpointError(
            f"{path} is truncated or not a MindGround checkpoint ({error}); take another copy, or convert foreign "
            "weights with tools/import_weights.py"
        )
    return CheckpointError(
        f"{path} is not a MindGround checkpoint but a file of weights ({found.format}); convert it with "
        "tools/import_weights.py"
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
    from mindground.models import build_model
    from mindground.text import tokenizer_from_payload

    contents = path if isinstance(path, Contents) else read_checkpoint(path)
    path = contents.path
    config = stored_config(contents)
    adjusted = adjust(config) if adjust is not None else config
    try:
        tokenizer = tokenizer_from_payload(contents.tokenizer) if contents.tokenizer is not None else None
        model = build_model(adjusted)
        weights = contents.part("model")
        load_into(model, weights, source=str(path))
    except WeightsError as error:
        changed = "" if adjusted == config else " with the overrides laid over it"
        raise CheckpointError(f"{path} does not fit the model that it describes{changed}: {error}") from error
    model.set_train(False)
    return Loaded(model, adjusted, tokenizer, contents.state, weights_hash(weights))


def stored_config(contents: Contents) -> Config:
    """The configuration that a checkpoint carries, brought up to the present keys.

    Raises:
        CheckpointError: it names keys or a family that this version does not know.
    """
    from mindground.config import from_dict

    try:
        return from_dict(contents.config, source=str(contents.path), schema=contents.schema)
    except MindGroundError as error:
        raise CheckpointError(f"{contents.path} was written by another version: {error}") from error


def weights_hash(weights: Mapping[str, np.ndarray]) -> str:
    """16 hexadecimal digits that change with any weight."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(weights[name]).tobytes())
    return digest.hexdigest()[:16]
