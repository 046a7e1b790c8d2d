"""Runs claims in processes of their own: one for the cases of a claims module, one for each full-size case and mode.

MindSpore keeps the memory that it once took, and a fault in a compiled graph ends its process; here neither reaches
the next group of cases or the process that asks. Modules of claims that answer for host cases only share one process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

_TESTS = Path(__file__).resolve().parent.parent
for _folder in (_TESTS, _TESTS.parent / "src"):
    if str(_folder) not in sys.path:
        sys.path.insert(0, str(_folder))

__all__ = ["Job", "Result", "Workers", "group_of", "run_here"]

HOST = "host"


@dataclass(frozen=True)
class Job:
    """One case in one mode."""

    folder: str
    mode: str


@dataclass
class Result:
    """What came of a job; `failures` empty = the case agrees."""

    folder: str
    mode: str
    claim: str = ""
    count: int = 0
    seconds: float = 0.0
    worst: dict[str, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def job(self) -> Job:
        return Job(self.folder, self.mode)


def group_of(folder: str | Path, mode: str) -> str:
    """Name of the process that a job belongs to. Raises ValueError where nobody claims the case."""
    from golden.case import LARGE, describe
    from golden.claim import claim_for

    case = describe(folder)
    item = claim_for(case)
    if item is None:
        raise ValueError(f"nobody claims {case.name}")
    if mode == HOST:
        return HOST
    return f"{case.name} {mode}" if case.size() > LARGE else item.module.rpartition(".")[2]


def run_here(job: Job) -> Result:
    """Run one job in this process."""
    from golden.case import describe, load_case
    from golden.claim import claim_for, run_claim

    item = claim_for(describe(job.folder))
    if item is None:
        return Result(job.folder, job.mode, failures=["nobody claims this case"])
    case, start = load_case(job.folder), time.perf_counter()
    checks = run_claim(item, case, job.mode)
    seconds = time.perf_counter() - start
    return Result(job.folder, job.mode, item.name, checks.count, seconds, checks.worst, checks.failures)


class Workers:
    """Processes that run groups of jobs.

    Args:
        threads: of each process, for the libraries that ask the environment; None leaves them to themselves.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def run(self, jobs: Sequence[Job], show: Callable[[Result], None] = lambda result: None) -> list[Result]:
        """Run jobs one after the other in a process of their own.

        A process that dies takes only the job with it that it was at: the rest runs in the next one.
        """
        left, results = list(jobs), []
        while left and not self._stopped:
            found, status, trace = self._run_once(left, show)
            results += found
            left = left[len(found) :]
            if not left or self._stopped:
                break
            lost = Result(left[0].folder, left[0].mode, failures=[f"the process ended with status {status}\n{trace}"])
            show(lost)
            results.append(lost)
            left = left[1:]
        return results

    def stop(self) -> None:
        """End every process that is under way; `run` returns what it has."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.kill()

    def _run_once(self, jobs: Sequence[Job], show: Callable[[Result], None]) -> tuple[list[Result], int, str]:
        found: list[Result] = []
        with tempfile.TemporaryFile() as errors:
            process = self._start(errors.fileno())
            if process is None:
                return [], 0, ""
            try:
                assert process.stdin is not None and process.stdout is not None
                process.stdin.write(json.dumps([asdict(job) for job in jobs]).encode())
                process.stdin.close()
                for line in process.stdout:
                    found.append(Result(**json.loads(line)))
                    show(found[-1])
            except BrokenPipeError:
                pass  # it died before it read its jobs; the status below says how
            finally:
                status = process.wait()
                with self._lock:
                    self._running.discard(process)
            errors.seek(0)
            return found, status, errors.read().decode(errors="replace")[-4000:]

    def _start(self, errors: int) -> subprocess.Popen[bytes] | None:
        variables = dict(os.environ)
        if self.threads:
            variables |= {"OMP_NUM_THREADS": str(self.threads)}
        with self._lock:
            if self._stopped:
                return None
            process = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=variables,
            )
            self._running.add(process)
            return process


def _serve(answers: int, jobs: Iterable[dict[str, str]]) -> None:
    """What a process does: one line of JSON for each job, at once."""
    import gc

    from golden.claim import load_claims

    for module, trace in load_claims().items():
        sys.stderr.write(f"claims of golden/claims/{module}.py cannot be imported\n{trace}\n")
    for item in jobs:
        result = run_here(Job(**item))
        os.write(answers, (json.dumps(asdict(result)) + "\n").encode())
        gc.collect()


if __name__ == "__main__":
    os.environ.setdefault("GLOG_v", "3")
    # Answers go where the process began to write; whatever libraries print goes to the errors.
    _answers = os.dup(1)
    os.dup2(2, 1)
    _serve(_answers, json.load(sys.stdin))
    sys.stderr.flush()
    # The verdict must not depend on how MindSpore takes itself down at the end of a process.
    os._exit(0)
