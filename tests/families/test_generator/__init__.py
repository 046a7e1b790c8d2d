"""A generator of a few thousand parameters: the referent's box, written as four tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mindground.models.interface import ModelInterface

if TYPE_CHECKING:
    from test_generator.network import Generator

__all__ = ["Config", "build", "interface"]


@dataclass
class Config:
    """The `model` section."""

    width: int = 32
    # Values that a coordinate may have.
    bins: int = 32
    # 0 stands for the tokenizer's size, which is filled in before the network is built.
    vocab_size: int = 0


def interface(config: Any) -> ModelInterface:
    """One referent per expression: its box."""
    return ModelInterface("expression", ("box",))


def build(config: Any) -> Generator:
    """Network of a resolved configuration."""
    from test_generator.network import Generator

    return Generator(width=config.model.width, bins=config.model.bins, vocab_size=config.model.vocab_size)
