"""Reference cases through pytest: those kept beside the tests, and the full set where it stands beside the checkout."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from golden.case import find_cases, load_case
from golden.claim import Checks, claims_for, load_claims, run_claim

_HERE = Path(__file__).resolve().parent
_OWN = _HERE / "golden" / "cases"
_SHARED = _HERE.parents[1] / "shared" / "golden"
_LARGE = 20_000_000

_BROKEN = load_claims()
# The small cases compare the modes; of the full size graph mode is what a training runs.
_SKIP = pytest.mark.skip(reason="full size: compared in graph mode here; tests/golden/run.py compares both modes")


def _is_large(folder: Path) -> bool:
    entries = json.loads((folder / "case.json").read_text(encoding="utf-8")).get("state_dict", [])
    return sum(math.prod(shape) for _, shape, _ in entries) > _LARGE


def _gather() -> list[pytest.param]:
    found, seen = [], set()
    for root in (_OWN, _SHARED):
        for folder in find_cases(root) if root.exists() else []:
            if folder.name in seen:
                continue
            seen.add(folder.name)
            large = _is_large(folder)
            for number, item in enumerate(claims_for(folder.name)):
                for mode in item.modes:
                    suffix = f"-{number}" if number else ""
                    spared = large and mode == "pynative" and "graph" in item.modes
                    marks = [_SKIP] if spared else []
                    found.append(pytest.param(folder, number, mode, id=f"{folder.name}{suffix}-{mode}", marks=marks))
    return found


@pytest.fixture
def restored_mode() -> Iterator[None]:
    """Leave MindSpore in the mode it was in."""
    import mindspore as ms

    mode = ms.get_context("mode")
    yield
    ms.set_context(mode=mode)


def test_claims_import() -> None:
    assert not _BROKEN, "\n".join(_BROKEN.values())


@pytest.mark.parametrize(("folder", "number", "mode"), _gather())
def test_case(folder: Path, number: int, mode: str, restored_mode: None) -> None:
    case = load_case(folder)
    if case.size() > _LARGE:
        # One process for each: MindSpore keeps the memory it once took.
        _run_apart(folder, mode)
        return
    checks = run_claim(claims_for(folder.name)[number], case, mode)
    assert not checks.failures, "\n".join(checks.failures)


def _run_apart(folder: Path, mode: str) -> None:
    command = [sys.executable, str(_HERE / "golden" / "run.py"), "--root", str(folder.parent), "--case", folder.name]
    done = subprocess.run(
        [*command, "--mode", mode, "--in-process"], capture_output=True, text=True, env=dict(os.environ), check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("ours", "theirs", "failures"),
    [
        ([1.0, 2.0], [1.0, 2.0001], 0),
        ([1.0, 2.0], [1.0, 2.001], 1),
        ([1.0, float("nan")], [1.0, 2.0], 1),
        ([1.0], [1.0, 1.0], 1),
    ],
)
def test_comparison_can_fail(ours: list[float], theirs: list[float], failures: int) -> None:
    checks = Checks()
    checks.output("x", np.array(ours), np.array(theirs))
    assert len(checks.failures) == failures


def test_missing_gradient_fails() -> None:
    checks = Checks()
    checks.grad_norms({"a": 1.0}, {"a": np.array(1.0), "b": np.array(2.0), "k.key.bias": np.array(1e-8)})
    assert len(checks.failures) == 2


def test_runner_reports_a_wrong_number(tmp_path: Path) -> None:
    """A case with one altered reference value must fail and make the exit status 1."""
    source = load_case(_OWN / "vitdet-lr-decay")
    folder = tmp_path / "vitdet-lr-decay"
    folder.mkdir()
    (folder / "case.json").write_text((source.folder / "case.json").read_text())
    tensors = dict(source.tensors)
    tensors["output/r0"] = tensors["output/r0"] + 0.01
    np.savez(folder / "tensors.npz", **tensors)
    (tmp_path / "nobody-knows-this").mkdir()
    (tmp_path / "nobody-knows-this" / "case.json").write_text("{}")
    command = [sys.executable, str(_HERE / "golden" / "run.py"), "--root", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAIL  vitdet-lr-decay" in done.stdout
    assert "unclaimed: nobody-knows-this" in done.stdout
