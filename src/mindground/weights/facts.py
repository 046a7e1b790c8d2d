"""What a file of weights says about the configuration that it needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["SourceFacts"]


@dataclass
class SourceFacts:
    """Told by a family's `describe_source(file)`, from shapes and from what was saved beside the tensors.

    Attributes:
        keys: dotted key -> value that fits the file, as `{"model.vl_nheads": 16}`.
        unseen: keys that the file states and no shape verifies: with another value it fits as well, and is wrong.
        notes: one line each, for whoever imports the file.
    """

    keys: dict[str, Any] = field(default_factory=dict)
    unseen: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
