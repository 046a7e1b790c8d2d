"""RMSIN and LAVT on two ranks, under frozen statistics, compute what one process computes with both samples.

Every rank compiles its graphs, which takes minutes: these tests run with `--all`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

JOB = Path(__file__).with_name("rmsin_job.py")
TRAINING = Path(__file__).with_name("rmsin_training_job.py")


@pytest.fixture(autouse=True)
def only_with_all(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--all"):
        pytest.skip("minutes of compilation on every rank; --all runs it")


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


def test_statistics_are_equal_on_all_ranks_at_every_evaluation_and_save(
    run_python: Callable[..., Any], tmp_path: Path
) -> None:
    done = run_python([str(TRAINING), str(tmp_path)], ranks=2, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    notes = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert notes[0] == notes[1]
    kinds = [kind for kind, *_ in notes[0]]
    assert {"averaged", "scored", "saved"} <= set(kinds) and kinds.count("scored") >= 2
    # Between two averagings every rank has seen its own batches.
    assert max(before for kind, _, before, _ in notes[0] if kind == "averaged") > 1e-4
    assert all(after == 0 for *_, after in notes[0])
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    scored = [record for record in log if record["kind"] == "eval"]
    assert scored and all(record["sentences"] == "one" and 0 <= record["mean_iou"] <= 1 for record in scored)
    assert "one sentence of each object (data.sentences=one)" in done.stderr
