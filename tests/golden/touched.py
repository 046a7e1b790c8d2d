"""Which claims a change can reach: from the files that git names, through what the modules of the claims import.

The table package -> claims is read off the imports and never written down, so that it cannot fall behind:
`python tests/golden/touched.py` prints it.
"""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

__all__ = ["changed_files", "claims_by_package", "reach", "reached"]

_ROOT = Path(__file__).resolve().parents[2]
_HOMES = {"mindground": _ROOT / "src", "golden": _ROOT / "tests"}
# What any claim depends on without importing it.
_EVERYWHERE = ("requirements.txt", "tests/golden/run.py", "tests/golden/worker.py")
_BRANCHES = ("origin/HEAD", "origin/main", "main")


def _git(root: Path, *arguments: str) -> str | None:
    """Output of git, or None where it fails or is not there."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def changed_files(root: Path = _ROOT) -> frozenset[str] | None:
    """Files that differ from where this branch left the main one, or from the last commit on the main branch itself.

    Uncommitted and new files count. None where git cannot tell: no git, no history.
    """
    head = (_git(root, "rev-parse", "HEAD") or "").strip()
    bases = (_git(root, "merge-base", "HEAD", branch) for branch in _BRANCHES)
    base = next((found.strip() for found in bases if found and found.strip() != head), None)
    base = base or (_git(root, "rev-parse", "--verify", "--quiet", "HEAD~1") or "").strip()
    changed = _git(root, "diff", "--name-only", base) if base else None
    new = _git(root, "ls-files", "--others", "--exclude-standard")
    if changed is None or new is None:
        return None
    return frozenset((changed + new).splitlines())


def _file_of(module: str) -> Path | None:
    """The file behind a dotted name of ours, or None for what is not a module."""
    home = _HOMES.get(module.split(".")[0])
    if home is None:
        return None
    path = home.joinpath(*module.split("."))
    for candidate in (path / "__init__.py", path.with_suffix(".py")):
        if candidate.is_file():
            return candidate
    return None


def _imported(tree: ast.AST) -> Iterable[str]:
    """Names that a module imports when it runs; what only type checkers see is left out."""
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped.update(id(inner) for statement in node.body for inner in ast.walk(statement))
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@functools.cache
def _files_of_imports(path: Path) -> frozenset[Path]:
    found: set[Path] = set()
    for name in _imported(ast.parse(path.read_text(encoding="utf-8"))):
        parts = name.split(".")
        # A package's own file runs before its module does.
        steps = (_file_of(".".join(parts[:count])) for count in range(2, len(parts) + 1))
        found.update(step for step in steps if step is not None)
    return frozenset(found)


@functools.cache
def reach(module: str) -> frozenset[str]:
    """Files of this repository that a module runs through, itself included; relative to its root.

    Raises:
        ValueError: no such module of ours.
    """
    start = _file_of(module)
    if start is None:
        raise ValueError(f"{module!r} is no module of src/mindground or tests/golden")
    seen, todo = {start}, [start]
    while todo:
        for path in _files_of_imports(todo.pop()) - seen:
            seen.add(path)
            todo.append(path)
    return frozenset(path.relative_to(_ROOT).as_posix() for path in seen)


def reached(module: str, changed: frozenset[str] | None) -> bool:
    """Whether a change can alter what a module of claims computes; True where the change is not known."""
    return changed is None or bool(changed & (reach(module) | set(_EVERYWHERE)))


def claims_by_package(modules: Iterable[str]) -> dict[str, list[str]]:
    """Package of `mindground` -> modules of claims that a change in it makes run."""
    table: dict[str, list[str]] = {}
    for module in sorted(modules):
        packages = {Path(name).parent.as_posix() for name in reach(module) if name.startswith("src/mindground/")}
        for package in packages:
            table.setdefault(package.removeprefix("src/").replace("/", "."), []).append(module.rpartition(".")[2])
    return dict(sorted(table.items()))


if __name__ == "__main__":
    _names = [f"golden.claims.{path.stem}" for path in sorted((_ROOT / "tests/golden/claims").glob("[!_]*.py"))]
    for _package, _claims in claims_by_package(_names).items():
        sys.stdout.write(f"{_package:32s} {', '.join(_claims)}\n")
