"""The table of every reader of bytes that others made: where its file lies, how it is called, what a good file is.

A reader that the product gains gets an entry here; `test_table.py` finds formats and modules that have none.
"""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attack import calls, exchange, seeds

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


def _weights(name: str, good: Callable[[], list[bytes]], shape: str) -> Reader:
    return Reader(name, "w.bin", calls.read_weights, good, shape)


def _pickled(tree: Any) -> Callable[[], list[bytes]]:
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
        calls.read_checkpoint,
        seeds.checkpoints,
        "safetensors",
        imports=("engine.checkpoint", "config", "text.bpe", "text.wordpiece", "files.weights", "models"),
        heavy=True,
    ),
    Reader(
        "features", "f/ab/abc.npz", calls.read_feature, seeds.features, "zip", imports=("engine.features",), heavy=True
    ),
    Reader("embedding", "a.safetensors", calls.read_embedding, seeds.embeddings, "safetensors"),
    Reader("run_log", "log.jsonl", calls.read_log, seeds.run_log, "lines", imports=("engine.logs",), heavy=True),
    Reader(
        "measured",
        "reliability.jsonl",
        calls.read_measured,
        seeds.measured,
        "lines",
        imports=("curriculum.reliability",),
        heavy=True,
    ),
    Reader(
        "refs_pickle",
        "refcoco/refs(unc).p",
        calls.read_refer,
        seeds.refs,
        "pickle",
        beside=seeds.refer_files,
        formats=("refcoco", "refcoco+", "refcocog", "refclef", "rrsisd"),
    ),
    Reader(
        "refer_instances",
        "refcoco/instances.json",
        calls.read_refer,
        _json(seeds.INSTANCES),
        "json",
        beside=seeds.refer_files,
    ),
    Reader(
        "refer_mask",
        "masks/refcoco(unc)/1.npy",
        calls.read_refer_masks,
        seeds.masks,
        "npy",
        beside=seeds.refer_files,
    ),
    Reader(
        "cache_json",
        "refcoco/refcoco(unc).json",
        calls.read_format("refcoco"),
        _json(seeds.CACHE),
        "json",
        beside=lambda: seeds.image_files("images/"),
    ),
    Reader(
        "cache_pickle",
        "refcoco/refcoco(unc).pkl",
        calls.read_format("refcoco"),
        _pickled(seeds.CACHE),
        "pickle",
        beside=lambda: seeds.image_files("images/"),
    ),
    Reader(
        "pair_list",
        "unc/unc_train.pth",
        calls.read_pairs,
        seeds.pair_lists,
        "pickle",
        beside=seeds.image_files,
        formats=("unc", "unc+", "gref", "gref_umd", "referit", "flickr"),
    ),
    Reader(
        "coco",
        "annotations/instances_train.json",
        calls.read_format("coco"),
        _json(seeds.INSTANCES),
        "json",
        beside=lambda: seeds.image_files("images/"),
        formats=("coco", "nwpu", "ssdd", "whu"),
    ),
    Reader(
        "jsonl",
        "train.jsonl",
        calls.read_format("jsonl"),
        lambda: [seeds.as_lines(seeds.RECORDS)],
        "lines",
        beside=seeds.image_files,
        formats=("jsonl",),
    ),
    Reader(
        "jsonl_check",
        "train.jsonl",
        calls.check("jsonl"),
        lambda: [seeds.as_lines(seeds.RECORDS)],
        "lines",
        beside=seeds.image_files,
    ),
    Reader(
        "coco_check",
        "annotations/instances_train.json",
        calls.check("coco"),
        _json(seeds.INSTANCES),
        "json",
        beside=lambda: seeds.image_files("images/"),
    ),
    Reader(
        "dataset_json",
        "dataset.json",
        calls.read_format("jsonl"),
        _json(seeds.DESCRIPTION),
        "json",
        beside=_lines(),
    ),
    Reader(
        "dior_xml",
        "Annotations/00001.xml",
        calls.read_dior,
        lambda: [seeds.XML],
        "xml",
        beside=seeds.dior_files,
        formats=("dior_rsvg",),
    ),
    Reader(
        "dior_lists",
        "train.txt",
        calls.read_dior,
        lambda: [b"0\n1\n"],
        "text",
        beside=seeds.dior_files,
    ),
    Reader(
        "seqtr",
        "annotations/refcoco-unc/instances.json",
        calls.read_format("seqtr"),
        _json(seeds.SEQTR),
        "json",
        beside=lambda: seeds.image_files("images/"),
        formats=("seqtr",),
    ),
    Reader(
        "seqtr_check",
        "annotations/refcoco-unc/instances.json",
        calls.check("seqtr"),
        _json(seeds.SEQTR),
        "json",
        beside=lambda: seeds.image_files("images/"),
    ),
    Reader(
        "phrase_list",
        "output_phrase_train.txt",
        calls.read_format("refsegrs"),
        lambda: [seeds.PHRASES, seeds.PHRASES.replace(b" ", b"\t", 1)],
        "text",
        beside=seeds.phrase_files,
        formats=("refsegrs", "risbench"),
    ),
    Reader(
        "mask_image",
        "masks/a.png",
        calls.read_format("risbench"),
        seeds.mask_images,
        "bytes",
        beside=seeds.phrase_files,
    ),
    Reader(
        "make_referring",
        "annotations/instances_train.json",
        calls.make_referring,
        _json(seeds.INSTANCES),
        "json",
        beside=lambda: seeds.image_files("images/"),
    ),
    Reader(
        "detections",
        "found.json",
        calls.make_templates,
        seeds.detections,
        "json",
        beside=lambda: {
            "annotations/instances_train.json": seeds.as_json(seeds.INSTANCES),
            **seeds.image_files("images/"),
        },
    ),
    Reader("yaml", "c.yaml", calls.read_yaml, seeds.yaml, "yaml", imports=("config",)),
    Reader(
        "vocabulary",
        "vocab.txt",
        calls.read_vocabulary("wordpiece", "vocab.txt"),
        seeds.vocabulary,
        "text",
    ),
    Reader(
        "merges",
        "bpe.txt.gz",
        calls.read_vocabulary("clip_bpe", "bpe.txt.gz"),
        seeds.bpe,
        "gzip",
        share=0.02,
    ),
    Reader(
        "token_table",
        "token_to_ix.pkl",
        calls.read_vocabulary("words", "token_to_ix.pkl"),
        _pickled(seeds.TOKENS),
        "pickle",
    ),
    Reader("word_vectors", "vectors.txt", calls.read_vectors("vectors.txt"), seeds.word_vectors, "text"),
    Reader("word_vectors_gzip", "vectors.txt.gz", calls.read_vectors("vectors.txt.gz"), seeds.packed_vectors, "gzip"),
    Reader(
        "word_archive",
        "word_emb.npz",
        calls.read_vectors("word_emb.npz"),
        seeds.word_archive,
        "zip",
        beside=seeds.token_table,
    ),
    Reader("image", "x.img", calls.read_image, seeds.images, "bytes"),
    Reader(
        "raster",
        "x.tif",
        calls.read_raster,
        seeds.rasters,
        "bytes",
    ),
    Reader(
        "network",
        "best.ckpt",
        calls.load_checkpoint,
        list,  # a benign one is a trained network: the hostile files alone come here
        "safetensors",
        imports=("engine.checkpoint", "models", "config", "text"),
        share=0.0,
        heavy=True,
    ),
)
_EXCHANGE = tuple(
    Reader(
        f"exchange_{entry.name}",
        entry.file,
        entry.call,
        entry.seeds,
        entry.shape,
        beside=entry.beside,
    )
    for entry in exchange.ENTRIES
)
READERS: Mapping[str, Reader] = {entry.name: entry for entry in (*_ENTRIES, *_EXCHANGE)}
"""Every reader by its name; `heavy` ones import MindSpore."""
