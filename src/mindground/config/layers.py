"""Layers of a configuration, one over the other: defaults, files from the furthest base on, the command line.

Three things need to know the other layers: `data.transform`, whose recipe a later layer may change, the learning
rates of older files, which are absolute, and the schedule, which has a short and a long form.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mindground.config import registry
from mindground.config.registry import Family
from mindground.config.resolve import Swaps, check_tree, coerce, field_types, merge, nearest
from mindground.config.schedule import SHORT_KEYS, check_two_forms, short_keys_of
from mindground.config.schema import (
    DEFAULT_RECIPE,
    DataConfig,
    DeviceConfig,
    EvalConfig,
    TrainConfig,
    TransformConfig,
)
from mindground.config.upgrade import new_names, renew, renew_rates
from mindground.errors import ConfigError, shown

__all__ = ["SECTIONS", "Layer", "Merged", "family_of", "merge_layers", "swaps_of"]

SECTIONS: dict[str, type] = {"data": DataConfig, "train": TrainConfig, "eval": EvalConfig, "device": DeviceConfig}


@dataclass(frozen=True)
class Layer:
    """What one source says.

    Attributes:
        source: file named in errors and by --explain-config.
        tree: nested mapping, unchecked.
        schema: of its keys.
        quiet: the source is the command line, whose errors name no file.
    """

    source: str
    tree: Mapping[str, Any]
    schema: int
    quiet: bool = False

    @property
    def where(self) -> str:
        """The file for messages."""
        return "" if self.quiet else self.source


@dataclass(frozen=True)
class Merged:
    """The outcome.

    Attributes:
        tree: checked, in today's keys; absent keys take their defaults.
        layers: (source, what it says in today's keys), later ones win.
    """

    tree: dict[str, Any]
    layers: list[tuple[str, dict[str, Any]]]


def family_of(tree: Mapping[str, Any], source: str = "") -> str | None:
    """The family that a layer names. Raises ConfigError where that is no text."""
    name = tree.get("family")
    if name is None or isinstance(name, str):
        return name
    raise ConfigError(f"{source + ': ' if source else ''}family={shown(name)} must be a text")


def swaps_of(tree: Mapping[str, Any]) -> Swaps:
    """The section that `data.transform.name` of a checked tree chooses."""
    name = tree.get("data", {}).get("transform", {}).get("name", DEFAULT_RECIPE)
    return {TransformConfig: registry.transform_class(name)}


def merge_layers(layers: Sequence[Layer], family: Family) -> Merged:
    """All layers as one tree; later ones win.

    A `model` section of another family is left out, and so are the keys of a recipe and the division of a data set that
    a later layer replaces.

    Raises:
        ConfigError: unknown section or key (with the nearest right one), wrong type, keys that contradict each other.
    """
    renewed = [renew(layer.tree, layer.schema, family, layer.where) for layer in layers]
    names = _recipes([new.tree for new in renewed], layers)
    swaps: Swaps = {TransformConfig: registry.transform_class(names[-1] if names else DEFAULT_RECIPE)}
    defaults = TrainConfig()
    tree: dict[str, Any] = {"train": {"lr": defaults.lr, "lr_factors": dict(family.lr_groups)}}
    said: list[tuple[str, dict[str, Any]]] = []
    for index, (layer, new) in enumerate(zip(layers, renewed, strict=True)):
        _keep_keys_of_recipe(new.tree, names[index:], new.droppable, layer.where)
        own = _check(new.tree, family, layer, swaps)
        if "train" in own:
            renew_rates(own["train"], tree["train"], family, layer.where)
            _one_schedule(own["train"], tree["train"], defaults, layer.where)
        _forget_division(own, tree, said)
        tree = merge(tree, own)
        said.append((layer.source, own))
    return Merged(tree, said)


def _forget_division(own: Mapping[str, Any], tree: dict[str, Any], said: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """A layer that names another data set takes back the division that layers below named for theirs."""
    dataset, below = own.get("data", {}).get("dataset"), tree.get("data", {})
    if dataset is not None and below.get("dataset", dataset) != dataset:
        for data in [below, *(layer.get("data", {}) for _, layer in said)]:
            data.pop("splitBy", None)


def _recipes(trees: Sequence[Mapping[str, Any]], layers: Sequence[Layer]) -> list[str]:
    """The recipe that holds from each layer on."""
    names, name = [], DEFAULT_RECIPE
    for tree, layer in zip(trees, layers, strict=True):
        given = _transform(tree).get("name")
        if given is not None:
            name = check_tree({"name": given}, TransformConfig, source=layer.where, prefix="data.transform.")["name"]
            _transform(tree)["name"] = name
        names.append(name)
    return names


def _transform(tree: Mapping[str, Any]) -> Any:
    data = tree.get("data")
    section = data.get("transform") if isinstance(data, Mapping) else None
    return section if isinstance(section, dict) else {}


def _keep_keys_of_recipe(tree: dict[str, Any], names: Sequence[str], droppable: frozenset[str], source: str) -> None:
    """Takes out keys of `data.transform` that the last of `names` does not have.

    Args:
        tree: of one layer.
        names: the recipe of this layer, and those of all layers above.
        droppable: keys that ask for nothing.

    Raises:
        ConfigError: a key of a recipe that none of these layers chooses; the message names the recipe.
    """
    section, own = _transform(tree), field_types(registry.transform_class(names[-1]))
    where = f"{source}: " if source else ""
    for key in [key for key in section if key not in own]:
        owners = [name for name in registry.recipe_names() if key in field_types(registry.transform_class(name))]
        if not owners and key not in droppable:
            raise ConfigError(
                f"{where}unknown key {shown(f'data.transform.{key}')}" + nearest(f"data.transform.{key}", _dotted(own))
            )
        if key not in droppable and not set(owners) & set(names):
            raise ConfigError(
                f"{where}data.transform.{key}={section[key]} belongs to data.transform.name={' or '.join(owners)}, and "
                f"data.transform.name is {names[-1]}; set one or the other"
            )
        del section[key]


def _dotted(names: Mapping[str, Any]) -> list[str]:
    return [f"data.transform.{name}" for name in names]


def _check(tree: Mapping[str, Any], family: Family, layer: Layer, swaps: Swaps) -> dict[str, Any]:
    """One layer with every key known and typed; a `model` section of another family is left out."""
    where = f"{layer.where}: " if layer.where else ""
    checked: dict[str, Any] = {}
    for name, section in tree.items():
        if name == "family":
            checked[name] = coerce(section, str, f"{where}family")
            continue
        if name not in SECTIONS and name != "model":
            raise ConfigError(
                f"{where}unknown section {shown(name)}{nearest(str(name), ['family', 'model', *SECTIONS])}"
            )
        if name == "model" and (family_of(tree, layer.where) or family.name) != family.name:
            continue
        if not isinstance(section, Mapping):
            raise ConfigError(f"{where}{name} is a section with keys of its own, found {shown(section)}")
        cls = family.config if name == "model" else SECTIONS[name]
        # Rates of older files are no keys of the section, and `renew_rates` takes them out.
        old = family.old_rates if name == "train" and layer.schema == 1 else {}
        rates = {key: section[key] for key in old if key in section}
        rest = {key: value for key, value in section.items() if key not in rates}
        _hint_at_new_names(rest, name, cls, family, where)
        checked[name] = check_tree(rest, cls, source=layer.where, prefix=f"{name}.", swaps=swaps)
        checked[name] |= {key: _rate(rate, key, where) for key, rate in rates.items()}
        if name == "train":
            _check_names(checked[name], "lr_factors", family.lr_groups, family, where)
            _check_names(checked[name], "pretrained", family.pretrained_parts, family, where)
    return checked


def _rate(value: Any, name: str, where: str) -> float:
    rate: float = coerce(value, float, f"{where}train.{name}")
    if rate < 0:
        raise ConfigError(f"{where}train.{name}={rate} must be at least 0")
    return rate


def _hint_at_new_names(section: Mapping[Any, Any], name: str, cls: type, family: Family, where: str) -> None:
    """A file that says its schema has no old keys; one that is there all the same is named with the new key."""
    for key in section:
        new = new_names(family).get(f"{name}.{key}")
        if new is not None and key not in field_types(cls):
            raise ConfigError(f"{where}unknown key {f'{name}.{key}'!r}; it is called {new} now")


def _check_names(train: Mapping[str, Any], key: str, known: Collection[str], family: Family, where: str) -> None:
    """Raises ConfigError for a group or a part that the family does not have."""
    for name in train.get(key, {}) if known else ():
        if name not in known:
            dotted = [f"train.{key}.{other}" for other in known]
            hint = nearest(f"train.{key}.{name}", dotted)
            raise ConfigError(f"{where}train.{key}.{name}: {family.name} has {', '.join(known)}{hint}")


def _one_schedule(train: Mapping[str, Any], merged: dict[str, Any], defaults: TrainConfig, source: str) -> None:
    """Segments replace the short keys of layers below; short keys over segments contradict them.

    Raises:
        ConfigError: both forms in one layer, or short keys on top of segments.
    """
    segments = train["schedule"] if "schedule" in train else merged.get("schedule", [])
    check_two_forms(segments, short_keys_of(train, defaults), source)
    if train.get("schedule"):
        for name in SHORT_KEYS:
            merged.pop(name, None)
