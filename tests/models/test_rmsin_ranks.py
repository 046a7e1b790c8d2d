"""RMSIN and LAVT on two ranks, under frozen statistics, compute what one process computes with both samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

JOB = Path(__file__).with_name("rmsin_job.py")


@pytest.mark.parametrize("variant", ["rmsin", "lavt"])
def test_two_ranks_are_one_process(variant: str, run_python: Callable[..., Any], tmp_path: Path) -> None:
    for ranks in (1, 2):
        done = run_python([str(JOB), str(tmp_path), variant], ranks=ranks, timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]
    alone = dict(np.load(tmp_path / "1-0.npz"))
    losses = alone.pop("losses")
    for rank in (0, 1):
        shared = dict(np.load(tmp_path / f"2-{rank}.npz"))
        assert np.allclose(shared.pop("losses"), losses, rtol=2e-5), rank
        assert shared.keys() == alone.keys()
        worst = max((np.abs(shared[name] - alone[name]).max(), name) for name in alone)
        assert worst[0] < 2e-5, worst
    assert losses[0] != losses[1]
