"""Changes of texts that know their marks: XML, YAML, lists of words."""

from __future__ import annotations

import random
import re

from attack.child import EVIDENCE

__all__ = ["configuration", "lines_of_text", "markup"]

_MARKUP = (
    *(
        "",
        "<object>",
        "</object>",
        "<bndbox/>",
        "<name/>",
        "<!--",
        "<![CDATA[x]]>",
        "&b;",
        "&#0;",
        "&#xD800;",
        "\ud7ff",
    ),
    *(
        "<!DOCTYPE a [<!ENTITY b 'c'>]>",
        "<?xml version='1.0' encoding='utf-16'?>",
        "<?xml version='1.0' encoding='utf-7'?>",
    ),
    *("216,00", "1e9", "-5", "NaN", "\u0661\u0662", "999999999", "9" * 5000, "../../etc/passwd", "x" * 500, "a\0b"),
)


def markup(rng: random.Random, data: bytes) -> bytes:
    """XML with one tag or text exchanged."""
    text = data.decode("utf-8", "replace")
    spots = [match.span() for match in re.finditer(r"<[^>]*>|[^<>]+", text)]
    start, end = rng.choice(spots)
    return (text[:start] + rng.choice((*_MARKUP, text[start:end] * 2)) + text[end:]).encode("utf-8", "surrogatepass")


_NODES = (
    *(
        "null",
        "[]",
        "{}",
        "-1",
        "0",
        "1e400",
        ".nan",
        ".inf",
        "yes",
        "9" * 30,
        "9" * 5000,
        "1_000",
        "190:20:30",
        "0o9",
        "0x",
    ),
    *("!!bool foo", "!!int ''", "!!int foo", "!!int '-'", "!!float x", "!!float ''", "!!timestamp foo", "2001-99-99"),
    *(
        "!!binary '%'",
        "!!set {a, b}",
        "!!omap [a]",
        "!!pairs [a]",
        "!!str [a]",
        "!!map [a]",
        "!!seq {a: 1}",
        "!!value x",
    ),
    *(
        "? [a]",
        "*x",
        "&x 1",
        "'\\0'",
        '"\\uD800"',
        "<<: {a: 1}",
        "<<: [1]",
        "<<: 1",
        "= ",
        "!!merge x",
        "[" * 40,
        "../x",
    ),
    *(
        "{a: {a: {a: 1}}}",
        f"!!python/object/apply:os.system ['touch {EVIDENCE}']",
        "!<tag:yaml.org,2002:null> x",
        "\x1b[0m",
    ),
)


def configuration(rng: random.Random, data: bytes) -> bytes:
    """YAML with one line changed."""
    lines = data.decode("utf-8", "replace").split("\n")
    at = rng.randrange(len(lines))
    change = rng.random()
    if change < 0.6:
        key = lines[at].partition(":")[0] if ":" in lines[at] else rng.choice(("x", "base", "family", "data"))
        lines[at] = f"{key}: {rng.choice(_NODES)}"
    elif change < 0.75:
        lines.insert(at, rng.choice(lines))
    elif change < 0.9:
        lines.insert(at, rng.choice(_NODES))
    else:
        del lines[at]
    return "\n".join(lines).encode("utf-8", "replace")


_WORDS = (
    *(b"", b"-1", b"1", b"00001", b"99999999999999", b"9" * 5000, b"1 1", b"a b c", b"xx yy", b"x" * 300, b"[UNK]"),
    *(b"\xff\xfe", b"\0", b"\r", "\u0661".encode(), "\u00b2".encode(), "\u2028".encode(), "\U0001f6a2 a".encode()),
)


def lines_of_text(rng: random.Random, data: bytes) -> bytes:
    """Text with one line changed."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    word = rng.choice((*_WORDS, rng.choice(lines)))
    change = rng.random()
    if change < 0.5:
        lines[at] = word
    elif change < 0.8:
        lines.insert(at, word)
    else:
        del lines[at]
    return b"\n".join(lines)
