"""What is known of every tile of a scene, on disk as soon as it is known, so that a killed run goes on."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mindground.errors import DataError, WriteError, printable
from mindground.files.outputs import note_output, refuse_output
from mindground.structures import check_outline

__all__ = ["TileJournal", "job_key"]

_LONGEST_LINE = 1 << 30


def job_key(job: Mapping[str, Any]) -> str:
    """Digest of everything that decides what tiles answer: image, network, sentences, tiling, bands, threshold."""
    return hashlib.sha256(json.dumps(job, sort_keys=True, default=str).encode()).hexdigest()


class TileJournal:
    """One file a rank, `<name>.tiles.jsonl`, `<name>.tiles-1.jsonl`, ...: a line with the key, then one a tile.

    `known` reads the files of all ranks of an earlier run, however many these were. A file of another job, and what
    follows a damaged line, counts for nothing.

    Args:
        folder: of the results.
        name: of the scene's files.
        key: see `job_key`.
        tiles: (height, width) of every tile, by its number.
        questions: answers that every tile gives.
        rank: of this process.
    """

    def __init__(
        self, folder: Path, name: str, key: str, tiles: Mapping[int, tuple[int, int]], questions: int, rank: int = 0
    ) -> None:
        self.key, self._tiles, self._questions = key, tiles, questions
        self._folder, self._start = folder, f"{name}.tiles"
        self.path = folder / f"{self._start}{f'-{rank}' if rank else ''}.jsonl"
        self._stream: int | None = None
        self._kept = 0

    def known(self) -> dict[int, list[list[dict[str, Any]]]]:
        """Tile -> what it answered, of an earlier run of the same job."""
        found: dict[int, list[list[dict[str, Any]]]] = {}
        for path in self.files():
            entries, length = self._read(path)
            found.update(entries)
            if path == self.path:
                self._kept = length
        return found

    def files(self) -> list[Path]:
        """The files of this scene that are there, of all ranks."""
        try:
            names = sorted(os.listdir(self._folder))
        except OSError:
            return []
        return [self._folder / name for name in names if self._mine(name)]

    def add(self, tile: int, entry: list[list[dict[str, Any]]]) -> None:
        """Keep what a tile answered. Raises WriteError."""
        try:
            if self._stream is None:
                self._stream = self._opened()
            self._write({"tile": tile, "answers": entry})
        except OSError as error:
            raise WriteError(
                f"{printable(self.path, 300)}: cannot be written ({error.strerror or error}); free space or choose "
                "another folder"
            ) from error

    def close(self) -> None:
        """Close the file and keep it."""
        if self._stream is not None:
            os.close(self._stream)
            self._stream = None

    def remove(self) -> None:
        """Remove the files of all ranks: the results are written. Raises WriteError."""
        self.close()
        for path in self.files():
            try:
                path.unlink()
            except OSError as error:
                raise WriteError(f"{printable(path, 300)}: cannot be removed ({error.strerror})") from error

    def _mine(self, name: str) -> bool:
        middle = name.removeprefix(self._start).removesuffix(".jsonl")
        whole = name == f"{self._start}{middle}.jsonl"
        return whole and (middle == "" or (middle[0] == "-" and middle[1:].isdecimal() and middle.isascii()))

    def _opened(self) -> int:
        self._folder.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0)
        if self._kept:
            stream = os.open(self.path, flags)
            os.ftruncate(stream, self._kept)  # a line that a kill cut short
            os.lseek(stream, 0, os.SEEK_END)
            note_output(self.path)
            return stream
        self.path.unlink(missing_ok=True)  # of another job; a link is not followed but removed
        refuse_output(self.path)
        self._stream = os.open(self.path, flags | os.O_CREAT | os.O_EXCL, 0o666)
        note_output(self.path)
        self._write({"mindground_tiles": 1, "key": self.key})
        return self._stream

    def _write(self, value: Mapping[str, Any]) -> None:
        assert self._stream is not None
        line = (json.dumps(value, separators=(",", ":")) + "\n").encode()
        done = 0
        while done < len(line):
            done += os.write(self._stream, line[done:])

    def _read(self, path: Path) -> tuple[dict[int, list[list[dict[str, Any]]]], int]:
        """The entries of one file, and the bytes of its whole lines; none of another job."""
        found: dict[int, list[list[dict[str, Any]]]] = {}
        length = 0
        try:
            if not path.is_file() or path.is_symlink():
                return {}, 0
            with path.open("rb") as file:
                for line in iter(lambda: file.readline(_LONGEST_LINE), b""):
                    value = json.loads(line)
                    if length == 0:
                        if value != {"mindground_tiles": 1, "key": self.key}:
                            return {}, 0
                    else:
                        tile = value["tile"]
                        found[tile] = self._checked(tile, value["answers"])
                    if not line.endswith(b"\n"):
                        break
                    length += len(line)
        except (OSError, ValueError, KeyError, TypeError, RecursionError, DataError):
            # What was read before stays; the rest is asked again.
            return found, length
        return found, length

    def _checked(self, tile: Any, answers: Any) -> list[list[dict[str, Any]]]:
        """The answers of one line. Raises KeyError, TypeError, ValueError or DataError where they are none."""
        size = self._tiles[tile]
        if type(tile) is not int or type(answers) is not list or len(answers) != self._questions:
            raise ValueError("not the answers of a tile")
        return [[_object(item, size) for item in items] for items in answers]


def _object(item: Any, size: tuple[int, int]) -> dict[str, Any]:
    box, score, label, mask = item["box"], item["score"], item["label"], item["mask"]
    if len(box) != 4 or not all(type(value) in (int, float) and math.isfinite(value) for value in [*box, score]):
        raise ValueError("not a box with a score")
    if type(label) is not int or not (mask is None or type(mask) is dict):
        raise ValueError("not a label, or not a mask")
    if mask is not None:
        check_outline(mask, size)
    return {"box": box, "score": score, "label": label, "mask": mask}
