"""Configurations that lie beside pretrained weights: what they say is taken, and contradicting it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mindground.config import registry
from mindground.config.layers import Layer
from mindground.config.registry import SourceKeys
from mindground.config.upgrade import SCHEMA
from mindground.errors import ConfigError, WeightsError
from mindground.files.model_folder import ModelFolder, find_model

if TYPE_CHECKING:
    from mindground.config.schema import Config

__all__ = ["Described", "check_described", "check_keys", "described"]


@dataclass(frozen=True)
class Described:
    """Pretrained weights with what lies beside them."""

    model: ModelFolder
    said: SourceKeys

    def layer(self, config: Config) -> Layer | None:
        """What they say as a layer of a configuration; None for nothing."""
        keys = dict(self.said.keys)
        keys |= {key: min(most, _value(config, key)) for key, most in self.said.most.items()}
        vocabulary = self.model.vocabulary(config.data.tokenizer)
        if vocabulary is not None:
            keys["data.vocab"] = str(vocabulary)
        tree: dict[str, Any] = {"family": config.family}
        for key, value in keys.items():
            *path, leaf = key.split(".")
            section = tree
            for part in path:
                section = section.setdefault(part, {})
            section[leaf] = value
        return Layer(str(self.model.source or self.model.folder), tree, SCHEMA) if keys else None


def described(config: Config) -> list[Described]:
    """Those of `train.pretrained` that have a configuration beside them, or a vocabulary in their folder.

    Raises:
        ConfigError: a folder without weights, or a configuration beside them that cannot be read.
    """
    found = []
    for path in config.train.pretrained.values():
        if not path or not Path(path).expanduser().exists():
            continue  # loading will say so
        try:
            model = find_model(path)
            said = said_by(config.family, model.config)
        except WeightsError as error:
            raise ConfigError(f"{path}: {error}") from error
        if said.keys or said.most or model.folder is not None:
            found.append(Described(model, said))
    return found


def said_by(family: str, content: Mapping[str, Any] | None) -> SourceKeys:
    """What the content of a configuration beside weights says of a family's keys."""
    read = registry.family(family).source_keys
    return read(content) if read is not None and content is not None else SourceKeys()


def check_described(config: Config) -> None:
    """Raises ConfigError where the configuration contradicts what lies beside its pretrained weights."""
    for source in described(config):
        check_keys(config, source.said, str(source.model.source))
        vocabulary = source.model.vocabulary(config.data.tokenizer)
        other = Path(config.data.vocab).expanduser()
        if vocabulary is None or other == vocabulary or not other.is_file():
            continue
        if other.read_bytes() != vocabulary.read_bytes():
            raise ConfigError(
                f"data.vocab={config.data.vocab} is not the vocabulary {vocabulary} beside the weights; leave "
                "data.vocab out"
            )


def check_keys(config: Config, said: SourceKeys, source: str) -> None:
    """Raises ConfigError for a key with another value than a source of weights says."""
    wrong = [(key, value) for key, value in said.keys.items() if _value(config, key) != value]
    wrong += [(key, most) for key, most in said.most.items() if _value(config, key) > most]
    if wrong:
        key, value = wrong[0]
        raise ConfigError(
            f"{source} says {key}={value}, and {_value(config, key)} is set: the weights need their own; leave {key} "
            f"out, or set --{key}={value}"
        )


def _value(config: Config, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value
