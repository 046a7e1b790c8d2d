"""The results of one call of `predict`: COCO-style records that are on disk as soon as they are known."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mindground.errors import WriteError, printable
from mindground.files.atomic import json_text, write_json
from mindground.files.outputs import note_output, refuse_output
from mindground.inference.forms import Forms
from mindground.structures import Prediction

__all__ = ["ResultFile", "Results", "finite"]


@dataclass
class Results:
    """The predictions for a set of images.

    Attributes:
        document: the content of `predictions.json`.
        files: paths that were written, in order.
        failures: path of an image, as `printable` gives it -> why it could not be used.
    """

    document: dict[str, Any]
    files: list[Path] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


class ResultFile:
    """`predictions.json`, whole at every moment, and its journal.

    What is found in an image goes to `predictions.jsonl` in one write as soon as it is known. `predictions.json` is
    replaced after 1, 2, 4, 8, ... images and at the end, so that all writes together are at most three times its size.
    At the end the journal is removed; after a kill it holds what `predictions.json` does not have yet.

    Args:
        folder: of the results.
        model, min_score: for the document.
        categories: label -> name. Without them every sentence is a category, so that what reads COCO shows it.
        forms: of masks, and which classes are counted; a sentence about a class is a category of its name.
    """

    def __init__(
        self,
        folder: Path,
        model: str = "",
        min_score: float = 0.0,
        categories: Mapping[int, str] | None = None,
        forms: Forms | None = None,
    ) -> None:
        self._forms = forms or Forms()
        self.path, self.journal = self.paths(folder)
        self._names = {int(number): str(name) for number, name in (categories or {}).items()}
        self._by_sentence = not self._names
        self._sentences: dict[str, int] = {}
        self.document: dict[str, Any] = {
            "model": printable(model),
            "min_score": min_score,
            "images": [],
            "queries": [],
            "annotations": [],
            "categories": [],
        }
        if self._forms.classes:
            self.document["classes"] = []
        self._images, self._due = 0, 1
        self._stream: int | None = None

    @staticmethod
    def paths(folder: Path) -> tuple[Path, Path]:
        """`predictions.json` and its journal."""
        return folder / "predictions.json", folder / "predictions.jsonl"

    @property
    def started(self) -> bool:
        """Whether anything has been noted."""
        return self._images > 0

    def add(
        self,
        number: int,
        path: Path,
        size: tuple[int, int],
        found: Sequence[Prediction],
        files: Sequence[Mapping[str, str]] = (),
    ) -> None:
        """What was found in one image.

        Args:
            number: id of the image, from 1.
            size: (height, width) of the image in pixels.
            files: for every prediction the names of its files, see `Forms.file_names`.

        Raises:
            WriteError: the disk is full or fails.
        """
        image = {"id": number, "file_name": printable(path), "width": size[1], "height": size[0]}
        queries: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        count = len(self.document["annotations"])
        for prediction, named in zip(found, files or [{}] * len(found), strict=True):
            records = self._forms.records(prediction, number)
            best = max((record["score"] for record in records), default=None)
            text = prediction.expression
            queries.append(
                {
                    "image_id": number,
                    "text": text,
                    "found": len(records),
                    "best_score": best,
                    "unknown_words": list(prediction.extras.get("unknown_words", [])),
                    **named,
                }
            )
            for record in records:
                record["category_id"] = self._category(record["category_id"], text)
                annotations.append({"id": count + len(annotations) + 1, **record, "iscrowd": 0})
        self.document["images"].append(image)
        self.document["queries"] += queries
        self.document["annotations"] += annotations
        entry = {"image": image, "queries": queries, "annotations": annotations}
        if self._forms.classes:
            entry["classes"] = [self._forms.count(prediction, number) for prediction in found]
            self.document["classes"] += entry["classes"]
        self._note(entry)

    def fail(self, path: Path, reason: str) -> None:
        """An image that could not be used. Raises WriteError."""
        self.document.setdefault("failures", {})[printable(path)] = reason
        self._note({"failure": printable(path), "reason": reason})

    def write(self) -> Path:
        """Replace `predictions.json`. Raises WriteError."""
        self.document["categories"] = [{"id": number, "name": name} for number, name in self._names.items()]
        return write_json(self.path, self.document, indent=1)

    def close(self) -> Path:
        """Write the whole `predictions.json` and remove the journal. Raises WriteError."""
        path = self.write()
        if self._stream is not None:
            os.close(self._stream)
            self._stream = None
            self.journal.unlink(missing_ok=True)
        return path

    def __enter__(self) -> ResultFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """What is known is kept, also where a later image, the disk or Ctrl-C ends the call."""
        if kind is None or self.started:
            self.close()

    def _category(self, label: int, text: str | None) -> int:
        """The id of a category; one that has no name yet gets its sentence or its number as one."""
        if self._by_sentence and text is not None:
            if text not in self._sentences:
                self._sentences[text] = len(self._sentences) + 1
                self._names[self._sentences[text]] = self._forms.classes.get(text, text)
            return self._sentences[text]
        self._names.setdefault(label, f"class {label}")
        return label

    def _note(self, entry: Mapping[str, Any]) -> None:
        line = (json_text(entry) + "\n").encode("utf-8", "backslashreplace")
        try:
            if self._stream is None:
                refuse_output(self.journal)
                self.journal.parent.mkdir(parents=True, exist_ok=True)
                # A link of this name is not followed but removed.
                self.journal.unlink(missing_ok=True)
                self._stream = os.open(self.journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o666)
                note_output(self.journal)
            # One call of the system, unless the disk is full.
            done = os.write(self._stream, line)
            while done < len(line):
                done += os.write(self._stream, line[done:])
        except OSError as error:
            raise WriteError(
                f"{printable(self.journal, 300)}: cannot be written ({error.strerror or error}); free space or choose "
                "another folder"
            ) from error
        self._images += 1
        if self._images >= self._due:
            self._due = 2 * self._images
            self.write()


def finite(found: Sequence[Prediction]) -> bool:
    """Whether all boxes and scores are finite numbers."""
    return all(np.isfinite(one.boxes_xyxy).all() and np.isfinite(one.scores).all() for one in found)
