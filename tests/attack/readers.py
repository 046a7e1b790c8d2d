"""The table of every reader of bytes that others made: where its file lies, how it is called, what a good file is.

A reader that the product gains gets an entry here; `test_table.py` finds formats and modules that have none.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attack import seeds

__all__ = ["READERS", "Reader"]


def _nothing() -> dict[str, bytes]:
    return {}


@dataclass(frozen=True)
class Reader:
    """One reader under attack.

    Attributes:
        name: key of the table.
        file: path of the file under attack, relative to the working folder.
        call: reads that folder, and does what a user of the result does first.
        seeds: benign files; all of them are read.
        shape: how `mutate` changes them.
        beside: benign files that stand beside it.
        formats: values of `data.dataset` that this entry stands for.
        imports: modules that stand for a first call, where one would start threads (MindSpore's).
        share: mutations per mutation of a quick reader in a long run; 0 = hostile files only.
        heavy: it imports MindSpore.
    """

    name: str
    file: str
    call: Callable[[Path], None]
    seeds: Callable[[], list[bytes]]
    shape: str
    beside: Callable[[], dict[str, bytes]] = _nothing
    formats: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    share: float = 1.0
    heavy: bool = False

    def warm_up(self, folder: Path) -> None:
        """Import what the reader needs, so that no input pays for it: by reading the first seed in `folder`."""
        for module in self.imports:
            importlib.import_module(f"mindground.{module}")
        if not self.heavy:
            self.place(folder, self.seeds()[0])
            self.call(folder)

    def place(self, folder: Path, data: bytes) -> None:
        """Write the file under attack and those beside it."""
        for name, content in {**self.beside(), self.file: data}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


# ---- what is called ------------------------------------------------------------------------------------------------


def _read_weights(folder: Path) -> None:
    from mindground.files.weights import read_weights

    read_weights(folder / "w.bin")


def _read_checkpoint(folder: Path) -> None:
    from mindground.engine.checkpoint import read_checkpoint, stored_config
    from mindground.text import tokenizer_from_payload

    contents = read_checkpoint(folder / "best.ckpt")
    stored_config(contents)
    if contents.tokenizer is not None:
        tokenizer_from_payload(contents.tokenizer)(["the a"], 8)


def _load_checkpoint(folder: Path) -> None:
    from mindground.engine.checkpoint import load_checkpoint

    load_checkpoint(folder / "best.ckpt")


def _read_feature(folder: Path) -> None:
    from mindground.engine.features import DiskStore

    DiskStore(folder / "f").get("abc")


def _use(dataset: Any) -> None:
    """What training does first with samples: masks, vocabulary, transform, one batch."""
    from mindground.config import DataConfig
    from mindground.data.loader import Loader
    from mindground.data.transforms import build_transform
    from mindground.structures import referent_truth
    from mindground.text import build_wordpiece

    for sample in itertools.islice(dataset, 6):
        if sample.size is not None and max(sample.size) < 4096 and sample.has_masks:
            sample.masks(sample.size)
    if dataset.kind != "referring" or not len(dataset):
        return
    tokenizer = build_wordpiece(dataset.sentences())
    config = DataConfig(img_size=32, max_len=8)
    transform = build_transform(config, "referring", referent_truth, tokenizer=tokenizer, training=True)
    loader = Loader(dataset, transform, 1, training=False, seed=0, workers=0)
    for _ in itertools.islice(loader.epoch(0), 3):
        pass


def _read_format(name: str, **settings: str) -> Callable[[Path], None]:
    """The training split of a format, read and used."""

    def call(folder: Path) -> None:
        from mindground.data.formats.registry import find_format

        _use(find_format(name).read(str(folder), "train", **settings))

    return call


def _read_refer(folder: Path) -> None:
    from mindground.data.formats.refer import read_refer

    for split in ("train", "testA"):
        _use(read_refer(str(folder), "refcoco", "unc", split))


def _read_refer_masks(folder: Path) -> None:
    from mindground.data.formats.refer import read_refer

    _use(read_refer(str(folder), "refcoco", "unc", "train", mask_path=str(folder / "masks")))


def _read_pairs(folder: Path) -> None:
    from mindground.data.formats.pair_lists import read_pair_list

    _use(read_pair_list(str(folder), "unc", "train", str(folder)))


def _read_dior(folder: Path) -> None:
    from mindground.data.formats.registry import find_format

    item = find_format("dior_rsvg")
    item.inspect(str(folder), ["train", "val"])
    for division in ("official", "image_disjoint"):
        _use(item.read(str(folder), "train", split_by=division))


def _check(name: str) -> Callable[[Path], None]:
    """The data check, which reads on where a training stops."""

    def call(folder: Path) -> None:
        from mindground.data.check.inspection import check_inspection
        from mindground.data.formats.registry import find_format

        check_inspection(find_format(name).inspect(str(folder), ["train"]))

    return call


def _read_yaml(folder: Path) -> None:
    from mindground.config import load_config

    load_config(folder / "c.yaml")


def _read_vocabulary(kind: str, file: str) -> Callable[[Path], None]:
    def call(folder: Path) -> None:
        from mindground.text import build_tokenizer

        build_tokenizer(kind, str(folder / file))(["the red ship \u8239"], 8)

    return call


def _read_image(folder: Path) -> None:
    from mindground.files.images import read_image

    read_image(folder / "x.img")


def _read_raster(folder: Path) -> None:
    import numpy as np

    from mindground.files.rasters import is_geotiff, read_geotiff
    from mindground.geo.geojson import to_geojson
    from mindground.structures import Prediction

    if not is_geotiff(folder / "x.tif"):
        return
    raster = read_geotiff(folder / "x.tif")
    if raster.image.size < 10**7:
        height, width = raster.image.shape[:2]
        box = np.asarray([[0, 0, width, height]], np.float32)
        to_geojson([Prediction((height, width), box, np.asarray([0.5]), expression="x")], raster)


def _read_measured(folder: Path) -> None:
    from mindground.curriculum.reliability import read_measured

    read_measured(folder / "reliability.jsonl")


def _read_log(folder: Path) -> None:
    from mindground.engine.logs import read_log

    list(read_log(folder / "log.jsonl"))


# ---- the table -----------------------------------------------------------------------------------------------------


def _weights(name: str, good: Callable[[], list[bytes]], shape: str) -> Reader:
    return Reader(name, "w.bin", _read_weights, good, shape)


def _pickled(tree: Any) -> Callable[[], list[bytes]]:
    import pickle

    return lambda: [pickle.dumps(tree, protocol) for protocol in (2, 4)]


def _json(tree: Any) -> Callable[[], list[bytes]]:
    return lambda: [seeds.as_json(tree)]


def _lines(file: str = "") -> Callable[[], dict[str, bytes]]:
    return lambda: {"train.jsonl": seeds.as_lines(seeds.RECORDS[:1]), **seeds.image_files()}


_ENTRIES = (
    _weights("torch_zip", seeds.torch_zip, "zip"),
    _weights("torchscript", seeds.torchscript, "zip"),
    _weights("torch_legacy", seeds.torch_legacy, "pickle"),
    _weights("array_pickle", seeds.array_pickle, "pickle"),
    _weights("npz", seeds.npz, "zip"),
    _weights("safetensors", seeds.tensors, "safetensors"),
    _weights("mindspore_ckpt", seeds.mindspore_ckpt, "protobuf"),
    Reader(
        "checkpoint",
        "best.ckpt",
        _read_checkpoint,
        seeds.checkpoints,
        "safetensors",
        imports=("engine.checkpoint", "config", "text.bpe", "text.wordpiece", "files.weights", "models"),
        heavy=True,
    ),
    Reader("features", "f/ab/abc.npz", _read_feature, seeds.features, "zip", imports=("engine.features",), heavy=True),
    Reader("run_log", "log.jsonl", _read_log, seeds.run_log, "lines", imports=("engine.logs",), heavy=True),
    Reader(
        "measured",
        "reliability.jsonl",
        _read_measured,
        seeds.measured,
        "lines",
        imports=("curriculum.reliability",),
        heavy=True,
    ),
    Reader(
        "refs_pickle",
        "refcoco/refs(unc).p",
        _read_refer,
        seeds.refs,
        "pickle",
        beside=seeds.refer_files,
        formats=("refcoco", "refcoco+", "refcocog", "refclef"),
    ),
    Reader(
        "refer_instances",
        "refcoco/instances.json",
        _read_refer,
        _json(seeds.INSTANCES),
        "json",
        beside=seeds.refer_files,
    ),
    Reader(
        "refer_mask",
        "masks/refcoco(unc)/1.npy",
        _read_refer_masks,
        seeds.masks,
        "npy",
        beside=seeds.refer_files,
    ),
    Reader(
        "cache_json",
        "refcoco/refcoco(unc).json",
        _read_format("refcoco"),
        _json(seeds.CACHE),
        "json",
        beside=lambda: seeds.image_files("images/"),
    ),
    Reader(
        "cache_pickle",
        "refcoco/refcoco(unc).pkl",
        _read_format("refcoco"),
        _pickled(seeds.CACHE),
        "pickle",
        beside=lambda: seeds.image_files("images/"),
    ),
    Reader(
        "pair_list",
        "unc/unc_train.pth",
        _read_pairs,
        seeds.pair_lists,
        "pickle",
        beside=seeds.image_files,
        formats=("unc", "unc+", "gref", "gref_umd", "referit", "flickr"),
    ),
    Reader(
        "coco",
        "annotations/instances_train.json",
        _read_format("coco"),
        _json(seeds.INSTANCES),
        "json",
        beside=lambda: seeds.image_files("images/"),
        formats=("coco",),
    ),
    Reader(
        "jsonl",
        "train.jsonl",
        _read_format("jsonl"),
        lambda: [seeds.as_lines(seeds.RECORDS)],
        "lines",
        beside=seeds.image_files,
        formats=("jsonl",),
    ),
    Reader(
        "jsonl_check",
        "train.jsonl",
        _check("jsonl"),
        lambda: [seeds.as_lines(seeds.RECORDS)],
        "lines",
        beside=seeds.image_files,
    ),
    Reader(
        "coco_check",
        "annotations/instances_train.json",
        _check("coco"),
        _json(seeds.INSTANCES),
        "json",
        beside=lambda: seeds.image_files("images/"),
    ),
    Reader(
        "dataset_json",
        "dataset.json",
        _read_format("jsonl"),
        _json(seeds.DESCRIPTION),
        "json",
        beside=_lines(),
    ),
    Reader(
        "dior_xml",
        "Annotations/00001.xml",
        _read_dior,
        lambda: [seeds.XML],
        "xml",
        beside=seeds.dior_files,
        formats=("dior_rsvg",),
    ),
    Reader(
        "dior_lists",
        "train.txt",
        _read_dior,
        lambda: [b"0\n1\n"],
        "text",
        beside=seeds.dior_files,
    ),
    Reader("yaml", "c.yaml", _read_yaml, seeds.yaml, "yaml", imports=("config",)),
    Reader(
        "vocabulary",
        "vocab.txt",
        _read_vocabulary("wordpiece", "vocab.txt"),
        seeds.vocabulary,
        "text",
    ),
    Reader(
        "merges",
        "bpe.txt.gz",
        _read_vocabulary("clip_bpe", "bpe.txt.gz"),
        seeds.bpe,
        "gzip",
        share=0.02,
    ),
    Reader("image", "x.img", _read_image, seeds.images, "bytes"),
    Reader(
        "raster",
        "x.tif",
        _read_raster,
        seeds.rasters,
        "bytes",
    ),
    Reader(
        "network",
        "best.ckpt",
        _load_checkpoint,
        list,  # a benign one is a trained network: the hostile files alone come here
        "safetensors",
        imports=("engine.checkpoint", "models", "config", "text"),
        share=0.0,
        heavy=True,
    ),
)
READERS: Mapping[str, Reader] = {entry.name: entry for entry in _ENTRIES}
"""Every reader by its name; `heavy` ones import MindSpore."""
