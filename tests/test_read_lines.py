"""Lines end at line feeds only: what `str.splitlines` breaks at stays within a sentence, written and read."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mindground.curriculum.launch import _last_lines
from mindground.curriculum.reliability import Measured, read_measured, write_measured
from mindground.data.formats.rsvg_lists import read_index_list
from mindground.engine.logs import read_log
from mindground.files.text import read_lines, split_lines

BREAKS = "the\u2028red\u2029ship\x85at\x0bthe\x0cpier\x1c\x1d\x1e."
ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("\n", [""]),
        ("a", ["a"]),
        ("a\nb\n", ["a", "b"]),
        ("a\r\n\r\nb", ["a", "", "b"]),
        ("a\rb\n", ["a\rb"]),
        (f"{BREAKS}\n{BREAKS}", [BREAKS, BREAKS]),
    ],
)
def test_lines(tmp_path: Path, text: str, lines: list[str]) -> None:
    assert split_lines(text) == lines
    for mark in (b"", b"\xef\xbb\xbf"):
        (tmp_path / "file.txt").write_bytes(mark + text.encode())
        assert read_lines(tmp_path / "file.txt") == lines


def test_damaged_bytes_are_raised_or_replaced(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_bytes(b"a\n\xff\n")
    with pytest.raises(UnicodeDecodeError):
        read_lines(tmp_path / "file.txt")
    assert read_lines(tmp_path / "file.txt", errors="replace") == ["a", "\ufffd"]


def test_a_measurement_reads_back(tmp_path: Path) -> None:
    written = [Measured(f"s{n}", 0.5, (0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 2.0, 2.0), BREAKS) for n in range(2)]
    write_measured(tmp_path / "reliability.jsonl", written)
    assert read_measured(tmp_path / "reliability.jsonl") == written


def test_logs_and_index_lists(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(json.dumps({"note": BREAKS}, ensure_ascii=False) + "\n", encoding="utf-8")
    assert list(read_log(tmp_path / "log.jsonl")) == [{"note": BREAKS}]
    assert _last_lines(tmp_path / "log.jsonl", 1) == json.dumps({"note": BREAKS}, ensure_ascii=False)
    (tmp_path / "train.txt").write_text("1\n2\u20283\n4\n", encoding="utf-8")
    numbers, defects = read_index_list(tmp_path / "train.txt", 9, "train")
    assert numbers == [1, 4] and [defect.subject for defect in defects] == ["train.txt line 2"]


def test_nothing_that_we_read_as_data_is_split_at_other_characters() -> None:
    """What is left splits words of programs: a command's output, an error, a table in /proc."""
    allowed = {
        "src/mindground/runtime/device.py",
        "src/mindground/files/jpegs.py",
        "src/mindground/cli/doctor.py",
        "src/mindground/cli/bench/report.py",
        "src/mindground/cli/bench/worker.py",
    }
    found = {
        path.relative_to(ROOT).as_posix()
        for folder in ("src", "tools")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"\.splitlines\(", path.read_text(encoding="utf-8"))
    }
    assert found <= allowed
