"""What older code wrote stays readable: configurations, checkpoints and runs of schema 1 (fixtures/schema1/make.py)."""

from __future__ import annotations

import copy
import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from mindground import config as cf
from mindground.config import SCHEMA, registry
from mindground.config.keys import flat
from mindground.engine.run_folder import check_same_run
from mindground.errors import CheckpointError, ConfigError

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = Path(__file__).resolve().parent / "fixtures" / "schema1"
RESOLVED = json.loads((FIXTURES / "resolved.json").read_text(encoding="utf-8"))
SHIPPED = [line for line in RESOLVED["lines"] if not line or (line.startswith("--config=") and " " not in line)]
# Absolute rates of schema 1 -> the group that had them.
GROUPS = {
    "vglaw": {"lr_base": "base", "lr_visual": "visual", "lr_lang": "lang"},
    "clipvg": {"lr_base": "base", "lr_visual": "clip"},
}
PARTS = {"vglaw": {"pretrained_path": "model", "text_pretrained_path": "text"}, "clipvg": {"pretrained_path": "model"}}
RECIPE_KEYS = (
    "multi_scale aug_crop aug_scale aug_blur legacy_augmentation translate flip_prob vertical_flip_prob "
    "color_jitter_prob"
).split()


def old_tree(line: str) -> dict[str, Any]:
    """The whole configuration, in the keys of schema 1, that a command line gave."""
    different = dict(RESOLVED["lines"][line])
    tree: dict[str, Any] = copy.deepcopy(RESOLVED["defaults"][different.pop("family")])
    for key, value in different.items():
        *path, leaf = key.split(".")
        node = tree
        for part in path:
            node = node[part]
        node[leaf] = value
    return tree


def stored(path: Path) -> dict[str, Any]:
    """What a checkpoint says of itself."""
    with safe_open(str(path), framework="np") as file:
        payload: dict[str, Any] = json.loads(file.metadata()["mindground"])
    return payload


@pytest.mark.parametrize("line", RESOLVED["lines"])
def test_files_and_command_lines_mean_what_they_meant(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    old, new = old_tree(line), cf.parse_command_line(shlex.split(line)).config()
    # Empty = the metric that the task usually takes.
    assert old["eval"].pop("select_by") == "prec@0.5" and new.eval.select_by == []
    assert cf.from_dict(old, schema=1) == cf.from_dict(old) == new
    # And without the table that upgrades: key by key.
    data, train, now = old.pop("data"), old.pop("train"), cf.to_dict(new)
    was = {group: train[name] for name, group in GROUPS[new.family].items()}
    rates = {group: new.train.lr * factor for group, factor in new.train.lr_factors.items()}
    # Shipped files give the very numbers; rates that are typed may differ in the last bit of a double.
    assert rates == (was if line in SHIPPED else pytest.approx(was, rel=3e-16))
    assert {part: train[name] for name, part in PARTS[new.family].items() if train[name]} == new.train.pretrained
    assert data.pop("recipe") == new.data.transform.name
    given = {key: value for key in RECIPE_KEYS if (value := data.pop(key)) or hasattr(new.data.transform, key)}
    assert given == {key: value for key, value in now["data"]["transform"].items() if key != "name"}
    for name in ("lr_base", "lr_visual", "lr_lang", "pretrained_path", "text_pretrained_path"):
        train.pop(name)
    for key, value in flat({**old, "data": data, "train": train}).items():
        assert flat(now)[key] == value, key


def test_every_file_of_configurations_is_compared() -> None:
    families = ("vglaw", "clipvg")  # those that schema 1 knew
    files = {
        f"--config={path.relative_to(ROOT)}" for name in families for path in (ROOT / "configs" / name).glob("*.yaml")
    }
    new_since = set()  # files that schema 1 did not have
    assert files - new_since <= set(RESOLVED["lines"])


@pytest.mark.parametrize("name", ["vglaw/last.ckpt", "vglaw/best.ckpt", "clipvg/best.ckpt"])
def test_the_configuration_of_an_old_checkpoint_is_upgraded(name: str) -> None:
    payload = stored(FIXTURES / name)
    assert payload["schema"] == 1 < SCHEMA
    config = cf.from_dict(payload["config"], name, payload["schema"])
    assert cf.from_dict(cf.to_dict(config), schema=SCHEMA) == config
    rates = {group: config.train.lr * factor for group, factor in config.train.lr_factors.items()}
    if config.family == "vglaw":
        assert config.train.lr_factors == {"base": 1.0, "visual": 0.75, "lang": 0.175}
        assert rates == pytest.approx({"base": 4e-4, "visual": 3e-4, "lang": 7e-5}, rel=3e-16)
        assert (config.data.transform.name, config.data.transform.translate) == ("referent_window", True)
        assert config.data.transform.flip_prob == 0.25
    else:
        assert rates == pytest.approx({"base": 2.4e-4, "clip": 3e-4}, rel=3e-16)
        assert (config.data.transform.name, config.data.transform.aug_scale) == ("transvg", True)


def test_the_configuration_file_of_an_old_run_is_its_checkpoints() -> None:
    config = cf.load_config(FIXTURES / "vglaw" / "config.yaml")
    payload = stored(FIXTURES / "vglaw" / "last.ckpt")
    assert config == cf.from_dict(payload["config"], schema=payload["schema"])
    assert cf.family_of_file(FIXTURES / "vglaw" / "config.yaml") == "vglaw"


def test_an_old_run_is_continued_with_keys_that_it_did_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    path = FIXTURES / "vglaw" / "last.ckpt"
    payload = stored(path)
    config = cf.from_dict(payload["config"], schema=1)
    free = (
        "--max_steps=9 --data.root=elsewhere --num_workers=3 --eval.mask_threshold=0.5 --mode_name=GRAPH --log_freq=3 "
        "--pretrained_path=other.pkl --batch_size=4"
    )
    # Rates that were typed one by one, over other layers than before, are the same rates.
    rates = "--lr_base=3e-3 --lr_lang=7e-5 --lr_visual=3e-4 --lr_base=4e-4"
    longer = cf.apply_overrides(config, ["--lr_base=1e-3"])
    longer = cf.apply_overrides(longer, [*free.split(), *rates.split()])
    check_same_run(payload["config"], longer, path, schema=payload["schema"])
    check_same_run(cf.to_dict(config), longer, path, schema=SCHEMA)
    other = cf.apply_overrides(config, ["--lr_base=1e-3", "--data.transform.name=transvg", "--train.batch_norm=frozen"])
    with pytest.raises(CheckpointError) as caught:
        check_same_run(payload["config"], other, path, schema=1)
    for told in (
        "train.lr was 0.0004, is 0.001",
        "train.lr_factors.visual was 0.75, is 0.3",
        "data.transform.name was 'referent_window', is 'transvg'",
        "data.transform.aug_crop was None, is False",
        "train.batch_norm was 'local', is 'frozen'",
    ):
        assert told in str(caught.value)
    assert "max_steps" not in str(caught.value)


def test_a_run_of_a_later_version_is_not_continued() -> None:
    config = cf.load_config(overrides=["--family=vglaw"])
    with pytest.raises(CheckpointError, match="last.ckpt: schema 9 is of a later version"):
        check_same_run(cf.to_dict(config), config, Path("last.ckpt"), schema=9)
    with pytest.raises(ConfigError, match="update MindGround"):
        cf.from_dict(cf.to_dict(config), schema=9)


def test_old_rates_of_a_family_are_groups_of_it() -> None:
    for name in registry.families():
        facts = registry.family(name)
        assert {group for group in facts.old_rates.values() if group} <= set(facts.lr_groups)
        assert set(facts.old_paths.values()) <= set(facts.pretrained_parts)


@pytest.mark.parametrize("name", ["vglaw/last.ckpt", "vglaw/best.ckpt", "clipvg/best.ckpt"])
def test_an_old_checkpoint_becomes_a_model(name: str) -> None:
    from mindground.engine.checkpoint import load_checkpoint, read_checkpoint
    from mindground.weights.load import parameter_arrays

    loaded = load_checkpoint(FIXTURES / name)
    stored_weights = read_checkpoint(FIXTURES / name).part("model")
    found = parameter_arrays(loaded.model)
    assert found.keys() == stored_weights.keys()
    assert all((found[key] == value).all() for key, value in stored_weights.items())
    assert loaded.tokenizer is not None and loaded.state["step"] == 2


def test_an_old_run_goes_on_to_more_steps(tmp_path: Path) -> None:
    from mindground.engine.checkpoint import read_checkpoint
    from mindground.engine.trainer import train

    shutil.copytree(FIXTURES / "vglaw", tmp_path / "vglaw")
    words = [f"--train.output_dir={tmp_path}", "--train.resume=auto", "--max_steps=3"]
    folder = train(cf.load_config(tmp_path / "vglaw" / "config.yaml", words))
    contents = read_checkpoint(folder / "last.ckpt")
    assert (contents.state["step"], contents.schema, contents.config["train"]["lr"]) == (3, SCHEMA, 4e-4)
    steps = [
        json.loads(line)["step"] for line in (folder / "log.jsonl").read_text(encoding="utf-8").split("\n") if line
    ]
    assert steps[:2] == [1, 2] and 3 in steps
    assert cf.load_config(folder / "config.yaml").train.max_steps == 3
