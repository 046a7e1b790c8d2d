"""The data sets that can be read. Each format file describes its own; nothing else lists them.

A format is one module that offers `FORMATS`, a tuple of `DatasetFormat`. It lies in this package, or in another package
that names it under the entry point group `mindground.formats`; a script adds one with `register`. Modules are imported
when the first name is looked up, so importing the registry costs nothing.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mindground.data.discovery import Discovered
from mindground.errors import ConfigError, DataError

if TYPE_CHECKING:
    from mindground.data.dataset import Dataset
    from mindground.data.formats.files import Defect

__all__ = ["FORMATS", "GROUP", "Counts", "DatasetFormat", "Inspection", "find_format", "register"]

GROUP = "mindground.formats"
"""Entry points of other packages: the value is a module that offers `FORMATS`."""

Counts = Mapping[str, Mapping[str, int]]
"""Split -> what is counted (`expressions`, `images`, as the data check counts them) -> how many there are."""


@dataclass
class Inspection:
    """Splits for the data check, with what only their format can find.

    Attributes:
        datasets: one per split; a broken sample is left out and stands in `defects`.
        defects: everything that is wrong, where a reader would have stopped at the first.
        facts: JSON-able facts about the set as a whole.
        lines: the same for people.
        published: counts of the literature that hold for these files; empty for a set of somebody's own.
        shared: `images`, `objects`: what the splits of this division share by design.
    """

    datasets: list[Dataset]
    defects: list[Defect] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    published: Counts = field(default_factory=dict)
    shared: tuple[str, ...] = ()


@dataclass(frozen=True)
class DatasetFormat:
    """One value of `data.dataset`.

    Attributes:
        name: as configurations write it.
        reader: `reader(root, split, **arguments) -> Dataset`; `arguments` are those of `takes` that are not empty, and
            the keys of `section`. A reader that takes `problems`, a list, appends one line to it for every record that
            it cannot use and reads on; without it, the first such record raises DataError.
        kinds: what its samples may ask: `referring`, `instances`, or either where the files decide.
        splits: division (`data.splitBy`) -> splits to evaluate; the first division is the usual one.
        takes: which of `split_by`, `image_root` and `mask_path` the reader has a use for.
        section: section of `data` whose keys are further arguments of the reader; empty = none.
        published: division -> counts in the literature.
        inspector: `inspector(root, splits, **arguments) -> Inspection`; None = the splits are read as for a training.
        shared: division -> what its splits share by design: `images`, `objects`.
    """

    name: str
    reader: Callable[..., Dataset]
    kinds: tuple[str, ...] = ("referring",)
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"": ("val",)})
    takes: tuple[str, ...] = ("image_root",)
    section: str = ""
    published: Mapping[str, Counts] = field(default_factory=dict)
    inspector: Callable[..., Inspection] | None = None
    shared: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def usual_split_by(self) -> str:
        """The division that is meant where none is named."""
        return next(iter(self.splits))

    def eval_splits(self, split_by: str = "") -> list[str]:
        """Splits that the literature reports for a division; `val` for a division that it does not know."""
        return list(self.splits.get(split_by or self.usual_split_by, ("val",)))

    def read(
        self,
        root: str,
        split: str,
        *,
        split_by: str = "",
        image_root: str = "",
        mask_path: str = "",
        problems: list[str] | None = None,
        **settings: Any,
    ) -> Dataset:
        """Read one split.

        Args:
            root: where the files lie.
            split: its name (`train`, `val`, `testA`, ...).
            split_by: a division; empty = the usual one. A format with one division takes no other.
            image_root: folder of the images; empty = the usual place.
            mask_path: folder of masks in place of those of the annotations; empty = these.
            problems: gets one line a record that cannot be used, which is then left out; None = it raises DataError.
            settings: keys of `section`.

        Raises:
            ConfigError: an argument that this format cannot use.
            DatasetNotFoundError: files are missing; the message says what to get and where it goes.
            DataError: the files contradict themselves, or the split holds no sample (and `problems` has none either).
        """
        from mindground.data.formats.fields import guarded

        collect: dict[str, Any] = {}
        if problems is not None and "problems" in inspect.signature(self.reader).parameters:
            collect["problems"] = problems
        read = guarded(self.reader)
        dataset = read(root, split, **self._arguments(split_by, image_root, mask_path), **settings, **collect)
        if not dataset.samples and not problems:
            raise DataError(f"split {split!r} of {self.name} below {root!r} holds no sample; name another split")
        return dataset

    def inspect(
        self,
        root: str,
        splits: Sequence[str],
        *,
        split_by: str = "",
        image_root: str = "",
        mask_path: str = "",
        **settings: Any,
    ) -> Inspection:
        """Read splits for the data check; arguments and errors as for `read`."""
        if self.inspector is not None:
            return self.inspector(root, splits, **self._arguments(split_by, image_root, mask_path), **settings)
        from mindground.data.formats.files import as_defect

        division = split_by or self.usual_split_by
        folders = {"image_root": image_root, "mask_path": mask_path}
        datasets: list[Dataset] = []
        defects: list[Defect] = []
        for split in splits:
            problems: list[str] = []
            found = self.read(root, split, split_by=split_by, **folders, problems=problems, **settings)
            datasets.append(found)
            defects += [as_defect(line, split) for line in problems]
        return Inspection(
            datasets,
            defects,
            published=self.published.get(division, {}),
            shared=self.shared.get(division, ()),
        )

    def _arguments(self, split_by: str, image_root: str, mask_path: str) -> dict[str, str]:
        folders = {"image_root": image_root, "mask_path": mask_path}
        for key, value in folders.items():
            if value and key not in self.takes:
                raise ConfigError(f"data.{key}={value!r} has no use with data.dataset={self.name}; leave it empty")
        if split_by != self.usual_split_by and split_by and "split_by" not in self.takes:
            raise ConfigError(
                f"data.splitBy={split_by!r} has no use with data.dataset={self.name}, which knows one division; leave "
                "it empty"
            )
        given = {"split_by": split_by or self.usual_split_by, **folders}
        return {key: given[key] for key in self.takes if given[key]}


_REGISTRY = Discovered("mindground.data.formats", GROUP, "FORMATS", DatasetFormat, "data set")
FORMATS: Mapping[str, DatasetFormat] = _REGISTRY
"""Every format by its name."""


def register(item: DatasetFormat) -> None:
    """Add a format from a script. Raises ConfigError when the name is taken."""
    len(FORMATS)  # so that the names of the package come first
    _REGISTRY.add(item, "a script")


def find_format(name: str) -> DatasetFormat:
    """The format of a value of `data.dataset`.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    if name not in FORMATS:
        near = difflib.get_close_matches(name, FORMATS, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"data.dataset is {name!r}; {hint}choose one of {', '.join(FORMATS)}")
    return FORMATS[name]
