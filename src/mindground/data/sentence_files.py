"""Sentences from a file: one a line, or a column of a CSV file."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from mindground.data.formats.files import read_file
from mindground.errors import DataError, shown
from mindground.files.text import split_lines

__all__ = ["read_sentences"]

_MOST = 16 << 20
_COLUMNS = ("sentence", "text", "expression", "query", "prompt")


def read_sentences(path: str | Path) -> list[str]:
    """The sentences of a UTF-8 file, in order, each once.

    A file that ends in `.csv` or `.tsv` has a header with a column `sentence` (or `text`, `expression`, `query`,
    `prompt`); of any other file each line is a sentence. Empty lines, and lines that begin with `#`, are left out.

    Raises:
        DataError: it cannot be read, is no UTF-8, has no such column or no sentence.
    """
    path = Path(path)
    try:
        text = read_file(path, most=_MOST).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no UTF-8 text (byte {error.start}); save it as UTF-8") from error
    suffix = path.suffix.lower()
    table = suffix in (".csv", ".tsv")
    lines = _column(text, path, "\t" if suffix == ".tsv" else ",") if table else split_lines(text)
    kept = [line.strip() for line in lines if line.strip() and (table or line.strip()[0] != "#")]
    if not kept:
        raise DataError(f"{path}: holds no sentence; write one a line, or a CSV file with a column 'sentence'")
    return list(dict.fromkeys(kept))


def _column(text: str, path: Path, delimiter: str) -> list[str]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        wanted = next((name for name in _COLUMNS if name in header), None)
        if wanted is None:
            raise DataError(f"{path}: its columns are {shown(header)}; one of them must be called 'sentence'")
        place = header.index(wanted)
        return [row[place] for row in reader if len(row) > place]
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: no CSV ({shown(str(error))}); save it again") from error
