"""Small benign files of every format, made by code: what mutations start from, and what stands beside them."""

from __future__ import annotations

import functools
import gzip
import io
import json
import pickle
import struct
import zlib
from base64 import b64encode
from typing import Any

import numpy as np

from attack import opcodes as op
from attack.containers import npy_of, npz_of, parameter, safetensors, small_png

__all__ = ["CACHE", "DESCRIPTION", "INSTANCES", "PAIRS", "RECORDS", "REFS", "SEQTR", "TOKENS", "XML"]

INSTANCES: dict[str, Any] = {
    "images": [
        {"id": 1, "file_name": "a.png", "height": 20, "width": 30},
        {"id": 2, "file_name": "b.png", "height": 20, "width": 30},
    ],
    "annotations": [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "bbox": [1, 2, 10, 8],
            "area": 80,
            "iscrowd": 0,
            "segmentation": [[1, 2, 11, 2, 11, 10]],
        },
        {
            "id": 2,
            "image_id": 2,
            "category_id": 2,
            "bbox": [3, 2.5, 9, 8],
            "iscrowd": 0,
            "segmentation": {"size": [20, 30], "counts": [10, 20, 570]},
        },
    ],
    "categories": [{"id": 1, "name": "ship"}, {"id": 2, "name": "plane"}],
}
_SENTENCES = [{"sent_id": 1, "sent": "the ship", "tokens": ["the", "ship"]}]
REFS: list[dict[str, Any]] = [
    {
        "ref_id": 1,
        "ann_id": 1,
        "image_id": 1,
        "category_id": 1,
        "split": "train",
        "file_name": "a_1.png",
        "sent_ids": [1],
        "sentences": _SENTENCES,
    },
    {
        "ref_id": 2,
        "ann_id": 2,
        "image_id": 2,
        "category_id": 2,
        "split": "testAB",
        "file_name": "b_2.png",
        "sent_ids": [2],
        "sentences": [{"sent_id": 2, "sent": "left plane"}],
    },
]
PAIRS: list[Any] = [
    ("a.png", "a_1", [1, 2, 10, 8], "the ship", [("r1", ["ship"])]),
    ("b.png", "b_1", [3, 2, 9, 8], "left plane", []),
]
RECORDS: list[dict[str, Any]] = [
    {
        "id": "17",
        "image": "a.png",
        "size": [20, 30],
        "sentences": ["the red ship", "ship at the pier"],
        "box": [1, 2, 11, 10],
        "mask": [[1, 2, 11, 2, 11, 8]],
        "category": "ship",
        "object_id": "17",
        "split": "train",
    },
    {
        "image": "b.png",
        "sentence": "the planes",
        "objects": [
            {"box": [1, 2, 5, 6], "category": "plane"},
            {"mask": {"size": [20, 30], "counts": [10, 20, 570]}},
            {"box": [8, 8, 9, 9], "ignored": True},
        ],
    },
    {"image": "b.png", "sentence": "plane", "mask": {"size": [20, 30], "counts": "Q1o0Q1h>"}, "meta": {"by": "hand"}},
]
DESCRIPTION: dict[str, Any] = {"name": "mine", "image_root": ".", "categories": {"1": "ship"}}
CACHE: dict[str, Any] = {
    "items": {
        "train": [
            {
                "bbox": [1, 2, 10, 8],
                "phrase": "the ship",
                "ref_id": 1,
                "image_id": 1,
                "category_id": 1,
                "size": [20, 30],
                "segmentation": [[1, 2, 11, 2, 11, 10]],
                "sent_id": 1,
                "ann_id": 1,
            }
        ]
    },
    "index": {"category": {"1": "ship"}, "image": {"1": "a.png"}},
}
SEQTR: dict[str, Any] = {
    "train": [
        {
            "bbox": [1, 2, 10, 8],
            "image": "a.png",
            "image_id": 1,
            "height": 20,
            "width": 30,
            "expressions": ["the red ship", "ship"],
            "category_id": 1,
            "mask": [[1, 2, 11, 2, 11, 10]],
            "data_source": "coco",
        },
        {
            "bbox": [3, 2.5, 9, 8],
            "image": "b.png",
            "height": 20,
            "width": 30,
            "expressions": ["the plane"],
            "mask": {"size": [20, 30], "counts": [10, 20, 570]},
        },
    ],
    "val": [],
    "box_format": "xywh",
}
TOKENS = {word: place for place, word in enumerate(["PAD", "UNK", "CLS", "the", "ship"])}
XML = b"""<annotation><folder>x</folder><filename>00001.jpg</filename>
<size><width>30</width><height>20</height><depth>3</depth></size>
<object><name>ship</name><pose>Unspecified</pose>
<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>11</xmax><ymax>10</ymax></bndbox>
<description>the red ship</description></object>
<object><name>plane</name><pose>Unspecified</pose>
<bndbox><xmin>3</xmin><ymin>4</ymin><xmax>9</xmax><ymax>12</ymax></bndbox>
<description>a plane</description></object></annotation>"""


def as_json(tree: Any) -> bytes:
    return json.dumps(tree).encode()


def as_lines(records: list[Any]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def _states() -> list[bytes]:
    pairs = [("model.a", op.tensor()), ("b", op.tensor(size=(2, 2), stride=(2, 1)))]
    settings = op.call(op.name("argparse", "Namespace")) + op.table((op.text("lr"), op.real(1.0))) + b"b"
    wrapped = op.table(
        (op.text("model"), op.table(*[(op.text(key), value) for key, value in pairs])),
        (op.text("epoch"), op.number(3)),
        (op.text("args"), settings),
    )
    return [op.state_dict(*pairs), op.pickled(wrapped)]


def torch_zip() -> list[bytes]:
    return [op.in_zip(state) for state in _states()]


def torch_legacy() -> list[bytes]:
    return [op.in_legacy(state) for state in _states()]


def torchscript() -> list[bytes]:
    fields = op.table((op.text("training"), b"\x89"), (op.text("w"), op.tensor()))
    body = op.pickled(op.name("__torch__.m", "Net") + b")\x81" + fields + b"b")
    more = {"archive/constants.pkl": b"\x80\x02).", "archive/code/__torch__/m.py": b"class Net"}
    return [op.in_zip(body, more=more)]


def array_pickle() -> list[bytes]:
    tree = {
        "model": {"a": np.linspace(0, 1, 6, dtype="f4").reshape(2, 3), "b": np.arange(5)},
        "__author__": "x",
        "matching_heuristics": True,
    }
    return [pickle.dumps(tree, protocol) for protocol in (2, 4)]


def npz() -> list[bytes]:
    array = np.ones((2, 3), np.float32)
    return [npz_of(a=array, b=np.arange(3)), npz_of(a=array, compressed=True)]


def tensors() -> list[bytes]:
    header = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
        "b": {"dtype": "BF16", "shape": [2], "data_offsets": [16, 20]},
        "c": {"dtype": "I64", "shape": [], "data_offsets": [20, 28]},
    }
    return [safetensors(header, b"\1" * 28)]


def embedding(values: bytes = bytes(4 * 32), entry: Any = None, more: Any = None, **metadata: Any) -> bytes:
    """An encoded image; `entry` and `more` change its tensor and add others, `metadata` what it says of itself."""
    said = {"format": "mindground-image-embedding", "version": "1", "network": "0123456789abcdef", "size": "[20, 30]"}
    tensor = {"dtype": "F32", "shape": [1, 8, 2, 2], "data_offsets": [0, 128], **(entry or {})}
    header = {"__metadata__": {**said, "image": "a.png", **metadata}, "image_embedding": tensor, **(more or {})}
    return safetensors(header, values)


def embeddings() -> list[bytes]:
    half = {"dtype": "F16", "shape": [1, 4, 2, 2], "data_offsets": [0, 32]}
    return [embedding(), embedding(bytes(32), half)]


def mindspore_ckpt() -> list[bytes]:
    return [
        parameter(b"model.weight", (2, 3), b"Float32", bytes(24))
        + parameter(b"scalar", (0,), b"Int32", b"\1\0\0\0")
        + parameter(b"half", (2,), b"BFloat16", bytes(4))
        + parameter(b"note", (2,), b"str", "ab".encode("utf-32-le"))
    ]


WORDPIECE: dict[str, Any] = {
    "kind": "wordpiece",
    "tokens": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a"],
    "lower": True,
    "keep_end": True,
    "clean": True,
}
ONE_TENSOR = {"model/a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
_KEEP: Any = object()


def checkpoint(
    *,
    config: Any = _KEEP,
    tokenizer: Any = _KEEP,
    state: Any = _KEEP,
    described: str = "",
    held: dict[str, Any] | None = None,
    data: bytes = bytes(4),
) -> bytes:
    """One of our checkpoints; `described` replaces the whole description, `held` the tensors."""
    description = {
        "schema": 1,
        "config": {"family": "vglaw", "data": {"img_size": 64}} if config is _KEEP else config,
        "tokenizer": WORDPIECE if tokenizer is _KEEP else tokenizer,
        "state": {"step": 3, "epoch": 0} if state is _KEEP else state,
    }
    held = ONE_TENSOR if held is None else held
    return safetensors({"__metadata__": {"mindground": described or json.dumps(description)}, **held}, data)


def checkpoints() -> list[bytes]:
    merges = b64encode(zlib.compress(b"h e\nl l")).decode()
    more = {**ONE_TENSOR, "model/b": {"dtype": "I64", "shape": [1], "data_offsets": [4, 12]}}
    return [
        checkpoint(),
        checkpoint(held=more, data=bytes(12), state={"step": 1, "metrics": {"prec@0.5": 0.5}}),
        checkpoint(tokenizer={"kind": "clip_bpe", "merges": merges, "repair": True}),
    ]


def features() -> list[bytes]:
    return [npz_of(arr_0=np.ones((2, 3), np.float32), arr_1=np.arange(4, dtype=np.float16))]


def refs() -> list[bytes]:
    return [pickle.dumps(REFS, protocol) for protocol in (0, 2, 4)]


def pair_lists() -> list[bytes]:
    first = pickle.dumps(PAIRS, 2)
    array = pickle.dumps([("a.png", "x", np.asarray([1, 2, 3, 4]), "ship", [])], 2)
    return [op.in_zip(first), op.in_legacy(first, ()), op.in_legacy(array, ())]


def masks() -> list[bytes]:
    shape = (20, 30)
    return [npy_of(array) for array in (np.ones(shape, np.uint8), np.ones(shape, bool), np.ones(shape, np.float32))]


def vocabulary() -> list[bytes]:
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "##p", "shi", "\u8239"]
    return ["\n".join([*tokens, ""]).encode()]


@functools.cache
def merges() -> bytes:
    """A merges file of the length of CLIP's, whose symbols are known."""
    from mindground.text.bpe import _byte_letters

    letters = _byte_letters()
    pairs = [f"{first} {second}" for first in letters for second in letters]
    return ("\n".join(["#version", *pairs[: 49152 - 258]]) + "\n").encode()


def bpe() -> list[bytes]:
    return [gzip.compress(merges(), 1, mtime=0), merges()]


def yaml() -> list[bytes]:
    return [
        b"family: vglaw\nmodel:\n  vit:\n    embed_dim: 32\n    depth: 2\ndata:\n  dataset: jsonl\n"
        b"  mean: [0.1, 0.2, 0.3]\n  root: /data\ntrain:\n  lr_base: 1.0e-3\n  drop_epochs: [1, 2]\n  max_epochs: 3\n",
        b"family: clipvg\ndata: {dataset: unc, root: x, img_size: 64}\ntrain: {batch_size: 4, warmup_steps: 2}\n",
    ]


def word_vectors() -> list[bytes]:
    lines = b"the 0.5 -1\nship 1e-1 2\nat name@domain.com 7 7\n"
    return [lines, b"3 2\r\n" + lines.replace(b"\n", b"\r\n")]


def packed_vectors() -> list[bytes]:
    return [gzip.compress(data, mtime=0) for data in word_vectors()]


def word_archive() -> list[bytes]:
    table = np.arange(2.0 * len(TOKENS), dtype=np.float32).reshape(-1, 2)
    return [npz_of(word_emb=table), npz_of(word_emb=table.astype(np.float64), compressed=True)]


def token_table() -> dict[str, bytes]:
    return {"token_to_ix.pkl": pickle.dumps(TOKENS)}


def _saved(kind: str, mode: str = "RGB", **more: Any) -> bytes:
    from PIL import Image

    pixels = (np.arange(12 * 16 * 3) % 251).astype(np.uint8).reshape(12, 16, 3)
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, kind, **more)
    return out.getvalue()


def images() -> list[bytes]:
    """What the product reads; other formats are among the hostile files."""
    import cv2
    from PIL import Image

    turned = Image.Exif()
    turned[0x0112] = 6
    deep = (np.arange(12 * 16 * 3) * 97 % 65536).astype(np.uint16).reshape(12, 16, 3)
    coded = [(".png", deep), (".png", deep[..., 0]), (".tif", deep), (".tif", deep.astype(np.float32))]
    return [
        _saved("PNG"),
        _saved("PNG", "RGBA"),
        _saved("PNG", "P"),
        _saved("PNG", "L"),
        _saved("JPEG", quality=90),
        _saved("JPEG", progressive=True),
        _saved("JPEG", "CMYK"),
        _saved("JPEG", exif=turned),
        _saved("BMP"),
        _saved("WEBP"),
        _saved("TIFF"),
        _saved("TIFF", compression="tiff_lzw"),
        *(cv2.imencode(suffix, array)[1].tobytes() for suffix, array in coded),
    ]


def rasters() -> list[bytes]:
    """GeoTIFF files: bytes, 16 bit with nodata, floats, compressed tiles."""
    from rasterio.io import MemoryFile
    from rasterio.transform import from_origin

    kinds: list[tuple[str, int, dict[str, Any]]] = [
        ("uint8", 3, {}),
        ("uint16", 4, {"nodata": 0}),
        ("float32", 1, {"nodata": float("nan")}),
        ("uint8", 1, {"compress": "deflate", "tiled": True, "blockxsize": 16, "blockysize": 16}),
    ]
    found = []
    place = {"crs": "EPSG:32631", "transform": from_origin(5e5, 5e6, 10, 10), "width": 12, "height": 10}
    for dtype, count, more in kinds:
        values = (np.arange(120 * count).reshape(count, 10, 12) % 250).astype(dtype)
        with MemoryFile() as file:
            with file.open(driver="GTiff", dtype=dtype, count=count, **place, **more) as target:
                target.write(values)
            found.append(file.read())
    return found


def detections() -> list[bytes]:
    found = [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 8], "score": 0.9, "attribute": "red"}]
    return [as_json([*found, {"image_id": 2, "category_id": 2, "bbox": [3, 2, 9, 8], "score": 0.5}])]


def measured() -> list[bytes]:
    line = {"sample_id": "1", "reliability": 0.5, "predicted": [1, 2, 3, 4], "pseudo": [1, 2, 3, 4], "sentence": "a"}
    return [as_lines([line, {**line, "sample_id": "2"}])]


def run_log() -> list[bytes]:
    return [as_lines([{"kind": "train", "step": 1, "total": 0.5}, {"kind": "eval", "step": 2, "prec@0.5": 0.1}])]


def refer_files() -> dict[str, bytes]:
    return {
        "refcoco/refs(unc).p": pickle.dumps(REFS, 2),
        "refcoco/instances.json": as_json(INSTANCES),
        **image_files("images/"),
    }


def image_files(below: str = "") -> dict[str, bytes]:
    return {f"{below}{name}.png": small_png() for name in "ab"}


PHRASES = b"a the red ship\nb.png left plane\n"


def phrase_files() -> dict[str, bytes]:
    return {
        "output_phrase_train.txt": PHRASES,
        **image_files("images/"),
        **{f"masks/{name}.png": _mask("PNG", "L") for name in "ab"},
    }


def _mask(kind: str, mode: str) -> bytes:
    from PIL import Image

    pixels = np.zeros((20, 30), np.uint8)
    pixels[4:9, 3:20] = 255
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, kind)
    return out.getvalue()


def mask_images() -> list[bytes]:
    """Masks of one bit, grey, a palette, colours with and without transparency, as JPEG and as TIFF."""
    kinds = [("PNG", "1"), ("PNG", "L"), ("PNG", "P"), ("PNG", "RGB"), ("PNG", "LA"), ("JPEG", "L"), ("TIFF", "L")]
    return [_mask(kind, mode) for kind, mode in kinds]


def dior_files() -> dict[str, bytes]:
    return {
        "Annotations/00001.xml": XML,
        "Annotations/00002.xml": XML.replace(b"00001", b"00002"),
        "JPEGImages/00001.jpg": small_png(),
        "JPEGImages/00002.jpg": small_png(),
        "train.txt": b"0\n1\n",
        "val.txt": b"2\n",
        "test.txt": b"3\n",
    }


def little_endian(value: float) -> bytes:
    return struct.pack("<f", value)
