"""Annotation files of strangers as a whole: JSON only, with errors that name the file. Their fields: `fields.py`."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindground.data.formats.fields import Problem
from mindground.errors import DataError, DatasetNotFoundError, shown
from mindground.structures import Sample

__all__ = [
    "Defect",
    "as_defect",
    "parse_json",
    "read_file",
    "read_json",
    "require_images",
]

_IN_BRACKETS = re.compile(r" \([^()]*\)")


@dataclass(frozen=True)
class Defect:
    """What is wrong at one place of a data set: a reader raises it, the data check collects it.

    Attributes:
        kind: name of the defect, as the report of tools/data_check.py counts it.
        subject: file, with the object or line in it.
        detail: what stands there, and what should.
        split: the split concerned, where it concerns one.
        numbers: the objects concerned; None where the whole set cannot be trusted.
        serious: False for what one should know of but can train with.
    """

    kind: str
    subject: str
    detail: str
    split: str = ""
    numbers: tuple[int, ...] | None = None
    serious: bool = True

    def __str__(self) -> str:
        return f"{self.subject}: {self.detail}"


def as_defect(line: str, split: str) -> Defect:
    """A line that a reader collected, as the data check tells it."""
    if not isinstance(line, Problem):
        return Defect("record_format", "annotations", line, split)
    subject, detail = line.where, line.removeprefix(line.where)
    if named := _IN_BRACKETS.match(detail):  # "annotation 0 (id 1)", where the record is known by its place alone
        subject, detail = subject + named[0], detail[named.end() :]
    return Defect(line.kind, subject, detail.lstrip(" :") or str(line), split, serious=line.serious)


def read_file(path: Path, most: int | None = None) -> bytes:
    """The bytes of an ordinary file, of at most `most`.

    Raises:
        DataError: a folder, a device or a pipe, it is larger, or it cannot be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{path}: is no ordinary file; name the file itself")
        with path.open("rb") as file:
            content = file.read(-1 if most is None else most + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check the file") from error
    if most is not None and len(content) > most:
        raise DataError(f"{path}: larger than {most} bytes, which no such file is; check the file")
    return content


def parse_json(content: bytes, where: str) -> Any:
    """One JSON value from UTF-8 bytes.

    Raises:
        DataError: it is none, ends early, is nested too deeply, or has a number of thousands of digits.
    """
    try:
        return json.loads(content.decode("utf-8-sig"))
    except RecursionError as error:
        raise DataError(f"{where} is not valid JSON (nested too deeply); get it again") from error
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, and the limit on the digits of a number
        raise DataError(
            f"{where} is not valid JSON ({shown(str(error))}); it may be cut short, get it again"
        ) from error


def read_json(path: Path) -> Any:
    """Parse one JSON file.

    Raises:
        DataError: it cannot be read, is not UTF-8 JSON, or ends early.
    """
    return parse_json(read_file(path), str(path))


def require_images(samples: Sequence[Sample], folder: Path, dataset: str, source: str) -> None:
    """Complain when none of the first hundred images is there: the folder exists, but is not the right one.

    Raises:
        DatasetNotFoundError: with `source`, where the images come from.
    """
    tried = list(dict.fromkeys(sample.image_path for sample in samples))[:100]
    if tried and not any(os.path.isfile(path) for path in tried):
        raise DatasetNotFoundError(
            f"{folder} holds none of the first {len(tried)} images of {dataset} ({shown(tried[0], 200)} is missing). "
            f"Get {source} and unpack it there, or set data.image_root to where the images are"
        )
