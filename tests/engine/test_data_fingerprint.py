"""A checkpoint remembers which data it was trained on, and is neither continued nor scored on another numbering."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.fakes import OneRank, fake_config, fake_parts
from mindground.data import Dataset
from mindground.engine import scoring
from mindground.engine.checkpoint import read_checkpoint
from mindground.engine.run_folder import check_same_categories, check_same_data
from mindground.engine.trainer import Trainer
from mindground.errors import CheckpointError, DataError

OURS, OTHER = "a" * 64, "b" * 64


def _run(folder: Path, fingerprint: str, **train: Any) -> Path:
    config = fake_config(folder, max_steps=2, **train)
    return Trainer(config, OneRank(), replace(fake_parts(config), data_fingerprint=fingerprint)).run()


def test_it_is_kept_and_another_is_not_continued(tmp_path: Path) -> None:
    folder = _run(tmp_path, OURS)
    for name in ("last.ckpt", "best.ckpt"):
        assert read_checkpoint(folder / name).state["data_fingerprint"] == OURS
    with pytest.raises(CheckpointError, match="cannot continue .*last.ckpt.*aaaaaaaaaaaa.*bbbbbbbbbbbb"):
        _run(tmp_path, OTHER, resume="auto")
    assert _run(tmp_path, OURS, resume="auto") == folder


@pytest.mark.parametrize(("before", "now"), [("", OTHER), (OURS, ""), (OURS, OURS), (None, OTHER)])
def test_what_is_not_known_fits(before: str | None, now: str) -> None:
    check_same_data({"data_fingerprint": before}, now, "score")
    check_same_data({}, now, "score")


def _score(monkeypatch: pytest.MonkeyPatch, trained: str, scored: str, **keys: Any) -> dict[str, Any]:
    config = fake_config("unused")
    for key, value in keys.items():
        setattr(config.eval, key, value)
    monkeypatch.setattr(scoring, "make_loader", lambda *words, **more: None)
    monkeypatch.setattr(scoring, "evaluate", lambda *words, **more: ({"count": 0}, []))
    loaded: Any = SimpleNamespace(model=None, tokenizer=None, hash="0", state={"data_fingerprint": trained})
    runner: Any = None
    return scoring._score_split(
        scoring._Scoring(config, loaded, runner, OneRank(), {}), Dataset([], {}, "x", "test", scored), False
    )[0]


def test_scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _score(monkeypatch, OURS, OURS)["protocol"]["data"] == OURS[:12]
    assert "data" not in _score(monkeypatch, OURS, "")["protocol"]
    with pytest.raises(CheckpointError, match=r"score this checkpoint on test.*aaaa.*bbbb.*allow_other_data=true"):
        _score(monkeypatch, OURS, OTHER)
    assert _score(monkeypatch, OURS, OTHER, allow_other_data=True)["protocol"]["data"] == OTHER[:12]


def test_category_ids_must_mean_the_same_classes() -> None:
    trained = {1: "ship", 2: "plane"}
    check_same_categories(trained, Dataset([], {1: "ship"}, "x", "val", kind="instances"))
    check_same_categories(trained, Dataset([], {1: "ship", 3: "tank"}, "x", "val", kind="instances"))
    check_same_categories({}, Dataset([], {1: "plane"}, "x", "val", kind="instances"))
    with pytest.raises(DataError, match=r"x val .*1 is 'plane' here and was 'ship'.*\"categories\": {\"1\": \"ship\""):
        check_same_categories(trained, Dataset([], {1: "plane", 2: "ship"}, "x", "val", kind="instances"))
    with pytest.raises(DataError, match="'plane' is 7 here and was 2"):
        check_same_categories(trained, Dataset([], {1: "ship", 7: "plane"}, "x", "val", kind="instances"))
