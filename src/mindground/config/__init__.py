"""Typed configuration: YAML files with inheritance, every key overridable on the command line.

    config = load_config("configs/vglaw/refcoco.yaml", ["--train.batch_size=4"])
    line = parse_command_line(sys.argv[1:], parser)     # a door: line.options.ckpt, line.config()

Order, later wins: defaults of the dataclasses, files from the furthest `base:` down, the command line.
With no file the embedded default is used (`default.yaml` in this folder: a small VG-LAW on the
synthetic set), unless another data set is asked for: then the published recipe of the family, which is
`published.yaml` in its folder or, without one, what the defaults of the dataclasses say. Importing
this package does not import MindSpore.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mindground.config.overrides import (
    FLAGS,
    IGNORED_FLAGS,
    SECTIONS,
    CommandParser,
    Overrides,
    resolve_overrides,
    split_arguments,
)
from mindground.config.resolve import build, check_tree, coerce, merge, nearest, read_yaml
from mindground.config.schema import (
    Config,
    DataConfig,
    DeviceConfig,
    EvalConfig,
    SyntheticConfig,
    TrainConfig,
    complete,
    validate,
)
from mindground.errors import ConfigError
from mindground.files.atomic import write_text
from mindground.models import model_config_class, published_file

__all__ = [
    "CommandLine",
    "Config",
    "DataConfig",
    "DeviceConfig",
    "EvalConfig",
    "FLAGS",
    "IGNORED_FLAGS",
    "SyntheticConfig",
    "TrainConfig",
    "apply_overrides",
    "dump_yaml",
    "family_of_file",
    "fingerprint",
    "from_dict",
    "load_config",
    "parse_command_line",
    "to_dict",
    "to_yaml",
    "value_of",
]

_DEFAULT_FILE = Path(__file__).with_name("default.yaml")
_DEFAULT_FAMILY = "vglaw"
_EVERY_KEY = (
    "Every key of the configuration may follow, for instance --train.batch_size=4 --data.root=DIR. The config.yaml of "
    "a run, and the files in configs/, show the keys."
)


def to_dict(config: Config) -> dict[str, Any]:
    """Nested plain mapping (JSON- and YAML-able); `from_dict` is its inverse."""
    plain = dataclasses.asdict(config)
    return _lists(plain)


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _lists(v) for k, v in value.items()}
    return [_lists(v) for v in value] if isinstance(value, (list, tuple)) else value


def from_dict(tree: Mapping[str, Any], source: str = "") -> Config:
    """Typed configuration of a nested mapping; raises ConfigError for unknown keys and wrong types."""
    family = _family_of(tree, source) or _DEFAULT_FAMILY
    return _finish(_check(tree, family, source), family)


def load_config(paths: str | Path | Sequence[str | Path] | None = None, overrides: Sequence[str] = ()) -> Config:
    """Resolved configuration of YAML file(s) and command-line style overrides.

    Args:
        paths: a YAML file, several (later ones win), or None for the embedded default.
        overrides: `--train.batch_size=4`, `train.batch_size=4`, `--batch_size`, `4`, ...
    Raises:
        ConfigError: unknown key (with the nearest right one), wrong type, unreadable file.
    """
    return _load(paths, split_arguments(list(overrides)).overrides)


def apply_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """A new configuration: `config` (of a checkpoint, say) with overrides on top."""
    return _apply(config, split_arguments(list(overrides)).overrides)


@dataclass(frozen=True)
class CommandLine:
    """A door's command line, sorted: its own options, a configuration file, overrides."""

    options: argparse.Namespace
    config_file: str | None
    overrides: Overrides
    option_names: tuple[str, ...] = ()

    def config(self) -> Config:
        """The configuration asked for: file (or embedded default) and overrides."""
        return _load(self.config_file, self.overrides, self.option_names)

    def explained(self) -> str:
        """`config()` as YAML, each key with the file it comes from and, where that differs, what was published."""
        from mindground.config.explain import explain

        config = self.config()
        family, layers = _resolved(self.config_file, self.overrides, self.option_names)
        published = published_file(family)
        recipe = {} if published is None else to_dict(load_config(published, [f"--family={family}"]))
        return explain(to_dict(config), layers, recipe or to_dict(_finish({}, family)))

    def applied_to(self, config: Config) -> Config:
        """`config` of a checkpoint with this line's file, then its overrides, on top."""
        if self.config_file is not None:
            layers = read_yaml(Path(self.config_file))
            tree = to_dict(config)
            for source, layer in layers:
                tree = merge(tree, _check(layer, config.family, source))
            config = from_dict(tree)
        return _apply(config, self.overrides, self.option_names)


def parse_command_line(
    argv: Sequence[str], parser: argparse.ArgumentParser | None = None, *, explains: bool = False
) -> CommandLine:
    """Sorts a door's arguments; the configuration itself is resolved later by the returned object.

    Args:
        argv: `sys.argv[1:]`.
        parser: the door's own options (`--ckpt`, `--out`, ...); `--config` is added to it.
        explains: adds `--explain-config`, for a door that then prints `CommandLine.explained()`.
    Raises:
        ConfigError: an argument that belongs to nothing, or a mistake in the door's own options.
    """
    parser = parser or CommandParser()
    parser.allow_abbrev = False
    parser.epilog = parser.epilog or _EVERY_KEY
    if explains:
        parser.add_argument("--explain-config", action="store_true", help="print where every key comes from, and stop")
    if "--config" not in parser._option_string_actions:
        parser.add_argument("--config", metavar="FILE", help="YAML file; without it the embedded default")
    words = split_arguments(argv, parser)
    options = parser.parse_args(list(words.rest))
    names = tuple(name.lstrip("-") for name in parser._option_string_actions if name.startswith("--"))
    return CommandLine(options, options.config, words.overrides, names)


def to_yaml(config: Config) -> str:
    """The whole configuration as YAML that `load_config` reads back."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


def dump_yaml(config: Config, path: str | Path) -> None:
    """Writes `to_yaml` to a file, whole or not at all."""
    write_text(path, "# Resolved configuration; --config reads it back.\n" + to_yaml(config))


def fingerprint(config: Config) -> str:
    """SHA-256 of the resolved configuration: equal on every rank, or the ranks were started differently."""
    return hashlib.sha256(to_yaml(config).encode()).hexdigest()


def value_of(config: Config, key: str) -> Any:
    """Value of a dotted key."""
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def family_of_file(path: str | Path) -> str:
    """Family that a configuration file, or the nearest of its bases, names."""
    named = [_family_of(layer, source) for source, layer in read_yaml(Path(path))]
    return next((family for family in reversed(named) if family), _DEFAULT_FAMILY)


def _family_of(tree: Mapping[str, Any], source: str) -> str | None:
    family = tree.get("family")
    if family is None or isinstance(family, str):
        return family
    raise ConfigError(f"{source + ': ' if source else ''}family={family!r} must be a text")


def _check(tree: Mapping[str, Any], family: str, source: str) -> dict[str, Any]:
    """One layer with every key known and typed; a `model` section of another family is left out."""
    where = f"{source}: " if source else ""
    checked: dict[str, Any] = {}
    for name, section in tree.items():
        if name == "family":
            checked[name] = coerce(section, str, f"{where}family")
            continue
        if name not in SECTIONS and name != "model":
            raise ConfigError(f"{where}unknown section {name!r}{nearest(str(name), ['family', 'model', *SECTIONS])}")
        if name == "model" and (_family_of(tree, source) or family) != family:
            continue
        if not isinstance(section, Mapping):
            raise ConfigError(f"{where}{name} is a section with keys of its own, found {section!r}")
        cls = model_config_class(family) if name == "model" else SECTIONS[name]
        checked[name] = check_tree(section, cls, source=source, prefix=f"{name}.")
    return checked


def _finish(tree: Mapping[str, Any], family: str) -> Config:
    sections = {name: build(tree.get(name, {}), cls) for name, cls in SECTIONS.items()}
    config = Config(family=family, model=build(tree.get("model", {}), model_config_class(family)), **sections)
    complete(config.data)
    validate(config)
    return config


def _last(overrides: Overrides, *names: str) -> str | None:
    found = [words[-1] for name, words in overrides if name in names and words]
    return found[-1] if found else None


def _layers(paths: str | Path | Sequence[str | Path] | None, overrides: Overrides) -> list[tuple[str, dict[str, Any]]]:
    if paths is None:
        synthetic = (_last(overrides, "dataset", "data.dataset") or "synthetic") == "synthetic"
        published = published_file(_last(overrides, "family") or _DEFAULT_FAMILY)
        if synthetic:
            return read_yaml(_DEFAULT_FILE)
        return read_yaml(published) if published else []
    paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
    return [layer for path in paths for layer in read_yaml(Path(path))]


def _resolved(
    paths: str | Path | Sequence[str | Path] | None, overrides: Overrides, options: Sequence[str] = ()
) -> tuple[str, list[tuple[str, dict[str, Any]]]]:
    """Family, and every layer with its source, checked; later ones win."""
    layers = _layers(paths, overrides)
    family = _DEFAULT_FAMILY
    owner = ""  # whose `model` section a file without `family` of its own continues
    for source, layer in layers:
        family = _family_of(layer, source) or family
    family = _last(overrides, "family") or family
    checked: list[tuple[str, dict[str, Any]]] = []
    for source, layer in layers:
        owner = _family_of(layer, source) or owner or family
        checked.append((source, _check({**layer, "family": owner}, family, source)))
    return family, [*checked, ("command line", resolve_overrides(overrides, family, options))]


def _load(paths: str | Path | Sequence[str | Path] | None, overrides: Overrides, options: Sequence[str] = ()) -> Config:
    family, layers = _resolved(paths, overrides, options)
    tree: dict[str, Any] = {}
    for _, layer in layers:
        tree = merge(tree, layer)
    return _finish(tree, family)


def _apply(config: Config, overrides: Overrides, options: Sequence[str] = ()) -> Config:
    asked = resolve_overrides(overrides, config.family, options)
    if asked.get("family", config.family) != config.family:
        raise ConfigError(f"family {asked['family']!r} asked of a configuration of family {config.family!r}")
    tree = to_dict(config)
    data = asked.get("data", {})
    if {"dataset", "splitBy"} & set(data):
        # What was usual for the old data set need not exist for the new one.
        tree["data"].pop("eval_splits")
        if "dataset" in data:
            tree["data"].pop("splitBy")
    return from_dict(merge(tree, asked))
