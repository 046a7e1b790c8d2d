"""The device path of the step on two real ranks: the same numbers as one rank with the whole batch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import ROOT

JOB = Path(__file__).with_name("device_path_job.py")
SOURCES = f"{ROOT / 'src'}:{ROOT / 'tests'}"
# In the suite the one with the most collectives; the others behind --all.
FIRST = ("graph", "mean")
CASES = [("graph", "sum"), ("graph", "mean"), ("pynative", "mean"), ("pynative", "sum")]


def train(run_python: Any, out: Path, *words: str, ranks: int = 1) -> dict[str, np.ndarray]:
    done = run_python([JOB, out, *words], ranks=ranks, timeout=600, PYTHONPATH=SOURCES)
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(out) as found:
        return dict(found)


@pytest.mark.skipif(not Path(sys.executable).with_name("mpirun").exists(), reason="no mpirun beside this python")
@pytest.mark.parametrize(("mode", "accumulation"), CASES)
def test_two_ranks_on_a_device_are_one(
    mode: str, accumulation: str, run_python: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if (mode, accumulation) != FIRST and not request.config.getoption("--all"):
        pytest.skip("with --all")
    alone = train(run_python, tmp_path / "one.npz", mode, accumulation)
    pair = train(run_python, tmp_path / "two.npz", mode, accumulation, ranks=2)
    assert pair["curve"][:, 4].tolist() == [0.0] * 19 + [0.5], "both ranks hear of the wish to stop"
    # One reduction of the gradients; the others are the four of BatchNorm's statistics and gradients a micro-batch.
    assert int(pair["reductions"]) == 1 + (2 * 4 if accumulation == "mean" else 0)
    assert any(name.startswith("state/ema/norm.moving") for name in pair)
    for name, value in alone.items():
        if name not in ("reductions", "curve"):
            np.testing.assert_allclose(pair[name], value, rtol=1e-6, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(pair["curve"][:, :4], alone["curve"][:, :4], rtol=1e-6, atol=1e-6)
