"""mindground models: families, their questions and answers, configurations and sources of weights."""

from __future__ import annotations

import json
from pathlib import Path

from commands import call
from mindground.cli import models
from mindground.config import load_config
from mindground.models import families, family_weight_maps


def test_all_families_are_listed() -> None:
    done = call(models.main)
    assert done.returncode == 0, done.stderr
    for name in families():
        assert f"\n{name} " in f"\n{done.stdout}" and ", ".join(family_weight_maps(name)) in done.stdout
    assert "asks: an image and an expression; answers: one box and mask" in done.stdout


def test_one_family(tmp_path: Path) -> None:
    """From another folder, so that the files of the clone are named in full and can be read."""
    done = call(models.main, "clipvg", "--json", cwd=tmp_path)
    family = json.loads(done.stdout)
    assert family["asks"] == "expression" and family["answers"] == ["box"] and family["many"] is False
    assert set(family["sources"]) == set(family_weight_maps("clipvg"))
    read = {load_config(path).train.experiment_name for path in family["configurations"]}
    assert "clipvg_dior_rsvg" in read
    done = call(models.main, "clipvg", cwd=tmp_path)
    assert all(path in done.stdout for path in family["configurations"])


def test_lines_of_other_kinds_of_families() -> None:
    family = models.Family("x", "X", "nothing", ("box", "mask"), True, {}, {})
    assert family.line() == "asks: an image alone; answers: every box and mask"
    assert models._page(family).count("  none") == 2 and "no foreign weights" in models._list([family])
