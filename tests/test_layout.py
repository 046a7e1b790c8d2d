"""The import graph: no arrow upward, no circle between packages, and nothing heavy where it is not wanted."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "mindground"
# From the highest floor to the lowest (docs/architecture.md).
FLOORS = (
    *(
        "cli",
        "inference",
        "curriculum",
        "engine",
        "tasks",
        "metrics",
        "visualize",
        "interchange",
        "geo",
        "data",
        "models",
    ),
    *(
        "detection",
        "losses",
        "backbones",
        "nn",
        "weights",
        "config",
        "text",
        "runtime",
        "files",
        "structures",
        "errors",
    ),
)
# These never import MindSpore, directly or through others.
WITHOUT_MINDSPORE = ("config", "data", "structures", "files", "text")


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Modules of this package that a file imports anywhere, with the line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "mindground" else [f"mindground.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        # `from mindground import __version__` names no floor.
        yield from ((name, node.lineno) for name in names if name.startswith("mindground.") and "__" not in name)


def floor_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_package_has_a_floor() -> None:
    names = {floor_of(path) for path in PACKAGE.rglob("*.py")} - {"__init__", "__main__"}
    assert names == set(FLOORS)


def test_imports_run_downward_only() -> None:
    upward = [
        f"{path.relative_to(PACKAGE)}:{line} imports {name}"
        for path in PACKAGE.rglob("*.py")
        if floor_of(path) in FLOORS
        for name, line in imports(path)
        if FLOORS.index(name.split(".")[1]) < FLOORS.index(floor_of(path))
    ]
    assert not upward, "\n".join(upward)


def test_no_family_imports_another() -> None:
    families = {path.name for path in (PACKAGE / "models").iterdir() if (path / "__init__.py").is_file()}
    found = [
        f"{path.relative_to(PACKAGE)}:{line} imports {name}"
        for family in families
        for path in (PACKAGE / "models" / family).rglob("*.py")
        for name, line in imports(path)
        if name.startswith("mindground.models.") and name.split(".")[2] in families - {family}
    ]
    assert not found, "\n".join(found)


def test_no_family_is_named_outside_its_folder() -> None:
    """A family can be deleted with its folder, its configurations and its tests."""
    families = {path.name for path in (PACKAGE / "models").iterdir() if (path / "__init__.py").is_file()}
    found = [
        f"{path.relative_to(PACKAGE)}:{line} imports {name}"
        for path in PACKAGE.rglob("*.py")
        if floor_of(path) != "models" and "bench" not in path.parts
        for name, line in imports(path)
        if name.startswith(tuple(f"mindground.models.{family}" for family in families))
    ]
    assert not found, "\n".join(found)


def _loaded(code: str) -> set[str]:
    """Modules that a fresh process has loaded after some code."""
    program = f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT / "src")},
    )
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = _loaded("import mindground")
    assert not loaded & {"mindspore", "numpy", "cv2", "yaml", "PIL", "scipy", "mindground.models", "mindground.data"}


@pytest.mark.parametrize("package", WITHOUT_MINDSPORE)
def test_low_packages_load_no_mindspore(package: str) -> None:
    modules = [
        ".".join(("mindground", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        for path in sorted((PACKAGE / package).rglob("*.py"))
    ]
    assert modules
    loaded = _loaded("import importlib\n" + "\n".join(f"importlib.import_module({name!r})" for name in modules))
    assert set(modules) <= loaded and "mindspore" not in loaded
