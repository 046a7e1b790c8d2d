"""From the object in a file to a flat dictionary of tensors and to metadata."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from mindground.errors import WeightsError, shown
from mindground.files._budget import Budget
from mindground.files._globals import Global, Instance, NumpyArray
from mindground.files._tensors import StorageRef, TensorRef, as_array

__all__ = ["is_average", "unpack"]

_WRAPPERS = tuple("model state_dict model_state_dict model_state net network module weights blobs params".split())
_AVERAGES = tuple("model_ema ema_state_dict state_dict_ema model_ema_state_dict ema_model ema params_ema".split())
# State dicts that some programs keep beside that of the network; their tensors come under this name.
_BESIDE = ("bert_model",)
_DATA_PARALLEL = "module."
_MODULE_STATE = ("training", "_is_full_backward_hook")
_MOST_NODES = 200_000
_MOST_DESCRIBED = 20_000
_DEEPEST = 64
_MOST_WRAPPERS = 8
_LONGEST_NAME = 4096


def unpack(
    top: Any, path: Path, budget: Budget, *, scripted: bool = False, averages: bool = False
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Tensors of a state dict, unwrapped from `{"model": ...}` and similar, and the rest as plain metadata.

    Where a file holds weights and their averages, the weights are read, or with `averages` these. A second state dict
    beside it (`bert_model` of LAVT) is read as a part of the network of that name. Other tensors (optimiser moments)
    are not read; the metadata count them under `left_out`.

    Raises:
        WeightsError: no tensors anywhere, or the object is not a dictionary.
    """
    if scripted:
        refs, rest = _flatten(top, path, budget)
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
        inner = _wrapper(state, averages)
        if inner is None:
            break
        if len(wrapped_by) == _MOST_WRAPPERS:
            raise WeightsError(
                f"{path}: {'.'.join(wrapped_by)} is wrapped more than {_MOST_WRAPPERS} times, or holds itself; it is "
                "damaged or hostile, do not use it"
            )
        wrapped_by.append(inner)
        beside.update({key: state[key] for key in _BESIDE if key in state and _is_state_dict(state[key])})
        metadata.update(_describe({key: value for key, value in state.items() if key != inner and key not in beside}))
        state = state[inner]
    refs, rest = _flatten(state, path, budget)
    if not refs:
        keys = ", ".join(_text(key, 40) for key in islice(top, 10))
        raise WeightsError(f"{path}: no tensors found (keys: {keys or 'none'}); give the file that holds the weights")
    for name, second in beside.items():
        part = _as_part(name, _flatten(second, path, budget)[0], refs)
        twice = next((key for key in part if key in refs), None)
        if twice is not None:
            raise WeightsError(f"{path}: two tensors are called {shown(twice)}")
        refs.update(part)
    metadata.update(_describe(rest))
    if wrapped_by:
        metadata["unwrapped"] = ".".join(wrapped_by)
    return _read(refs, path, budget), metadata


def _is_tensor(value: Any) -> bool:
    return isinstance(value, (TensorRef, NumpyArray))


def is_average(unwrapped: str) -> bool:
    """Whether tensors that were found under these keys are averages."""
    return any(part in _AVERAGES for part in unwrapped.split("."))


def _wrapper(state: dict[Any, Any], averages: bool) -> str | None:
    """The key of the actual state dict; None where the tensors are at this level.

    State dicts are flat, so a dictionary called `model` is one, even next to a single tensor such as an accuracy.
    """
    for key in (*_AVERAGES, *_WRAPPERS) if averages else (*_WRAPPERS, *_AVERAGES):
        value = state.get(key)
        if isinstance(value, dict) and _holds_tensors(value):
            return key
    return None


def _holds_tensors(top: dict[Any, Any]) -> bool:
    """Whether a dictionary holds a tensor, at most four dictionaries down; shared ones are visited once."""
    level: list[dict[Any, Any]] = [top]
    seen = {id(top)}
    for _ in range(5):
        below: list[dict[Any, Any]] = []
        for value in (item for held in level for item in held.values()):
            if _is_tensor(value):
                return True
            if isinstance(value, dict) and id(value) not in seen:
                seen.add(id(value))
                below.append(value)
        level = below
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


def _text(key: Any, characters: int = 80) -> str:
    """A key as part of a name or a message; only text may be long."""
    if type(key) is str:
        return key if len(key) <= characters else shown(key, characters)
    return key.full if isinstance(key, Global) else shown(key, characters)


def _flatten(top: Any, path: Path, budget: Budget) -> tuple[dict[str, TensorRef | NumpyArray], dict[str, Any]]:
    """Tensors by dotted name, and the other values by dotted name."""
    refs: dict[str, TensorRef | NumpyArray] = {}
    rest: dict[str, Any] = {}
    nodes = 0

    def visit(prefix: str, value: Any, depth: int) -> None:
        nonlocal nodes
        nodes += 1
        if nodes > _MOST_NODES or depth > _DEEPEST:
            raise WeightsError(f"{path}: nested too deeply or too often to be a file of weights")
        if len(prefix) > _LONGEST_NAME:
            raise WeightsError(
                f"{path}: the name {shown(prefix)} has {len(prefix)} characters; at most {_LONGEST_NAME} are read"
            )
        budget.spend(len(prefix), "the sum of its names")
        if _is_tensor(value):
            if prefix in refs:
                raise WeightsError(f"{path}: two tensors are called {shown(prefix)}")
            refs[prefix] = value
        elif isinstance(value, dict) or (isinstance(value, Instance) and isinstance(value.state, dict)):
            inner = value if isinstance(value, dict) else value.state
            for key, item in inner.items():
                name = _text(key, _LONGEST_NAME)
                visit(f"{prefix}.{name}" if prefix else name, item, depth + 1)
        elif prefix:
            rest[prefix] = value

    visit("", top, 0)
    return refs, rest


def _read(refs: Mapping[str, TensorRef | NumpyArray], path: Path, budget: Budget) -> dict[str, np.ndarray]:
    tensors: dict[str, np.ndarray] = {}
    for name, ref in refs.items():
        if isinstance(ref, NumpyArray):
            if ref.value is None:
                raise WeightsError(f"{path}: array {shown(name)} has no data; the file is damaged")
            tensors[name] = ref.value
        else:
            tensors[name] = as_array(name, ref, budget)
    return tensors


def _describe(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Metadata as plain Python values; tensors are counted, not kept."""
    left_out: dict[str, int] = {}
    described_values = _Described()
    described: dict[str, Any] = {}
    known: dict[int, int] = {}
    for key, value in values.items():
        before = _count(value, 0, known)
        if before and not isinstance(value, (int, float, str)):
            left_out[_text(key)] = before
        else:
            described[_text(key)] = described_values.plain(value, 0)
    if left_out:
        described["left_out"] = {key: f"{count} tensors" for key, count in left_out.items()}
    return described


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, (list, tuple, set, frozenset)):
        return value
    if isinstance(value, Instance):
        return (value.args, value.state, value.items, value.mapping)
    return ()


def _count(value: Any, depth: int, known: dict[int, int]) -> int:
    """Tensors inside a value; what is inside a shared or self-referring container is visited once."""
    if _is_tensor(value):
        return 1
    if depth > _DEEPEST or not isinstance(value, (dict, list, tuple, set, frozenset, Instance)):
        return 0
    if id(value) not in known:
        known[id(value)] = 0
        known[id(value)] = sum(_count(item, depth + 1, known) for item in _children(value))
    return known[id(value)]


class _Described:
    """Values as plain Python containers, at most `_MOST_DESCRIBED` of one file."""

    def __init__(self) -> None:
        self._left = _MOST_DESCRIBED
        self._open: set[int] = set()

    def plain(self, value: Any, depth: int) -> Any:
        """One value; what is beyond the limit, or holds itself, is left out."""
        self._left -= 1
        if self._left < 0 or depth > _DEEPEST or id(value) in self._open:
            return "..."
        if value is None or isinstance(value, (bool, int, float, str, bytes)):
            return value
        if isinstance(value, Global):
            return value.full
        if isinstance(value, (TensorRef, StorageRef, NumpyArray)):
            return "<tensor>"
        self._open.add(id(value))
        found = self._container(value, depth + 1)
        self._open.discard(id(value))
        return found

    def _container(self, value: Any, depth: int) -> Any:
        most = max(self._left, 0) + 1
        if isinstance(value, dict):
            return {_text(key): self.plain(item, depth) for key, item in islice(value.items(), most)}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self.plain(item, depth) for item in islice(value, most)]
        if isinstance(value, Instance):
            return self.plain(_content(value), depth)
        return shown(value)


def _content(value: Instance) -> Any:
    """What an object of an unknown class holds; of OmegaConf's, the setting without its links to the parents."""
    if value.name.startswith("omegaconf.") and isinstance(value.state, dict):
        return value.state.get("_content", value.state.get("_val"))
    return value.state if value.state is not None else (value.mapping or value.items or value.args)
