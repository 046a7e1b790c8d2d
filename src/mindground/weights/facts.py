"""What a weight file says about the configuration that it needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["SourceFacts"]


@dataclass
class SourceFacts:
    """Returned by a family's `describe_source(file)`, from shapes and from the metadata beside the tensors.

    Attributes:
        keys: dotted key -> value that fits the file, as `{"model.vl_nheads": 16}`.
        unseen: keys whose value no shape verifies: with a wrong value the file loads and then computes nonsense.
        notes: lines for the user who imports the file.
    """

    keys: dict[str, Any] = field(default_factory=dict)
    unseen: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
