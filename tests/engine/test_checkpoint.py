"""Checkpoints: round trip, damage, foreign files, a full disk."""

from __future__ import annotations

import errno
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.fakes import FakeModel, fake_config
from mindground.engine.checkpoint import load_checkpoint, read_checkpoint, save_checkpoint, weights_hash
from mindground.errors import CheckpointError, WriteError
from mindground.files import atomic as writer
from mindground.files.safetensors import write_safetensors_atomic
from mindground.text import build_wordpiece


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    tokenizer = build_wordpiece(["the red ship", "a small plane"])
    return save_checkpoint(tmp_path / "a.ckpt", FakeModel(), fake_config(tmp_path), tokenizer, {"step": 7})


def test_everything_comes_back(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mindground.models.build_model", lambda config: FakeModel(seed=99))
    loaded = load_checkpoint(saved)
    np.testing.assert_array_equal(loaded.model.first.weight.asnumpy(), FakeModel().first.weight.asnumpy())
    assert loaded.state["step"] == 7
    assert loaded.config.train.experiment_name == "fake"
    assert loaded.tokenizer is not None
    ids, _ = loaded.tokenizer(["the red plane"], 8)
    expected, _ = build_wordpiece(["the red ship", "a small plane"])(["the red plane"], 8)
    np.testing.assert_array_equal(ids, expected)
    assert not loaded.model.training
    assert loaded.hash == weights_hash(read_checkpoint(saved).part("model"))


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.5, 0.99])
def test_truncated(saved: Path, keep: float) -> None:
    data = saved.read_bytes()
    saved.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(CheckpointError, match="truncated"):
        read_checkpoint(saved)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    image = tmp_path / "image.ckpt"
    image.write_bytes(b"\x89PNG not weights at all" * 100)
    with pytest.raises(CheckpointError, match="not a MindGround checkpoint"):
        read_checkpoint(image)
    tensors = write_safetensors_atomic(tmp_path / "theirs.safetensors", {"w": np.ones(3, np.float32)})
    with pytest.raises(CheckpointError, match=r"import_weights"):
        read_checkpoint(tensors)
    with pytest.raises(CheckpointError, match="does not exist"):
        read_checkpoint(tmp_path / "absent.ckpt")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("config", []),
        ("tokenizer", "words"),
        ("state", [1]),
        ("state", None),
        ("state", {"step": "7"}),
        ("state", {"epoch": 1.5}),
        ("state", {"samples": -1}),
        ("state", {"step": 7, "best": "high"}),
        ("state", {"metrics": [1]}),
        ("state", {"categories": ["ship"]}),
        ("state", {"categories": {"ship": "1"}}),
    ],
)
def test_a_description_of_other_types_is_refused(saved: Path, name: str, value: Any) -> None:
    contents = read_checkpoint(saved)
    payload = {"schema": contents.schema, "config": contents.config, "tokenizer": None, "state": contents.state}
    tensors = contents.tensors
    write_safetensors_atomic(saved, tensors, {"mindground": json.dumps(payload)})
    assert read_checkpoint(saved).state == contents.state
    write_safetensors_atomic(saved, tensors, {"mindground": json.dumps({**payload, name: value})})
    with pytest.raises(CheckpointError, match=f"its description is damaged: {name}.*; take another copy"):
        read_checkpoint(saved)


def test_weights_of_another_shape(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wider(FakeModel):
        def __init__(self) -> None:
            super().__init__()
            self.extra = FakeModel()

    monkeypatch.setattr("mindground.models.build_model", lambda config: Wider())
    with pytest.raises(CheckpointError, match=r"extra\.first"):
        load_checkpoint(saved)


def test_full_disk_keeps_the_old_one(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            if self.tell() + len(data) > 600:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    before = saved.read_bytes()
    monkeypatch.setattr(writer.os, "fdopen", lambda handle, mode: Full(handle, mode))
    with pytest.raises(WriteError, match="disk is full"):
        save_checkpoint(saved, FakeModel(seed=5), fake_config(tmp_path), None, {"step": 8})
    monkeypatch.undo()
    assert saved.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]
    assert read_checkpoint(saved).state["step"] == 7
