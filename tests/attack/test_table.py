"""The table of readers is whole: every format, and every module of the package that reads files of others."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from attack.readers import READERS
from mindground.data.formats.registry import FORMATS

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "mindground"

MADE_BY_CODE = {"synthetic", "synthetic_instances"}
"""Formats without files."""

_CALLS = {"read_bytes", "read_text", "read_lines", "read_json", "frombuffer", "fromstring", "imdecode", "safe_open"}
_OF = {
    "json": {"load", "loads"},
    "np": {"load", "fromfile", "loadtxt", "genfromtxt", "memmap"},
    "pickle": {"load", "loads", "Unpickler"},
    "yaml": {"load", "safe_load"},
    "gzip": {"open", "decompress"},
    "zlib": {"decompress", "decompressobj"},
    "zipfile": {"ZipFile"},
    "Image": {"open"},
    "rasterio": {"open"},
    "mmap": {"mmap"},
}
"""Calls that take in bytes: bare names and methods, and names of modules."""

OWN_FILES = {
    "cli.bench.children": "answers of our own worker process",
    "cli.bench.kernels": "a file of ours",
    "cli.bench.ours": "what our own measurement wrote",
    "cli.bench.peer": "what our own measurement wrote",
    "cli.bench.worker": "answers of our own worker process",
    "cli.bench.report": "facts about this machine",
    "cli.bench.sam": "what our own measurement wrote",
    "cli.bench.sam_peer": "what our own measurement wrote",
    "cli.bench.sentences": "a file of ours",
    "cli.data.plant_wrong_boxes": "what this command wrote itself",
    "cli.models": "configurations of the package",
    "engine.pretrained": "a key of metadata that `weights import` writes; tests/engine/test_pretrained.py",
    "curriculum.launch": "results of a training that this command started",
    "curriculum.run": "results of this command's own work folder; damaged ones are made again",
    "runtime.agreement": "files of this package",
    "runtime.device": "/proc and /sys",
    "runtime.distributed": "messages between the ranks of one job",
    "runtime.packed": "messages between the ranks of one job",
    "runtime.versions": "files of the installed toolkit",
}
"""Modules that no file of others reaches, and why."""


def _reads(path: Path) -> list[str]:
    """Calls in one module that take in bytes."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        if isinstance(function, ast.Name) and function.id in _CALLS:
            found.append(f"{function.id}, line {node.lineno}")
        if isinstance(function, ast.Attribute):
            owner = function.value.id if isinstance(function.value, ast.Name) else ""
            if function.attr in _CALLS or function.attr in _OF.get(owner, ()):
                found.append(f"{owner}.{function.attr}, line {node.lineno}")
    return found


def _module(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Modules of the package that are loaded once every reader has read its seeds."""
    program = (
        "import sys, pathlib\n"
        "from attack.readers import READERS\n"
        "for reader in READERS.values():\n"
        "    folder = pathlib.Path(sys.argv[1], reader.name)\n"
        "    [__import__(f'mindground.{name}') for name in reader.imports]\n"
        "    if not reader.heavy:\n"
        "        reader.place(folder, reader.seeds()[0])\n"
        "        reader.call(folder)\n"
        "print('\\n'.join(name for name in sys.modules if name.startswith('mindground.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path_factory.mktemp("seeds"))],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT / 'tests'}", "GLOG_v": "3"},
    )
    return {line.removeprefix("mindground.") for line in done.stdout.split()}


def test_every_format_of_data_sets_has_a_reader() -> None:
    attacked = {name for reader in READERS.values() for name in reader.formats}
    assert set(FORMATS) - MADE_BY_CODE == attacked


def test_every_module_that_reads_is_reached(loaded: set[str]) -> None:
    reading = {_module(path): _reads(path) for path in PACKAGE.rglob("*.py")}
    missing = {name: calls for name, calls in reading.items() if calls and name not in loaded and name not in OWN_FILES}
    assert not missing, "\n".join(f"{name} reads ({', '.join(calls)})" for name, calls in missing.items())


def test_the_list_of_own_files_is_current() -> None:
    reading = {_module(path) for path in PACKAGE.rglob("*.py") if _reads(path)}
    assert set(OWN_FILES) <= reading


def test_names_and_files() -> None:
    assert len(READERS) >= 25
    for reader in READERS.values():
        assert reader.seeds() or not reader.share, reader.name
        several = reader.name.startswith(("refs", "refer", "dior", "phrase", "mask_image"))
        assert several or reader.file not in reader.beside(), reader.name
