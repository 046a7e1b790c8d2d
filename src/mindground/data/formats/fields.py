"""Fields of annotation records: what may stand in them, and what is done with a record that holds something else.

Files of strangers hold null, text or lists where a number belongs. Every reader takes its fields through these
functions, so each such value ends in one sentence with the file and the record, and reads its records under
`Reading.record`, so one that was not thought of does as well.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

import numpy as np

from mindground.errors import DataError, DatasetNotFoundError, MindGroundError, UnsafeFileError, as_sentence, shown
from mindground.structures import Segmentation, check_outline, check_size, outline_box
from mindground.structures.outlines import Parts

__all__ = [
    "Problem",
    "Reading",
    "RecordError",
    "clean_segmentation",
    "corners",
    "four_numbers",
    "guarded",
    "identity",
    "integer",
    "listing",
    "mapping",
    "optional_size",
    "plain_text",
    "require",
    "split_name",
    "text",
]

_LOG = logging.getLogger("mindground")
_DAMAGE = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError, OSError)
MAX_NUMBER = 1e9
"""Pixels: no side of a box is further from the image's corner."""
_WHOLE = 2**63
_PLAIN = frozenset({int, float})
Args = ParamSpec("Args")
Result = TypeVar("Result")


class RecordError(DataError):
    """One record holds what its format does not allow. `kind` is the name that the data check counts it under."""

    def __init__(self, message: str, kind: str = "record_format") -> None:
        super().__init__(message)
        self.kind = kind


class Problem(str):
    """One line about one record that a reader left out, or (not `serious`) read in part.

    Attributes:
        where: file and record.
        kind: name of the defect, as the report of tools/data_check.py counts it.
        serious: False for what one should know of but can train with.
    """

    where: str
    kind: str
    serious: bool

    def __new__(cls, line: str, where: str, kind: str = "record_format", *, serious: bool = True) -> Problem:
        """`line` is the whole sentence."""
        made = super().__new__(cls, as_sentence(line))
        made.where, made.kind, made.serious = where, kind, serious
        return made


class Reading:
    """What one reading of a split finds wrong: raised at once, or collected; and what it has to say at the end.

    Args:
        problems: a list that gets one line a record that cannot be used, which is then left out; None = such a record
            raises DataError.
    """

    def __init__(self, problems: list[str] | None = None) -> None:
        self.problems = problems
        self._notes: dict[str, list[Any]] = {}
        self._named: list[Problem] = []

    def record(self, where: str) -> _Record:
        """`with reading.record(where):` around everything that is done with one record."""
        return _Record(self, where)

    def note(self, what: str, where: str, kind: str = "record_format", *, by_name: bool = False) -> None:
        """Remember something that is read in part; `what` is a sentence about any number of records.

        `by_name`: where problems are collected, every record gets its own line.
        """
        if by_name and self.problems is not None:
            self._named.append(Problem(f"{where}: {what}", where, kind, serious=False))
            return
        entry = self._notes.setdefault(what, [0, where, kind])
        entry[0] += 1

    def tell(self, source: str) -> None:
        """Say what was noted: one warning a kind with the number of records and the first, or lines for `problems`."""
        for what, (count, first, kind) in self._notes.items():
            times = f"{count} times, first" if count > 1 else "once,"
            line = f"{source}: {what} ({times} at {first.removeprefix(source).lstrip(' :')})"
            if self.problems is None:
                _LOG.warning("%s", line)
            else:
                self.problems.append(Problem(line, source, kind, serious=False))
        if self.problems is not None:
            self.problems.extend(self._named)
        self._notes.clear()
        self._named.clear()


class _Record:
    """Turns whatever goes wrong with one record into a DataError that names it, or into a line."""

    __slots__ = ("_reading", "_where")

    def __init__(self, reading: Reading, where: str) -> None:
        self._reading, self._where = reading, where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if error is None or isinstance(error, (UnsafeFileError, DatasetNotFoundError)):
            return False
        if isinstance(error, DataError):
            line = str(error)
        elif isinstance(error, _DAMAGE):
            line = f"{self._where}: the record is damaged ({type(error).__name__}: {shown(str(error))})"
        else:
            return False
        problems = self._reading.problems
        if problems is None:
            if isinstance(error, DataError):
                return False
            raise RecordError(line) from error
        problems.append(Problem(line, self._where, getattr(error, "kind", "record_format")))
        return True


def guarded(read: Callable[Args, Result]) -> Callable[Args, Result]:
    """A reading function whose files cannot raise anything but an error that says so: the last resort."""

    @functools.wraps(read)
    def checked(*args: Args.args, **kwargs: Args.kwargs) -> Result:
        try:
            return read(*args, **kwargs)
        except MindGroundError:
            raise
        except _DAMAGE as error:
            raise DataError(
                f"the files below {str(args[0] if args else '')!r} are damaged ({type(error).__name__}: "
                f"{shown(str(error))}); run tools/data_check.py, or with --debug to see where"
            ) from error

    return checked


def require(record: Any, keys: Sequence[str], where: str) -> None:
    """Complain about the keys that `record` lacks, naming the place it comes from.

    Raises:
        RecordError: it is no object, or lacks one.
    """
    if not isinstance(record, Mapping):
        wanted = f" with keys {', '.join(keys)}" if keys else ""
        raise RecordError(f"{where} must be an object{wanted}; it is a {type(record).__name__}")
    for key in keys:
        if key not in record:
            missing = ", ".join(repr(name) for name in keys if name not in record)
            raise RecordError(f"{where} lacks {missing}; it has {shown(sorted(map(str, record)))}")


def listing(record: Mapping[str, Any], key: str, where: str) -> Sequence[Any]:
    """The list at `key`."""
    value = record[key]
    if not isinstance(value, (list, tuple)):
        raise RecordError(f"{where}: {key!r} is a list, not {shown(value)}")
    return value


def mapping(record: Mapping[str, Any], key: str, where: str) -> Mapping[Any, Any]:
    """The object at `key`; an empty one where it is missing."""
    value = record.get(key, {})
    if not isinstance(value, Mapping):
        raise RecordError(f"{where}: {key!r} is an object, not {shown(value)}")
    return value


def plain_text(value: Any, what: str, where: str, *, empty: bool = True) -> str:
    """Text that can be written down as UTF-8; `what` names it in the error.

    Raises:
        RecordError: no text, half of a surrogate pair or a zero character in it, or nothing where `empty` is False.
    """
    if isinstance(value, str):
        if value.isascii() and (value or empty):
            return value
        try:
            value.encode()
        except UnicodeEncodeError:
            raise RecordError(
                f"{where}: {what} {shown(value)} is no text that UTF-8 can hold; export it again"
            ) from None
        if value or empty:
            return value
    raise RecordError(f"{where}: {what} is text{'' if empty else ' that is not empty'}, not {shown(value)}")


def text(record: Mapping[str, Any], key: str, where: str, *, empty: bool = True) -> str:
    """The text at `key`."""
    return plain_text(record[key], repr(key), where, empty=empty)


def identity(record: Mapping[str, Any], key: str, where: str) -> Any:
    """The id at `key`, as the file has it: a whole number or text (UUIDs are in use); whole floats become numbers.

    Raises:
        RecordError: something else, which could name no record.
    """
    value = record[key]
    kind = type(value)
    if kind is int and -_WHOLE <= value < _WHOLE:
        return value
    if kind is str:
        return plain_text(value, repr(key), where, empty=False)
    if isinstance(value, (float, np.floating, np.integer)):
        number = float(value)
        if abs(number) < 2**53 and number.is_integer():
            return int(number)
    raise RecordError(f"{where}: {key!r} is an id, a whole number or text, not {shown(value)}")


def integer(record: Mapping[str, Any], key: str, where: str) -> int:
    """The whole number at `key`; digits in text are one, as ids in the keys of JSON objects are.

    Raises:
        RecordError: something else.
    """
    value = record[key]
    if type(value) is int and -_WHOLE <= value < _WHOLE:
        return value
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit() and len(value) <= 18:
        return int(value)
    if isinstance(value, (float, np.floating, np.integer)):
        number = float(value)
        if abs(number) < 2**53 and number.is_integer():
            return int(number)
    raise RecordError(f"{where}: {key!r} is a whole number, not {shown(value)}")


def four_numbers(values: Any, what: str, where: str) -> list[float]:
    """A box: four finite numbers of at most `MAX_NUMBER`.

    Args:
        values: what the file holds.
        what: how the error calls it, such as `'box' is [left, top, right, bottom] in pixels`.
        where: file and record.

    Raises:
        RecordError: something else.
    """
    if type(values) in (list, tuple) and len(values) == 4 and _PLAIN.issuperset(map(type, values)):
        left, top, third, fourth = values
        limit = MAX_NUMBER
        if abs(left) <= limit and abs(top) <= limit and abs(third) <= limit and abs(fourth) <= limit:
            return [float(left), float(top), float(third), float(fourth)]
    elif isinstance(values, np.ndarray) and values.size == 4 and values.dtype.kind in "iuf":
        return four_numbers(values.reshape(-1).tolist(), what, where)
    elif isinstance(values, (list, tuple)) and any(isinstance(n, (np.integer, np.floating)) for n in values):
        plain = [n.item() if isinstance(n, (np.integer, np.floating)) else n for n in values]
        return four_numbers(plain, what, where)
    raise RecordError(f"{where}: {what}, finite numbers, not {shown(values)}")


def corners(values: Any, outline: Segmentation, where: str) -> list[float] | None:
    """[left, top, right, bottom] of COCO's [x, y, width, height]; around the outline where there is none.

    Returns:
        None where neither is there.
    """
    if values is None or (isinstance(values, (list, tuple)) and len(values) == 0):
        return outline_box(outline)
    left, top, width, height = four_numbers(values, "'bbox' is [x, y, width, height] in pixels", where)
    return [left, top, left + width, top + height]


def optional_size(height: Any, width: Any, where: str) -> tuple[int, int] | None:
    """(height, width) in pixels; None where the file does not say one of them (the image file then does).

    Raises:
        RecordError: they are no sizes of an image.
    """
    if height is None or width is None:
        return None
    sides = [int(n) if isinstance(n, float) and n.is_integer() else n for n in (height, width)]
    try:
        return check_size(sides, "the size")
    except DataError as error:
        raise RecordError(f"{where}: {error}") from error


def split_name(record: Mapping[str, Any], key: str, where: str) -> str:
    """The name of a split: files are called after it, so it holds no separator and is no place by itself."""
    name = text(record, key, where)
    if any(character in name for character in "/\\\0") or name in (".", ".."):
        raise RecordError(f"{where}: {key!r} names a split and must be a plain name, not {shown(name)}")
    return name


def clean_segmentation(
    segmentation: Any, where: str, size: tuple[int, int] | None = None, reading: Reading | None = None
) -> Parts:
    """Check an outline from a file (`structures.check_outline` says what is understood).

    Args:
        segmentation: what the file holds.
        where: file and record, for errors.
        size: (height, width) of the image where it is known; an RLE must have it.
        reading: is told of outlines that enclose nothing; None = nobody is.

    Returns:
        Polygons and RLE objects that can be drawn, or None where there is none that encloses anything.

    Raises:
        RecordError: something else.
    """
    if segmentation is None:
        return None
    try:
        outline, dropped = check_outline(segmentation, size)
    except DataError as error:
        raise RecordError(f"{where}: {error}", "mask_format") from error
    if dropped and reading is not None:
        if outline is None:
            reading.note("no part of a mask has three points or more, so it counts as none", where, "mask_format")
        else:
            reading.note("parts of fewer than three points enclose nothing and are left out", where, "mask_parts")
    return outline
