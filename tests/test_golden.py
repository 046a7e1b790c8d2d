"""Reference cases through pytest: those kept beside the tests, and the full set where it stands beside the checkout.

The cases of one module of claims share a process (see `golden.worker`). Full-size cases run where a change reaches
what their claim imports, or with `--all`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from golden.case import LARGE, describe, find_cases
from golden.claim import claim_for, load_claims
from golden.touched import changed_files, reached
from golden.worker import HOST, Job, Result, Workers, group_of, run_here

_HERE = Path(__file__).resolve().parent
_OWN = _HERE / "golden" / "cases"
_SHARED = _HERE.parents[1] / "shared" / "golden"

_BROKEN = load_claims()
_SPARED = pytest.mark.skip(
    reason="full size, and no change reaches it; --all and tests/golden/run.py run it in every mode"
)


def _gather(everything: bool) -> list[object]:
    """Every claimed case in the modes that the suite runs; the copies beside the tests come first."""
    found: list[object] = []
    seen: set[str] = set()  # what is in a folder, so that a copy runs once and a sibling of the same name runs too
    changed = None if everything else changed_files()
    for folder in [path for root in (_OWN, _SHARED) if root.exists() for path in find_cases(root)]:
        case = describe(folder)
        item, content = claim_for(case), _digest(folder)
        if content in seen or item is None:
            continue
        seen.add(content)
        spared = case.size() > LARGE and not everything and not reached(item.module, changed)
        for mode in item.modes_in_suite(case, everything):
            group = group_of(folder, mode)
            marks = [_SPARED] if spared else []
            found.append(pytest.param(Job(str(folder), mode), group, id=f"{folder.name}-{mode}", marks=marks))
    return found


def _digest(folder: Path) -> str:
    files = [folder / "case.json", folder / "tensors.npz"]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files if file.exists())).hexdigest()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "job" in metafunc.fixturenames:
        metafunc.parametrize(("job", "group"), _gather(metafunc.config.getoption("--all")))


class _Groups:
    """Results of the groups that this session selected; the first question starts all of them."""

    def __init__(self, session: pytest.Session) -> None:
        self.selected: dict[str, list[Job]] = {}
        for item in session.items:
            parameters = getattr(getattr(item, "callspec", None), "params", {})
            if isinstance(parameters.get("job"), Job) and not any(item.iter_markers("skip")):
                self.selected.setdefault(parameters["group"], []).append(parameters["job"])
        self.workers = Workers()
        self.pool = ThreadPoolExecutor(max(1, min(2, os.cpu_count() or 1)))
        self.results: dict[str, Future[list[Result]]] = {}

    def result(self, job: Job, group: str) -> Result:
        if not self.results:
            ordered = {name: jobs for name, jobs in self.selected.items() if name != HOST}
            self.results = {name: self.pool.submit(self.workers.run, jobs) for name, jobs in ordered.items()}
        return next(result for result in self.results[group].result() if result.job == job)

    def close(self) -> None:
        self.workers.stop()
        self.pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="session")
def groups(request: pytest.FixtureRequest) -> Iterator[_Groups]:
    """The processes of this session."""
    found = _Groups(request.session)
    yield found
    found.close()


def test_claims_import() -> None:
    assert not _BROKEN, "\n".join(_BROKEN.values())


def test_case(job: Job, group: str, groups: _Groups) -> None:
    # What needs no MindSpore needs no process of its own.
    result = run_here(job) if group == HOST else groups.result(job, group)
    assert not result.failures, "\n".join(result.failures)
