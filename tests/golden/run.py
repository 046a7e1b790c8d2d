"""Compare this implementation with the reference cases of a folder: `python tests/golden/run.py --root DIR`.

Every case that a claim fits runs in each of its modes and yields one line; cases that nobody claims are listed at
the end. The cases of one module of claims share a process, a full-size case has one for each mode. The exit status is
1 when any case fails, 2 when the command line names nothing to run.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_TESTS = Path(__file__).resolve().parent.parent
for _folder in (_TESTS, _TESTS.parent / "src"):
    if str(_folder) not in sys.path:
        sys.path.insert(0, str(_folder))

from golden.worker import Job, Result, Workers, group_of, run_here  # noqa: E402


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare this implementation with reference cases.")
    parser.add_argument("--root", required=True, type=Path, help="folder that holds the case folders")
    parser.add_argument("--case", default="*", help="shell pattern of case names (default: all)")
    parser.add_argument("--mode", choices=("graph", "pynative", "host"), help="run only this mode")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once (default: 1)")
    parser.add_argument("--in-process", action="store_true", help="run everything in this process, for a debugger")
    return parser.parse_args(argv)


def _show(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _report(result: Result) -> None:
    verdict = "FAIL" if result.failures else "pass"
    worst = "  ".join(f"{kind} {result.worst.get(kind, 0.0):.1e}" for kind in ("output", "loss", "grad"))
    name = Path(result.folder).name
    text = f"{verdict}  {name:34s} {result.mode:9s} {worst}  {result.count:4d} checks  {result.seconds:6.1f} s"
    lines = ["      " + failure.rstrip().replace("\n", "\n      ") for failure in result.failures[:12]]
    if len(result.failures) > 12:
        lines.append(f"      ... and {len(result.failures) - 12} more")
    _show("\n".join([text, *lines]))


def _run(groups: dict[str, list[Job]], jobs: int, here: bool) -> list[Result]:
    if here:
        results = []
        for job in (job for group in groups.values() for job in group):
            results.append(run_here(job))
            _report(results[-1])
        return results
    workers = Workers()
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        try:
            return [
                item for found in pool.map(lambda group: workers.run(group, _report), groups.values()) for item in found
            ]
        except KeyboardInterrupt:
            workers.stop()
            raise


def main(argv: Sequence[str] | None = None) -> int:
    """Run and report; returns the exit status."""
    os.environ.setdefault("GLOG_v", "3")
    options = _arguments(argv)
    from golden.case import describe, find_cases
    from golden.claim import claim_for, load_claims

    folders = [path for path in find_cases(options.root) if fnmatch.fnmatchcase(path.name, options.case)]
    if not folders:
        _show(f"no case below {options.root} has a name like {options.case!r}")
        return 2
    broken = load_claims()
    for module, trace in broken.items():
        _show(f"FAIL  claims of golden/claims/{module}.py cannot be imported\n{trace}")
    failed, unclaimed, groups = len(broken), [], {}
    for folder in folders:
        try:
            item = claim_for(describe(folder))
        except ValueError as error:
            _show(f"FAIL  {folder.name}: {error}")
            failed += 1
            continue
        if item is None:
            unclaimed.append(folder.name)
            continue
        for mode in item.modes:
            if options.mode in (None, mode):
                groups.setdefault(group_of(folder, mode), []).append(Job(str(folder), mode))
    results = _run(groups, options.jobs, options.in_process)
    failed += sum(bool(result.failures) for result in results)
    passed = sum(not result.failures for result in results)
    _show(f"{passed} passed, {failed} failed, {len(unclaimed)} cases claimed by no family")
    for name in unclaimed:
        _show(f"      unclaimed: {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # The verdict must not depend on how MindSpore takes itself down at the end of a process.
    os._exit(status)
