"""What a torch pickle says about a storage: ("storage", class, key, device, count[, view])."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mindground.errors import WeightsError, shown
from mindground.files._globals import storage_kind
from mindground.files._sizes import checked_sizes

__all__ = ["storage_reference"]

_LONGEST_KEY = 256


def storage_reference(path: Path, reference: Any) -> tuple[str, str, int, tuple[int, int] | None]:
    """Kind of number, key, count, and (start, length) of the view into the storage or None.

    Raises:
        WeightsError: a reference to something else.
        ValueError: damaged.
    """
    if type(reference) is not tuple or not 5 <= len(reference) <= 6 or reference[0] != "storage":
        what = reference[0] if type(reference) is tuple and reference else reference
        raise WeightsError(
            f"{path}: holds a whole pickled module or another object ({shown(what, 40)}), not a dictionary of tensors; "
            "save its state_dict() instead"
        )
    _, storage, key, _, count = reference[:5]
    view = reference[5] if len(reference) > 5 else None
    if type(key) is int:
        key = shown(key)
    if type(key) is not str or len(key) > _LONGEST_KEY:
        raise ValueError(f"a storage is called {shown(key)}")
    (held,) = checked_sizes((count,), "number of values")
    if view is None:
        return storage_kind(storage), key, held, None
    if type(view) is not tuple or len(view) != 3:
        raise ValueError(f"a view is {shown(view)}")
    start, length = checked_sizes(view[1:], "view")
    return storage_kind(storage), key, held, (start, length)
