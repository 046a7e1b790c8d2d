"""Errors a user can act on.

Every class carries one sentence: what happened, with which value, what to do next. The entry
points (`train.py`, `eval.py`, ...) print that sentence and exit with code 2; `--debug` shows the traceback.
"""

from __future__ import annotations

__all__ = [
    "MindGroundError",
    "ConfigError",
    "DataError",
    "DatasetNotFoundError",
    "ImageError",
    "WeightsError",
    "UnsafeFileError",
    "CheckpointError",
    "DeviceError",
    "WriteError",
    "NonFiniteLossError",
    "shown",
]


def shown(value: object, limit: int = 60) -> str:
    """A value from a file as a message shows it: its repr, escaped and cut to `limit` characters."""
    if isinstance(value, (list, tuple, dict, set, frozenset)) and len(value) > limit:
        return f"a {type(value).__name__} of {len(value)} entries"  # its repr is never made
    if isinstance(value, (str, bytes)):
        value = value[: limit + 1]
    try:
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in repr(value))
    except (RecursionError, ValueError):  # nested too deep, or a number of thousands of digits
        return f"a value of type {type(value).__name__} that is too long to be shown"
    return text if len(text) <= limit else f"{text[:limit]}..."


class MindGroundError(Exception):
    """Base of every error whose cause lies with the user's files, keys or machine."""


class ConfigError(MindGroundError):
    """An unknown key, a value of the wrong type or a combination that cannot work."""


class DataError(MindGroundError):
    """An annotation file or sample that contradicts itself or its format."""


class DatasetNotFoundError(DataError):
    """A data set is not where the configuration points; the message says what goes where."""


class ImageError(DataError):
    """A file that is not an image, or an image that cannot be read whole."""


class WeightsError(MindGroundError):
    """A weight file that cannot be read, or does not fit the model it is meant for."""


class UnsafeFileError(WeightsError, DataError):
    """A file asks for code to be run while being read; nothing of it was run."""


class CheckpointError(MindGroundError):
    """A checkpoint that is incomplete, belongs to another run, or could not be written."""


class WriteError(MindGroundError):
    """A file that could not be written; what was there before is unchanged."""


class DeviceError(MindGroundError):
    """A device, mode or precision that this machine does not offer."""


class NonFiniteLossError(MindGroundError):
    """The loss became NaN or infinite; the message names step, rank and sample ids."""
