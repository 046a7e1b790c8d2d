"""Which split an annotation file holds, from its name or its folder."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mindground.errors import ConfigError

__all__ = ["check_name", "split_of", "splits_of"]

# Words that name files of every split alike: Roboflow's _annotations.coco.json, CVAT's instances_default.json,
# Label Studio's result.json.
_GENERIC = frozenset(
    "annotation annotations coco data default export instances json label labels labelled result results".split()
)
_USUAL = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def split_of(path: Path) -> str:
    """Split that a file speaks of: `instances_train2017.json` -> `train`, `valid/_annotations.coco.json` -> `val`.

    A name that speaks of none leaves it to the folder, where that is called as splits are.

    Raises:
        ConfigError: neither says it.
    """
    words = [word for word in re.split(r"[\W_]+", path.stem) if word]
    last = re.sub(r"\d+$", "", words[-1]) if words else ""
    if last and last.lower() not in _GENERIC:
        return _USUAL.get(last.lower(), last.lower())
    folder = re.sub(r"[\d_]+$", "", path.resolve().parent.name).lower()
    if folder in _USUAL:
        return _USUAL[folder]
    raise ConfigError(f"{path}: neither its name nor its folder says which split it is; name it with --split")


def splits_of(paths: Sequence[Path]) -> list[str]:
    """Splits of the files of one call.

    Raises:
        ConfigError: two files would be written to one split.
    """
    splits = [split_of(path) for path in paths]
    for split, number in Counter(splits).items():
        if number > 1:
            first, second = [path for path, own in zip(paths, splits, strict=True) if own == split][:2]
            raise ConfigError(
                f"{first} and {second} would both be written as {split}, the second in the place of the first; give "
                "one file a call, each with its --split"
            )
    return splits


def check_name(name: str, option: str) -> str:
    """A name that becomes part of a file name. Raises ConfigError for one that leaves its folder."""
    if not re.fullmatch(r"[^\W_][\w.+-]*", name):
        raise ConfigError(f"{option} {name!r} becomes part of a file name: use letters, digits, '.', '-', '+' and '_'")
    return name
