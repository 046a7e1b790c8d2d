"""JSON, JSON lines and XML of data sets, and masks beside them: outlines that break C code, values of other types."""

from __future__ import annotations

import copy
import json
import pickle
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from attack.containers import npy, npy_of, npz_of, small_png
from attack.hostile.case import Case, either, refused
from attack.seeds import CACHE, DESCRIPTION, INSTANCES, RECORDS, REFS, SEQTR, XML, as_json, as_lines

__all__ = ["cases"]

_DETECTIONS = [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 8], "score": 0.9, "attribute": "red"}]
_NAN, _INF = float("nan"), float("inf")
_BOX = {"box": [1, 1, 9, 9]}


def cases() -> Iterator[Case]:
    """All of them."""
    for name, outline in _outlines().items():
        for boxed in (True, False):
            where = "with a box" if boxed else "alone"
            record = {"image": "a.png", "sentence": "the ship", "size": [20, 30], "mask": outline}
            data = as_lines([{**record, **_BOX} if boxed else record])
            yield either(f"outline {where}: {name}", "jsonl", data)
        yield either(f"outline, checked: {name}", "jsonl_check", as_lines([{**record, **_BOX}]))
        content = copy.deepcopy(INSTANCES)
        content["annotations"][0]["segmentation"] = outline
        for reader in ("coco", "coco_check", "refer_instances", "make_referring"):
            yield either(f"outline: {name}", reader, as_json(content))
        records = copy.deepcopy(SEQTR)
        records["train"][0]["mask"] = outline
        for reader in ("seqtr", "seqtr_check"):
            yield either(f"outline: {name}", reader, as_json(records))
        kept = copy.deepcopy(CACHE)
        kept["items"]["train"][0]["segmentation"] = outline
        yield either(f"outline: {name}", "cache_json", as_json(kept))
    for name, data in _records().items():
        yield either(f"record: {name}", "jsonl", data)
        yield either(f"record: {name}", "jsonl_check", data)
    yield from _types()
    yield from _texts()
    yield from _devices()
    for name, data in _masks().items():
        yield either(f"mask file: {name}", "refer_mask", data)
    for name, data in _xml().items():
        yield either(f"xml: {name}", "dior_xml", data)
    for name, text in {
        "arabic digits": "\u0660\n\u0661\n",
        "superscript": "\u00b2\n",
        "5000 digits": "9" * 5000,
    }.items():
        yield either(f"list: {name}", "dior_lists", text.encode())
    yield either("list: a million lines", "dior_lists", b"0\n" * 1_000_000)
    for name, data in {
        "empty": b"",
        "a name alone": b"a\n",
        "the same line again and again": b"a the ship\n" * 20_000,
        "upward": b"../../../../etc/passwd the ship\n",
        "absolute": b"/dev/zero the ship\n",
        "a NUL": b"a the \0 ship\n",
        "no UTF-8": b"a the \xff\xfe ship\n",
        "control characters": b"\x1b[2J the ship\n",
        "a word of 1 MB": b"a " + b"x" * 1_000_000 + b"\n",
        "UTF-16": "a the ship\n".encode("utf-16"),
        "a name of 5000 letters": b"a" * 5000 + b" the ship\n",
    }.items():
        yield either(f"phrases: {name}", "phrase_list", data)


def _outlines() -> dict[str, Any]:
    def rle(counts: Any, size: Any = (20, 30)) -> dict[str, Any]:
        return {"size": list(size) if isinstance(size, tuple) else size, "counts": counts}

    return {
        "polygon NaN": [[0, 0, _NAN, 0, 1, 1]],
        "polygon Infinity": [[0, 0, _INF, 0, 1, -_INF]],
        "polygon 1e7": [[0, 0, 1e7, 0, 1e7, 1e7]],
        "polygon 1e9": [[0, 0, 1e9, 0, 1e9, 1e9]],
        "polygon 1e300": [[0, 0, 1e300, 0, 1, 1]],
        "polygon -2e9": [[-2e9, -2e9, 2e9, 0, 1, 1]],
        "polygon of 400 digits": [[0, 0, 10**400, 0, 1, 1]],
        "polygon of text": [["a", "b", "c", "d", "e", "f"]],
        "polygon of null": [[None] * 6],
        "polygon of truth values": [[True] * 6],
        "polygon of pairs": [[[1, 2], [3, 4], [5, 6]]],
        "polygon of tables": [[{}] * 6],
        "polygon of five numbers": [[1, 2, 3, 4, 5]],
        "polygon of two points": [[1, 2, 3, 4]],
        "polygon of nothing": [[]],
        "polygon, not in a list": [1, 2, 11, 2, 11, 8],
        "polygon beside text": [[1, 2, 11, 2, 11, 8], "x"],
        "polygon beside RLE": [[1, 2, 11, 2, 11, 8], rle([600])],
        "50000 points": [[n % 30 for n in range(100_000)]],
        "text": "x",
        "number": 5,
        "true": True,
        "empty table": {},
        "size 0": rle("12", (0, 5)),
        "size 0, counted": rle([1, 2, 3], (0, 5)),
        "size 0 x 0, no counts": rle([], (0, 0)),
        "size below zero": rle("12", (-1, 5)),
        "size of text": rle("12", "ab"),
        "size null": rle("12", None),
        "size of one": rle([1], (1,)),
        "size of three": rle([1], (1, 2, 3)),
        "size of floats": rle([600], (20.0, 30.0)),
        "size of halves": rle([600], (20.5, 30.5)),
        "size NaN": rle([600], (_NAN, 30)),
        "size 100000 x 100000": rle("12", (100_000, 100_000)),
        "size that overflows": rle([600], (2**40, 2**40)),
        "size and count 10 ** 10": rle([10**10], (100_000, 100_000)),
        "another size than the image": rle([6], (2, 3)),
        "counts beyond": rle([0, 10**9]),
        "counts below zero": rle([-5, 10, -3]),
        "counts of 2 ** 40": rle([2**40, 1]),
        "counts of 400 digits": rle([10**400]),
        "counts too few": rle([3, 3]),
        "counts of none": rle([]),
        "counts of text": rle(["a"]),
        "counts of floats": rle([599.5, 0.5]),
        "counts NaN": rle([_NAN]),
        "counts null": rle(None),
        "counts a number": rle(5),
        "counts a table": rle({}),
        "no counts": {"size": [20, 30]},
        "no size": {"counts": [600]},
        "packed, empty": rle(""),
        "packed, cut short": rle("PPP"),
        "packed, too long": rle("Q1o0Q1" * 50),
        "packed, control characters": rle("\x7f" * 50),
        "packed, without an end": rle("oooooooooooo"),
        "packed, other letters": rle("\u8239"),
        "packed, half a surrogate pair": rle("\ud800"),
        "packed, a NUL": rle("PP\0"),
        "packed, 1 MB": rle("o" * 1_000_000),
        "two, one too short": [rle([600]), rle("PP2")],
        "two of other sizes": [rle([600]), rle([6], (2, 3))],
    }


def _records() -> dict[str, bytes]:
    def one(**changed: Any) -> bytes:
        return as_lines([{"image": "a.png", "sentence": "the ship", "size": [20, 30], **_BOX, **changed}])

    return {
        "box NaN": one(box=[_NAN] * 4),
        "box Infinity": one(box=[0, 0, _INF, 5]),
        "box of 400 digits": one(box=[0, 0, 10**400, 5]),
        "box of truth values": one(box=[True] * 4),
        "box of nothing": one(box=[5, 5, 5, 5]),
        "box swapped": one(box=[9, 9, 1, 1]),
        "box outside": one(box=[100, 100, 200, 200]),
        "box 1e38": one(box=[0, 0, 1e38, 1e38]),
        "image a folder": one(image="."),
        "image upward": one(image="../../../../../../etc/passwd"),
        "image absolute": one(image="/etc/passwd"),
        "image of 5000 letters": one(image="x" * 5000),
        "image with a NUL": one(image="a.png\0"),
        "image of half a surrogate pair": one(image="\ud800.png"),
        "size 10 ** 9": one(size=[10**9, 10**9], mask=[[1, 1, 9, 1, 9, 9]]),
        "size true": one(size=[True, True]),
        "no referent": as_lines([{"image": "a.png", "sentence": "the ship"}]),
        "two objects": as_lines([{"image": "a.png", "sentence": "x", "objects": [_BOX, _BOX]}]),
        "sentence of 1 MB": one(sentence="a " * 500_000),
        "word of 1 MB": one(sentence="a" * 1_000_000),
        "half a surrogate pair": one(sentence="ship \ud800 x"),
        "control characters": one(id="\x1b[2J\nx", category="\x1b[31m"),
        "a list": b"[1]\n",
        "a number": b"5\n",
        "unknown key with control characters": one(**{"\x1b[2J\n": 1}),
        "objects ignored only": as_lines([{"image": "a.png", "sentence": "x", "objects": [{**_BOX, "ignored": True}]}]),
        "10000 objects": as_lines([{"image": "a.png", "objects": [_BOX] * 10_000}]),
    }


OTHERS: dict[str, Any] = {
    "null": None,
    "text": "abc",
    "a number": 5,
    "a fraction": 1.5,
    "NaN": _NAN,
    "a list": [1],
    "a table": {"a": 1},
    "true": True,
    "400 digits": 10**400,
}


def replaced(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    tree = copy.deepcopy(tree)
    holder = tree
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return tree


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key of the first record of each list."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield (*path, key)
            yield from places(value, (*path, key))
    elif isinstance(tree, list) and tree:
        yield (*path, 0)
        yield from places(tree[0], (*path, 0))


def _types() -> Iterator[Case]:
    """Another type at every place of every annotation format."""
    trees: dict[str, tuple[Any, Any]] = {
        "coco": (INSTANCES, as_json),
        "coco_check": (INSTANCES, as_json),
        "make_referring": (INSTANCES, as_json),
        "detections": (_DETECTIONS, as_json),
        "refer_instances": (INSTANCES, as_json),
        "jsonl": (RECORDS, as_lines),
        "jsonl_check": (RECORDS, as_lines),
        "dataset_json": (DESCRIPTION, as_json),
        "cache_json": (CACHE, as_json),
        "seqtr": (SEQTR, as_json),
        "seqtr_check": (SEQTR, as_json),
        "refs_pickle": (REFS, pickle.dumps),
    }
    for reader, (tree, write) in trees.items():
        for path in places(tree):
            place = ".".join(map(str, path))
            for kind, value in OTHERS.items():
                yield either(f"{place} is {kind}", reader, write(replaced(tree, path, value)))
            above = copy.deepcopy(tree)
            holder = above
            for key in path[:-1]:
                holder = holder[key]
            del holder[path[-1]]
            yield either(f"{place} is missing", reader, write(above))
        for kind, value in OTHERS.items():
            whole = [value] if write is as_lines else value
            yield either(f"all of it is {kind}", reader, write(whole))


def _texts() -> Iterator[Case]:
    """JSON that is none, or that Python reads in more time or other ways than its size tells."""
    digits = b"9" * 5000
    for reader in ("coco", "refer_instances", "cache_json", "dataset_json", "jsonl", "seqtr"):
        yield refused("a million brackets", reader, b"[" * 1_000_000)
        yield refused("a million keys", reader, b'{"a":' * 1_000_000)
        yield refused("a number of 5000 digits", reader, b'{"images":[],"annotations":[],"x":' + digits + b"}")
        yield refused("UTF-16", reader, json.dumps(INSTANCES).encode("utf-16"))
        yield refused("no UTF-8", reader, b'{"a": "\xff\xfe"}')
        yield refused("cut short", reader, b'{"images": [')
        yield refused("control characters", reader, b'{"a": \x1b[2J}')
    yield refused("empty", "coco", b"")
    yield refused("empty", "jsonl", b"")
    yield refused("blank lines", "jsonl", b"\n" * 1000)
    yield refused("box of 5000 digits", "jsonl", b'{"image":"a.png","sentence":"x","box":[1,2,3,' + digits + b"]}")


def _devices() -> Iterator[Case]:
    """Image names that lead to files without an end."""
    for name in ("/dev/zero", "/dev/stdin", "/dev/random", "/proc/self/mem", "/dev/tty"):
        record = {"image": name, "sentence": "the ship", **_BOX}
        for reader in ("jsonl", "jsonl_check"):
            yield (
                refused(f"image {name}", reader, as_lines([record]))
                if reader == "jsonl"
                else either(f"image {name}", reader, as_lines([record]))
            )
        records = copy.deepcopy(SEQTR)
        records["train"][0]["image"] = name
        yield refused(f"image {name}", "seqtr", as_json(records))
        yield either(f"image {name}", "seqtr_check", as_json(records))
    pipe = as_lines([{"image": "pipe.png", "sentence": "the ship", **_BOX}])
    yield refused("image a FIFO", "jsonl", pipe, beside={"pipe.png": None})
    yield either("image a FIFO", "jsonl_check", pipe, beside={"pipe.png": None})
    content = copy.deepcopy(INSTANCES)
    content["images"][0]["file_name"] = "/dev/zero"
    for reader in ("coco", "coco_check", "refer_instances"):
        yield either("image /dev/zero", reader, as_json(content))


def _masks() -> dict[str, bytes]:
    def header(kind: str, shape: str) -> str:
        return f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}}}\n"

    fields = "[('a', '<f4')]"
    return {
        "empty": b"",
        "an npz": npz_of(a=np.ones((20, 30))),
        "damaged archive": b"PK\x03\x04" + bytes(30),
        "a pickle": pickle.dumps({"a": 1}),
        "objects": npy(header("'|O'", "(1,)"), pickle.dumps([1])),
        "8 PB": npy(header("'<f8'", "(99999999, 9999999)")),
        "100 GB": npy(header("'|u1'", "(100000, 1000000)")),
        "6 GB": npy(header("'|u1'", "(60000, 100000)")),
        "shape that overflows": npy(header("'|u1'", "(4294967296, 4294967296)")),
        "records": npy(header(fields, "(2, 2)"), bytes(16)),
        "text": npy(header("'<U3'", "(20, 30)"), bytes(7200)),
        "void": npy(header("'|V3'", "(20, 30)"), bytes(1800)),
        "dates": npy(header("'<M8[s]'", "(20, 30)"), bytes(4800)),
        "complex": npy(header("'<c8'", "(20, 30)"), bytes(4800)),
        "no pixel": npy(header("'|u1'", "(0, 5)")),
        "one dimension": npy(header("'|u1'", "(600,)"), bytes(600)),
        "three dimensions": npy(header("'|u1'", "(20, 30, 3)"), bytes(1800)),
        "shape below zero": npy(header("'|u1'", "(-20, -30)"), bytes(600)),
        "9000 brackets": npy("(" * 9000 + "\n"),
        "open bracket": npy("((((\n"),
        "a power": npy(header("'|u1'", "(9**9**9, 2)")),
        "a call": npy(header("__import__('os').system('true')", "(2, 2)")),
        "version 9": b"\x93NUMPY\x09\x00" + bytes(20),
        "header of 4 GB": b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 100,
        "NaN": npy(header("'<f4'", "(20, 30)"), struct.pack("<f", _NAN) * 600),
        "another size": npy(header("'|u1'", "(2, 3)"), b"\1" * 6),
        "all zero": npy(header("'|u1'", "(20, 30)"), bytes(600)),
        "cut short": npy_of(np.ones((20, 30)))[:-100],
        "an image": small_png(),
    }


def _xml() -> dict[str, bytes]:
    def coded(encoding: bytes) -> bytes:
        return b"<?xml version='1.0' encoding='" + encoding + b"'?>" + XML

    doctype = "<?xml version='1.0' encoding='utf-16'?><!DOCTYPE a [<!ENTITY b 'c'>]>"
    laughs = (
        b"<!DOCTYPE a [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'><!ENTITY c '&b;&b;&b;&b;&b;&b;'>]>"
    )
    return {
        "document type in UTF-16": (doctype + XML.decode()).encode("utf-16"),
        "external entity": b"<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]>"
        + XML.replace(b"the red ship", b"&b;"),
        "entities of entities": laughs + XML.replace(b"the red ship", b"&c;"),
        "depth 200000, open": b"<annotation>" + b"<a>" * 200_000,
        "depth 140000": b"<annotation>" + b"<a>" * 140_000 + b"</a>" * 140_000 + b"</annotation>",
        "file name of depth 100000": b"<annotation><filename>"
        + b"<a>" * 100_000
        + b"</a>" * 100_000
        + b"</filename></annotation>",
        "80000 attributes": b"<annotation " + b" ".join(b"a%d='1'" % n for n in range(80_000)) + b"/>",
        "100000 objects": b"<annotation>" + b"<object/>" * 100_000 + b"</annotation>",
        **{
            f"encoding {name!r}": coded(name)
            for name in (b"utf-7", b"idna", b"hex", b"undefined", b"a\0b", b"unicode_escape", b"zlib", b"x" * 1000)
        },
        "arabic digits": XML.replace(b"<xmin>1<", "<xmin>\u0661<".encode()),
        "nine digits": XML.replace(b"<xmax>11<", b"<xmax>999999999<"),
        "5000 digits": XML.replace(b"<xmax>11<", b"<xmax>" + b"9" * 5000 + b"<"),
        "width 0": XML.replace(b"<width>30", b"<width>0"),
        "width of 5000 digits": XML.replace(b"<width>30", b"<width>" + b"9" * 5000),
        "namespace": XML.replace(b"<annotation>", b"<annotation xmlns='x'>"),
        "processing instruction": b"<?php system('x')?>" + XML,
        "comment in a name": XML.replace(b"ship</name>", b"sh<!-- c -->ip</name>"),
        "file name with line ends": XML.replace(b"00001.jpg", b"00\n001\x0a.jpg"),
        "file name upward": XML.replace(b"00001.jpg", b"../../../etc/passwd"),
        "outermost element with a long name": b"<" + b"a" * 100_000 + b"/>",
        "empty": b"",
        "text": b"hello",
        "2 MB": b"<annotation>" + b" " * (2 << 20) + b"</annotation>",
    }
