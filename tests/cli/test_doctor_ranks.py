"""mindground doctor --distributed: what it says of ranks, machines and versions; twice with a real mpirun."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from commands import call
from conftest import ROOT
from mindground.cli import doctor, doctor_ranks
from mindground.runtime.versions import judge, toolkits

MPIRUN = Path(sys.executable).with_name("mpirun")


def test_one_process_is_no_job() -> None:
    done = call(doctor.main, "--distributed")
    assert done.returncode == 1 and "do not train yet: ranks" in done.stdout
    assert "mpirun -n 8 mindground doctor --distributed" in done.stdout
    assert call(doctor.main, "--distributed", "--megabytes=0").returncode == 2


@pytest.mark.skipif(not MPIRUN.exists(), reason="no mpirun beside this python")
def test_two_ranks_on_this_machine_can_train(run_python: Any) -> None:
    words = ["-m", "mindground", "doctor", "--distributed", "--json", "--megabytes=4"]
    done = run_python(words, ranks=2, timeout=180, PYTHONPATH=str(ROOT / "src"))
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    states = {finding["name"]: finding["state"] for finding in report["findings"]}
    assert report["missing"] == [] and states["all-reduce"] == states["ranks"] == states["versions"] == "ok"
    assert [one["rank"] for one in report["ranks"]] == [0, 1]
    (told,) = (finding["detail"] for finding in report["findings"] if finding["name"] == "all-reduce")
    assert told.startswith("4 MB in ") and "GB/s" in told


class Ranks:
    """The first of two ranks; what the other one says is known beforehand, and so is its sum."""

    rank, size, is_main, reduces_on_device = 0, 2, True, False

    def __init__(self, wrong: float = 0.0, **other: Any) -> None:
        self.other, self.wrong = other, wrong

    def barrier(self) -> None:
        return None

    def all_gather_object(self, value: Any) -> list[Any]:
        return [value, {**value, "rank": 1, **self.other}] if isinstance(value, dict) else [value, value]

    def all_reduce_mean_(self, buffer: np.ndarray) -> None:
        assert buffer.nbytes == 4_000_000 and (buffer == 1).all()
        buffer[...] = 1.5 + self.wrong


def look(monkeypatch: pytest.MonkeyPatch, comm: Any, target: str = "CPU", card: int = 0) -> dict[str, tuple[str, str]]:
    from mindground.runtime import distributed

    monkeypatch.setattr(distributed, "get_comm", lambda: comm)
    info = SimpleNamespace(target=target, device_id=card)
    monkeypatch.setattr(doctor_ranks.device, "apply", lambda asked: info)
    findings, _ = doctor_ranks.look_at_ranks("auto", 4)
    found: dict[str, tuple[str, str]] = {}
    for name, state, said in findings:
        # A part has two lines where the ranks differ in it and the first one's is judged.
        found[f"unequal {name}" if name in found or "not the same" in said and name == "mindspore" else name] = (
            state,
            said,
        )
    return found


def test_what_differs_between_ranks_is_named_with_its_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    found = look(monkeypatch, Ranks(host="node-b", mindspore="2.9.0", code="0 old", python="3.11.0"))
    assert found["ranks"] == ("ok", "2 by none on 2 machine(s)")
    state, said = found["code"]
    assert state == "missing" and "rank 1 on node-b: 0 old" in said and "rank 0 on " in said
    assert found["unequal mindspore"][0] == "missing" and "2.9.0" in found["unequal mindspore"][1]
    assert found["python"][0] == "note" and "versions" not in found


def test_clocks_wrong_sums_and_shared_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    found = look(monkeypatch, Ranks(clock=0.0))
    assert found["clocks"][0] == "note" and "NTP" in found["clocks"][1]
    assert look(monkeypatch, Ranks(wrong=0.5))["all-reduce"][0] == "missing"
    shared = look(monkeypatch, Ranks(), target="GPU")
    assert shared["devices"][0] == "missing" and "GPU 0 of " in shared["devices"][1]
    apart = look(monkeypatch, Ranks(device="GPU 1"), target="GPU")
    assert apart["devices"][0] == "ok" and "2 cards of " in apart["devices"][1]
    mixed = look(monkeypatch, Ranks(device="CPU"), target="GPU")
    assert mixed["devices"][0] == "missing" and "CPU and GPU" in mixed["devices"][1]


@pytest.mark.parametrize(
    ("found", "target", "states"),
    [
        ({"mindspore": "2.7.2", "mindformers": "1.8.0"}, "CPU", {"mindspore": "ok", "mindformers": "ok"}),
        ({"mindspore": "2.9.0", "mindformers": "1.8.0"}, "CPU", {"mindspore": "note", "mindformers": "note"}),
        ({"mindspore": "2.10.0"}, "CPU", {"mindspore": "note"}),
        ({"mindspore": "2.7.2"}, "CPU", {"mindspore": "ok", "mindformers": "missing"}),
        ({"mindspore": "2.7.1"}, "CPU", {"mindspore": "missing"}),
        ({"mindspore": "2.12.0"}, "CPU", {"mindspore": "missing"}),
        ({"mindspore": "not installed"}, "CPU", {"mindspore": "missing"}),
        (
            {"mindspore": "2.7.2", "mindformers": "1.8.0", "CANN": "8.5.0"},
            "Ascend",
            {"mindspore": "ok", "mindformers": "ok", "CANN": "ok"},
        ),
        (
            {"mindspore": "2.7.2", "mindformers": "1.8.0", "CANN": "8.2.RC1"},
            "Ascend",
            {"mindspore": "ok", "mindformers": "ok", "CANN": "note"},
        ),
        (
            {"mindspore": "2.7.2", "mindformers": "1.8.0", "CUDA": "11.6.2"},
            "GPU",
            {"mindspore": "ok", "mindformers": "ok", "CUDA": "ok"},
        ),
        (
            {"mindspore": "2.7.2", "mindformers": "1.8.0", "CUDA": "12.4"},
            "GPU",
            {"mindspore": "ok", "mindformers": "ok", "CUDA": "missing"},
        ),
    ],
)
def test_versions_against_the_table(found: dict[str, str], target: str, states: dict[str, str]) -> None:
    assert {name: state for name, state, _ in judge(found, target)} == states


def test_versions_of_the_toolkits_are_read_from_their_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cann, cuda = tmp_path / "cann", tmp_path / "cuda"
    cann.mkdir(), cuda.mkdir()
    monkeypatch.setenv("ASCEND_TOOLKIT_HOME", str(cann))
    monkeypatch.setenv("CUDA_HOME", str(cuda))
    (cann / "version.info").write_text("Package=cann\nVersion=8.5.0\ntime=now\n", encoding="utf-8")
    (cuda / "version.json").write_text('{"cuda": {"name": "CUDA SDK", "version": "11.6.2"}}', encoding="utf-8")
    assert toolkits() == {"CANN": "8.5.0", "CUDA": "11.6.2"}
    (cuda / "version.json").write_text("[" * 100_000, encoding="utf-8")
    (cuda / "version.txt").write_text("CUDA Version 11.1.105\n", encoding="utf-8")
    (cann / "version.info").write_bytes(b"\xff\xfe\x00")
    assert toolkits() == {"CANN": "not found", "CUDA": "11.1.105"}
