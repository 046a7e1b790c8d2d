"""A resolved configuration with the origin of every key: what `--explain-config` prints."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mindground.config.keys import flat
from mindground.config.schedule import SHORT_KEYS

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
        origins.update(dict.fromkeys(flat(layer), source if source == "command line" else _short(source)))
    unread = {f"train.{name}" for name in SHORT_KEYS} if config["train"]["schedule"] else set()
    return "\n".join(_lines(config, origins, flat(published), unread, "", "")) + "\n"


def _lines(
    tree: Mapping[str, Any],
    origins: Mapping[str, str],
    published: Mapping[str, Any],
    unread: Container[str],
    prefix: str,
    indent: str,
) -> Iterator[str]:
    for name, value in tree.items():
        key = prefix + name
        if isinstance(value, Mapping) and value:
            yield f"{indent}{name}:"
            yield from _lines(value, origins, published, unread, f"{key}.", indent + "  ")
            continue
        text = f"{indent}{name}: {_plain(value)}"
        remarks = [origins[key]] if key in origins else []
        if key in published and published[key] != value:
            remarks.append(f"published: {_plain(published[key])}")
        if key in unread:
            remarks.append("not read, train.schedule is")
        yield f"{text:<{_WIDTH}}# {'; '.join(remarks)}" if remarks else text


def _plain(value: Any) -> str:
    """A scalar or a list as YAML writes it on one line."""
    return yaml.safe_dump([value], default_flow_style=True, width=10_000, allow_unicode=True).strip()[1:-1]


def _short(source: str) -> str:
    """A file below the working folder without the folder."""
    try:
        return str(Path(source).relative_to(Path.cwd()))
    except ValueError:
        return source
