"""Weights of others into a fresh VG-LAW: whole, in part, not at all."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindground.config import Config, load_config
from mindground.engine.pretrained import load_pretrained
from mindground.errors import ConfigError, MindGroundError, UnsafeFileError, WeightsError
from mindground.files.safetensors import write_safetensors_atomic
from mindground.models import build_model
from mindground.models.base import GroundingModel
from mindground.weights.load import parameter_arrays
from mindground.weights.report import LoadReport

SMALL = {
    "data.img_size": 64,
    "model.vit.embed_dim": 32,
    "model.vit.depth": 2,
    "model.vit.num_heads": 2,
    "model.vit.window_size": 2,
    "model.vit.window_block_indexes": "[0]",
    "model.text.vocab_size": 50,
    "model.text.hidden_size": 32,
    "model.text.num_hidden_layers": 2,
    "model.text.num_attention_heads": 2,
    "model.text.intermediate_size": 64,
    "model.law_rank": 4,
    "model.generator_heads": 2,
    "model.up_channels": 8,
}


def small(**train: Any) -> Config:
    words = [f"--{key}={value}" for key, value in SMALL.items()]
    return load_config(None, [*words, *(f"--train.{key}={value}" for key, value in train.items())])


@pytest.fixture(scope="module")
def sources() -> dict[str, dict[str, np.ndarray]]:
    """The same random weights as a detector's file, as a text encoder's file, and under our own names."""
    model = build_model(small())
    rng = np.random.default_rng(0)
    ours = {name: rng.standard_normal(a.shape).astype(np.float32) for name, a in parameter_arrays(model).items()}
    maps = type(model).weight_maps()
    visual = {name: array for name, array in ours.items() if name.startswith("visual_encoder.")}
    text = {name: array for name, array in ours.items() if name.startswith("text_encoder.")}
    return {"ours": ours, "vitdet": maps["vitdet"].to_theirs(visual), "bert": maps["bert"].to_theirs(text)}


def write(path: Path, tensors: dict[str, np.ndarray]) -> str:
    return str(write_safetensors_atomic(path, tensors))


def load(model: GroundingModel, config: Config, **more: Any) -> list[LoadReport]:
    train = config.train
    return load_pretrained(model, train.pretrained, random_parts=train.random_encoders, **more)


def taken(model: GroundingModel, ours: dict[str, np.ndarray]) -> set[str]:
    """Parts of the model whose parameters all have the file's values."""
    now = parameter_arrays(model)
    parts = {name.split(".")[0] for name in now}
    return {
        part
        for part in parts
        if all(np.array_equal(now[name], ours[name]) for name in now if name.split(".")[0] == part)
    }


def test_each_file_fills_its_part(sources: dict[str, dict[str, np.ndarray]], tmp_path: Path) -> None:
    image = write(tmp_path / "model_final.pkl", {**sources["vitdet"], "roi_heads.x": np.zeros(1, np.float32)})
    wrapped = {f"module.{name}": array for name, array in sources["bert"].items()}
    config = small(pretrained_path=image, text_pretrained_path=write(tmp_path / "bert.bin", wrapped))
    model = build_model(config)
    reports = load(model, config)
    assert taken(model, sources["ours"]) == {"visual_encoder", "text_encoder"}
    assert [report.source.split(" as ")[0] for report in reports] == [image, config.train.pretrained["text"]]
    assert "roi_heads.x" in reports[0].table()


def test_missing_text_weights_must_be_asked_for(sources: dict[str, dict[str, np.ndarray]], tmp_path: Path) -> None:
    image = write(tmp_path / "vit.pkl", sources["vitdet"])
    for paths in ({}, {"pretrained_path": image}):
        config = small(random_encoders="false", **paths)
        with pytest.raises(ConfigError, match="train.pretrained.text.*random_encoders=true"):
            load(build_model(config), config)
    config = small(random_encoders="true")
    assert load(build_model(config), config) == []


@pytest.mark.parametrize("damage", ["half", "shape", "stranger", "nothing"])
def test_a_file_that_fits_in_part_is_refused_and_changes_nothing(
    damage: str, sources: dict[str, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    tensors = dict(sources["vitdet"])
    name = next(name for name in tensors if name.endswith("blocks.1.mlp.fc1.weight"))
    says = "blocks.1.mlp.fc1.weight"
    if damage == "half":
        tensors = {key: array for key, array in tensors.items() if "blocks.1." not in key}
        says = "14 parameters of the model are not in the file: visual_encoder.blocks.1.norm1"
    elif damage == "shape":
        tensors[name] = tensors[name][:-1]
    elif damage == "stranger":
        tensors["roi.x"], says = np.zeros(1, np.float32), "roi.x"
    else:
        tensors, says = {"resnet.conv1": np.zeros((2, 2), np.float32)}, "resnet.conv1"
    config = small(pretrained_path=write(tmp_path / "vit.pkl", tensors), random_encoders="true")
    model = build_model(config)
    before = parameter_arrays(model)
    with pytest.raises(WeightsError) as caught:
        load(model, config)
    assert says in str(caught.value) and "vit.pkl" in str(caught.value)
    assert all(np.array_equal(before[key], array) for key, array in parameter_arrays(model).items())


def test_missing_cut_and_malicious_files(tmp_path: Path, sources: dict[str, dict[str, np.ndarray]]) -> None:
    class Attack:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "ran"),)

    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"model": Attack()}))
    whole = Path(write(tmp_path / "cut.bin", sources["bert"]))
    whole.write_bytes(whole.read_bytes()[:-100])
    cases = (("evil.pkl", UnsafeFileError, "mkdir"), ("cut.bin", MindGroundError, "cut.bin"))
    for name, error, says in (*cases, ("absent.pkl", WeightsError, "absent.pkl")):
        for key in ("pretrained_path", "text_pretrained_path"):
            config = small(**{key: tmp_path / name}, random_encoders="true")
            with pytest.raises(error, match=says):
                load(build_model(config), config)
    assert not (tmp_path / "ran").exists()


def test_a_part_takes_only_what_is_its_own(sources: dict[str, dict[str, np.ndarray]], tmp_path: Path) -> None:
    words = write(tmp_path / "bert.bin", sources["bert"])
    config = small(random_encoders="true")
    with pytest.raises(WeightsError, match=r"bert\.bin holds text_encoder\..* and it was named for visual_encoder"):
        load_pretrained(build_model(config), {"visual": words}, random_parts=True)
    with pytest.raises(ConfigError, match=r"train\.pretrained\.eyes is no part of VGLaw; its parts are model, text"):
        load_pretrained(build_model(config), {"eyes": words})
    model = build_model(config)
    load_pretrained(model, {"text": words})
    assert taken(model, sources["ours"]) == {"text_encoder"}


def test_a_partial_file_is_taken_when_it_is_asked_for(
    sources: dict[str, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    half = {name: array for name, array in sources["vitdet"].items() if "blocks.1." not in name}
    path = write(tmp_path / "vit.pkl", half)
    model = build_model(small())
    before = parameter_arrays(model)
    (report,) = load_pretrained(model, {"visual": path}, partial=True, random_parts=True)
    after = parameter_arrays(model)
    kept = [name for name in after if name.startswith("visual_encoder.blocks.1.")]
    assert kept and all(np.array_equal(before[name], after[name]) for name in kept)
    assert set(kept) == set(report.missing) and "visual_encoder.blocks.1." in report.table()
    name = "visual_encoder.blocks.0.mlp.fc1.weight"
    assert np.array_equal(after[name], sources["ours"][name])
