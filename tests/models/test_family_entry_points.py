"""Families of other installed packages: found by entry point, and only when they are asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from mindground import config as cf
from mindground import models
from mindground.config import registry
from mindground.errors import ConfigError

MODULE = """
from dataclasses import dataclass

@dataclass
class Config:
    width: int = 4

LR_GROUPS = {"base": 1.0}
FLAGS = {"width": "model.width"}
"""


def install(folder: Path, package: str, entries: str, module: str = "") -> None:
    """A package with entry points, as an installer leaves it."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[mindground.families]\n{entries}\n", encoding="utf-8")
    (folder / package).mkdir()
    (folder / package / "__init__.py").write_text(module, encoding="utf-8")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_an_installed_family_has_its_configuration_flags_and_default(site: Path) -> None:
    install(site, "outside_one", "pointer = outside_one", MODULE)
    default = "family: pointer\nmodel: {width: 8}\ntrain: {lr: 0.5}\n"
    (site / "outside_one" / "default.yaml").write_text(default, encoding="utf-8")
    assert "pointer" in models.families() and "vglaw" in models.families()
    config = cf.load_config(overrides=["--family=pointer"])
    assert (config.model.width, config.train.lr, config.train.lr_factors) == (8, 0.5, {"base": 1.0})
    assert cf.load_config(overrides=["--family=pointer", "--width=3"]).model.width == 3
    assert models.family_facts("pointer").config().width == 4
    with pytest.raises(ConfigError, match="--width belongs to family pointer"):
        cf.load_config(overrides=["--width=3"])
    with pytest.raises(ConfigError, match="did you mean 'pointer'"):
        cf.load_config(overrides=["--family=ponter"])


def test_a_built_in_name_wins_and_a_clash_is_an_error(site: Path) -> None:
    install(site, "outside_two", "vglaw = outside_two", MODULE)
    assert cf.load_config().model.law_rank == 32
    with pytest.raises(ConfigError, match="package outside_two offers a family 'vglaw', which is built in"):
        models.families()


def test_two_packages_with_one_name(site: Path) -> None:
    install(site, "outside_three", "twice = outside_three", MODULE)
    install(site, "outside_four", "twice = outside_four", MODULE)
    with pytest.raises(ConfigError, match=r"outside_(three|four) and outside_(three|four) both offer a family 'twice'"):
        models.family_module("twice")


@pytest.mark.parametrize(
    ("entry", "says"),
    [("broken = outside_five.absent", "cannot be imported"), ("broken = outside_five:Config", "must be a module")],
)
def test_a_package_that_is_no_family_is_named(site: Path, entry: str, says: str) -> None:
    install(site, "outside_five", entry, MODULE)
    with pytest.raises(ConfigError, match=f"'broken' of package outside_five {says}"):
        models.family_module("broken")


@pytest.mark.parametrize("name", ["vglaw", "clipvg"])
def test_built_in_families_are_not_looked_up(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_installed", lambda: pytest.fail("looked up"))
    facts = registry.family(name)
    assert facts.default_file is not None and facts.published_file is not None
    assert cf.load_config(overrides=[f"--family={name}"]).family == name
