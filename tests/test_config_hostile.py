"""YAML of strangers: bounded reading, and one sentence for whatever is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import clean_environment
from mindground.config import load_config
from mindground.config import resolve as module
from mindground.errors import ConfigError, shown


def _doubling(times: int) -> str:
    """Every anchor names the one before several times."""
    letters = "abcdefghij"
    lines = [f"{b}: &{b} [{', '.join([f'*{a}'] * times)}]" for a, b in zip(letters, letters[1:], strict=False)]
    return "\n".join(["a: &a [x]", *lines])


BROKEN = {
    "bool": "train: {partial: !!bool foo}",
    "int": "train: {seed: !!int ''}",
    "int sign": "train: {seed: !!int '-'}",
    "float": "train: {lr: !!float ''}",
    "timestamp": "train: {seed: !!timestamp foo}",
    "binary": "train: {seed: !!binary '?'}",
    "set": "train: !!set {a, b}",
    "omap": "train: !!omap [1]",
    "pairs": "train: !!pairs [1]",
    "python": "train: !!python/object/apply:os.system ['true']",
    "unknown tag": "train: !thing 3",
    "list as key": "train: {[1, 2]: 3}",
    "table as key": "train: {{a: 1}: 3}",
    "cut off": "train: {lr: 1",
    "tabs": "train:\n\tlr: 1",
    "two documents": "a: 1\n---\nb: 2",
    "no text": "\x00\x01",
    "digits": "train: {seed: " + "9" * 5000 + "}",
    "sexagesimal": "train: {seed: " + ":".join(["59"] * 3000) + "}",
    "merge": "train: {<<: 3}",
    "null key": "~: 3",
    "number as key": "train: {1: 3}",
    "alias": "a: &x [1]\nb: *x",
    "anchors on anchors": _doubling(2),
    "nested lists": "train: " + "[" * 5000,
    "nested tables": "train: " + "{a: " * 5000,
    "base is a table": "base: {a: 1}",
    "base holds zero": 'base: "a\\0b"',
    "base holds half a surrogate pair": 'base: "a\\ud800b"',
    "a text holds half a surrogate pair": 'train: {output_dir: "a\\ud800b"}',
    "a text holds zero": 'train: {output_dir: "a\\0b"}',
    "base is far too long": "base: " + "x" * 5000,
}


@pytest.mark.parametrize("name", BROKEN)
def test_one_sentence_for_everything_that_is_wrong(name: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(BROKEN[name])
    with pytest.raises(ConfigError, match=r"broken\.yaml|unknown section|base|train\.seed|train\.output_dir") as caught:
        load_config(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000 + len(str(tmp_path))


def test_a_mistake_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("train:\n  lr: 1\n  seed: [1\neval: {}\n")
    with pytest.raises(ConfigError, match=r"a\.yaml: line 4: "):
        load_config(tmp_path / "a.yaml")


def test_a_file_is_read_once_however_often_it_is_inherited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    parse = module.parse_yaml

    def counted(text: bytes) -> object:
        read.append(text.decode())
        return parse(text)

    monkeypatch.setattr(module, "parse_yaml", counted)
    (tmp_path / "top.yaml").write_text("base: [left.yaml, right.yaml]\ntrain: {seed: 3}\n")
    for name, lr in (("left", 0.1), ("right", 0.2)):
        (tmp_path / f"{name}.yaml").write_text(f"base: root.yaml\ntrain: {{lr: {lr}}}\n")
    (tmp_path / "root.yaml").write_text("train: {lr: 0.5, batch_size: 3}\n")
    train = load_config(tmp_path / "top.yaml").train
    assert (train.lr, train.batch_size, train.seed) == (0.2, 3, 3) and len(read) == 4


def test_files_that_inherit_each_other_many_times_are_refused(tmp_path: Path) -> None:
    """Seven small files of forty bases each would be read 40^6 times."""
    for depth in range(7):
        base = f"base: [{', '.join([f'{depth + 1}.yaml'] * 40)}]\n" if depth < 6 else ""
        (tmp_path / f"{depth}.yaml").write_text(base + "train: {seed: 1}\n")
    with pytest.raises(ConfigError, match="more than 32 files are joined"):
        load_config(tmp_path / "0.yaml")


def test_many_values_are_refused_before_they_are_built(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("data:\n  mean: [" + "1," * 400_000 + "1]\n")
    with pytest.raises(ConfigError, match="at most 20000 values") as caught:
        load_config(tmp_path / "a.yaml")
    assert len(str(caught.value)) < 500
    with pytest.raises(ConfigError, match=r"data\.mean=\[1.0, 1.0, 1.0, 1.0, ...\] needs three") as caught:
        (tmp_path / "a.yaml").write_text("data:\n  mean: [" + ",".join(["1"] * 5000) + "]\n")
        load_config(tmp_path / "a.yaml")


@pytest.mark.parametrize("key", ["train.seed", "train.optimizer", "data.dataset", "zzz" * 3000])
def test_long_values_are_shown_short(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, [f"--{key}={'x' * 100_000}"])
    assert len(str(caught.value)) < 20_000 if "zzz" in key else len(str(caught.value)) < 1000


def test_values_are_shown_escaped_and_short() -> None:
    deep: list[object] = []
    for _ in range(50_000):
        deep = [deep]
    for value in ("a\x1b[31m\n\u202eb", b"\x00" * 500, list(range(10**6)), {"a": "b" * 10**6}, deep, 10**5000, None):
        text = shown(value)
        assert len(text) < 200 and all(character.isprintable() for character in text)
    assert shown("ship 船") == "'ship 船'"


def test_the_bombs_take_no_memory_and_no_time(tmp_path: Path) -> None:
    """Under a limit of 1 GB of address space and 20 s of processor time."""
    for depth in range(7):
        (tmp_path / f"{depth}.yaml").write_text(f"base: [{', '.join([f'{depth + 1}.yaml'] * 40)}]\n")
    (tmp_path / "laugh.yaml").write_text(_doubling(9))
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30));"
        "resource.setrlimit(resource.RLIMIT_CPU, (20, 20));"
        "from pathlib import Path; from mindground.config.resolve import read_yaml\n"
        "for name in ('0.yaml', 'laugh.yaml'):\n"
        "    try: read_yaml(Path(name))\n"
        "    except Exception as error: print(type(error).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=clean_environment(), capture_output=True, text=True
    )
    assert done.stdout.split() == ["ConfigError", "ConfigError"], done.stderr
