"""How every reader is called: what its user does, and what is done first with the result."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = [
    "make_referring",
    "make_templates",
    "check",
    "load_checkpoint",
    "read_checkpoint",
    "read_dior",
    "read_embedding",
    "read_feature",
    "read_format",
    "read_image",
    "read_log",
    "read_measured",
    "read_pairs",
    "read_raster",
    "read_refer",
    "read_refer_masks",
    "read_vectors",
    "read_vocabulary",
    "read_weights",
    "read_yaml",
    "use",
]


def read_weights(folder: Path) -> None:
    """Weights of another framework."""
    from mindground.files.weights import read_weights

    read_weights(folder / "w.bin")


def read_checkpoint(folder: Path) -> None:
    """A checkpoint with its configuration and tokeniser."""
    from mindground.engine.checkpoint import read_checkpoint, stored_config
    from mindground.text import tokenizer_from_payload

    contents = read_checkpoint(folder / "best.ckpt")
    stored_config(contents)
    if contents.tokenizer is not None:
        tokenizer_from_payload(contents.tokenizer)(["the a"], 8)


def load_checkpoint(folder: Path) -> None:
    """A checkpoint and the network that it describes."""
    from mindground.engine.checkpoint import load_checkpoint

    load_checkpoint(folder / "best.ckpt")


def read_feature(folder: Path) -> None:
    """A kept feature."""
    from mindground.engine.features import DiskStore

    DiskStore(folder / "f").get("abc")


def read_embedding(folder: Path) -> None:
    """An encoded image, and what a session does with it first."""
    from mindground.inference.embedding_file import read_embedding

    found = read_embedding(folder / "a.safetensors")
    assert found.values.sum() is not None and found.size[0] > 0 and found.network and found.image is not None


def use(dataset: Any) -> None:
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


def read_format(name: str, **settings: str) -> Callable[[Path], None]:
    """The training split of a format, read and used."""

    def call(folder: Path) -> None:
        from mindground.data.formats.registry import find_format

        use(find_format(name).read(str(folder), "train", **settings))

    return call


def read_refer(folder: Path) -> None:
    """The refer files, two splits."""
    from mindground.data.formats.refer import read_refer

    for split in ("train", "testA"):
        use(read_refer(str(folder), "refcoco", "unc", split))


def read_refer_masks(folder: Path) -> None:
    """The refer files with masks of their own."""
    from mindground.data.formats.refer import read_refer

    use(read_refer(str(folder), "refcoco", "unc", "train", mask_path=str(folder / "masks")))


def read_pairs(folder: Path) -> None:
    """A list of pairs."""
    from mindground.data.formats.pair_lists import read_pair_list

    use(read_pair_list(str(folder), "unc", "train", str(folder)))


def read_dior(folder: Path) -> None:
    """DIOR-RSVG: inspected, and all divisions used."""
    from mindground.data.formats.registry import find_format

    item = find_format("dior_rsvg")
    item.inspect(str(folder), ["train", "val"])
    for division in ("official", "image_disjoint", "msam_image"):
        use(item.read(str(folder), "train", split_by=division))


def check(name: str) -> Callable[[Path], None]:
    """The data check, which reads on where a training stops."""

    def call(folder: Path) -> None:
        from mindground.data.check.inspection import check_inspection
        from mindground.data.formats.registry import find_format

        check_inspection(find_format(name).inspect(str(folder), ["train"]))

    return call


def make_referring(folder: Path) -> None:
    """Expressions made for a COCO file, twice, so that the second call reads what the first wrote."""
    from mindground.data.make.referring import make_referring

    shutil.rmtree(folder / "made", ignore_errors=True)
    coco = folder / "annotations" / "instances_train.json"
    for split in ("train", "val"):
        make_referring(coco, folder / "images", folder / "made", split=split)


def make_templates(folder: Path) -> None:
    """A source of pseudo-labels, from detections."""
    from mindground.data.make.templates import make_template_source

    shutil.rmtree(folder / "made", ignore_errors=True)
    coco = folder / "annotations" / "instances_train.json"
    make_template_source(coco, folder / "images", folder / "made", detections=folder / "found.json")


def read_yaml(folder: Path) -> None:
    """A configuration."""
    from mindground.config import load_config

    load_config(folder / "c.yaml")


def read_vocabulary(kind: str, file: str) -> Callable[[Path], None]:
    """A vocabulary file, and one sentence."""

    def call(folder: Path) -> None:
        from mindground.text import build_tokenizer

        build_tokenizer(kind, str(folder / file))(["the red ship \u8239"], 8)

    return call


def read_vectors(file: str) -> Callable[[Path], None]:
    """Vectors of a few words."""

    def call(folder: Path) -> None:
        from mindground.files.word_vectors import read_word_vectors

        read_word_vectors(folder / file, ["PAD", "the", "ship", "\u8239"], 2)

    return call


def read_image(folder: Path) -> None:
    """An image."""
    from mindground.files.images import read_image

    read_image(folder / "x.img")


def read_raster(folder: Path) -> None:
    """A raster, and a box of it in degrees."""
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


def read_measured(folder: Path) -> None:
    """Reliabilities of a curriculum."""
    from mindground.curriculum.reliability import read_measured

    read_measured(folder / "reliability.jsonl")


def read_log(folder: Path) -> None:
    """The log of a run."""
    from mindground.engine.logs import read_log

    list(read_log(folder / "log.jsonl"))
