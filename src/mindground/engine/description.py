"""What a checkpoint says about itself, read and checked before any of its tensors."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from mindground.config import SCHEMA
from mindground.errors import CheckpointError, MindGroundError, UnsafeFileError, shown

__all__ = ["KEY", "Description", "is_checkpoint", "read_description"]

# Of the entry in the container's metadata.
KEY = "mindground"
# Types of numbers that this code writes, as safetensors calls them.
_TYPES = frozenset("F64 F32 F16 I64 I32 I16 I8 U64 U32 U16 U8 BOOL".split())
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
_MOST = 1 << 62
# What the position of a run was called -> what it is called now, by the schema in which that changed.
_RENAMED_STATE = {2: {"rows": "samples", "rows_per_step": "samples_per_step"}}


@dataclass
class Description:
    """What stands in a checkpoint file beside its tensors.

    Attributes:
        config: as it was written, in keys of `schema`.
        tokenizer: payload of the vocabulary, or None.
        state: position of the run, in present names.
        shapes: of the tensors in the file.
    """

    path: Path
    config: dict[str, Any]
    tokenizer: dict[str, Any] | None
    state: dict[str, Any]
    schema: int = SCHEMA
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def part_shapes(self, prefix: str) -> dict[str, tuple[int, ...]]:
        """Shapes of the tensors whose names start with `prefix`/, the prefix taken off."""
        start = f"{prefix}/"
        return {name[len(start) :]: shape for name, shape in self.shapes.items() if name.startswith(start)}

    def numbers(self, prefix: str) -> int:
        """How many numbers these tensors hold together."""
        return sum(math.prod(shape) for shape in self.part_shapes(prefix).values())


def read_description(path: str | Path) -> Description:
    """Read what one of our checkpoints says, and the shapes of its tensors.

    Raises:
        CheckpointError: no such file, truncated, not one of ours, damaged, or of a newer version.
        UnsafeFileError: a pickle that calls for code; nothing of it ran, and the message names what it calls.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not os.path.isfile(path):  # which answers False for a name that is too long, too
        raise CheckpointError(
            f"{shown(str(path), 400)[1:-1]} does not exist; name a checkpoint such as runs/quickstart/best.ckpt"
        )
    try:
        with safe_open(str(path), framework="np") as file:
            metadata = file.metadata() or {}
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            shapes = {name: tuple(part.get_shape()) for name, part in parts.items()}
            types = {name: str(part.get_dtype()) for name, part in parts.items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise _refusal(path, error) from error
    if KEY not in metadata:
        raise CheckpointError(
            f"{path} holds tensors but no configuration; convert foreign weights with tools/import_weights.py"
        )
    for name, kind in types.items():
        if kind not in _TYPES:
            raise CheckpointError(f"{path}: tensor {shown(name)} is of type {kind}, which no checkpoint here has")
    schema, payload = _payload(path, metadata[KEY])
    tokenizer, state = payload.get("tokenizer"), payload["state"]
    _check(path, payload["config"], tokenizer, state)
    return Description(path, payload["config"], tokenizer, _upgraded_state(state, schema), schema, shapes)


def is_checkpoint(path: str | Path) -> bool:
    """Whether a file is a checkpoint of ours by its header, damaged or not; False for what cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="np") as file:
            return KEY in (file.metadata() or {})
    except (SafetensorError, OSError, ValueError):
        return False


def _payload(path: Path, text: str) -> tuple[int, dict[str, Any]]:
    """(schema, entries) of the description."""
    try:
        payload = json.loads(text)
        schema, _, _ = payload["schema"], payload["config"], payload["state"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        why = "nested too deep" if isinstance(error, RecursionError) else shown(str(error), 120)
        raise CheckpointError(f"{path}: its description is damaged ({why}); take another copy") from error
    if isinstance(schema, bool) or not isinstance(schema, int) or not 1 <= schema <= SCHEMA:
        raise CheckpointError(f"{path} has format {shown(schema)}; this version reads 1 to {SCHEMA}: update MindGround")
    return schema, payload


def _check(path: Path, config: Any, tokenizer: Any, state: Any) -> None:
    """Raises CheckpointError for an entry of another type than this code writes, so that no later line stumbles."""
    tables = {"config": config, "tokenizer": tokenizer if tokenizer is not None else {}, "state": state}
    for name, value in tables.items():
        if not isinstance(value, dict):
            _damaged(path, name, value, "a table")
    for name in [name for name in _COUNTS if name in state]:
        number = state[name]
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < _MOST:
            _damaged(path, f"state.{name}", number, "a number that counts")
    for name in ("best", "loss_scale"):
        value = state.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            _damaged(path, f"state.{name}", value, "a number")
    for name in ("metrics", "categories"):
        if not isinstance(state.get(name) or {}, dict):
            _damaged(path, f"state.{name}", state[name], "a table")
    for number in state.get("categories") or {}:
        if not number.removeprefix("-").isdecimal() or len(number) > 20:
            _damaged(path, "state.categories", number, "a table of whole numbers and names")


def _damaged(path: Path, name: str, value: Any, wanted: str) -> NoReturn:
    raise CheckpointError(
        f"{path}: its description is damaged: {name} is {shown(value)}, not {wanted}; take another copy"
    )


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
