"""The command `mindground`: its verbs, its help, its mistakes, and the files in src/ and tools/ that start verbs."""

from __future__ import annotations

import importlib
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mindground
from commands import call
from mindground.cli import main
from mindground.cli.data import check
from mindground.cli.verbs import VERBS, Verb, paths

ROOT = Path(__file__).resolve().parents[2]
# File -> the verb that it starts.
FILES = {
    "src/train.py": "train",
    "src/eval.py": "eval",
    "src/eval_visualize.py": "show",
    "src/predict.py": "predict",
    "tools/benchmark.py": "bench",
    "tools/curriculum.py": "curriculum",
    "tools/data_check.py": "data check",
    "tools/export_jsonl.py": "data export-jsonl",
    "tools/export_weights.py": "weights export",
    "tools/import_weights.py": "weights import",
    "tools/make_dior_rsvg.py": "data make-dior-rsvg",
    "tools/make_referring.py": "data make-referring",
    "tools/make_template_source.py": "data make-template-source",
    "tools/plant_wrong_boxes.py": "data plant-wrong-boxes",
    "tools/preprocess.py": "data preprocess",
}


def _verb(words: tuple[str, ...]) -> Verb:
    verb = VERBS[words[0]]
    return verb if len(words) == 1 else verb.verbs[words[1]]


@pytest.mark.parametrize("words", paths(), ids=" ".join)
def test_every_verb_shows_its_options(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([*words, "--help"])
    said = capsys.readouterr().out
    assert end.value.code == 0
    assert said.startswith(f"usage: mindground {' '.join(words)} ")
    assert "--debug" in said and f"mindground {' '.join(words)}" in said.partition("options:")[0].partition("\n\n")[2]


def test_the_overviews_list_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"  {name} " in said and verb.summary in said for name, verb in VERBS.items())
    assert main(["data", "-h"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("usage: mindground data VERB") and "plant-wrong-boxes" in said and "curriculum" not in said
    assert main([]) == 2 and main(["weights"]) == 2
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.endswith(f"mindground {mindground.__version__}\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("trian", "no verb 'trian'; did you mean train?"),
        ("data chek", "mindground data: there is no verb 'chek'; did you mean check?"),
        ("qqq", "choose one of train, eval"),
        ("--verison", "did you mean --version?"),
        ("data check --datset jsonl --dataset jsonl", "mindground data check: unrecognized arguments: --datset jsonl"),
        ("data check --datset jsonl --dataset jsonl", "did you mean --dataset?"),
        ("data check", "required: --dataset"),
        ("models vglow", "did you mean 'vglaw'?"),
    ],
)
def test_mistakes_suggest_what_was_meant(words: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    said = capsys.readouterr().err
    assert says in said and "Traceback" not in said
    assert main(["--debug", *words.split()]) == 2
    said = capsys.readouterr().err
    assert says in said and "Traceback" in said


def test_a_file_exists_for_every_older_command() -> None:
    found = {str(path.relative_to(ROOT)) for folder in ("src", "tools") for path in (ROOT / folder).glob("*.py")}
    assert found == set(FILES)


@pytest.mark.parametrize("file", FILES)
def test_files_start_the_same_function(
    file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module(f"mindground.cli.{_verb(tuple(FILES[file].split())).module}")
    assert runpy.run_path(str(ROOT / file))["main"] is module.main
    monkeypatch.setattr(sys, "argv", [str(ROOT / file), "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / file), run_name="__main__")
    assert end.value.code == 0 and capsys.readouterr().out.startswith(f"usage: {Path(file).name} ")


def test_tools_name_a_mistake_as_they_did(tmp_path: Path) -> None:
    """One of them as a process of its own, from another folder, without anything installed or on the path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [sys.executable, str(ROOT / "tools" / "data_check.py"), "--dataset", "jsonl", "--root", "none"]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2 and done.stderr.startswith("error: data.root is 'none'") and done.stdout == ""
    asked = call(check.main, "--dataset", "jsonl", "--root", "none", cwd=tmp_path)
    assert asked.stderr == done.stderr.replace("error:", "DatasetNotFoundError:")


def test_python_m_mindground_is_the_command_and_imports_little(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    heavy = "{'mindspore', 'numpy', 'yaml', 'torch'}"
    code = (
        "import runpy, sys\nsys.argv[1:] = ['--version']\ntry:\n    runpy.run_module('mindground', run_name='__main__')"
    )
    code += f"\nexcept SystemExit as end:\n    sys.exit(end.code or ', '.join({heavy} & set(sys.modules)) or 0)"
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0 and done.stdout == f"mindground {mindground.__version__}\n", done.stderr
    words = [sys.executable, "-m", "mindground", "data", "chek"]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2 and "did you mean check?" in done.stderr


def test_a_reader_that_leaves_is_no_defect(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    read, write = os.pipe()
    os.close(read)
    words = [sys.executable, "-m", "mindground", "--help"]
    done = subprocess.run(
        words, cwd=tmp_path, env=environment, stdout=write, stderr=subprocess.PIPE, text=True, check=False, timeout=60
    )
    os.close(write)
    assert done.returncode == 141 and done.stderr == ""


def test_the_installed_command(tmp_path: Path) -> None:
    script = shutil.which("mindground", path=str(Path(sys.executable).parent))
    if script is None:
        pytest.skip("mindground is not installed beside this Python")
    done = subprocess.run([script, "--version"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0 and done.stdout.startswith("mindground ")
