"""Which versions of MindSpore, mindformers, CANN and CUDA belong together, and which are here."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

__all__ = ["HIGHEST", "LOWEST", "MATCHING", "TESTED", "Matching", "judge", "toolkits", "version_of"]

# The pair that every test runs with (requirements.txt), and the range that the package may be installed with.
TESTED = "2.7.2"
LOWEST, HIGHEST = (2, 7, 2), (2, 12)


@dataclass(frozen=True)
class Matching:
    """What belongs to a version of MindSpore."""

    mindformers: str
    cann: str


# From the table of MindSpore Transformers 1.9.0, "Confirming Version Matching Relationship". Its CANN stands in the
# wheel as well, which warns of another one.
MATCHING = {"2.7.2": Matching("1.8.0", "8.5.0"), "2.9.0": Matching("1.9.0", "9.0.0")}
# CUDA toolkits that the wheels of 2.7.2 and 2.9.0 bring libraries for (11.8 takes those of 11.6).
_CUDA = ("11.1", "11.6", "11.8")
_CANN_FILES = ("version.info", "opp/version.info", "compiler/version.info")


def version_of(package: str) -> str:
    """Version of an installed package, or `not installed`."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def toolkits() -> dict[str, str]:
    """Versions of CANN and CUDA as their folders state them; `not found` where there is none."""
    homes = [os.environ.get(name, "") for name in ("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH")]
    homes += ["/usr/local/Ascend/cann", "/usr/local/Ascend/ascend-toolkit/latest"]
    cann = _first(_stated(Path(home) / name) for home in homes if home for name in _CANN_FILES)
    cuda = _first(_cuda(Path(os.environ.get(name, "") or default)) for name, default in _CUDA_HOMES)
    return {"CANN": cann, "CUDA": cuda}


_CUDA_HOMES = (("CUDA_HOME", "/usr/local/cuda"), ("CUDA_PATH", "/usr/local/cuda"))


def _first(found: Iterable[str]) -> str:
    return next(filter(None, found), "not found")


def _text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return stream.read(1 << 16).decode("utf-8", "replace")
    except OSError:
        return ""


def _stated(path: Path) -> str:
    match = re.search(r"^version\s*=\s*\[?v?([0-9][\w.]{0,40})", _text(path), re.IGNORECASE | re.MULTILINE)
    return match[1] if match else ""


def _cuda(home: Path) -> str:
    try:
        stated = str(json.loads(_text(home / "version.json"))["cuda"]["version"])
    except (ValueError, KeyError, TypeError, RecursionError):
        stated = _text(home / "version.txt")
    match = re.search(r"(\d{1,3}\.\d{1,3}(?:\.\d{1,4})?)", stated)
    return match[1] if match else ""


def judge(found: dict[str, str], target: str) -> list[tuple[str, str, str]]:
    """Compare versions with the table.

    Args:
        found: versions of `mindspore`, `mindformers`, `CANN` and `CUDA`.
        target: Ascend, GPU or CPU; what the others need is not looked at.

    Returns:
        (part, state, sentence); state is ok, note (unknown pair, trains at the user's risk) or missing.
    """
    mindspore = found.get("mindspore", "not installed")
    numbers = tuple(int(part) for part in re.findall(r"\d+", mindspore)[:3])
    if not LOWEST <= numbers < HIGHEST:
        return [("mindspore", "missing", f"{mindspore}: MindGround needs 2.7.2 or later, below 2.12")]
    if mindspore == TESTED:
        said = [("mindspore", "ok", f"{mindspore}, which every test runs with")]
    else:
        known = "has a line in the table" if mindspore in MATCHING else "has no line in the table"
        said = [("mindspore", "note", f"{mindspore} is allowed and {known}; the tests run with {TESTED}")]
    pair = MATCHING.get(mindspore)
    wanted = {"mindformers": pair.mindformers, **({"CANN": pair.cann} if target == "Ascend" else {})} if pair else {}
    for name, version in wanted.items():
        here = found.get(name, "not found")
        if here == version:
            said.append((name, "ok", here))
        elif here[:1].isdigit():
            said.append((name, "note", f"{here}: MindSpore {mindspore} belongs to {name} {version}"))
        else:
            said.append((name, "missing", f"{here}: MindSpore {mindspore} belongs to {name} {version}"))
    if target == "GPU":
        here = found.get("CUDA", "not found")
        fits = ".".join(here.split(".")[:2]) in _CUDA
        said.append(("CUDA", "ok" if fits else "missing", here if fits else f"{here}: needs one of {', '.join(_CUDA)}"))
    return said
