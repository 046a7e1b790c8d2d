"""The shell scripts in a made-up checkout whose python, pip and mpirun only write down how they were called."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mindground.files.text import read_lines

ROOT = Path(__file__).resolve().parents[2]
STUB = """#!/bin/sh
echo "$(basename "$0") $*" >>"{log}"
case "$*" in
*eval_visualize.py*) echo runs/quickstart/image.png ;;
*eval.py*)
    mkdir -p runs/quickstart
    echo '{{"prec@0.5": 0.9, "mean_iou": 0.7, "shuffled": {{"prec@0.5": 0.3, "mean_iou": 0.2}}}}' \\
        >runs/quickstart/eval.json ;;
-) exec python3 - ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with a space in its name, the real scripts, and stubs in .venv/bin."""
    folder = tmp_path / "my checkout"
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    (folder / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", folder / ".ci" / "run")
    for path in ROOT.glob("requirements*.txt"):
        shutil.copy(path, folder)
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in ("python", "mpirun"):
        stub = folder / ".venv" / "bin" / name
        stub.write_text(STUB.format(log=tmp_path / "log"), encoding="utf-8")
        stub.chmod(0o755)
    return folder


def run(
    checkout: Path, script: str, *words: str, **variables: str
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Runs a script from another folder; returns it and the calls it made."""
    log = checkout.parent / "log"
    log.write_text("", encoding="utf-8")
    done = subprocess.run(
        ["sh", str(checkout / script), *words],
        cwd="/",
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done, read_lines(log)


def test_quickstart_twice(checkout: Path) -> None:
    done, calls = run(checkout, "scripts/quickstart.sh")
    assert done.returncode == 0, done.stderr
    assert sum("pip install" in call for call in calls) == 1
    assert any("-r " in call and "requirements.txt" in call and "requirements-test" not in call for call in calls)
    assert "mpirun -n 2 python src/train.py" in calls
    evaluation = "--ckpt runs/quickstart/best.ckpt --with-shuffled --out runs/quickstart/eval.json"
    assert f"python src/eval.py {evaluation}" in calls
    assert done.stdout.splitlines()[-1] == "image: runs/quickstart/image.png"
    assert "0.9000" in done.stdout and "0.3000" in done.stdout
    done, calls = run(checkout, "scripts/quickstart.sh")
    assert done.returncode == 0
    assert not any("pip install" in call for call in calls)
    assert (checkout / "runs" / "quickstart" / "eval.json").is_file()


def test_changed_requirements_are_installed_again(checkout: Path) -> None:
    run(checkout, "scripts/test.sh")
    with (checkout / "requirements-test.txt").open("a", encoding="utf-8") as stream:
        stream.write("another\n")
    _, calls = run(checkout, "scripts/test.sh")
    (install,) = [call for call in calls if "pip install" in call]
    assert "requirements-test.txt" in install and "requirements.txt" not in install


def test_test_and_ci_run_the_whole_suite(checkout: Path) -> None:
    done, calls = run(checkout, ".ci/run", "-k", "one or two")
    assert done.returncode == 0, done.stderr
    assert calls[-1] == "python -m pytest -q -n 2 --dist loadfile tests -k one or two"
    assert any("requirements.txt" in call and "requirements-test.txt" in call for call in calls)


def test_a_failed_installation_stops_and_is_tried_again(checkout: Path) -> None:
    stub = checkout / ".venv" / "bin" / "python"
    works = stub.read_text(encoding="utf-8")
    stub.write_text(works.replace("case", 'case "$*" in *install*) exit 1 ;; esac\ncase', 1), encoding="utf-8")
    done, calls = run(checkout, "scripts/test.sh")
    assert done.returncode != 0 and not any("-m pytest" in call for call in calls)
    stub.write_text(works, encoding="utf-8")
    _, calls = run(checkout, "scripts/test.sh")
    assert any("pip install" in call for call in calls)


def test_no_python_and_no_venv_module_say_what_to_install(checkout: Path, tmp_path: Path) -> None:
    shutil.rmtree(checkout / ".venv")
    done, _ = run(checkout, "scripts/quickstart.sh", PYTHON="/nonexistent/python")
    assert done.returncode == 1 and "3.11" in done.stderr and "apt-get install" in done.stderr
    broken = tmp_path / "python3.11"
    broken.write_text('#!/bin/sh\ncase "$*" in *venv*) mkdir -p "$3/bin"; exit 1 ;; esac\n', encoding="utf-8")
    broken.chmod(0o755)
    done, _ = run(checkout, "scripts/quickstart.sh", PYTHON=str(broken))
    assert done.returncode == 1 and "python3.11-venv" in done.stderr
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize(
    ("family", "name", "ranks"),
    [
        ("vglaw", "refcoco", 8),
        ("vglaw", "refcoco+", 8),
        ("vglaw", "refcocog", 8),
        ("vglaw", "refclef", 8),
        ("clipvg", "dior_rsvg", 8),
        ("rmsin", "rrsisd", 4),
        ("seqtr", "dior_rsvg_msam", 1),
    ],
)
def test_training_scripts(family: str, name: str, ranks: int, checkout: Path) -> None:
    wanted = f"python src/train.py --config configs/{family}/{name}.yaml --train.batch_size=2"
    _, calls = run(checkout, f"scripts/train_{name}.sh", "--train.batch_size=2")
    assert calls == [f"mpirun -n {ranks} {wanted}"]
    assert (ROOT / "configs" / family / f"{name}.yaml").is_file()
    _, calls = run(checkout, f"scripts/train_{name}.sh", "--train.batch_size=2", RANKS="3")
    assert calls == [f"mpirun -n 3 {wanted}"]


def test_files_are_executable_and_posix() -> None:
    for path in [*(ROOT / "scripts").glob("*.sh"), ROOT / ".ci" / "run"]:
        assert os.access(path, os.X_OK), path
        assert subprocess.run(["sh", "-n", str(path)], check=False).returncode == 0, path
