"""Typed configuration: YAML files with inheritance, every key overridable on the command line.

    config = load_config("configs/vglaw/refcoco.yaml", ["--train.batch_size=4"])
    line = parse_command_line(sys.argv[1:], parser)     # of a command: line.options.ckpt, line.config()

Order, later wins: defaults of the dataclasses, files from the furthest `base:` down, the command line. With no file the
family's `default.yaml` is used (minutes on two cores, on a synthetic set; VG-LAW's where no family is named), unless
another data set than the one in it is asked for: then its `published.yaml` or, without one, the defaults of the
dataclasses.

Families, data sets and transform recipes are handed in (`config.registry`); importing this package imports no model,
no data and no MindSpore. Keys of older versions stay readable (`config.upgrade`).
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

from mindground.config import registry
from mindground.config.beside import check_described, described
from mindground.config.layers import SECTIONS, Layer, Merged, family_of, merge_layers, swaps_of
from mindground.config.overrides import (
    FLAGS,
    IGNORED_FLAGS,
    CommandParser,
    Overrides,
    resolve_overrides,
    split_arguments,
)
from mindground.config.resolve import build, read_yaml
from mindground.config.schedule import Segment
from mindground.config.schema import (
    Config,
    DataConfig,
    DeviceConfig,
    EvalConfig,
    ReferConfig,
    SeqtrFilesConfig,
    SyntheticConfig,
    TrainConfig,
    TransformConfig,
    complete,
    transform_config,
)
from mindground.config.upgrade import SCHEMA, schema_of
from mindground.config.validate import validate
from mindground.errors import ConfigError
from mindground.files.atomic import write_text

__all__ = [
    "DEFAULT_FAMILY",
    "CommandLine",
    "CommandParser",
    "Config",
    "DataConfig",
    "DeviceConfig",
    "EvalConfig",
    "ReferConfig",
    "SeqtrFilesConfig",
    "FLAGS",
    "IGNORED_FLAGS",
    "SCHEMA",
    "Segment",
    "SyntheticConfig",
    "TrainConfig",
    "TransformConfig",
    "apply_overrides",
    "dump_yaml",
    "family_of_file",
    "fingerprint",
    "from_dict",
    "load_config",
    "parse_command_line",
    "to_dict",
    "to_yaml",
    "transform_config",
    "value_of",
]

DEFAULT_FAMILY = "vglaw"
"""The family where none is named."""
_EVERY_KEY = (
    "Every key of the configuration may follow, for instance --train.batch_size=4 --data.root=DIR. The config.yaml of "
    "a run, and the files in configs/, show the keys."
)


def to_dict(config: Config) -> dict[str, Any]:
    """Nested plain mapping (JSON- and YAML-able) in keys of SCHEMA; `from_dict` is its inverse."""
    plain = dataclasses.asdict(config)
    transform = plain["data"]["transform"]
    plain["data"]["transform"] = {"name": transform.pop("name"), **transform}
    return _lists(plain)


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _lists(v) for k, v in value.items()}
    return [_lists(v) for v in value] if isinstance(value, (list, tuple)) else value


def from_dict(tree: Mapping[str, Any], source: str = "", schema: int | None = None) -> Config:
    """Typed configuration of a nested mapping, of this or an older schema.

    Args:
        tree: sections; absent keys take their defaults.
        source: file named in errors.
        schema: of the keys, as the checkpoint says; None = what the mapping says, where keys of schema 1 are read too.

    Raises:
        ConfigError: an unknown key, a wrong type, a later schema.
    """
    facts = registry.family(family_of(tree, source) or DEFAULT_FAMILY)
    layer = Layer(source, tree, schema_of(tree, schema, source), quiet=not source)
    return _finish(merge_layers([layer], facts).tree, facts.name)


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
    """The line of a command, sorted: its own options, a configuration file, overrides."""

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
        family, merged = _resolved(self.config_file, self.overrides, self.option_names)
        published = registry.family(family).published_file
        recipe = from_dict({"family": family}) if published is None else load_config(published, [f"--family={family}"])
        return explain({"schema": SCHEMA, **to_dict(config)}, merged.layers, to_dict(recipe))

    def applied_to(self, config: Config) -> Config:
        """`config` of a checkpoint with this line's file, then its overrides, on top."""
        if self.config_file is not None:
            family = family_of_file(self.config_file)
            if family != config.family and any("family" in tree for _, tree in read_yaml(Path(self.config_file))):
                raise ConfigError(f"{self.config_file} is of family {family!r}, the checkpoint of {config.family!r}")
            config = _over(config, _file_layers([self.config_file]))
        return _apply(config, self.overrides, self.option_names)


def parse_command_line(
    argv: Sequence[str], parser: argparse.ArgumentParser | None = None, *, explains: bool = False
) -> CommandLine:
    """Sorts a command's arguments; the configuration itself is resolved later by the returned object.

    Args:
        argv: `sys.argv[1:]`.
        parser: the command's own options (`--ckpt`, `--out`, ...); `--config` is added to it.
        explains: adds `--explain-config`, for a command that then prints `CommandLine.explained()`.
    Raises:
        ConfigError: an argument that belongs to nothing, or a mistake in the command's own options.
    """
    parser = parser or CommandParser()
    parser.allow_abbrev = False
    parser.epilog = parser.epilog or _EVERY_KEY
    if explains:
        parser.add_argument("--explain-config", action="store_true", help="print where every key comes from, and stop")
    if "--config" not in parser._option_string_actions:
        parser.add_argument(
            "--config", metavar="FILE", help="YAML file; without it the family's default, or what the checkpoint holds"
        )
    words = split_arguments(argv, parser)
    options = parser.parse_args(list(words.rest))
    names = tuple(name.lstrip("-") for name in parser._option_string_actions if name.startswith("--"))
    return CommandLine(options, options.config, words.overrides, names)


def to_yaml(config: Config) -> str:
    """The whole configuration as YAML that `load_config` reads back."""
    return yaml.safe_dump({"schema": SCHEMA, **to_dict(config)}, sort_keys=False, allow_unicode=True)


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
    named = [family_of(layer, source) for source, layer in read_yaml(Path(path))]
    return next((family for family in reversed(named) if family), DEFAULT_FAMILY)


def _finish(tree: Mapping[str, Any], family: str) -> Config:
    swaps = swaps_of(tree)
    sections = {name: build(tree.get(name, {}), cls, swaps) for name, cls in SECTIONS.items()}
    # A part without a file is no part: an empty path takes back what a layer below said.
    sections["train"].pretrained = {part: path for part, path in sections["train"].pretrained.items() if path}
    config = Config(family=family, model=build(tree.get("model", {}), registry.family(family).config), **sections)
    complete(config.data)
    validate(config)
    return config


def _last(overrides: Overrides, *names: str) -> str | None:
    found = [words[-1] for name, words in overrides if name in names and words]
    return found[-1] if found else None


def _file_layers(paths: Sequence[str | Path]) -> list[Layer]:
    layers = [layer for path in paths for layer in read_yaml(Path(path))]
    return [Layer(source, tree, schema_of(tree, source=source)) for source, tree in layers]


def _dataset_of(layers: Sequence[Layer]) -> str:
    sections = [layer.tree.get("data") for layer in layers]
    named = [data["dataset"] for data in sections if isinstance(data, Mapping) and "dataset" in data]
    return str(named[-1]) if named else DataConfig().dataset


def _layers(paths: str | Path | Sequence[str | Path] | None, overrides: Overrides) -> list[Layer]:
    if paths is None:
        facts = registry.family(_last(overrides, "family") or DEFAULT_FAMILY)
        usual = _file_layers([facts.default_file]) if facts.default_file else []
        asked = _last(overrides, "dataset", "data.dataset")
        if asked is None or asked == _dataset_of(usual):
            return usual
        return _file_layers([facts.published_file]) if facts.published_file else []
    return _file_layers([paths] if isinstance(paths, (str, Path)) else list(paths))


def _resolved(
    paths: str | Path | Sequence[str | Path] | None,
    overrides: Overrides,
    options: Sequence[str] = (),
    below: Sequence[Layer] = (),
) -> tuple[str, Merged]:
    """Family, and all layers as one tree and one by one; `below` lie under the others."""
    layers = [*below, *_layers(paths, overrides)]
    family = DEFAULT_FAMILY
    owner = ""  # whose `model` section a file without `family` of its own continues
    for layer in layers:
        family = family_of(layer.tree, layer.source) or family
    family = _last(overrides, "family") or family
    owned: list[Layer] = []
    for layer in layers:
        owner = family_of(layer.tree, layer.source) or owner or family
        owned.append(dataclasses.replace(layer, tree={**layer.tree, "family": owner}))
    owned.append(_command_line(overrides, family, options))
    return family, merge_layers(owned, registry.family(family))


def _command_line(overrides: Overrides, family: str, options: Sequence[str]) -> Layer:
    """What was typed; every name that was ever a key may be."""
    return Layer("command line", resolve_overrides(overrides, family, options), schema=1, quiet=True)


def _load(paths: str | Path | Sequence[str | Path] | None, overrides: Overrides, options: Sequence[str] = ()) -> Config:
    family, merged = _resolved(paths, overrides, options)
    config = _finish(merged.tree, family)
    # What files beside pretrained weights say stands below everything that somebody wrote.
    said = [layer for source in described(config) if (layer := source.layer(config)) is not None]
    if said:
        family, merged = _resolved(paths, overrides, options, said)
        config = _finish(merged.tree, family)
    check_described(config)
    return config


def _over(config: Config, layers: Sequence[Layer]) -> Config:
    """A new configuration: `config` with layers on top."""
    tree = to_dict(config)
    asked: set[str] = set()
    for layer in layers:
        data = layer.tree.get("data")
        asked |= set(data) if isinstance(data, Mapping) else set()
    if {"dataset", "splitBy"} & asked:
        # What was usual for the old data set need not exist for the new one.
        tree["data"].pop("eval_splits")
        if "dataset" in asked:
            tree["data"].pop("splitBy")
    under = Layer("configuration", tree, SCHEMA, quiet=True)
    return _finish(merge_layers([under, *layers], registry.family(config.family)).tree, config.family)


def _apply(config: Config, overrides: Overrides, options: Sequence[str] = ()) -> Config:
    layer = _command_line(overrides, config.family, options)
    if layer.tree.get("family", config.family) != config.family:
        raise ConfigError(f"family {layer.tree['family']!r} asked of a configuration of family {config.family!r}")
    return _over(config, [layer])
