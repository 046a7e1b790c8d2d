"""What a reader does wrong is seen: an exception, a crash, endless work, memory, code that ran."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from attack.child import Input, Limits, Readers, Verdict, flaw

LIMITS = Limits(cpu=2.0, wall=120.0, memory=1 << 28)
SHORT = Limits(cpu=2.0, wall=1.0)
WISHES = {
    b"read": Verdict.READ,
    b"refuse": Verdict.REFUSED,
    b"raise": Verdict.FINDING,
    b"leave": Verdict.FINDING,
    b"many lines": Verdict.FINDING,
    b"control": Verdict.FINDING,
    b"long": Verdict.FINDING,
    b"crash": Verdict.CRASH,
    b"hang": Verdict.HANG,
    b"wait": Verdict.HANG,
    b"allocate": Verdict.MEMORY,
    b"allocate quietly": Verdict.MEMORY,
    b"touch": Verdict.MEMORY,
    b"execute": Verdict.EXECUTED,
    b"outside": Verdict.EXECUTED,
}


@pytest.fixture(scope="module")
def unruly() -> Iterator[Readers]:
    with Readers("attack.unruly") as readers:
        yield readers


@pytest.mark.parametrize("wish", WISHES, ids=bytes.decode)
def test_every_outcome_is_seen(unruly: Readers, wish: bytes) -> None:
    (outcome,) = unruly.run("unruly", [Input(wish)], SHORT if wish == b"wait" else LIMITS)
    assert outcome.verdict is WISHES[wish], outcome


def test_a_batch_goes_on_behind_a_dead_worker(unruly: Readers) -> None:
    wishes = [b"read", b"crash", b"refuse", b"allocate", b"crash", b"execute", b"read"]
    outcomes = unruly.run("unruly", [Input(wish) for wish in wishes], LIMITS)
    assert [outcome.verdict for outcome in outcomes] == [WISHES[wish] for wish in wishes]


def test_files_beside_are_there_for_one_input_only(unruly: Readers) -> None:
    first = Input(b"read", {"x/other": b"1", "pipe": None})
    outcomes = unruly.run("unruly", [first, first, Input(b"read")], LIMITS)
    assert [outcome.verdict for outcome in outcomes] == [Verdict.READ] * 3


@pytest.mark.parametrize("message", ["", "a\nb", "a\rb", "\x1b[31m", "\x7f", "a\u2028b", "x" * 2001])
def test_flawed_messages(message: str) -> None:
    assert flaw(message)
    assert not flaw("a.jsonl line 3: 'box' is [left, top, right, bottom], not '\\x1b'")
