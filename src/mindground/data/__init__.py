"""From the files of a data set to a list of `Sample`s.

`build_dataset` is the one entrance: it reads the split that a configuration names, in whatever
format it lies on disk, or says what is missing and where it belongs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mindground.data.dataset import Dataset
from mindground.errors import ConfigError, DataError

if TYPE_CHECKING:
    from mindground.config import DataConfig

__all__ = ["DATASETS", "Dataset", "build_dataset", "eval_splits", "usual_split_by"]

REFER_DATASETS = ("refcoco", "refcoco+", "refcocog", "refclef")
PAIR_DATASETS = ("unc", "unc+", "gref", "gref_umd", "referit", "flickr")
DATASETS = (*REFER_DATASETS, *PAIR_DATASETS, "dior_rsvg", "jsonl", "coco", "synthetic")


def build_dataset(data_config: DataConfig, split: str) -> Dataset:
    """Read one split of the configured data set.

    Args:
        data_config: `config.DataConfig`; `dataset` selects the format, `root` says where it lies.
        split: name of the split as the data set calls it (`train`, `val`, `testA`, ...).

    Raises:
        ConfigError: no such data set.
        DatasetNotFoundError: files are missing; the message says what to get and where it goes.
        DataError: the files contradict themselves, or the split holds no sample.
    """
    name = data_config.dataset
    if name in REFER_DATASETS:
        from mindground.data.formats.refer import read_refer

        dataset = read_refer(
            data_config.root, name, usual_split_by(data_config), split, data_config.image_root, data_config.mask_path
        )
    elif name == "dior_rsvg":
        from mindground.data.formats.dior_rsvg import read_dior_rsvg

        dataset = read_dior_rsvg(data_config.root, split, usual_split_by(data_config), data_config.image_root)
    elif name in PAIR_DATASETS:
        from mindground.data.formats.pair_lists import read_pair_list

        dataset = read_pair_list(data_config.root, name, split, data_config.image_root)
    elif name == "jsonl":
        from mindground.data.formats.jsonl import read_jsonl

        dataset = read_jsonl(data_config.root, split, data_config.image_root)
    elif name == "coco":
        from mindground.data.formats.coco import read_coco

        dataset = read_coco(data_config.root, split, data_config.image_root)
    elif name == "synthetic":
        from mindground.data.make.synthetic import build_synthetic

        dataset = build_synthetic(data_config.synthetic, split, data_config.root)
    else:
        raise ConfigError(f"data.dataset is {name!r}; choose one of {', '.join(DATASETS)}")
    if not dataset.samples:
        raise DataError(f"split {split!r} of {name} below {data_config.root!r} holds no sample; name another split")
    return dataset


def eval_splits(data_config: DataConfig) -> list[str]:
    """Splits to evaluate on: `data.eval_splits`, or those the literature reports for the data set.

    A division into splits that the literature does not know is evaluated on `val`.
    """
    from mindground.config.schema import USUAL_SPLITS

    if data_config.eval_splits:
        return list(data_config.eval_splits)
    return list(USUAL_SPLITS.get(data_config.dataset, {}).get(usual_split_by(data_config), ["val"]))


def usual_split_by(data_config: DataConfig) -> str:
    """`data.splitBy`, or the usual one where it is empty."""
    from mindground.config.schema import USUAL_SPLITS

    return data_config.splitBy or next(iter(USUAL_SPLITS.get(data_config.dataset, {"": []})))
