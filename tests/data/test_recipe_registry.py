"""Transform recipes: those of the folder, those of other installed packages, and packages that offer none."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mindground.config import load_config
from mindground.config import registry as handed_in
from mindground.data import transforms
from mindground.data.transforms import registry
from mindground.errors import ConfigError
from mindground.structures import Sample, Truth

MODULE = """
from dataclasses import dataclass
from typing import Any

from mindground.config.keys import key
from mindground.data.transforms import Recipe, StretchTransform


@dataclass
class HalfConfig:
    dark: float = key(0.5, affects="numbers")


class HalfTransform(StretchTransform):
    def __init__(self, *, dark: float, **common: Any) -> None:
        super().__init__(**common)
        self.dark = dark


RECIPES = (Recipe("half", HalfConfig, HalfTransform, ("instances",)),)
"""
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a package with an entry point on the path, as an installer leaves it; recipes are looked up anew."""

    def make(name: str, text: str, value: str = "") -> None:
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
        entry = f"[{registry.GROUP}]\n{name} = {value or name}\n"
        (info / "entry_points.txt").write_text(entry, encoding="utf-8")
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        monkeypatch.delitem(sys.modules, name, raising=False)

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry.RECIPES, "_known", {})
    monkeypatch.setattr(registry.RECIPES, "_complete", False)
    yield make
    handed_in._class_of.cache_clear()


def build(config: object, kind: str) -> transforms.Transform:
    def truth(sample: Sample) -> Truth:
        return Truth(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), None)

    return transforms.build_transform(config.data, kind, truth)  # type: ignore[attr-defined]


def test_the_recipes_of_the_package_and_what_they_prepare() -> None:
    assert {"referent_window", "stretch", "transvg"} <= set(transforms.RECIPES)
    assert transforms.RECIPES["stretch"].kinds == ("referring", "instances")
    assert all(recipe.name == name for name, recipe in transforms.RECIPES.items())


def test_a_recipe_of_another_package_brings_its_keys_and_its_transform(install: Install) -> None:
    install("outside_recipe", MODULE)
    config = load_config(overrides=["--data.transform.name=half", "--data.transform.dark=0.25"])
    made = build(config, "instances")
    assert type(made).__name__ == "HalfTransform" and made.dark == 0.25  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"does not prepare referring samples: choose one of .*stretch"):
        build(config, "referring")
    with pytest.raises(ConfigError, match=r"did you mean --data\.transform\.dark"):
        load_config(overrides=["--data.transform.name=half", "--data.transform.dar=0.25"])


def test_without_the_package_its_recipe_is_unknown() -> None:
    with pytest.raises(ConfigError, match="stretch"):
        load_config(overrides=["--data.transform.name=half"])


@pytest.mark.parametrize(
    ("text", "value", "says"),
    [
        ("RECIPES = 3", "", "must offer RECIPES"),
        ("", "", "must offer RECIPES"),
        ("", "absent_module_of_recipes", "cannot be imported"),
        (MODULE.replace('"half"', '"transvg"'), "", "'transvg', which is known already"),
    ],
)
def test_a_package_that_offers_no_recipe_is_named(install: Install, text: str, value: str, says: str) -> None:
    install("outside_mistake", text, value)
    for _ in range(2):  # told every time, not only once
        with pytest.raises(ConfigError, match=says) as caught:
            len(transforms.RECIPES)
        assert "outside_mistake" in str(caught.value)


@pytest.mark.parametrize("gray", [True, False])
def test_the_example_recipe_beside_the_example_families(
    gray: bool, install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "families"))
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)).save(tmp_path / "a.png")
    words = ["--data.transform.name=gray", f"--data.transform.gray={gray}", "--img_size=32", "--data.mean=0,0,0"]
    sample = Sample(str(tmp_path / "a.png"), "a", "a", "", np.zeros((0, 4), np.float32))
    config = load_config(overrides=[*words, "--data.std=1,1,1"])
    image = build(config, "instances")(sample, np.random.default_rng(0)).arrays["image"]
    assert image.shape == (3, 32, 32)
    assert (np.ptp(image, 0) == 0).all() == gray
