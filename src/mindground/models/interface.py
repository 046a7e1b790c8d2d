"""What a network asks for and what it answers: from it and the data set's kind follows the task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["ModelInterface"]


@dataclass(frozen=True)
class ModelInterface:
    """Known before the network is built (`models/<family>/__init__.py: interface(config)`).

    Attributes:
        asks: for an expression, for a prompt (points, boxes), or for nothing beside the image.
        answers: what a prediction holds, `box`, `mask` or both.
        many: several predictions an image instead of one.
    """

    asks: Literal["expression", "prompt", "nothing"]
    answers: tuple[Literal["box", "mask"], ...]
    many: bool = False
