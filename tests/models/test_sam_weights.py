"""Files of Segment Anything in and out: original names, Hugging Face's, sizes read from shapes, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commands import Done, call
from mindground.cli.weights import export_file, import_file
from mindground.config import load_config
from mindground.engine.checkpoint import load_checkpoint
from mindground.errors import ConfigError, WeightsError
from mindground.files.safetensors import write_safetensors_atomic
from mindground.files.weights import WeightFile, read_weights
from mindground.models import build_model, model_interface
from mindground.models.sam.config import VIT_PRESETS
from mindground.models.sam.keys import sam_keys
from mindground.models.sam.source import describe
from mindground.models.sam.weights import HUGGINGFACE_MAP, ORIGINAL_MAP, WEIGHT_MAPS
from mindground.weights.load import parameter_arrays
from models.sam_networks import network

HEADS = ("--model.decoder.num_heads=2",)
SHARED = "shared_image_embedding.positional_embedding"
SECOND = "prompt_encoder.shared_embedding.positional_embedding"


@pytest.fixture(scope="module")
def ours() -> dict[str, np.ndarray]:
    """Tensors of a small network under our names."""
    rng = np.random.default_rng(0)
    return {
        name: rng.standard_normal(value.shape).astype(np.float32) for name, value in parameter_arrays(network()).items()
    }


def bring(source: Path, *words: str) -> Done:
    return call(import_file.main, source, "--family", "sam", "--out", source.with_suffix(".ckpt"), *words)


def equal(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("kind", ["sam", "sam-hf"])
def test_there_and_back_to_the_bit(kind: str, ours: dict[str, np.ndarray], tmp_path: Path) -> None:
    theirs = WEIGHT_MAPS[kind].to_theirs(ours)
    written = {**theirs, SECOND: theirs[SHARED]} if kind == "sam-hf" else theirs
    source = tmp_path / "sam.safetensors"
    write_safetensors_atomic(source, written)
    done = bring(source, *HEADS)
    assert done.returncode == 0, done.stderr
    loaded = load_checkpoint(source.with_suffix(".ckpt"))
    assert equal(parameter_arrays(loaded.model), ours)
    assert loaded.config.model.encoder.global_blocks == [1] and loaded.config.data.img_size == 64
    assert loaded.config.model.decoder.norm_eps == (1e-6 if kind == "sam-hf" else 1e-5)
    assert "image encoder of no published size: width 16, 2 blocks, 2 heads" in done.stdout
    for other in ("sam", "sam-hf"):
        out = tmp_path / f"{other}-back.safetensors"
        assert call(export_file.main, source.with_suffix(".ckpt"), "--family", other, "--out", out).returncode == 0
        assert equal(read_weights(out).tensors, WEIGHT_MAPS[other].to_theirs(ours))


def test_an_original_pth(ours: dict[str, np.ndarray], tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    source = tmp_path / "sam_vit_b_01ec64.pth"
    torch.save({name: torch.from_numpy(value) for name, value in ORIGINAL_MAP.to_theirs(ours).items()}, source)
    done = bring(source, *HEADS)
    assert done.returncode == 0, done.stderr
    assert equal(parameter_arrays(load_checkpoint(source.with_suffix(".ckpt")).model), ours)


def test_a_folder_of_hugging_face_says_what_no_shape_does(ours: dict[str, np.ndarray], tmp_path: Path) -> None:
    folder = tmp_path / "sam"
    folder.mkdir()
    write_safetensors_atomic(folder / "model.safetensors", HUGGINGFACE_MAP.to_theirs(ours))
    (folder / "config.json").write_text(
        json.dumps({"model_type": "sam", "vision_config": {}, "mask_decoder_config": {"num_attention_heads": 2}})
    )
    done = call(import_file.main, folder, "--family", "sam", "--out", tmp_path / "sam.ckpt")
    assert done.returncode == 0, done.stderr
    loaded = load_checkpoint(tmp_path / "sam.ckpt")
    assert loaded.config.model.decoder.num_heads == 2 and equal(parameter_arrays(loaded.model), ours)


def test_a_rest_that_nothing_explains_is_refused(ours: dict[str, np.ndarray], tmp_path: Path) -> None:
    source = tmp_path / "strange.safetensors"
    write_safetensors_atomic(source, {**ORIGINAL_MAP.to_theirs(ours), "hq.token": np.zeros(3, np.float32)})
    done = bring(source, *HEADS)
    assert done.returncode == 2 and "hq.token" in done.stderr
    lacking = dict(ORIGINAL_MAP.to_theirs(ours))
    del lacking["mask_decoder.iou_token.weight"]
    write_safetensors_atomic(tmp_path / "lacking.safetensors", lacking)
    assert bring(tmp_path / "lacking.safetensors", *HEADS).returncode == 2


def test_two_names_of_one_tensor_must_agree(ours: dict[str, np.ndarray]) -> None:
    theirs = HUGGINGFACE_MAP.to_theirs(ours)
    with pytest.raises(WeightsError, match="one tensor under two names"):
        HUGGINGFACE_MAP.to_ours({**theirs, SECOND: theirs[SHARED] + 1})
    assert not HUGGINGFACE_MAP.to_ours({SECOND: theirs[SHARED]}).unexpected


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h"])
def test_published_sizes_are_recognised_by_their_shapes(name: str) -> None:
    width, depth, heads, whole = VIT_PRESETS[name]
    tensors: dict[str, Any] = {
        "image_encoder.patch_embed.proj.weight": np.broadcast_to(np.float32(0), (width, 3, 16, 16)),
        "image_encoder.pos_embed": np.broadcast_to(np.float32(0), (1, 64, 64, width)),
    }
    for index in range(depth):
        length = 127 if index in whole else 27
        tensors[f"image_encoder.blocks.{index}.attn.rel_pos_h"] = np.zeros((length, width // heads), np.float32)
        hidden = np.broadcast_to(np.float32(0), (4 * width, width))
        tensors[f"image_encoder.blocks.{index}.mlp.lin1.weight"] = hidden
    facts = describe(WeightFile(tensors=tensors, format="torch", metadata={}))
    assert facts is not None and facts.keys["model.sam_type"] == name
    assert facts.keys["data.img_size"] == 1024 and facts.keys["model.encoder.window_size"] == 14
    config = load_config(None, ["--family=sam", f"--model.sam_type={name}"])
    assert config.model.encoder.embed_dim == width and config.model.encoder.global_blocks == list(whole)


def test_the_names_of_the_registry() -> None:
    huge = load_config(None, ["--family=sam", "--model.sam_type=default"]).model.encoder
    assert huge == load_config(None, ["--family=sam", "--model.sam_type=vit_h"]).model.encoder
    with pytest.raises(ConfigError, match="vit_l"):
        load_config(None, ["--family=sam", "--model.sam_type=vit_x"])


def test_another_input_size_resizes_tables_on_loading(ours: dict[str, np.ndarray], tmp_path: Path) -> None:
    """Tables for a grid of 6 x 6 in place of 4 x 4; without that key the network resizes them while it runs."""
    source = tmp_path / "sam.safetensors"
    write_safetensors_atomic(source, ORIGINAL_MAP.to_theirs(ours))
    done = bring(source, *HEADS, "--model.encoder.img_size=96", "--data.img_size=96")
    assert done.returncode == 0, done.stderr
    assert "bicubic 4x4 -> 6x6" in done.stdout and "linear 7 -> 11" in done.stdout


def test_what_the_configuration_beside_weights_says() -> None:
    vision = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "mlp_dim": 4096}
    said = sam_keys({"model_type": "sam", "vision_config": {**vision, "global_attn_indexes": [5, 11, 17, 23]}})
    assert said.keys["model.sam_type"] == "vit_l" and said.keys["model.decoder.norm_eps"] == 1e-6
    assert not sam_keys({"model_type": "clip"}).keys
    for wrong in ({"hidden_size": "x"}, {"hidden_act": "relu"}, {"global_attn_indexes": [1.5]}, {"window_size": 0}):
        with pytest.raises(WeightsError, match=next(iter(wrong))):
            sam_keys({"model_type": "sam", "vision_config": wrong})


def test_a_canvas_that_is_no_multiple_of_the_patch() -> None:
    with pytest.raises(ConfigError, match="use 112"):
        build_model(load_config(None, ["--family=sam", "--model.encoder.patch_size=16", "--data.img_size=100"]))


def test_what_the_family_asks_and_answers() -> None:
    interface = model_interface(load_config(None, ["--family=sam"]))
    assert interface.asks == "prompt" and interface.answers == ("mask",) and interface.many
