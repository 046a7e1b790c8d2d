"""The verbs `weights import` and `weights export` as a user starts them, on a small VG-LAW."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from commands import call
from mindground.cli.weights import export_file, import_file
from mindground.files.safetensors import write_safetensors_atomic
from mindground.files.weights import read_weights

ROOT = Path(__file__).parents[2]
SMALL = """
family: vglaw
data: {dataset: refcoco, img_size: 64}
model:
  vit: {patch_size: 16, embed_dim: 32, depth: 2, num_heads: 2, window_size: 2, window_block_indexes: [0]}
  text: {vocab_size: 50, hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 64}
  law_rank: 4
  generator_heads: 2
  up_channels: 8
"""


def _start(tool: str, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / tool), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration, its model's tensors under upstream's names, and a detector's file for its backbone."""
    from mindground.config import load_config
    from mindground.models import build_model
    from mindground.weights.load import parameter_arrays

    folder = tmp_path_factory.mktemp("tools")
    (folder / "small.yaml").write_text(SMALL)
    model = build_model(load_config(folder / "small.yaml"))
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.standard_normal(array.shape).astype(np.float32) for name, array in parameter_arrays(model).items()
    }
    maps = type(model).weight_maps()
    write_safetensors_atomic(folder / "whole.bin", maps["vglaw"].to_theirs(arrays))
    visual = {name: array for name, array in arrays.items() if name.startswith("visual_encoder.")}
    table = "visual_encoder.blocks.1.attn.rel_pos_h"
    visual[table] = np.pad(visual[table], ((3, 3), (0, 0)))
    detector = maps["vitdet"].to_theirs(visual)
    write_safetensors_atomic(folder / "detector.pkl", {**detector, "roi_heads.x": np.zeros(1, np.float32)})
    write_safetensors_atomic(folder / "strange.pkl", {**detector, "roi.x": np.zeros(1, np.float32)})
    return folder


def test_a_backbone(folder: Path) -> None:
    out = folder / "vit.ckpt"
    words = ("--family", "vitdet", "--config", folder / "small.yaml", "--out", out)
    done = call(import_file.main, folder / "detector.pkl", *words)
    assert done.returncode == 0, done.stderr
    assert "1 reshaped, 1 ignored" in done.stdout and "centre crop" in done.stdout and "roi_heads.x" in done.stdout
    ours, theirs = read_weights(out).tensors, read_weights(folder / "whole.bin").tensors
    # The file has the backbone's own names, without the prefix of a family.
    assert {f"visual_encoder.{name}" for name in ours} == {n for n in theirs if n.startswith("visual_encoder.")}
    assert all(np.array_equal(array, theirs[f"visual_encoder.{name}"]) for name, array in ours.items())


def test_an_unexplained_rest_is_refused(folder: Path) -> None:
    out = folder / "refused.ckpt"
    words = ("--family", "vitdet", "--config", folder / "small.yaml", "--out", out)
    done = call(import_file.main, folder / "strange.pkl", *words)
    assert done.returncode == 2 and "roi.x" in done.stderr and not out.exists()


def test_a_whole_model_there_and_back(folder: Path) -> None:
    """Each way is a process of its own."""
    checkpoint, back = folder / "whole.ckpt", folder / "back.safetensors"
    words = ("--family", "vglaw", "--config", folder / "small.yaml", "--out", checkpoint)
    done = _start("import_weights.py", folder / "whole.bin", *words)
    assert done.returncode == 0, done.stderr
    done = _start("export_weights.py", checkpoint, "--out", back)
    assert done.returncode == 0, done.stderr
    first, second = read_weights(folder / "whole.bin").tensors, read_weights(back).tensors
    assert first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)
    done = call(export_file.main, checkpoint, "--family", "resnet", "--out", back, "--overwrite")
    assert done.returncode == 2 and "--family resnet is unknown to VGLaw" in done.stderr


def test_unknown_source(folder: Path) -> None:
    words = ("--family", "resnet", "--config", folder / "small.yaml", "--out", folder / "x.ckpt")
    done = call(import_file.main, folder / "whole.bin", *words)
    assert done.returncode == 2 and "vitdet" in done.stderr
