"""Layers of a configuration: recipes that a later layer replaces, rates of older files, two forms of a schedule."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindground import config as cf
from mindground.config import registry
from mindground.config.keys import AFFECTS, affected, choices_of, flat, key
from mindground.config.layers import SECTIONS, Layer, merge_layers
from mindground.config.registry import Changes, Family
from mindground.config.upgrade import CHANGES, SCHEMA
from mindground.errors import ConfigError


@dataclass
class Window:
    flip_prob: float = 0.5
    scales: list[int] = dataclasses.field(default_factory=lambda: [1])
    translate: bool = False


@dataclass
class Square:
    flip_prob: float = 0.25
    pad_to: int = 0

    def check(self, img_size: int) -> None:
        if self.pad_to > img_size:
            raise ConfigError(f"data.transform.pad_to={self.pad_to} exceeds data.img_size={img_size}")


@pytest.fixture
def recipes() -> Iterator[None]:
    """Two recipes of this file in place of the real ones; configurations start from `referent_window`."""
    entries = {"referent_window": SimpleNamespace(config=Window), "square": SimpleNamespace(config=Square)}
    real = registry.hand_in(dataclasses.replace(registry._known(), recipes=lambda: entries))
    assert real is not None
    yield
    registry.hand_in(real)


def file(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


FAMILY = Family(
    "toy",
    config=Window,
    lr_groups={"base": 1.0, "visual": 0.1, "lang": 0.1},
    pretrained_parts=("model",),
    old_rates={"lr_base": "base", "lr_visual": "visual", "lr_lang": "lang", "lr_nothing": ""},
    old_paths={"pretrained_path": "model", "text_pretrained_path": "model"},
)


def merged(*trees: dict[str, Any], family: Family = FAMILY) -> dict[str, Any]:
    return merge_layers([Layer(f"file{i}", tree, 1) for i, tree in enumerate(trees)], family).tree


# ---- recipes --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("recipes")
def test_the_name_of_a_recipe_chooses_the_keys(tmp_path: Path) -> None:
    path = file(tmp_path, "c.yaml", "data: {img_size: 64, transform: {name: square, pad_to: 32}}")
    config = cf.load_config(path)
    assert cf.to_dict(config)["data"]["transform"] == {"name": "square", "flip_prob": 0.25, "pad_to": 32}
    assert isinstance(config.data.transform, Square) and cf.value_of(config, "data.transform.pad_to") == 32
    assert cf.from_dict(cf.to_dict(config)) == config
    assert dataclasses.replace(config.data, img_size=48).transform == config.data.transform
    assert cf.transform_config("square", pad_to=32) == config.data.transform != cf.transform_config("square")
    assert cf.DataConfig().transform == cf.transform_config("referent_window")


@pytest.mark.usefixtures("recipes")
def test_another_recipe_in_a_later_layer_drops_the_keys_that_it_does_not_have(tmp_path: Path) -> None:
    file(tmp_path, "base.yaml", "data: {transform: {name: square, pad_to: 32, flip_prob: 0.125}}")
    child = file(tmp_path, "c.yaml", "base: base.yaml\ndata: {transform: {name: referent_window, scales: [2]}}")
    config = cf.load_config(child)
    expected = {"name": "referent_window", "flip_prob": 0.125, "scales": [2], "translate": False}
    assert cf.to_dict(config)["data"]["transform"] == expected
    # The same over a resolved configuration, and on the command line.
    square = cf.apply_overrides(config, ["--data.transform.name=square", "--data.transform.pad_to=8"])
    assert cf.to_dict(square)["data"]["transform"] == {"name": "square", "flip_prob": 0.125, "pad_to": 8}
    back = cf.load_config(tmp_path / "base.yaml", ["--data.transform.name=referent_window"])
    assert back.data.transform.scales == [1]


@pytest.mark.usefixtures("recipes")
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("data: {transform: {pad_to: 0}}", "pad_to=0 belongs to data.transform.name=square"),
        ("data: {transform: {name: square, scales: [1]}}", "belongs to data.transform.name=referent_window"),
        ("data: {transform: {name: square, pad_ot: 1}}", "'data.transform.pad_to'"),
        ("data: {transform: {name: sqare}}", "did you mean 'square'"),
        ("data: {transform: {name: square, pad_to: wide}}", "whole number"),
        ("data: {recipe: square, transform: {name: referent_window}}", "leave one out"),
        ("data: {flip_prob: 0.1, transform: {flip_prob: 0.2}}", "leave one out"),
    ],
)
def test_keys_of_other_recipes_are_named(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        cf.load_config(file(tmp_path, "c.yaml", text))
    assert says in str(caught.value) and "c.yaml" in str(caught.value)


@pytest.mark.usefixtures("recipes")
def test_a_recipe_checks_its_own_keys() -> None:
    with pytest.raises(ConfigError, match=r"pad_to=64 exceeds data.img_size=32"):
        cf.load_config(overrides="--data.transform.name=square --data.transform.pad_to=64 --img_size=32".split())
    with pytest.raises(ConfigError, match=r"data.transform.flip_prob=2.0 must be between 0 and 1"):
        cf.load_config(overrides=["--data.transform.flip_prob=2"])


@pytest.mark.usefixtures("recipes")
def test_switches_of_old_files_that_are_off_fit_every_recipe() -> None:
    off = {"data": {"recipe": "square", "translate": False, "multi_scale": False}}
    assert merged(off)["data"]["transform"] == {"name": "square"}
    with pytest.raises(ConfigError, match=r"file0: data.transform.translate=True belongs to .*referent_window"):
        merged({"data": {"recipe": "square", "translate": True}})


# ---- rates ----------------------------------------------------------------------------------------------------------


def rates(tree: dict[str, Any]) -> dict[str, float]:
    found = {group: tree["train"]["lr"] * factor for group, factor in tree["train"]["lr_factors"].items()}
    return {group: float(f"{rate:.15g}") for group, rate in found.items()}


def test_an_absolute_rate_leaves_the_others_as_they_are() -> None:
    assert rates(merged({"train": {"lr_base": 5e-4}})) == {"base": 5e-4, "visual": 1e-5, "lang": 1e-5}
    assert rates(merged({"train": {"lr_visual": 3e-4}})) == {"base": 1e-4, "visual": 3e-4, "lang": 1e-5}
    still = merged({"train": {"lr_base": 0.0}}, {"train": {"lr_lang": 4e-5}})
    assert rates(still) == {"base": 0.0, "visual": 1e-5, "lang": 4e-5}
    assert rates(merged({"train": {"lr_base": 0.0, "lr_visual": 0.0, "lr_lang": 0.0}})) == dict.fromkeys(
        ("base", "visual", "lang"), 0.0
    )


def test_a_rate_scales_the_groups_with_it() -> None:
    tree = merged({"train": {"lr_base": 4e-4, "lr_visual": 4e-4}}, {"train": {"lr": 2e-4}})
    assert rates(tree) == pytest.approx({"base": 2e-4, "visual": 2e-4, "lang": 5e-6})
    tree = merged({"train": {"lr_base": 4e-4, "lr_factors": {"visual": 0.5}}})
    assert rates(tree) == {"base": 4e-4, "visual": 2e-4, "lang": 1e-5}
    assert "lr_nothing" not in merged({"train": {"lr_nothing": 1.0}})["train"]


RATES = st.dictionaries(st.sampled_from(["lr_base", "lr_visual", "lr_lang"]), st.floats(1e-9, 1e3))


@given(st.lists(RATES, max_size=4))
def test_absolute_rates_survive_any_number_of_layers(layers: list[dict[str, float]]) -> None:
    expected = {"lr_base": 1e-4, "lr_visual": 1e-5, "lr_lang": 1e-5}
    for layer in layers:
        expected |= layer
    found = rates(merged(*({"train": dict(layer)} for layer in layers)))
    assert list(found.values()) == pytest.approx(list(expected.values()), rel=1e-13)


# ---- schedules ------------------------------------------------------------------------------------------------------


def test_segments_replace_the_short_keys_below_them() -> None:
    short = {"train": {"lr_scheduler": "cosine", "warmup_steps": 9}}
    tree = merged(short, {"train": {"schedule": [{"kind": "constant"}]}})
    assert tree["train"]["schedule"] == [{"kind": "constant"}] and "warmup_steps" not in tree["train"]
    assert merged(short, {"train": {"schedule": []}})["train"]["warmup_steps"] == 9
    back = merged({"train": {"schedule": [{"kind": "constant"}]}}, {"train": {"schedule": [], "warmup_steps": 3}})
    assert (back["train"]["schedule"], back["train"]["warmup_steps"]) == ([], 3)
    with pytest.raises(ConfigError, match=r"file1: train.schedule and train.warmup_steps both describe"):
        merged({"train": {"schedule": [{"kind": "constant"}]}}, {"train": {"warmup_steps": 3}})


def test_a_schedule_survives_files_and_round_trips(tmp_path: Path) -> None:
    text = "[{kind: linear, steps: 5, start: 1e-3}, {kind: step, milestones: [3, 5]}]"
    config = cf.load_config(overrides=[f"--train.schedule={text}"])
    assert config == cf.load_config(file(tmp_path, "c.yaml", f"base: {DEFAULT}\ntrain: {{schedule: {text}}}"))
    assert config.train.schedule == [
        cf.Segment("linear", steps=5, start=1e-3),
        cf.Segment("step", milestones=[3, 5]),
    ]
    cf.dump_yaml(config, tmp_path / "run.yaml")
    assert cf.load_config(tmp_path / "run.yaml") == config == cf.from_dict(cf.to_dict(config))
    assert cf.apply_overrides(config, ["--seed=1"]).train.schedule == config.train.schedule


DEFAULT = registry.family("vglaw").default_file


# ---- mappings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["--train.lr_factors.visual=0.3", "--train.pretrained.text=b"],
        ["--train.lr_factors={visual: 0.3}", "--train.pretrained={text: b}"],
        ["--train.lr_factors", "{visual: 0.3}", "--text_pretrained_path", "b"],
    ],
)
def test_mappings_on_the_command_line_are_merged_with_what_lies_below(words: list[str]) -> None:
    config = cf.load_config(DEFAULT, ["--pretrained_path=a"])
    config = cf.apply_overrides(config, words)
    assert config.train.lr_factors == {"base": 1.0, "visual": 0.3, "lang": 1.0}
    assert config.train.pretrained == {"model": "a", "text": "b"}


def test_a_family_that_names_no_groups_takes_any(monkeypatch: pytest.MonkeyPatch) -> None:
    free = dataclasses.replace(registry.family("vglaw"), lr_groups={}, pretrained_parts=(), old_rates={}, old_paths={})
    monkeypatch.setattr(registry, "family", lambda name: free)
    words = ["--train.lr_factors.neck=0.5", "--train.pretrained.neck=x", "--train.lr_factors.neck.deep=1"]
    config = cf.load_config([], words[:2])
    assert (config.train.lr_factors, config.train.pretrained) == ({"neck": 0.5}, {"neck": "x"})
    with pytest.raises(ConfigError, match="unknown option --train.lr_factors.neck.deep"):
        cf.load_config([], words)


# ---- schemas --------------------------------------------------------------------------------------------------------


def test_renamed_and_removed_keys_stay_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = Changes(renamed={"train.samples": "train.batch_size"}, removed={"train.magic": False})
    monkeypatch.setitem(CHANGES, 1, changes)
    assert merged({"train": {"samples": 3, "magic": False}})["train"]["batch_size"] == 3
    with pytest.raises(ConfigError, match=r"file0: train.magic=True does not exist any more"):
        merged({"train": {"magic": True}})
    with pytest.raises(ConfigError, match=r"file0: train.samples=3 and train.batch_size=4 are both given"):
        merged({"train": {"samples": 3, "batch_size": 4}})
    # What says that it is of this schema has no such keys; a family renames its own in the same way.
    with pytest.raises(ConfigError, match="'train.samples'; it is called train.batch_size now"):
        merge_layers([Layer("f", {"train": {"samples": 3}}, SCHEMA)], FAMILY)
    own = dataclasses.replace(FAMILY, changes={1: Changes(renamed={"model.flips": "model.flip_prob"})})
    assert merged({"model": {"flips": 0.5}}, family=own)["model"] == {"flip_prob": 0.5}


def test_two_old_paths_of_one_part() -> None:
    def part(**paths: str) -> Any:
        return merged({"train": dict(paths)})["train"].get("pretrained")

    assert part(pretrained_path="a", text_pretrained_path="") == {"model": "a"}
    assert part(pretrained_path="", text_pretrained_path="b") == {"model": "b"}
    assert part(pretrained_path="", text_pretrained_path="") == {"model": ""}
    with pytest.raises(ConfigError, match="leave one out"):
        part(pretrained_path="a", text_pretrained_path="b")


# ---- what keys affect -----------------------------------------------------------------------------------------------


def test_every_key_says_what_it_affects() -> None:
    for name, cls in SECTIONS.items():
        said = dict(affected(cls(), f"{name}."))
        own = {key: kind for key, kind in said.items() if not key.startswith("data.transform.")}
        assert set(own.values()) <= set(AFFECTS), [key for key, kind in own.items() if kind not in AFFECTS]
    for family in registry.families():
        config = cf.load_config(overrides=[f"--family={family}"])
        said = dict(affected(config, usual="numbers"))
        assert set(said) == set(flat(cf.to_dict(config)))
        assert said["model." + next(iter(cf.to_dict(config)["model"]))] == "numbers"


def test_choices_come_from_the_registries() -> None:
    assert choices_of(cf.DataConfig, "dataset") == registry.dataset_names()
    assert "synthetic" in registry.dataset_names() and choices_of(cf.DataConfig, "root") is None


def test_lists_of_a_section_are_not_shared() -> None:
    first, second = cf.TrainConfig(), cf.TrainConfig()
    first.drop_epochs.append(99)
    first.lr_factors["base"] = 2.0
    assert second.drop_epochs == [10] and second.lr_factors == {}
    assert dataclasses.fields(dataclasses.make_dataclass("A", [("x", int, key(3, affects="speed"))]))[0].default == 3


def test_the_division_of_a_data_set_goes_with_it(tmp_path: Path) -> None:
    below = file(tmp_path, "below.yaml", "data: {dataset: refcoco, splitBy: google}")
    assert cf.load_config(below).data.splitBy == "google"
    assert cf.load_config(below, ["--dataset=jsonl"]).data.splitBy == ""
    assert cf.load_config(below, ["--dataset=refcocog"]).data.splitBy == "umd"
    assert cf.load_config(below, ["--dataset=refcoco"]).data.splitBy == "google"
    assert cf.load_config(below, ["--dataset=refcocog", "--splitBy=google"]).data.splitBy == "google"


@pytest.mark.parametrize(("family", "dataset"), [("test_detector", "synthetic_instances"), ("vglaw", "synthetic")])
def test_naming_the_data_set_of_the_default_file_keeps_the_file(family: str, dataset: str) -> None:
    plain = cf.load_config(None, [f"--family={family}"])
    assert plain.data.dataset == dataset
    for name in ("data.dataset", "dataset"):
        assert cf.load_config(None, [f"--family={family}", f"--{name}={dataset}"]) == plain
    assert cf.load_config(None, [f"--family={family}", "--dataset=coco"]).data.img_size != plain.data.img_size
