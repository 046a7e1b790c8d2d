"""What all ranks of a job must have alike, compared before the first step; who differs is named with its machine."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from mindground.errors import DeviceError, printable

if TYPE_CHECKING:
    from mindground.runtime.distributed import Comm

__all__ = ["agree", "agree_on", "agree_on_files", "code_version", "digest_of_file"]

_MISSING = "missing"
_BLOCK = 1 << 20


def agree(comm: Comm, payload: str, what: str = "configuration") -> None:
    """Check that `payload` is equal on all ranks.

    Args:
        payload: text to compare, such as a configuration.
        what: name of the payload in the message.

    Raises:
        DeviceError: on every rank, if `payload` differs between ranks (outdated files, different arguments).
    """
    agree_on(comm, {what: hashlib.sha256(payload.encode()).hexdigest()})


def agree_on(comm: Comm, facts: Mapping[str, str]) -> None:
    """Check that all ranks have the same facts.

    Args:
        facts: what -> value in a few characters, such as a version or a digest.

    Raises:
        DeviceError: on every rank, with all that differs: where, what, and both values.
    """
    if comm.size == 1:
        return
    everybody = comm.all_gather_object((platform.node(), dict(facts)))
    first = everybody[0][1]
    found = []
    for what in {name: None for _, theirs in everybody for name in theirs}:
        differs: dict[str, list[int]] = {}
        for rank, (_, theirs) in enumerate(everybody):
            value = theirs.get(what, _MISSING)
            if value != first.get(what, _MISSING):
                differs.setdefault(value, []).append(rank)
        for value, ranks in differs.items():
            hosts = sorted({printable(everybody[rank][0], 80) for rank in ranks})
            found.append(
                f"ranks {ranks} have another {what} than rank 0 ({_short(value)} on {', '.join(hosts)}, "
                f"{_short(first.get(what, _MISSING))} on {printable(everybody[0][0], 80)})"
            )
    if found:
        raise DeviceError(f"{'; '.join(found)}; start all of them with the same arguments, files and code")


def agree_on_files(comm: Comm, paths: Iterable[str | Path]) -> None:
    """Check that every rank has these files with the same contents.

    Raises:
        DeviceError: on every rank; it names the machines that lack a file, or have another one.
    """
    if comm.size == 1:
        return
    names = sorted({str(Path(path).expanduser()) for path in paths})
    if not names:
        return
    everybody = comm.all_gather_object((platform.node(), [_size_of(name) for name in names]))
    for place, name in enumerate(names):
        without = [rank for rank, (_, sizes) in enumerate(everybody) if sizes[place] < 0]
        # A file that nobody has is told by whoever needs it.
        if 0 < len(without) < comm.size:
            hosts = sorted({everybody[rank][0] for rank in without})
            raise DeviceError(
                f"{', '.join(printable(host, 80) for host in hosts)} (ranks {without}): there is no file "
                f"{printable(name, 200)}; copy it there, or put it into a folder that all machines share"
            )
    agree_on(comm, {f"file {printable(name, 200)}": digest_of_file(name) for name in names})


def digest_of_file(path: str | Path) -> str:
    """Size and SHA-256 of a file; of a folder those of the files in it. `missing` where there is none."""
    path = Path(path)
    try:
        if path.is_dir():
            parts = [f"{part.name} {digest_of_file(part)}" for part in sorted(path.iterdir()) if part.is_file()]
            return f"{len(parts)} files, {hashlib.sha256(chr(10).join(parts).encode()).hexdigest()[:12]}"
        total, size = hashlib.sha256(), 0
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                total.update(block)
                size += len(block)
    except OSError:
        return _MISSING
    return f"{size} bytes, {total.hexdigest()[:12]}"


def _size_of(name: str) -> int:
    try:
        return Path(name).stat().st_size
    except (OSError, ValueError):
        return -1


@cache
def code_version() -> str:
    """MindGround's version with a digest of its files, and the version of MindSpore."""
    import mindground

    folder = Path(mindground.__file__).parent
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".py", ".yaml"):
            total.update(path.relative_to(folder).as_posix().encode() + b"\n" + path.read_bytes())
    try:
        mindspore = metadata.version("mindspore")
    except metadata.PackageNotFoundError:
        mindspore = "not installed"
    return f"{mindground.__version__} {total.hexdigest()[:12]}, mindspore {mindspore}"


def _short(value: str) -> str:
    return printable(value if len(value) < 60 else value[:12], 60)
