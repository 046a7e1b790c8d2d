"""What a family asks of a user and what it answers; known without building a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["ModelInterface"]


@dataclass(frozen=True)
class ModelInterface:
    """Question and answer of a family.

    Attributes:
        asks: what stands beside the image: an expression, nothing, or a prompt.
        answers: what is found, among "box" and "mask".
        many: several answers to one question.
    """

    asks: Literal["expression", "nothing", "prompt"]
    answers: tuple[str, ...]
    many: bool = False
