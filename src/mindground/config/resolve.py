"""From untrusted YAML and text values to typed sections, with errors that name the nearest right key.

Nothing is evaluated: YAML through a safe loader of limited size, text values through a parser that
knows only the type written in the dataclass.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from mindground.config.keys import choices_of
from mindground.errors import ConfigError, one_line, shown

__all__ = [
    "Swaps",
    "build",
    "check_tree",
    "coerce",
    "field_types",
    "keys_of",
    "merge",
    "nearest",
    "parse_yaml",
    "read_yaml",
]

# Type written in a dataclass -> the one that stands for it in this configuration: a section that another key chooses.
Swaps = Mapping[type, type]

_MAX_BYTES = 1 << 20
_MAX_BASES = 8
_MAX_LAYERS = 32
# The whole of the published configurations has a few hundred.
_MAX_NODES = 20_000
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


# No name of a file holds these. Bytes of a name that are no UTF-8 come as U+DC80 to U+DCFF.
_NO_TEXT = re.compile("[\\0\\ud800-\\udc7f\\udd00-\\udfff]")


class _Loader(yaml.SafeLoader):
    """Safe loader of few nodes without aliases (they can blow a small file up) and without repeated keys."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self.nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        line = self.peek_event().start_mark.line + 1
        if self.check_event(yaml.events.AliasEvent):
            raise ConfigError(f"line {line}: YAML aliases (*name) are not read")
        self.nodes += 1
        if self.nodes > _MAX_NODES:
            raise ConfigError(f"line {line}: a configuration holds at most {_MAX_NODES} values")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(f"line {key.start_mark.line + 1}: a key is a word, not a list or a mapping")
            if key.value in seen:
                raise ConfigError(f"line {key.start_mark.line + 1}: key {shown(key.value)} stands twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str | bytes) -> Any:
    """The value that a YAML text holds.

    Raises:
        ConfigError: what is wrong and where, in one line.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - _Loader is a SafeLoader
    except ConfigError:
        raise
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark is not None else ""
        raise ConfigError(f"{where}{one_line(error.problem or error.context or 'no YAML')}") from error
    except RecursionError as error:
        raise ConfigError("values are nested too deep") from error
    except Exception as error:
        # PyYAML's constructors stumble over tagged values (`!!int ''`, `!!timestamp x`) with errors of many kinds.
        raise ConfigError(f"a value cannot be read ({one_line(f'{type(error).__name__}: {error}')})") from error


def read_yaml(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """A file and the files it inherits from through `base:`, furthest ancestor first, as (name, mapping).

    A file that several bases share is parsed once, and stands in the list wherever it is inherited.

    Raises:
        ConfigError: unreadable, circular, too deep, or more than 32 layers.
    """
    return _chain(path.resolve(), (), {}, [])


def _chain(
    path: Path, below: tuple[Path, ...], known: dict[Path, dict[str, Any]], made: list[Path]
) -> list[tuple[str, dict[str, Any]]]:
    """`read_yaml` of one file; `below` inherit from it, `known` are parsed, `made` are the layers so far."""
    if path in below or len(below) >= _MAX_BASES:
        chain = " -> ".join(p.name for p in (*below, path))
        raise ConfigError(f"`base:` goes round in a circle or is more than {_MAX_BASES} files deep: {chain}")
    if path not in known:
        known[path] = _read_one(path, below)
    tree = dict(known[path])
    bases = tree.pop("base", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(b, str) for b in bases):
        raise ConfigError(f"{path}: `base` is a file name or a list of them, found {shown(bases)}")
    layers: list[tuple[str, dict[str, Any]]] = []
    for name in bases:
        if _NO_TEXT.search(name):
            raise ConfigError(f"{path}: `base` {shown(name)} is no file name")
        layers += _chain((path.parent / name).resolve(), (*below, path), known, made)
    made.append(path)
    if len(made) > _MAX_LAYERS:
        raise ConfigError(f"{path}: more than {_MAX_LAYERS} files are joined through `base:`")
    return [*layers, (str(path), tree)]


def _read_one(path: Path, below: Sequence[Path]) -> dict[str, Any]:
    if not os.path.isfile(path):  # which answers False for a name that is too long, too
        by = f" (base of {below[-1]})" if below else ""
        raise ConfigError(f"configuration file {shown(str(path), 400)[1:-1]} does not exist{by}")
    try:
        with path.open("rb") as stream:
            text = stream.read(_MAX_BYTES + 1)
        if len(text) > _MAX_BYTES:
            raise ConfigError("a configuration file may hold at most 1 MiB")
        tree = parse_yaml(text)
    except (OSError, ConfigError) as error:
        raise ConfigError(f"cannot read configuration {path}: {error}") from error
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: a configuration is a mapping of sections, found {type(tree).__name__}")
    return tree


@cache
def field_types(cls: type) -> dict[str, Any]:
    """Field name -> type of a dataclass, text annotations resolved."""
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.init}


def keys_of(cls: type, prefix: str = "", swaps: Swaps = types.MappingProxyType({})) -> Iterable[str]:
    """Dotted keys of a dataclass, nested sections walked."""
    for name, kind in field_types(cls).items():
        kind = swaps.get(kind, kind) if isinstance(kind, type) else kind
        if dataclasses.is_dataclass(kind):
            yield from keys_of(typing.cast(type, kind), f"{prefix}{name}.", swaps)
        else:
            yield prefix + name


def nearest(name: str, known: Iterable[str]) -> str:
    """'; did you mean ...?' for a misspelt key, or an empty text."""
    known, name = list(known), name[:120]  # of a long one no key is near, and comparing takes time
    leaf = name.rsplit(".", 1)[-1]
    same_leaf = [k for k in known if k.rsplit(".", 1)[-1] == leaf]
    # A key is compared whole first, then by its last part, so that both `--batchsize` and `--train.batchsize` work.
    close = difflib.get_close_matches(name, known, 1, 0.7) or difflib.get_close_matches(name, known, 1, 0.5)
    by_leaf = difflib.get_close_matches(leaf, [k.rsplit(".", 1)[-1] for k in known], 1, 0.75)
    if not same_leaf and by_leaf:
        section = name.rsplit(".", 1)[0] if "." in name else ""
        leaves = [k for k in known if k.rsplit(".", 1)[-1] == by_leaf[0]]
        same_leaf = [k for k in leaves if k == (f"{section}.{by_leaf[0]}" if section else by_leaf[0])] or leaves
    best = same_leaf[:1] or close
    return f"; did you mean {best[0]!r}?" if best else ""


def _mismatch(key: str, value: Any, wanted: str) -> ConfigError:
    return ConfigError(f"{shown(key, 80)[1:-1]}={shown(value)} must be {wanted}")


def _bool(value: Any, key: str) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in _TRUE + _FALSE:
        return value.strip().lower() in _TRUE
    raise _mismatch(key, value, "true or false")


def _int(value: Any, key: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,18}", value.strip()):
        return int(value)
    raise _mismatch(key, value, "a whole number")


def _float(value: Any, key: str) -> float:
    number = math.nan
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        number = float(value)
    elif isinstance(value, str) and re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", value):
        number = float(value)
    if not math.isfinite(number):
        raise _mismatch(key, value, "a finite number")
    return number


def _str(value: Any, key: str) -> str:
    if isinstance(value, str):
        if _NO_TEXT.search(value):
            raise _mismatch(key, value, "a text without halves of surrogate pairs and without the character 0")
        return value
    if value is None:
        raise _mismatch(key, value, 'a text (write "" for an empty one)')
    raise _mismatch(key, value, f'a text (write it in quotes: "{shown(value)}")')


_SCALARS = {bool: _bool, int: _int, float: _float, str: _str}


def _parsed(value: Any, key: str, wanted: str) -> Any:
    """A text of the command line as YAML, where a mapping or a list of mappings is wanted."""
    if not isinstance(value, str):
        return value
    try:
        return parse_yaml(value[:_MAX_BYTES])
    except ConfigError as error:
        raise _mismatch(key, value, wanted) from error


def _mapping(value: Any, kind: Any, key: str) -> dict[str, Any]:
    wanted = "a mapping such as {a: 1, b: 2}"
    value = _parsed(value, key, wanted)
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise _mismatch(key, value, wanted)
    return {name: coerce(entry, kind, f"{key}.{name}") for name, entry in value.items()}


def _section(value: Any, cls: type, key: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _mismatch(key, value, f"a mapping with keys among {', '.join(keys_of(cls))}")
    return check_tree(value, cls, prefix=f"{key}.")


def _choice(value: Any, choices: Iterable[Any], key: str) -> Any:
    """One of several texts, whatever its capitals."""
    choices = list(choices)
    if value in choices and isinstance(value, str):
        return value
    close = [choice for choice in choices if str(choice).lower() == str(value).lower()]
    if close:
        return close[0]
    raise ConfigError(
        f"{key}={shown(value)} is unknown; choose one of {', '.join(map(str, choices))}"
        + nearest(str(value), [str(choice) for choice in choices])
    )


def _list(value: Any, kind: Any, key: str) -> list[Any]:
    if dataclasses.is_dataclass(kind):
        value = _parsed(value, key, "a list such as [{kind: linear, steps: 50}]")
    elif isinstance(value, str):
        inner = value.strip()
        if inner.startswith("[") != inner.endswith("]"):
            raise _mismatch(key, value, "a list such as [a,b] or a,b")
        inner = inner[1:-1] if inner.startswith("[") else inner
        value = [part.strip().strip("\"'") for part in inner.split(",")] if inner.strip() else []
    if not isinstance(value, (list, tuple)):
        raise _mismatch(key, value, "a list such as [a,b]")
    return [coerce(v, kind, f"{key}[{i}]") for i, v in enumerate(value)]


def coerce(value: Any, kind: Any, key: str) -> Any:
    """`value` (from YAML, or text from the command line) as `kind`. Raises ConfigError that names `key`."""
    if kind in _SCALARS:
        return _SCALARS[kind](value, key)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return _choice(value, arguments, key)
    if dataclasses.is_dataclass(kind):
        return _section(value, typing.cast(type, kind), key)
    if origin is dict:
        return _mapping(value, arguments[1], key)
    if origin is list:
        return _list(value, arguments[0], key)
    if origin is tuple:
        items = _list(value, arguments[0], key)
        if arguments[-1] is not Ellipsis and len(items) != len(arguments):
            raise _mismatch(key, value, f"a list of {len(arguments)}")
        return tuple(items)
    if origin in (typing.Union, types.UnionType):
        if value is None or (isinstance(value, str) and value.lower() in ("none", "null", "~")):
            if type(None) in arguments:
                return None
        return coerce(value, next(a for a in arguments if a is not type(None)), key)
    raise TypeError(f"{key}: configuration classes may not hold {kind}")


def check_tree(
    tree: Mapping[Any, Any], cls: type, *, source: str = "", prefix: str = "", swaps: Swaps = types.MappingProxyType({})
) -> dict[str, Any]:
    """A nested mapping with every key known and every value typed; absent keys stay absent.

    Args:
        tree: what a file or an override says about the section `cls`.
        source: file named in errors.
        prefix: dotted path of the section.
        swaps: sections that other keys chose.
    """
    kinds, checked = field_types(cls), {}
    where = f"{source}: " if source else ""
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if name not in kinds:
            raise ConfigError(f"{where}unknown key {shown(key)}{nearest(key, keys_of(cls, prefix, swaps))}")
        kind = kinds[name]
        kind = swaps.get(kind, kind) if isinstance(kind, type) else kind
        if dataclasses.is_dataclass(kind):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{where}{key} is a section with keys of its own, found {shown(value)}")
            section = typing.cast(type, kind)
            checked[name] = check_tree(value, section, source=source, prefix=f"{key}.", swaps=swaps)
            continue
        try:
            choices = choices_of(cls, name)
            checked[name] = coerce(value, kind, key) if choices is None else _choice(value, choices, key)
        except ConfigError as error:
            raise ConfigError(f"{where}{error}") from error
    return checked


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings merged; where both speak, `over` wins. Lists are replaced, not joined."""
    joint = dict(under)
    for key, value in over.items():
        old = joint.get(key)
        joint[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return joint


def build(tree: Mapping[str, Any], cls: type, swaps: Swaps = types.MappingProxyType({})) -> Any:
    """A checked mapping (`check_tree`) as an instance of `cls`; absent keys take their defaults."""
    kinds = field_types(cls)
    return cls(**{name: _built(value, kinds[name], swaps) for name, value in tree.items() if name in kinds})


def _built(value: Any, kind: Any, swaps: Swaps) -> Any:
    kind = swaps.get(kind, kind) if isinstance(kind, type) else kind
    if dataclasses.is_dataclass(kind):
        return build(value, typing.cast(type, kind), swaps)
    if typing.get_origin(kind) is list and dataclasses.is_dataclass(typing.get_args(kind)[0]):
        return [build(entry, typing.get_args(kind)[0], swaps) for entry in value]
    return value
