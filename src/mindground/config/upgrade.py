"""Configurations of older schemas in today's keys: no key that was ever written makes a file unreadable.

Schema 1 is what was written before files said a number. `CHANGES` says what became of a key between one schema and
the next; three changes of schema 1 need more than a new name and have functions below: the recipe's keys, which stood
flat in `data`, absolute learning rates, and the two paths of weights. To rename or remove a key, raise SCHEMA, add an
entry, and add files of the older schema to tests/engine/fixtures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mindground.config.registry import Changes, Family
from mindground.errors import ConfigError

__all__ = ["CHANGES", "SCHEMA", "Renewed", "new_names", "old_keys", "renew", "renew_rates", "schema_of"]

# Of configurations and checkpoints that this code writes.
SCHEMA = 2

# Schema -> what became of keys between it and the next.
CHANGES: dict[int, Changes] = {1: Changes(renamed={"data.recipe": "data.transform.name"})}

# Keys of recipes that stood in `data` for all of them -> type, and the value that asked for nothing.
_RECIPE_KEYS: dict[str, tuple[type, Any]] = {
    "multi_scale": (bool, False),
    "translate": (bool, False),
    "aug_crop": (bool, False),
    "aug_scale": (bool, False),
    "aug_blur": (bool, False),
    "legacy_augmentation": (bool, False),
    "flip_prob": (float, 0.0),
    "vertical_flip_prob": (float, 0.0),
    "color_jitter_prob": (float, 0.0),
}


@dataclass(frozen=True)
class Renewed:
    """A layer in today's keys.

    Attributes:
        tree: nested mapping; `train` may still hold absolute rates, which `renew_rates` takes out.
        droppable: keys of `data.transform` that asked for nothing in an older file; a recipe need not have them.
    """

    tree: dict[str, Any]
    droppable: frozenset[str] = frozenset()


def schema_of(tree: Mapping[str, Any], schema: int | None = None, source: str = "") -> int:
    """Schema of a configuration: what it or its checkpoint says, else the oldest.

    Raises:
        ConfigError: no number, or that of a later version.
    """
    found = tree.get("schema", schema if schema is not None else 1)
    where = f"{source}: " if source else ""
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise ConfigError(f"{where}schema={found!r} must be a whole number from 1 to {SCHEMA}")
    if found > SCHEMA:
        raise ConfigError(
            f"{where}schema {found} is of a later version; this one reads up to {SCHEMA}: update MindGround"
        )
    return found


def old_keys(family: Family) -> dict[str, type]:
    """Dotted keys of schema 1 that stay readable -> their types."""
    found: dict[str, type] = {f"data.{name}": kind for name, (kind, _) in _RECIPE_KEYS.items()}
    found |= dict.fromkeys([key for changes in _changes(1, family) for key in changes.renamed], str)
    found |= {f"train.{name}": float for name in family.old_rates}
    return found | {f"train.{name}": str for name in family.old_paths}


def new_names(family: Family) -> dict[str, str]:
    """Old dotted key -> what to write instead, for messages."""
    found = {f"data.{name}": f"data.transform.{name}" for name in _RECIPE_KEYS}
    found |= {old: new for changes in _changes(1, family) for old, new in changes.renamed.items()}
    for name, group in family.old_rates.items():
        found[f"train.{name}"] = "train.lr" if group in ("", "base") else f"train.lr_factors.{group}"
    return found | {f"train.{name}": f"train.pretrained.{part}" for name, part in family.old_paths.items()}


def renew(tree: Mapping[str, Any], schema: int, family: Family, source: str = "") -> Renewed:
    """A layer in today's keys; values are not checked yet, and keys that nobody knows stay as they are.

    Raises:
        ConfigError: an old key beside the new one, or a removed key whose value has no meaning any more.
    """
    where = f"{source}: " if source else ""
    renewed = _copied(tree)
    renewed.pop("schema", None)
    for changes in _changes(schema, family):
        for old, new in changes.renamed.items():
            if (value := _taken(renewed, old)) is not _ABSENT:
                _put(renewed, new, value, f"{where}{old}")
        for old, same in changes.removed.items():
            value = _taken(renewed, old)
            if value is not _ABSENT and value != same:
                raise ConfigError(f"{where}{old}={value!r} does not exist any more; only {old}={same!r} can be read")
    if schema > 1:
        return Renewed(renewed)
    _move_paths(renewed, family, where)
    return Renewed(renewed, frozenset(_move_recipe_keys(renewed, where)))


def renew_rates(train: dict[str, Any], merged: Mapping[str, Any], family: Family, source: str = "") -> None:
    """Absolute rates of schema 1 in a `train` section become `lr` and `lr_factors`, in place.

    Rates that the layer does not name stay what they were, so the factors of the other groups change with `lr`.

    Args:
        train: of one layer, values checked.
        merged: `lr` and `lr_factors` of the layers below.

    Raises:
        ConfigError: `lr` beside one of them.
    """
    given = {name: train.pop(name) for name in family.old_rates if name in train}
    asked = {family.old_rates[name]: rate for name, rate in given.items() if family.old_rates[name]}
    if not asked:
        return
    if "lr" in train:
        where = f"{source}: " if source else ""
        raise ConfigError(f"{where}train.lr and train.{next(iter(given))} both set a learning rate; leave one out")
    before = {**family.lr_groups, **merged["lr_factors"]}
    rates = {group: merged["lr"] * factor for group, factor in before.items()} | asked
    # Rates are multiples of that of the base; where it stands still, of the largest.
    lr = rates.get("base") or max(rates.values())
    factors = {group: _factor(rate, lr) if lr else before[group] for group, rate in rates.items()}
    changed = {group: factor for group, factor in factors.items() if factor != before.get(group)}
    train["lr"] = lr
    if changed or "lr_factors" in train:
        train["lr_factors"] = {**changed, **train.get("lr_factors", {})}


def _factor(rate: float, lr: float) -> float:
    """`rate` / `lr`: the shortest number that gives `rate` again, up to the last bit of a double.

    3e-4 of 4e-4 is 0.75, as a person writes it, and not 0.7499999999999999.
    """
    exact = rate / lr
    short = (float(f"{exact:.{digits}g}") for digits in range(1, 17))
    return next((factor for factor in short if abs(lr * factor - rate) <= math.ulp(rate)), exact)


def _changes(schema: int, family: Family) -> Iterator[Changes]:
    for number in range(schema, SCHEMA):
        yield from (table[number] for table in (CHANGES, family.changes) if number in table)


_ABSENT = object()


def _copied(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copied(value) if isinstance(value, Mapping) else value for key, value in tree.items()}


def _taken(tree: dict[str, Any], key: str) -> Any:
    """The value of a dotted key, which is removed, or _ABSENT."""
    *path, leaf = key.split(".")
    node: Any = tree
    for part in path:
        node = node.get(part) if isinstance(node, dict) else None
    return node.pop(leaf, _ABSENT) if isinstance(node, dict) else _ABSENT


def _put(tree: dict[str, Any], key: str, value: Any, old: str) -> None:
    *path, leaf = key.split(".")
    node: Any = tree
    for part in path:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise ConfigError(f"{old} and {key.rsplit('.', 1)[0]} are both given; leave out {old.rsplit(' ', 1)[-1]}")
    if leaf in node and node[leaf] != value:
        raise ConfigError(f"{old}={value!r} and {key}={node[leaf]!r} are both given; leave one out")
    node[leaf] = value


def _move_recipe_keys(tree: dict[str, Any], where: str) -> list[str]:
    droppable = []
    for name, (_, nothing) in _RECIPE_KEYS.items():
        old = f"data.{name}"
        if (value := _taken(tree, old)) is _ABSENT:
            continue
        _put(tree, f"data.transform.{name}", value, f"{where}{old}")
        if value == nothing:
            droppable.append(name)
    return droppable


def _move_paths(tree: dict[str, Any], family: Family, where: str) -> None:
    """Two old paths may lead to one part; then the one that names a file counts."""
    for name, part in family.old_paths.items():
        old, new = f"train.{name}", f"train.pretrained.{part}"
        value = _taken(tree, old)
        if value is _ABSENT or (value == "" and part in _parts(tree)):
            continue
        if _parts(tree).get(part) == "":
            _parts(tree).pop(part)
        _put(tree, new, value, f"{where}{old}")


def _parts(tree: dict[str, Any]) -> dict[str, Any]:
    train = tree.get("train")
    parts = train.get("pretrained") if isinstance(train, dict) else None
    return parts if isinstance(parts, dict) else {}
