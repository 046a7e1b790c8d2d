"""Sources of pseudo labels, training sets made from them, and the hash that identifies a training."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mindground.config.keys import affected, flat
from mindground.curriculum.entities import mean_entities
from mindground.data import Dataset, build_dataset
from mindground.data.formats.jsonl import samples_to_records, write_description, write_jsonl
from mindground.errors import ConfigError, DataError

if TYPE_CHECKING:
    from mindground.config import Config, DataConfig

__all__ = ["Source", "SubsetWriter", "digest_records", "read_source", "source_of", "training_key"]

# What says where the samples are: they are hashed themselves.
_SAMPLES = ("data.dataset", "data.splitBy", "data.train_split", "data.eval_splits", "data.synthetic.")
# What leaves the trained weights and the chosen checkpoint as they are; other keys of reports choose it or judge it.
_UNSEEN = ("train.resume", "train.log_freq", "train.save_steps", "eval.batch_size")
# Files that change the numbers: their content is hashed instead of their path.
_FILES = ("data.vocab", "train.pretrained.")


@dataclass(frozen=True)
class Source:
    """Pseudo labels of one origin.

    Attributes:
        name: name of its folder and in reports.
        dataset: sentences with one box each.
        entities: mean number of entities per sentence.
    """

    name: str
    dataset: Dataset
    entities: float


def read_source(text: str) -> Source:
    """A source from `NAME=PATH`.

    PATH is a JSON-lines set (a folder with train.jsonl, or one such file), or a YAML configuration whose `data`
    section describes the set; its `data.train_split` is taken.

    Raises:
        ConfigError: the text has another form.
        DataError: the set cannot be used; see `source_of`.
    """
    from mindground.config import DataConfig, load_config

    name, equals, path = text.partition("=")
    if not equals or not path:
        raise ConfigError(f"source {text!r} is written NAME=PATH, with the path of a JSON-lines set or a YAML file")
    data = DataConfig(dataset="jsonl", root=path)
    if Path(path).suffix in (".yaml", ".yml"):
        data = load_config(path).data
    return source_of(name, data)


def source_of(name: str, data: DataConfig) -> Source:
    """The training split of a data section as a source.

    Raises:
        ConfigError: the name cannot be a folder name.
        DataError: a sample without sentence or box, or an id that occurs twice.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise ConfigError(f"a source is called {name!r}; a name consists of letters, digits, '_', '-' and '.'")
    dataset = build_dataset(data, data.train_split)
    seen: set[str] = set()
    for sample in dataset:
        if sample.expression is None or not len(sample.boxes_xyxy):
            raise DataError(
                f"source {name}: sample {sample.sample_id!r} has no sentence or no box; every one needs both"
            )
        if sample.sample_id in seen:
            raise DataError(f"source {name}: the id {sample.sample_id!r} occurs twice; run tools/data_check.py")
        seen.add(sample.sample_id)
    return Source(name, dataset, mean_entities(dataset.sentences()))


class SubsetWriter:
    """Holds all samples of a job as records with image paths relative to one folder, and writes training sets of them.

    Args:
        sources: in the order given by the user.
        evaluation: the split on which every training is evaluated.

    Raises:
        ConfigError: no source, or two of one name.
    """

    def __init__(self, sources: Sequence[Source], evaluation: Dataset) -> None:
        names = [source.name for source in sources]
        if len(set(names)) != len(names) or not names:
            raise ConfigError(f"sources {names}: give at least one source, and every source its own name")
        self.sources, self.evaluation = list(sources), evaluation
        self._base = _common_folder([*(source.dataset for source in sources), evaluation])
        everything = [*(source.dataset for source in sources), evaluation]
        known = sorted({name for dataset in everything for name in dataset.categories.values()})
        self.categories = {number: name for number, name in enumerate(known, 1)}
        # Two sources may use the same ids; a training set of both needs unique ones.
        several = len(names) > 1
        self._records = [
            self._prepared(source.dataset, "train", f"{source.name}/" if several else "") for source in sources
        ]
        self._evaluation = self._prepared(evaluation, "val", "")

    def _prepared(self, dataset: Dataset, split: str, prefix: str) -> list[dict[str, Any]]:
        records = samples_to_records(dataset.samples, dataset.categories)
        for record, sample in zip(records, dataset, strict=True):
            image = Path(sample.image_path).absolute()
            record["image"] = (image.relative_to(self._base) if self._base else image).as_posix()
            record["id"] = f"{prefix}{sample.sample_id}"
            record["split"] = split
        return records

    def records(self, source: int) -> list[dict[str, Any]]:
        """All records of a source, in its order."""
        return self._records[source]

    @property
    def evaluation_digest(self) -> str:
        """Hash of the evaluation split."""
        return digest_records(self._evaluation)

    def chosen(self, parts: Mapping[int, Sequence[int] | None]) -> list[dict[str, Any]]:
        """Records of several sources: source -> indexes (None = all), in the order of the sources."""
        result: list[dict[str, Any]] = []
        for source in sorted(parts):
            indexes, records = parts[source], self._records[source]
            result.extend(records if indexes is None else [records[index] for index in indexes])
        return result

    def describe(self, folder: Path) -> None:
        """Write the `dataset.json` of a folder, with the path to the images."""
        folder.mkdir(parents=True, exist_ok=True)
        root = Path(os.path.relpath(self._base, folder.absolute())).as_posix() if self._base else "."
        write_description(folder, folder.absolute().name, self.categories, root)

    def write_training(self, folder: Path, records: Sequence[Mapping[str, Any]]) -> None:
        """Write train.jsonl, val.jsonl and dataset.json."""
        self.describe(folder)
        write_jsonl(folder / "val.jsonl", self._evaluation)
        write_jsonl(folder / "train.jsonl", records)


def _common_folder(datasets: Iterable[Dataset]) -> Path | None:
    """The common folder of all images; None when they are on several drives."""
    folders = {str(Path(sample.image_path).absolute().parent) for dataset in datasets for sample in dataset}
    try:
        return Path(os.path.commonpath(sorted(folders)))
    except ValueError:
        return None


def digest_records(records: Sequence[Mapping[str, Any]]) -> str:
    """SHA-256 of ids, images, sentences, boxes and masks, independent of their order and of the images' folder."""
    lines = sorted(
        json.dumps(
            [record["id"], record["image_id"], record.get("sentence"), [_truth(item) for item in _objects(record)]],
            ensure_ascii=False,
        )
        for record in records
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _objects(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(record["objects"]) if "objects" in record else [record]


def _truth(item: Mapping[str, Any]) -> list[Any]:
    return [item["box"], item.get("mask")]


def training_key(config: Config, samples: str, evaluation: str, ranks: int) -> str:
    """64 hexadecimal digits for a training: its samples, its evaluation split and the settings that change the numbers.

    Paths, logging and the device are not hashed; of weight and vocabulary files the content is.

    Args:
        config: resolved.
        samples, evaluation: `digest_records` of the sets.
        ranks: with `train.batch_sum` 0 they determine the number of samples per step.
    """
    from mindground.config import to_dict

    affects = dict(affected(config))
    settings = {
        key: value
        for key, value in flat(to_dict(config)).items()
        if key.startswith(_FILES) or (affects[key] not in ("place", "speed") and not key.startswith(_SAMPLES + _UNSEEN))
    }
    settings["train.batch_sum"] = config.train.batch_sum or config.train.batch_size * ranks
    for key in settings:
        if key.startswith(_FILES):
            settings[key] = _content(str(settings[key]))
    text = json.dumps([samples, evaluation, settings], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def _content(path: str) -> str:
    """Hash of a file; a path that is not a file (empty or wrong) is returned, and fails where it is used."""
    if not path or not Path(path).is_file():
        return path
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
