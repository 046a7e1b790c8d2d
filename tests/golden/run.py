"""Run reference cases against our code.

    python tests/golden/run.py --root DIR [--case GLOB]

Every claimed case below DIR runs in each of its modes and yields one line; cases that nobody claims are listed at
the end. The exit status is 1 when any case fails, 2 when the command line names nothing to run.
"""

from __future__ import annotations

import argparse
import fnmatch
import gc
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

_TESTS = Path(__file__).resolve().parent.parent
for _folder in (_TESTS, _TESTS.parent / "src"):
    if str(_folder) not in sys.path:
        sys.path.insert(0, str(_folder))

# Models beyond this many values get a process of their own: MindSpore keeps the memory it once took.
_LARGE = 20_000_000


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare this implementation with reference cases.")
    parser.add_argument("--root", required=True, type=Path, help="folder that holds the case folders")
    parser.add_argument("--case", default="*", help="shell pattern of case names (default: all)")
    parser.add_argument("--mode", choices=("graph", "pynative", "host"), help="run only this mode")
    parser.add_argument("--in-process", action="store_true", help="run large models in this process, too")
    parser.add_argument("--quiet-unclaimed", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def _show(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _run_here(folder: Path, only_mode: str | None) -> tuple[int, int]:
    """Run one case in this process; returns (lines passed, lines failed)."""
    from golden.case import load_case
    from golden.claim import claims_for, run_claim

    passed = failed = 0
    for item in claims_for(folder.name):
        for mode in item.modes:
            if only_mode and mode != only_mode:
                continue
            case = load_case(folder)
            start = time.perf_counter()
            checks = run_claim(item, case, mode)
            seconds = time.perf_counter() - start
            verdict = "FAIL" if checks.failures else "pass"
            _show(
                f"{verdict}  {folder.name:34s} {mode:9s} output {checks.worst['output']:.1e}  "
                f"loss {checks.worst['loss']:.1e}  grad {checks.worst['grad']:.1e}  {checks.count:4d} checks  "
                f"{seconds:6.1f} s"
            )
            unread = [f"output/{key}" for key in case.outputs.unread()]
            unread += [f"loss/{key}" for key in case.losses.unread()]
            unread += [f"grad_norm/{key}" for key in case.grad_norms.unread()]
            if unread and not checks.failures:
                _show(f"      not compared: {', '.join(unread[:8])}{', ...' if len(unread) > 8 else ''}")
            for failure in checks.failures[:12]:
                _show("      " + failure.rstrip().replace("\n", "\n      "))
            if len(checks.failures) > 12:
                _show(f"      ... and {len(checks.failures) - 12} more")
            passed, failed = passed + (not checks.failures), failed + bool(checks.failures)
            gc.collect()
    return passed, failed


def _run_apart(folder: Path, only_mode: str | None) -> tuple[int, int]:
    """Run one case in its own processes, one mode after the other, so that memory comes back in between."""
    from golden.claim import claims_for

    modes = [mode for item in claims_for(folder.name) for mode in item.modes]
    passed = failed = 0
    for mode in dict.fromkeys(modes):
        if only_mode and mode != only_mode:
            continue
        command = [sys.executable, str(Path(__file__).resolve()), "--root", str(folder.parent), "--case", folder.name]
        done = subprocess.run(command + ["--mode", mode, "--in-process", "--quiet-unclaimed"], check=False)
        passed, failed = passed + (done.returncode == 0), failed + (done.returncode != 0)
        if done.returncode not in (0, 1):
            _show(f"FAIL  {folder.name:34s} {mode:9s} the process ended with status {done.returncode}")
    return passed, failed


def main(argv: Sequence[str] | None = None) -> int:
    """Run and report; returns the exit status."""
    os.environ.setdefault("GLOG_v", "3")
    options = _arguments(argv)
    from golden.case import find_cases, load_case
    from golden.claim import claims_for, load_claims

    folders = [path for path in find_cases(options.root) if fnmatch.fnmatchcase(path.name, options.case)]
    if not folders:
        _show(f"no case below {options.root} has a name like {options.case!r}")
        return 2
    broken = load_claims()
    for module, trace in broken.items():
        _show(f"FAIL  claims of golden/claims/{module}.py cannot be imported\n{trace}")
    passed, failed, unclaimed = 0, len(broken), []
    for folder in folders:
        if not claims_for(folder.name):
            unclaimed.append(folder.name)
            continue
        large = not options.in_process and load_case(folder).size() > _LARGE
        good, bad = (_run_apart if large else _run_here)(folder, options.mode)
        passed, failed = passed + good, failed + bad
    if options.quiet_unclaimed:
        return 1 if failed else 0
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
