"""Judging a subset, also where nothing was planted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mindground.cli.data.plant_wrong_boxes import main
from mindground.data.formats.registry import find_format


def test_a_subset_without_wrong_boxes_has_no_share_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = ["--data.synthetic.train_images=2", "--data.synthetic.val_images=1", "--plant-seed=0"]
    assert main(["--out", str(tmp_path), "--share", "0.001", *words]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["wrong"] == 0 and made["samples"] > 0
    assert main(["--out", str(tmp_path), "--check", str(tmp_path / "train.jsonl")]) == 0
    judged = json.loads(capsys.readouterr().out)
    assert (judged["wrong_removed_share"], judged["right_kept_share"]) == (None, 1.0)
    assert find_format("jsonl").read(str(tmp_path), "train").samples
