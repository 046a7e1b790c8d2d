"""Configurations, vocabularies and word vectors."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator

from attack.child import EVIDENCE
from attack.containers import gzip_zeros
from attack.hostile.case import Case, either, read, refused
from attack.seeds import as_lines, merges

__all__ = ["cases"]

_NODES = (
    *("!!bool foo", "!!int ''", "!!int foo", "!!int '-'", "!!int '0x'", "!!int '1:a'", "!!float x", "!!float ''"),
    *("!!float '-'", "!!timestamp foo", "!!timestamp ''", "2001-99-99", "!!binary '%'", "!!set {a, b}", "!!omap [a]"),
    *("!!pairs [a]", "!!null x", "!!str [a]", "!!map [a]", "!!seq {a: 1}", "!!merge x", "!!value x", "=", "0b", "0o9"),
    *("1:1:1:1", "!!python/name:os.system", f"!!python/object/apply:os.system ['touch {EVIDENCE}']", ".nan", ".inf"),
    *("'\\0'", '"\\e[2J"', '"\\uD800"', "[1, 2]", "{a: 1}", "x", "9" * 5000, "1e999", "*a", "&a [*a]"),
)


def cases() -> Iterator[Case]:
    """All of them."""
    for node in _NODES:
        yield either(f"yaml: {node[:60]}", "yaml", f"family: vglaw\ntrain: {{lr_base: {node}}}\n".encode())
    for name, data in _yaml().items():
        yield either(f"yaml: {name}", "yaml", data)
    yield from _bases()
    yield from _merges()
    for name, data in _vocabularies().items():
        yield either(f"vocabulary: {name}", "vocabulary", data)
    many = "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{number}" for number in range(300_000))])
    yield read("vocabulary: 300000 words", "vocabulary", many.encode())
    yield from _vectors()
    for name, data in _logs().items():
        yield either(f"log: {name}", "run_log", data)
        yield either(f"measurement: {name}", "measured", data)


def _vectors() -> Iterator[Case]:
    """Word vectors: lines without an end, numbers that are none, and few bytes that stand for many."""
    for name, data in {
        "empty": b"",
        "blank lines": b"\n" * 1_000_000,
        "one line of 10 MB": b"x" * 10_000_000,
        "a line of 100000 numbers": b"the" + b" 1" * 100_000 + b"\n",
        "words for numbers": b"the a b\n",
        "not finite": b"the nan 1\n",
        "infinite": b"the 1e999 1\n",
        "a number of 5000 digits": b"the " + b"9" * 5000 + b" 1\n",
        "a counted file of nothing": b"999999999999 999999\n",
        "control characters": b"\x1b[2J 1\n",
    }.items():
        yield refused(f"vectors: {name}", "word_vectors", data)
        yield refused(f"vectors, packed: {name}", "word_vectors_gzip", gzip.compress(data))
    yield either("vectors: a million lines of other words", "word_vectors", b"x 1 2\n" * 1_000_000)
    # They hold none of the words, which whoever asks for vectors refuses.
    yield either("vectors: UTF-16", "word_vectors", "the 1 2\n".encode("utf-16"))
    yield either("vectors: a NUL", "word_vectors", b"the\0 1 2\n")
    yield refused("vectors, packed: 2 GB of zeros", "word_vectors_gzip", lambda: gzip_zeros(2 << 30))
    yield refused(
        "vectors, packed: 100 MB of lines", "word_vectors_gzip", lambda: gzip.compress(b"x 1 2\n" * 16_000_000)
    )
    yield refused("vectors, packed: cut off", "word_vectors_gzip", gzip.compress(b"the 1 2\n" * 100)[:-20])
    yield either("vectors, packed: parts without end", "word_vectors_gzip", gzip.compress(b"") * 50_000)


def _yaml() -> dict[str, bytes]:
    laughs = b"a: &a [x,x,x,x,x,x,x,x,x]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        laughs += f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n".encode()
    return {
        "lists of lists of lists": laughs,
        "merged tables": b"a: &a {x: 1}\nb: {<<: [*a, *a, *a]}\n",
        "merge of a number": b"train: {<<: 1}\n",
        "merge of a list": b"train: {<<: [1]}\n",
        "100000 brackets": b"data: " + b"[" * 100_000,
        "500000 brackets": b"data: " + b"[" * 500_000,
        "a million braces": b"{" * 1_000_000,
        "400 levels of lists": b"data:\n" + b"".join(b" " * depth + b"- \n" for depth in range(400)),
        "500000 list marks": b"- " * 500_000,
        "500000 key marks": b"? " * 500_000,
        "a list of 1 MB": b"family: vglaw\ndata: {mean: [" + b"1," * 500_000 + b"1]}",
        "a key of 1 MB": b"a" * 1_000_000 + b": 1\n",
        "100000 keys": b"".join(b"k%d: 1\n" % number for number in range(100_000)),
        "a list": b"[1, 2]\n",
        "a number": b"5\n",
        "empty": b"",
        "no UTF-8": b"\xff\xfe\xfd",
        "UTF-16": "family: vglaw\n".encode("utf-16"),
        "a NUL": b"family: vg\0law\n",
        "control characters": b"family: \x1b[2J\n",
        "key with control characters": b'"\\e[2J\\n": 1\n',
        "key of no text": b"1: 2\n",
        "key a list": b"? [a]\n: 1\n",
        "key a date": b"2001-01-01: 1\n",
        "two documents": b"a: 1\n---\nb: 2\n",
        "a binary image": bytes(range(256)) * 10,
        "a tab": b"family:\n\t- x\n",
        "directive": b"%YAML 9.9\n---\nfamily: vglaw\n",
        "unknown anchor": b"a: *nothing\n",
        "section null": b"family: vglaw\ndata:\ntrain: null\n",
        "section text": b"family: vglaw\ndata: x\n",
        "family of control characters": b'family: "\\e[2J\\n"\n',
        "family upward": b"family: ../../x\n",
        "family a module": b"family: os.path\n",
    }


def _bases() -> Iterator[Case]:
    """Files that name files."""
    fan = {
        f"{name}.yaml": f"base: [{', '.join([f'{after}.yaml'] * 40)}]\n".encode()
        for name, after in zip("abcde", "bcdef", strict=True)
    }
    yield refused(
        "base: 40 ** 5 files",
        "yaml",
        b"base: [" + b", ".join([b"a.yaml"] * 40) + b"]\n",
        beside={**fan, "f.yaml": b"x: 1\n"},
    )
    yield refused("base: itself", "yaml", b"base: c.yaml\n")
    yield refused("base: each other", "yaml", b"base: d.yaml\n", beside={"d.yaml": b"base: c.yaml\n"})
    chain = {f"n{number}.yaml": f"base: n{number + 1}.yaml\n".encode() for number in range(300)}
    yield refused("base: 300 files in a row", "yaml", b"base: n0.yaml\n", beside=chain)
    for place in ("/dev/zero", "/etc/passwd", ".", "", "\\0", "x" * 5000, "5", "[5]", "{a: 1}", "null"):
        text = place if place[:1] in "[{5n" and place else f'"{place}"'
        yield either(f"base: {place[:20]!r}", "yaml", f"base: {text}\nfamily: vglaw\n".encode())
    yield refused("base: a FIFO", "yaml", b"base: pipe.yaml\n", beside={"pipe.yaml": None})


def _merges() -> Iterator[Case]:
    whole = merges()
    pairs = 48_894
    unknown = ("#v\n" + "\n".join(["qqq zzz"] * pairs) + "\n").encode()
    again = ("#v\n" + "\n".join(["a b"] * pairs) + "\n").encode()
    yield refused("merges: 3 GB in 3 MB", "merges", lambda: gzip_zeros(3 << 30))
    yield refused("merges: 200 MB in 200 kB", "merges", lambda: gzip_zeros(200 << 20))
    yield refused("merges: unknown symbols", "merges", gzip.compress(unknown))
    yield refused("merges: one pair again and again", "merges", gzip.compress(again))
    yield either("merges: bytes behind the end", "merges", gzip.compress(whole) + b"garbage")
    yield refused("merges: cut short", "merges", gzip.compress(whole)[:-1000])
    yield refused("merges: wrong checksum", "merges", gzip.compress(whole)[:-8] + bytes(8))
    yield refused("merges: empty", "merges", b"")
    yield refused("merges: a zlib stream", "merges", zlib.compress(whole))
    yield refused("merges: no UTF-8", "merges", gzip.compress(b"\xff\xfe" * 50_000))
    yield refused("merges: three symbols a line", "merges", whole.replace(b"\n", b" x\n"))
    yield either("merges: a line of 10 MB", "merges", b"#v\n" + b"a" * 10_000_000)


def _vocabularies() -> dict[str, bytes]:
    special = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n"
    return {
        "empty": b"",
        "no UTF-8": special + b"\xff\xfe\n",
        "UTF-16": special.decode().encode("utf-16"),
        "a NUL": special + b"a\0b\n",
        "control characters, twice": special + b"\x1b[2J\n\x1b[2J\n",
        "a word twice": special + b"ship\nship\n",
        "a word of 10 MB": special + b"a" * 10_000_000 + b"\n",
        "a word of 10 MB, twice": (b"a" * 10_000_000 + b"\n") * 2,
        "a million empty lines": special + b"\n" * 1_000_000,
        "line ends of Windows": special.replace(b"\n", b"\r\n"),
        "a byte order mark": b"\xef\xbb\xbf" + special,
        "no special words": b"the\nship\n",
        "a picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
    }


def _logs() -> dict[str, bytes]:
    line = {"sample_id": "1", "reliability": 0.5, "predicted": [1, 2, 3, 4], "pseudo": [1, 2, 3, 4], "sentence": "a"}
    found = {
        f"{key} is {value!r:.20}": as_lines([{**line, key: value}])
        for key in line
        for value in (None, "x", 5, [], {}, float("nan"), 10**400, [[1]], ["a"])
    }
    return found | {
        "a million brackets": b"[" * 1_000_000,
        "5000 digits": b'{"step": ' + b"9" * 5000 + b"}\n",
        "no UTF-8": b"\xff\xfe\n",
        "a list": b"[1]\n",
        "a number": b"5\n",
        "cut short": b'{"step": 1',
        "empty": b"",
    }
