"""From the object in a file to a flat dictionary of tensors and to metadata."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mindground.errors import WeightsError
from mindground.files._globals import Global, Instance, NumpyArray
from mindground.files._tensors import Budget, StorageRef, TensorRef, as_array

__all__ = ["unpack"]

_WRAPPERS = ("model", "state_dict", "model_state_dict", "model_state", "net", "module", "weights", "blobs")
# State dicts that some programs keep beside that of the network; their tensors come under this name.
_BESIDE = ("bert_model",)
_DATA_PARALLEL = "module."
_MODULE_STATE = ("training", "_is_full_backward_hook")
_MOST_NODES = 2_000_000
_DEEPEST = 64


def unpack(
    top: Any, path: Path, budget: Budget, *, scripted: bool = False
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Tensors of a state dict, unwrapped from `{"model": ...}` and similar, and the rest as plain metadata.

    A second state dict beside it (`bert_model` of LAVT) is read as a part of the network of that name. Other tensors
    (optimiser moments) are not read; the metadata count them under `left_out`.

    Raises:
        WeightsError: no tensors anywhere, or the object is not a dictionary.
    """
    if scripted:
        refs, rest = _flatten(top, path)
        if not refs:
            raise WeightsError(
                f"{path}: a TorchScript archive without parameters; give the file that holds the weights"
            )
        rest = {name: value for name, value in rest.items() if name.rsplit(".", 1)[-1] not in _MODULE_STATE}
        return _read(refs, path, budget), {"attributes": _describe(rest)} if rest else {}
    if not isinstance(top, dict):
        what = top.name if isinstance(top, Instance) else type(top).__name__
        raise WeightsError(f"{path}: holds {what}, not a dictionary of tensors; save the state_dict() of the model")
    metadata: dict[str, Any] = {}
    state: Any = top
    wrapped_by: list[str] = []
    beside: dict[str, Any] = {}
    while isinstance(state, dict):
        inner = _wrapper(state)
        if inner is None:
            break
        wrapped_by.append(inner)
        beside.update({key: state[key] for key in _BESIDE if key in state and _is_state_dict(state[key])})
        metadata.update(_describe({key: value for key, value in state.items() if key != inner and key not in beside}))
        state = state[inner]
    refs, rest = _flatten(state, path)
    if not refs:
        keys = ", ".join(str(key)[:40] for key in list(top)[:10])
        raise WeightsError(f"{path}: no tensors found (keys: {keys or 'none'}); give the file that holds the weights")
    for name, second in beside.items():
        found, _ = _flatten(second, path)
        refs.update(_as_part(name, found, refs))
    metadata.update(_describe(rest))
    if wrapped_by:
        metadata["unwrapped"] = ".".join(wrapped_by)
    return _read(refs, path, budget), metadata


def _is_tensor(value: Any) -> bool:
    return isinstance(value, (TensorRef, NumpyArray))


def _wrapper(state: dict[Any, Any]) -> str | None:
    """The key of the actual state dict; None where the tensors are at this level.

    State dicts are flat, so a dictionary called `model` is one, even next to a single tensor such as an accuracy.
    """
    for key in _WRAPPERS:
        value = state.get(key)
        if isinstance(value, dict) and _holds_tensors(value):
            return key
    return None


def _holds_tensors(value: Any, depth: int = 0) -> bool:
    if _is_tensor(value):
        return True
    if isinstance(value, dict) and depth < 4:
        return any(_holds_tensors(item, depth + 1) for item in value.values())
    return False


def _is_state_dict(value: Any) -> bool:
    return isinstance(value, dict) and _holds_tensors(value)


def _as_part(name: str, second: Mapping[str, Any], whole: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors of a second state dict as those of a part of the first one, under the first one's wrapper.

    Wrappers of data-parallel training stand in one of the two, in both or in neither.
    """
    if all(key.startswith(_DATA_PARALLEL) for key in second):
        second = {key[len(_DATA_PARALLEL) :]: value for key, value in second.items()}
    wrapper = _DATA_PARALLEL if all(key.startswith(_DATA_PARALLEL) for key in whole) else ""
    return {f"{wrapper}{name}.{key}": value for key, value in second.items()}


def _flatten(top: Any, path: Path) -> tuple[dict[str, TensorRef | NumpyArray], dict[str, Any]]:
    """Tensors by dotted name, and the other values by dotted name."""
    refs: dict[str, TensorRef | NumpyArray] = {}
    rest: dict[str, Any] = {}
    nodes = 0

    def visit(prefix: str, value: Any, depth: int) -> None:
        nonlocal nodes
        nodes += 1
        if nodes > _MOST_NODES or depth > _DEEPEST:
            raise WeightsError(f"{path}: nested too deeply or too often to be a file of weights")
        if _is_tensor(value):
            if prefix in refs:
                raise WeightsError(f"{path}: two tensors are called {prefix!r}")
            refs[prefix] = value
        elif isinstance(value, dict) or (isinstance(value, Instance) and isinstance(value.state, dict)):
            inner = value if isinstance(value, dict) else value.state
            for key, item in inner.items():
                visit(f"{prefix}.{key}" if prefix else str(key), item, depth + 1)
        elif prefix:
            rest[prefix] = value

    visit("", top, 0)
    return refs, rest


def _read(refs: Mapping[str, TensorRef | NumpyArray], path: Path, budget: Budget) -> dict[str, np.ndarray]:
    tensors: dict[str, np.ndarray] = {}
    for name, ref in refs.items():
        if isinstance(ref, NumpyArray):
            if ref.value is None:
                raise WeightsError(f"{path}: array {name!r} has no data; the file is damaged")
            tensors[name] = ref.value
        else:
            tensors[name] = as_array(name, ref, budget)
    return tensors


def _describe(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Metadata as plain Python values; tensors are counted, not kept."""
    left_out: dict[str, int] = {}
    budget = [20_000]
    described: dict[str, Any] = {}
    for key, value in values.items():
        before = _count(value, 0, [200_000])
        if before and not isinstance(value, (int, float, str)):
            left_out[str(key)] = before
        else:
            described[str(key)] = _plain(value, budget, 0)
    if left_out:
        described["left_out"] = {key: f"{count} tensors" for key, count in left_out.items()}
    return described


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    if isinstance(value, Instance):
        return [*value.args, value.state, *value.items, *value.mapping.values()]
    return []


def _count(value: Any, depth: int, budget: list[int]) -> int:
    budget[0] -= 1
    if budget[0] < 0 or depth > _DEEPEST:
        return 0
    if _is_tensor(value):
        return 1
    return sum(_count(item, depth + 1, budget) for item in _children(value))


def _plain(value: Any, budget: list[int], depth: int) -> Any:
    budget[0] -= 1
    if budget[0] < 0 or depth > _DEEPEST:
        return "..."
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(item, budget, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item, budget, depth + 1) for item in value]
    if isinstance(value, Instance):
        inner = value.state if value.state is not None else (value.mapping or value.items or value.args)
        return _plain(inner, budget, depth + 1)
    if isinstance(value, Global):
        return value.full
    if isinstance(value, (TensorRef, StorageRef, NumpyArray)):
        return "<tensor>"
    return str(value)
