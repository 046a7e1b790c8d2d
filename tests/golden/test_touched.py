"""Which full-size cases a change makes run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from golden.touched import changed_files, claims_by_package, reach, reached

_CLAIMS = "golden.claims."


def test_a_claim_reaches_what_it_imports_and_no_more() -> None:
    files = reach(f"{_CLAIMS}bert")
    assert {"tests/golden/claims/bert.py", "tests/golden/claim.py", "src/mindground/backbones/bert.py"} <= files
    assert "src/mindground/weights/maps.py" in files  # through the backbone
    assert not any(name.startswith(("src/mindground/models/", "src/mindground/engine/")) for name in files)
    with pytest.raises(ValueError, match="no module of"):
        reach("golden.claims.absent")


@pytest.mark.parametrize(
    ("changed", "claim", "runs"),
    [
        ("src/mindground/backbones/clip.py", "clipvg", True),
        ("src/mindground/backbones/clip.py", "vglaw", False),
        ("src/mindground/models/vglaw/heads.py", "vglaw", True),
        ("src/mindground/models/vglaw/heads.py", "clipvg", False),
        # The engine is what the trajectories need, not the networks at full size.
        ("src/mindground/engine/step.py", "clipvg_train", True),
        ("src/mindground/engine/step.py", "clipvg", False),
        ("tests/golden/compute.py", "bert", True),
        ("requirements.txt", "bert", True),
        ("README.md", "bert", False),
    ],
)
def test_a_change_runs_the_claims_that_it_reaches(changed: str, claim: str, runs: bool) -> None:
    assert reached(_CLAIMS + claim, frozenset({changed})) == runs
    assert reached(_CLAIMS + claim, frozenset()) is False
    assert reached(_CLAIMS + claim, None) is True


def test_the_table_names_claims_by_package() -> None:
    table = claims_by_package([f"{_CLAIMS}{name}" for name in ("bert", "clipvg", "vglaw")])
    assert table["mindground.models.vglaw"] == ["vglaw"]
    assert table["mindground.nn"] == ["bert", "clipvg", "vglaw"]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository whose main branch has two commits."""
    root = tmp_path / "repository"
    root.mkdir()
    _git(root, "init", "-q", "-b", "main")
    for name in ("first", "second"):
        _commit(root, name)
    return root


def _git(root: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True)


def _commit(root: Path, name: str) -> None:
    (root / name).write_text(name)
    _git(root, "add", name)
    _git(root, "commit", "-q", "-m", name)


def test_on_the_main_branch_the_last_commit_counts(repository: Path) -> None:
    assert changed_files(repository) == {"second"}


def test_on_another_branch_all_its_commits_and_the_uncommitted_count(repository: Path) -> None:
    _git(repository, "checkout", "-q", "-b", "work")
    for name in ("third", "fourth"):
        _commit(repository, name)
    (repository / "first").write_text("changed")
    (repository / "new").write_text("new")
    assert changed_files(repository) == {"first", "third", "fourth", "new"}


def test_without_git_or_history_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plain").mkdir()
    assert changed_files(tmp_path / "plain") is None
    root = tmp_path / "single"
    root.mkdir()
    _git(root, "init", "-q", "-b", "main")
    _commit(root, "only")
    assert changed_files(root) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert changed_files(root) is None
