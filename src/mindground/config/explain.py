"""A resolved configuration with the origin of every key: what `--explain-config` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

__all__ = ["explain"]

_WIDTH = 52


def explain(
    config: Mapping[str, Any], layers: Sequence[tuple[str, Mapping[str, Any]]], published: Mapping[str, Any]
) -> str:
    """YAML that reads back to `config`, with a comment behind every key that is not at its default.

    Args:
        config: the resolved configuration as a nested mapping.
        layers: (file or "command line", what it says), later ones win.
        published: the family's published recipe, resolved; a key that differs says so.
    """
    origins: dict[str, str] = {}
    for source, layer in layers:
        origins.update(dict.fromkeys(_leaves(layer), source if source == "command line" else _short(source)))
    return "\n".join(_lines(config, origins, dict(_values(published)), "", "")) + "\n"


def _lines(
    tree: Mapping[str, Any], origins: Mapping[str, str], published: Mapping[str, Any], prefix: str, indent: str
) -> Iterator[str]:
    for name, value in tree.items():
        key = prefix + name
        if isinstance(value, Mapping):
            yield f"{indent}{name}:"
            yield from _lines(value, origins, published, f"{key}.", indent + "  ")
            continue
        text = f"{indent}{name}: {_plain(value)}"
        remarks = [origins[key]] if key in origins else []
        if key in published and published[key] != value:
            remarks.append(f"published: {_plain(published[key])}")
        yield f"{text:<{_WIDTH}}# {'; '.join(remarks)}" if remarks else text


def _values(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _values(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _leaves(tree: Mapping[str, Any]) -> Iterator[str]:
    return (key for key, _ in _values(tree))


def _plain(value: Any) -> str:
    """A scalar or a list as YAML writes it on one line."""
    return yaml.safe_dump([value], default_flow_style=True, width=10_000, allow_unicode=True).strip()[1:-1]


def _short(source: str) -> str:
    """A file below the working folder without the folder."""
    try:
        return str(Path(source).relative_to(Path.cwd()))
    except ValueError:
        return source
