"""What a configuration has to know of families, data sets and transform recipes: handed in, never imported from here.

`mindground/__init__.py` hands in functions that import the packages when they are first called.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol, cast

from mindground.config.keys import key

__all__ = [
    "Changes",
    "DatasetFormat",
    "Family",
    "Recipe",
    "SourceKeys",
    "Sources",
    "dataset_names",
    "families",
    "family",
    "hand_in",
    "recipe_names",
    "transform_class",
    "usual_splits",
]


@dataclass(frozen=True)
class Changes:
    """What became of keys between one schema and the next.

    Attributes:
        renamed: old dotted key -> new dotted key, the meaning being the same.
        removed: old dotted key -> the value whose meaning the program without the key has.
    """

    renamed: Mapping[str, str] = field(default_factory=dict)
    removed: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SourceKeys:
    """What the configuration beside published weights says of keys here.

    Attributes:
        keys: dotted key -> its one right value.
        most: dotted key -> the highest value, where a network may use a part of the file.
    """

    keys: Mapping[str, Any] = field(default_factory=dict)
    most: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """A family as configurations see it.

    Attributes:
        config: dataclass of the `model` section.
        flags: short name on the command line -> dotted key(s); `key=value` is what a bare flag stands for.
        ignored_flags: name -> why it has no effect.
        refused_flags: name -> value, or a shell pattern ("*" = any other) -> what to write instead.
        lr_groups: parameter group -> usual factor on `train.lr`; empty = the network alone knows its groups.
        pretrained_parts: names below `train.pretrained`; empty = the network alone knows its parts.
        old_rates: absolute rate of schema 1, such as "lr_base" -> parameter group, "" where it had no effect.
        old_paths: path of schema 1, such as "pretrained_path" -> part.
        changes: schema -> what became of `model.` keys between it and the next.
        published_dataset: `data.dataset` of the published weights; empty = `published_file` says it.
        text_layers: dotted key of the number of the text encoder's layers; empty = it cannot be chosen.
        source_keys: content of a config.json beside weights -> what it says of keys; None = nothing is read from it.
        default_file: trains in minutes on two cores.
        published_file: the published recipe; None = the defaults of the dataclasses are.
    """

    name: str
    config: type
    flags: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    ignored_flags: Mapping[str, str] = field(default_factory=dict)
    refused_flags: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    lr_groups: Mapping[str, float] = field(default_factory=dict)
    pretrained_parts: tuple[str, ...] = ()
    old_rates: Mapping[str, str] = field(default_factory=dict)
    old_paths: Mapping[str, str] = field(default_factory=dict)
    changes: Mapping[int, Changes] = field(default_factory=dict)
    published_dataset: str = ""
    text_layers: str = ""
    source_keys: Callable[[Mapping[str, Any]], SourceKeys] | None = None
    default_file: Path | None = None
    published_file: Path | None = None


class DatasetFormat(Protocol):
    """A data set: `data.splitBy` -> splits to evaluate, the usual division first."""

    @property
    def splits(self) -> Mapping[str, Sequence[str]]: ...


class Recipe(Protocol):
    """A transform recipe: the dataclass of its own keys below `data.transform`."""

    @property
    def config(self) -> type: ...


@dataclass(frozen=True)
class Sources:
    """Where the facts come from; every function may import what it needs.

    Attributes:
        families: names.
        family: facts of one; raises ConfigError that names the nearest for an unknown name.
        formats: value of `data.dataset` -> its splits.
        recipes: value of `data.transform.name` -> its keys.
    """

    families: Callable[[], Iterable[str]]
    family: Callable[[str], Family]
    formats: Callable[[], Mapping[str, DatasetFormat]]
    recipes: Callable[[], Mapping[str, Recipe]]


_sources: list[Sources] = []


def hand_in(sources: Sources) -> Sources | None:
    """Makes `sources` the ones in use; returns those before (tests put them back)."""
    before = _sources[0] if _sources else None
    _sources[:] = [sources]
    _class_of.cache_clear()
    return before


def _known() -> Sources:
    if not _sources:
        # The package's root knows all floors; it calls `hand_in`.
        importlib.import_module("mindground")._hand_in_sources()
    return _sources[0]


def families() -> list[str]:
    """Names of all families."""
    return list(_known().families())


def family(name: str) -> Family:
    """One family. Raises ConfigError that names the nearest."""
    return _known().family(name)


def dataset_names() -> list[str]:
    """Values of `data.dataset`."""
    return list(_known().formats())


def usual_splits(dataset: str) -> dict[str, list[str]]:
    """Division of a data set -> splits to evaluate; the first division is the usual one.

    A division that is not among them is somebody's own, evaluated on `val`.
    """
    formats = _known().formats()
    if dataset not in formats:
        return {"": ["val"]}
    return {division: list(splits) for division, splits in formats[dataset].splits.items()}


def recipe_names() -> list[str]:
    """Values of `data.transform.name`."""
    return list(_known().recipes())


def transform_class(name: str) -> type:
    """The `data.transform` section of a recipe: the recipe's own dataclass with `name` besides.

    Raises:
        KeyError: no such recipe.
    """
    return _class_of(_known().recipes()[name].config, name)


@cache
def _class_of(config: type, name: str) -> type:
    if any(f.name == "name" for f in dataclasses.fields(config)):
        raise TypeError(f"{config.__name__}: `name` is the recipe's own name, no key of a recipe")
    frozen = cast(Any, config).__dataclass_params__.frozen
    fields = [("name", str, key(name, affects="numbers"))]
    made = dataclasses.make_dataclass(f"{config.__name__}Section", fields, bases=(config,), frozen=frozen)
    made.__module__, made.__doc__ = config.__module__, config.__doc__
    return made
