"""Shapes that a file states, checked before they are multiplied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mindground.errors import shown

__all__ = ["MOST_DIMENSIONS", "checked_count", "checked_sizes"]

MOST_DIMENSIONS = 32
"""numpy 1's limit; weights have at most five."""
_LARGEST = 1 << 48


def checked_sizes(values: Any, what: str = "shape") -> tuple[int, ...]:
    """A list of sizes, strides or an offset as a tuple of ints.

    Raises:
        ValueError: not a list of integers, too many of them, negative, or larger than 2**48.
    """
    if not isinstance(values, (tuple, list)):
        raise ValueError(f"the {what} is {shown(values)}, not a list of sizes")
    if len(values) > MOST_DIMENSIONS:
        raise ValueError(f"a {what} of {len(values)} dimensions, above {MOST_DIMENSIONS}")
    for number in values:
        if type(number) is not int or not 0 <= number <= _LARGEST:
            raise ValueError(f"the {what} {shown(values)} holds {shown(number)}, not a size of 0 to 2**48")
    return tuple(values)


def checked_count(shape: Sequence[int]) -> int:
    """How many numbers a shape holds; 1 for a scalar.

    Raises:
        ValueError: as `checked_sizes`.
    """
    count = 1
    for number in checked_sizes(shape):
        count *= number  # at most 32 factors of 48 bits
    return count
