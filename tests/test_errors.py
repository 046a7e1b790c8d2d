"""Values in messages, and messages: short, on one line, without control characters, and cheap to make."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from mindground.data.check.findings import Finding
from mindground.data.formats.fields import Problem, RecordError
from mindground.errors import MindGroundError, UnsafeFileError, one_line, printable, shown

HOSTILE = "line\nbreak \r\n \x1b[2J \x7f \x85 \u2028 \u202e \udc80 "


def _shared() -> Any:
    value: Any = ("x",)
    for _ in range(200):
        value = (value, value)
    return value


def _itself() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


class _Talkative:
    def __repr__(self) -> str:
        raise RuntimeError("the repr of a stranger")


@pytest.mark.parametrize(
    "value",
    [
        _shared(),
        _itself(),
        {(1, 2): _itself()},
        "a" * 10**7,
        b"\x1b[2J" * 10**6,
        10**6000,
        list(range(10**6)),
        {"a": "b" * 10**6},
        _Talkative(),
        [_Talkative()],
        set(range(9)),
        HOSTILE,
        {HOSTILE: HOSTILE},
        type("name\n\x1b[2J", (), {})(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_value_is_short(value: Any) -> None:
    text = shown(value)
    assert text.isprintable() and len(text) < 200


def test_plain_values_are_shown_as_they_are() -> None:
    for value in ("it's", 5, 1.5, None, True, (1, "a"), [1, 2], {"a": 1}, b"x", (), "ship \u8239", 2**200):
        assert shown(value) == repr(value)


def test_an_object_of_another_class_is_named() -> None:
    assert shown(_Talkative()) == "<_Talkative>"


@pytest.mark.parametrize("text", [HOSTILE, HOSTILE * 10**5, "\x00" * 5000, "a" * 5000], ids=range(4))
def test_every_message_is_one_short_line(text: str) -> None:
    """Whatever a reader put into it: the class sees to it."""
    for made in (
        *(str(kind(text)) for kind in (MindGroundError, UnsafeFileError, RecordError)),
        Problem(text, "a"),
        Finding("error", "kind", "train", text, text).subject,
        Finding("error", "kind", "train", text, text).detail,
    ):
        assert made.isprintable() and 0 < len(made) < 2000
        assert made.startswith(text[:2].replace("\x00", "\\x00"))


def test_a_long_message_keeps_its_beginning_and_its_end() -> None:
    said = str(MindGroundError(f"file.json: {'x' * 10**6} is no name; get it again"))
    assert said.startswith("file.json: xxx") and said.endswith("xxx is no name; get it again") and "characters" in said


def test_an_ordinary_message_is_as_it_was_written() -> None:
    said = "a.jsonl line 3: 'box' is [left, top, right, bottom], not [1, 2]; \u8239 \u2013 100 %"
    assert str(MindGroundError(said)) == said
    assert str(pickle.loads(pickle.dumps(RecordError(said, "mask_format")))) == said  # noqa: S301 - our own


def test_texts_of_libraries_and_paths() -> None:
    assert one_line(ValueError("a\n  b")) == "a b" and one_line(KeyError()) == "KeyError"
    assert one_line(HOSTILE * 1000).isprintable() and len(one_line("x" * 1000)) == 200
    assert printable("a\x1b\udcffb") == "a\\x1b\\xffb" and printable("x" * 20, 5) == "xxxxx... (20 characters)"
