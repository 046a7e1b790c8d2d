"""Readers run in a child process that has little memory and little time: a crash, a hang or a bomb fails the test."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"
CHILD = """
import json, sys
from mindground.errors import MindGroundError
from mindground.files.pickles import read_plain_pickle
from mindground.files.plain_torch import read_plain_torch
from mindground.files.weights import read_weights
readers = {f.__name__: f for f in (read_weights, read_plain_torch, read_plain_pickle)}
for name, path in json.loads(sys.argv[1]):
    try:
        found = readers[name](path)
    except MindGroundError as error:
        print(json.dumps([type(error).__name__, str(error)]), flush=True)
    else:
        print(json.dumps(["read", type(found).__name__]), flush=True)
"""


def outcomes(
    jobs: Sequence[tuple[str, Path]], *, address_space: int = 1 << 31, seconds: int = 20
) -> list[tuple[str, str]]:
    """(class of the error or `read`, its message) of every (reader, file); all in one limited child.

    Args:
        address_space: bytes, of which Python and numpy take some 500 MB.
        seconds: of processor time.
    """

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    found = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps([(name, str(path)) for name, path in jobs])],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        env={**os.environ, "PYTHONPATH": str(SOURCE), "OPENBLAS_NUM_THREADS": "1"},
        timeout=600,
    )
    answers = [tuple(json.loads(line)) for line in found.stdout.splitlines()]
    assert found.returncode == 0, f"job {len(answers)} of {jobs}: exit {found.returncode}\n{found.stderr[-2000:]}"
    return answers


def refused(jobs: Sequence[tuple[str, Path]], says: str = "", **limits: int) -> None:
    """Assert that every job ends in one short sentence that names the file; one of them has to contain `says`."""
    answers = outcomes(jobs, **limits)
    for (_, path), (kind, message) in zip(jobs, answers, strict=True):
        assert kind.endswith("Error"), (path, kind, message)
        assert str(path) in message and message.isprintable() and len(message) < 1000, message
    assert any(says in message for _, message in answers), (says, answers)
