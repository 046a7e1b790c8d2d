"""What a weight file says about the configuration that it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mindground.errors import WeightsError

__all__ = ["SourceFacts", "refuse_contradiction"]


@dataclass
class SourceFacts:
    """Returned by a family's `describe_source(file)`, from shapes and from the metadata beside the tensors.

    Attributes:
        keys: dotted key -> value that fits the file, as `{"model.vl_nheads": 16}`.
        unseen: keys whose value no shape verifies: with a wrong value the file loads and then computes nonsense.
        fixed: dotted key -> the values with which the file can be used at all; any other is refused with both.
        notes: lines for the user who imports the file.
    """

    keys: dict[str, Any] = field(default_factory=dict)
    unseen: tuple[str, ...] = ()
    fixed: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def refuse_contradiction(facts: SourceFacts, asked: Callable[[str], Any], source: str, sections: str = "") -> None:
    """Compare a configuration with what a file fixes.

    Args:
        asked: dotted key -> the value in the configuration.
        source: the file, for the message.
        sections: what the compared keys begin with.

    Raises:
        WeightsError: the first key whose value the file rules out.
    """
    for key, accepted in facts.fixed.items():
        value = asked(key)
        if key.startswith(sections) and value not in accepted:
            raise WeightsError(
                f"{source}: {key}={value!r} is set, and the file says {accepted[0]!r}; leave the key out, or set "
                f"--{key}={_written(accepted[0])}"
            )


def _written(value: Any) -> str:
    return "[" + ",".join(map(str, value)) + "]" if isinstance(value, list) else str(value)
