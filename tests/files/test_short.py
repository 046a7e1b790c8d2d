"""Values in messages: short, on one line, and made without visiting all of the value."""

from __future__ import annotations

from typing import Any

import pytest

from mindground.files.short import short


def _shared() -> Any:
    value: Any = ("x",)
    for _ in range(200):
        value = (value, value)
    return value


def _itself() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [
        _shared(),
        _itself(),
        {"a": _shared()},
        {(1, 2): _itself()},
        "a" * 10**7,
        b"\x1b[2J" * 10**6,
        10**6000,
        list(range(10**6)),
        object(),
        set(range(9)),
        "line\nbreak \u202e \x1b[2J",
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_value_is_short(value: Any) -> None:
    text = short(value)
    assert text.isprintable() and len(text) < 200


def test_plain_values_are_shown_as_they_are() -> None:
    for value in ("it's", 5, 1.5, None, True, (1, "a"), [1, 2], {"a": 1}, b"x", ()):
        assert short(value) == repr(value)
