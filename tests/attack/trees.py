"""Changes of JSON-able trees: values of other types, nodes gone, doubled or moved."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

__all__ = ["VALUES", "as_lists", "mutate_tree"]

VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    -1,
    0,
    1,
    1.5,
    1e308,
    float("nan"),
    float("inf"),
    float("-inf"),
    2**31,
    2**53,
    2**63,
    2**64,
    -(2**63),
    10**30,
    10**400,
    "",
    "a",
    "1",
    "NaN",
    "train",
    "\0",
    "a\nb",
    "\x1b[31m",
    "\ud800",
    "\u202eevil",
    "../../../etc/passwd",
    "/etc/passwd",
    "/dev/zero",
    "x" * 300,
    [],
    {},
    [[]],
    [None],
    [1, 2],
    [1, 2, 3, 4],
    [1, 2, float("nan"), 4],
    ["a", "b", "c", "d"],
    [[1, 2], [3, 4]],
    [[1, 2, 11, 2, 11, 10]],
    [[1e9, 2, -1e9, 2, 11, 1e300]],
    [0, 30],
    {"a": 1},
    {"size": [20, 30], "counts": "0"},
    {"size": [20, 30], "counts": [600]},
    {"size": [0, 0], "counts": []},
    {"size": [10**6, 10**6], "counts": [10**12]},
)
"""What stands in a tree in place of what is expected."""
_KEYS = ("id", "split", "bbox", "box", "mask", "objects", "size", "x", "", "__class__")


def _paths(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(tree, dict):
        for key in tree:
            yield from _paths(tree[key], (*path, key))
    elif isinstance(tree, list):
        for place, value in enumerate(tree):
            yield from _paths(value, (*path, place))


def as_lists(tree: Any) -> Any:
    """The tree with lists in place of tuples, so that its nodes can be exchanged."""
    if isinstance(tree, (list, tuple)):
        return [as_lists(value) for value in tree]
    if isinstance(tree, dict):
        return {key: as_lists(value) for key, value in tree.items()}
    return tree


def mutate_tree(rng: random.Random, tree: Any) -> Any:
    """A copy with one or two nodes changed."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 2))):
        paths = [path for path in _paths(tree) if path]
        if not paths or rng.random() < 0.02:
            return copy.deepcopy(rng.choice(VALUES))
        *above, last = rng.choice(paths)
        holder = tree
        for key in above:
            holder = holder[key]
        change = rng.randrange(6)
        if change <= 2:
            holder[last] = copy.deepcopy(rng.choice(VALUES))
        elif change == 3:
            del holder[last]
        elif change == 4 and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[last]))
        elif isinstance(holder, dict):
            holder[rng.choice(_KEYS)] = copy.deepcopy(holder[last])
        else:
            holder[last] = [holder[last]]
    return tree
