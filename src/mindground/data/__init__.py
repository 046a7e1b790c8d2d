"""From the files of a data set to a list of `Sample`s.

`build_dataset` reads the split that a configuration names, in whatever format it lies on disk, or says what is missing
and where it belongs. The functions here read a configuration; everything below takes explicit arguments.
"""

from __future__ import annotations

from collections.abc import KeysView
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mindground.data.formats.registry import FORMATS, find_format

if TYPE_CHECKING:
    from mindground.config import DataConfig
    from mindground.data.dataset import Dataset
    from mindground.data.formats.registry import DatasetFormat, Inspection

__all__ = ["DATASETS", "FORMATS", "Dataset", "build_dataset", "eval_splits", "inspect_dataset", "usual_split_by"]

DATASETS: KeysView[str] = FORMATS.keys()
"""Names for `data.dataset`; looked up when they are first read."""


def __getattr__(name: str) -> Any:
    # NumPy and OpenCV come with it, and the names of the data sets are asked for without them.
    if name == "Dataset":
        from mindground.data.dataset import Dataset

        return Dataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def build_dataset(data_config: DataConfig, split: str) -> Dataset:
    """Read one split of the configured data set.

    Args:
        data_config: `config.DataConfig`; `dataset` selects the format, `root` says where it lies.
        split: name of the split as the data set calls it (`train`, `val`, `testA`, ...).

    Raises:
        ConfigError: no such data set, or a key that its format has no use for.
        DatasetNotFoundError: files are missing; the message says what to get and where it goes.
        DataError: the files contradict themselves, or the split holds no sample.
    """
    chosen = find_format(data_config.dataset)
    return chosen.read(data_config.root, split, **_arguments(chosen, data_config))


def inspect_dataset(data_config: DataConfig, splits: list[str]) -> Inspection:
    """Read splits for the data check, with every defect that their format can find; errors as for `build_dataset`."""
    chosen = find_format(data_config.dataset)
    return chosen.inspect(data_config.root, splits, **_arguments(chosen, data_config))


def _arguments(chosen: DatasetFormat, data_config: DataConfig) -> dict[str, Any]:
    settings = asdict(getattr(data_config, chosen.section)) if chosen.section else {}
    return {
        "split_by": data_config.splitBy,
        "image_root": data_config.image_root,
        "mask_path": data_config.mask_path,
        **settings,
    }


def eval_splits(data_config: DataConfig) -> list[str]:
    """Splits to evaluate on: `data.eval_splits`, or those the literature reports for the data set.

    A division into splits that the literature does not know is evaluated on `val`.
    """
    return list(data_config.eval_splits) or find_format(data_config.dataset).eval_splits(data_config.splitBy)


def usual_split_by(data_config: DataConfig) -> str:
    """`data.splitBy`, or the usual one where it is empty."""
    return data_config.splitBy or find_format(data_config.dataset).usual_split_by
