"""Errors a user can act on.

Every class carries one sentence: what happened, with which value, what to do next. The entry
points (`train.py`, `eval.py`, ...) print that sentence and exit with code 2; `--debug` shows the traceback.
"""

from __future__ import annotations

import reprlib
from itertools import islice
from typing import Any

__all__ = [
    "MindGroundError",
    "ConfigError",
    "DataError",
    "DatasetNotFoundError",
    "ImageError",
    "GeoError",
    "WeightsError",
    "UnsafeFileError",
    "CheckpointError",
    "DeviceError",
    "WriteError",
    "NonFiniteLossError",
    "NonFiniteWeightsError",
    "shown",
]


class _Short(reprlib.Repr):
    """Three levels of containers with a few values each; long numbers and objects of other classes are only named."""

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if x.bit_length() <= 256 else f"a whole number of {x.bit_length()} bits"

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        # The library's own sorts the keys of the whole dictionary first.
        shown_keys = [f"{self.repr1(key, level - 1)}: {self.repr1(x[key], level - 1)}" for key in islice(x, 4)]
        return f"{{{', '.join(shown_keys)}{', ...' if len(x) > 4 else ''}}}" if level > 0 else "{...}"


def shown(value: object, limit: int = 60) -> str:
    """A value from a file as a message shows it: its repr, escaped, on one line and cut to about `limit` characters.

    A nested value is never walked whole, so one that holds itself many times over costs nothing.
    """
    if type(value) is int and -(2**63) < value < 2**63:
        return str(value)  # an id, of which a reader names one a record
    short = _Short()
    short.maxlevel, short.maxset, short.maxfrozenset = 3, 3, 3
    short.maxstring = short.maxother = limit
    try:
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in short.repr(value))
    except Exception:  # an object of another library whose repr fails
        return f"a {type(value).__name__}"
    return text if len(text) <= 2 * limit else f"{text[: 2 * limit]}..."


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


class GeoError(ImageError):
    """A raster whose pixels can be read, but whose place on earth cannot be computed."""


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


class NonFiniteWeightsError(MindGroundError):
    """Training has ended in weights that are NaN or infinite; the last good checkpoint is unchanged."""
