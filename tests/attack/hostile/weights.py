"""safetensors, MindSpore ckpt, our own checkpoints: headers that contradict the data, or ask for the impossible."""

from __future__ import annotations

import json
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any

from attack.containers import field, parameter, safetensors, varint, zlib_zeros
from attack.hostile.case import Case, either, refused
from attack.seeds import WORDPIECE, checkpoint, embedding

__all__ = ["cases"]

_ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
_FOUR = bytes(4)


def cases() -> Iterator[Case]:
    """All of them."""
    for name, data in _safetensors().items():
        yield either(f"safetensors: {name}", "safetensors", data)
        yield either(f"as a checkpoint: {name}", "checkpoint", data)
        yield refused(f"as an encoded image: {name}", "embedding", data)
    yield from _embeddings()
    for name, data in _ckpt().items():
        yield either(f"ckpt: {name}", "mindspore_ckpt", data)
    for name, made in _descriptions().items():
        yield either(f"description: {name}", "checkpoint", made)
    for name, keys in _networks().items():
        config = {"family": "vglaw", **keys}
        yield refused(f"network: {name}", "network", checkpoint(config=config))
    yield refused(
        "network: a tensor that is no number",
        "network",
        checkpoint(held={"model/a": {**_ENTRY, "shape": [1]}}, data=b"\0\0\xc0\x7f"),
    )


def _embeddings() -> Iterator[Case]:
    """Encoded images whose size, numbers or description are none."""
    sizes = (
        "",
        "[]",
        "[1]",
        "[1, 2, 3]",
        "[-1, 5]",
        "[0, 5]",
        "[1e9, 1e9]",
        "[1.5, 2]",
        "null",
        "[true, 5]",
        '["a", 1]',
    )
    deep = ("[" * 100_000, "[" + "9" * 100_000 + ", 1]", "[1000000, 1000000]", '{"a": 1}', "\x1b[31m", "\ud800")
    for size in (*sizes, *deep):
        yield refused(f"encoded image: size {size[:20]!r}", "embedding", embedding(size=size))
    nan = b"\x00\x00\xc0\x7f" * 32
    yield refused("encoded image: nan", "embedding", embedding(nan))
    for name, changed in {
        "no such type": {"dtype": "Q9"},
        "text": {"dtype": ["F32"]},
        "whole numbers": {"dtype": "I32"},
        "three axes": {"shape": [8, 2, 2]},
        "not square": {"shape": [1, 4, 2, 4]},
        "two images": {"shape": [2, 4, 2, 2]},
        "negative": {"shape": [-1, -8, 2, 2]},
        "huge": {"shape": [1, 2**40, 2**10, 2**10]},
        "many axes": {"shape": [1] * 5000},
        "beyond the file": {"data_offsets": [0, 2**62]},
    }.items():
        yield refused(f"encoded image: {name}", "embedding", embedding(entry=changed))
    yield refused(
        "encoded image: no numbers", "embedding", embedding(b"", {"shape": [1, 0, 0, 0], "data_offsets": [0, 0]})
    )
    yield refused("encoded image: another version", "embedding", embedding(version="2"))
    yield refused("encoded image: another format", "embedding", embedding(format="\x1b]0;x\x07" * 1000))
    yield refused("encoded image: metadata that is no text", "embedding", embedding(size=[20, 30]))
    more = {"other": {"dtype": "F32", "shape": [0], "data_offsets": [128, 128]}}
    yield refused("encoded image: a second tensor", "embedding", embedding(more=more))
    yield either("encoded image: a long name", "embedding", embedding(image="x" * 10**6))
    yield refused("encoded image: a pickle", "embedding", b"\x80\x04N.")


def _entry(**changed: Any) -> bytes:
    return safetensors({"a": {**_ENTRY, **changed}}, _FOUR)


def _safetensors() -> dict[str, bytes]:
    raw = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,%s]}}'
    twice = b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    return {
        "header of 2 ** 63 bytes": safetensors(b"{}", b"", 2**63),
        "header beyond the file": safetensors(b"{}", b"", 1000),
        "a million brackets": safetensors(b'{"a":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}"),
        "offsets NaN": safetensors(raw % b"NaN", _FOUR),
        "offsets Infinity": safetensors(raw % b"Infinity", _FOUR),
        "offsets of 5000 digits": safetensors(raw % (b"9" * 5000), _FOUR),
        "a name twice": safetensors(b"{" + twice + b"," + twice + b"}", _FOUR),
        "tensors that overlap": safetensors({"a": _ENTRY, "b": _ENTRY}, _FOUR),
        "a hole": safetensors({"a": _ENTRY, "b": {**_ENTRY, "data_offsets": [8, 12]}}, bytes(12)),
        "offsets below zero": _entry(data_offsets=[-4, 0]),
        "offsets of text": _entry(data_offsets="04"),
        "shape below zero": _entry(shape=[-1, -1]),
        "200000 dimensions of 2 ** 62": _entry(shape=[2**62] * 200_000),
        "3000 dimensions of 4000 digits": _entry(shape=[10**3999] * 3000),
        "65 dimensions": _entry(shape=[1] * 65),
        "empty with a huge side": safetensors({"a": {**_ENTRY, "shape": [0, 2**62], "data_offsets": [0, 0]}}),
        "shape a float": _entry(shape=[1.0]),
        "shape of text": _entry(shape="1"),
        "type a list": _entry(dtype=["F32"]),
        "metadata a number": safetensors({"__metadata__": 5, "a": _ENTRY}, _FOUR),
        "metadata a list": safetensors({"__metadata__": [1], "a": _ENTRY}, _FOUR),
        "name with control characters": safetensors({"a\n\x1b[31mERROR\x07": {**_ENTRY, "shape": [2]}}, _FOUR),
        "type with control characters": _entry(dtype="F32\n\x1b[31m"),
        "name of 10 MB": safetensors({"a" * 10_000_000: {**_ENTRY, "shape": [2]}}, _FOUR),
        "100000 empty tensors": safetensors(
            {f"t{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(100_000)}
        ),
    }


def _ckpt() -> dict[str, bytes]:
    good = parameter(b"a", (1,), b"Float32", _FOUR)

    def held(inner: bytes) -> bytes:
        return field(1, field(1, b"a") + field(2, inner))

    kind, content = field(2, b"Float32"), field(3, _FOUR)
    found = {
        f"tag again, as the number 2 ** {power}": parameter(b"a", (1,), b"Float32", _FOUR, field(1, 2**power))
        for power in (32, 40, 63)
    }
    return found | {
        "type as the number 2 ** 33": held(field(1, 1) + field(2, 2**33) + content),
        "content a number": held(field(1, 1) + kind + field(3, 7)),
        "content a number, twice": held(field(1, 1) + kind + field(3, 7)) * 2,
        "tensor a number": field(1, field(1, b"a") + field(2, 5)),
        "sizes below zero": held(field(1, -1) + field(1, -4) + kind + field(3, bytes(16))),
        "200000 sizes of 2 ** 62": held(field(1, varint(2**62) * 200_000) + kind + content),
        "product that overflows": held(field(1, 2**32) + field(1, 2**32) + kind),
        "70 sizes": held(field(1, 1) * 70 + kind + content),
        "empty with a huge side": held(field(1, 0) + field(1, 2**62) + kind),
        "text that is none": held(field(1, 1) + field(2, b"str") + field(3, b"\xff\xfe\xfd\xfc")),
        "type with control characters": held(field(1, 1) + field(2, b"\x1b[2J\n") + field(3, b"\0")),
        "name with control characters": parameter(b"\x1b[2J\na", (3,), b"Float32", _FOUR),
        "one name with two types": good + parameter(b"a", (1,), b"Int8", b"\0"),
        "group": good + b"\x0b",
        "number of 11 bytes": good + b"\xff" * 11,
        "length 2 ** 63": good + b"\x0a" + varint(2**63),
        "a field of another number": good + varint(536870911 << 3)[:5] + b"\0",
        "500000 empty parameters": good + field(1, b"") * 500_000,
        "30 levels of messages": _deep(30),
    }


def _deep(levels: int) -> bytes:
    inner = b""
    for _ in range(levels):
        inner = field(1, inner) + field(2, inner[:1000])
    return inner


def _merges(text: bytes) -> dict[str, Any]:
    return {"kind": "clip_bpe", "merges": b64encode(zlib.compress(text)).decode(), "repair": True}


def _descriptions() -> dict[str, bytes | Callable[[], bytes]]:
    def words(tokens: Any) -> bytes:
        return checkpoint(tokenizer={**WORDPIECE, "tokens": tokens})

    def packed(merges: Any) -> bytes:
        return checkpoint(tokenizer={"kind": "clip_bpe", "merges": merges, "repair": True})

    def zeros(count: int) -> bytes:
        return packed(b64encode(zlib_zeros(count, b"h e\n")).decode())

    other = {"model/a": {**_ENTRY, "dtype": "BF16", "shape": [2]}}
    eight = {"model/a": {**_ENTRY, "dtype": "F8_E4M3", "shape": [4]}}
    special = WORDPIECE["tokens"][:4]
    return {
        "100000 brackets": checkpoint(
            described='{"schema":1,"config":' + "[" * 100_000 + "]" * 100_000 + ',"state":{}}'
        ),
        "schema of 5000 digits": checkpoint(described='{"schema":' + "9" * 5000 + ',"config":{},"state":{}}'),
        "config a list": checkpoint(config=[1]),
        "config text": checkpoint(config="x"),
        "section null": checkpoint(config={"family": "vglaw", "data": None}),
        "section a list": checkpoint(config={"family": "vglaw", "data": [1]}),
        **{
            f"family {value!r}": checkpoint(config={"family": value})
            for value in (["vglaw"], "../../x", "os", "vglaw.law", "", None, 5, "x\n\x1b[31m")
        },
        "tokeniser a list": checkpoint(tokenizer=[1]),
        "tokeniser a number": checkpoint(tokenizer=1),
        "tokeniser of an unhashable kind": checkpoint(tokenizer={"kind": [1]}),
        "tokens a number": words(5),
        "tokens of numbers": words([1, 2, 3]),
        "tokens of lists": words([[1]]),
        "tokens null": words(None),
        "a token of half a surrogate pair": words([*special, "\ud800"]),
        "merges no base64": packed("%%%"),
        "merges not packed": packed("AAAA"),
        "merges a number": packed(5),
        "merges cut short": packed(b64encode(zlib.compress(b"h e\nl l")[:-5]).decode()),
        "merges of one word": checkpoint(tokenizer=_merges(b"abc")),
        "merges of unknown symbols": checkpoint(tokenizer=_merges(b"ab cd")),
        "merges no text": checkpoint(tokenizer=_merges(b"\xff\xfe")),
        "merges of 300 MB in 300 kB": lambda: zeros(300 << 20),
        "merges of 3 GB in 4 MB": lambda: zeros(3 << 30),
        "state a list": checkpoint(state=[1]),
        "state of text": checkpoint(state={"step": "x"}),
        "state of control characters": checkpoint(state={"step": "\x1b[2J\n"}),
        "categories of text": checkpoint(state={"categories": {"x\n": "y"}}),
        "bfloat16": checkpoint(held=other),
        "floats of 8 bits": checkpoint(held=eight),
        "schema a list": checkpoint(described='{"schema":[1],"config":{},"state":{}}'),
        "schema true": checkpoint(described='{"schema":true,"config":{"family":"vglaw"},"state":{}}'),
        "a list": checkpoint(described="[1]"),
        "a description of 20 MB": checkpoint(described=json.dumps({"schema": 1, "config": {}, "x": "y" * 20_000_000})),
    }


def _networks() -> dict[str, dict[str, Any]]:
    """Sizes that the file's tensors cannot have; each alone would take more memory than a machine has, or none."""
    big = 10**9
    return {
        "width 100000": {"model": {"vit": {"embed_dim": 100_000}}},
        "width 4096": {"model": {"vit": {"embed_dim": 4096}}},
        "width below zero": {"model": {"vit": {"embed_dim": -5}}},
        "no heads": {"model": {"vit": {"num_heads": 0}}},
        "patch 0": {"model": {"vit": {"patch_size": 0}}},
        "depth 100000": {"model": {"vit": {"depth": 100_000}}},
        "image of a million pixels a side": {"data": {"img_size": 1_000_000}},
        "sentences of 10 ** 9 tokens": {"data": {"max_len": big}},
        "vocabulary of 10 ** 9 words": {"model": {"text": {"vocab_size": big}}},
    }
