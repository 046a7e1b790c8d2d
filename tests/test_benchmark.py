"""`mindground bench` from end to end at a tiny size: both sides agree, the report is whole. Times mean nothing here."""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from commands import Done, call
from mindground.cli.bench import compared_families, recipe_modules
from mindground.cli.bench.children import BenchmarkError, largest_difference
from mindground.cli.bench.command import main
from mindground.cli.bench.kernels import Kernel, OurKernels, read_kernels, write_kernels
from mindground.config import load_config, to_dict

ROOT = Path(__file__).resolve().parents[1]
VGLAW = {
    "model.vit_model": "",
    "model.vit.embed_dim": 48,
    "model.vit.depth": 2,
    "model.vit.num_heads": 4,
    "model.vit.window_size": 3,
    "model.vit.window_block_indexes": [0],
    "model.vit.pretrain_img_size": 32,
    "model.text.vocab_size": 50,
    "model.text.hidden_size": 48,
    "model.text.num_hidden_layers": 1,
    "model.text.num_attention_heads": 4,
    "model.text.intermediate_size": 64,
    "model.generator_heads": 4,
    "data.max_len": 12,
}
CLIPVG = {
    "model.clip_model": "",
    "model.clip.patch_size": 16,
    "model.clip.vision_width": 48,
    "model.clip.vision_layers": 3,
    "model.clip.vision_heads": 4,
    "model.clip.vocab_size": 200,
    "model.clip.context_length": 20,
    "model.clip.text_width": 32,
    "model.clip.text_layers": 2,
    "model.clip.text_heads": 4,
    "model.clip.embed_dim": 32,
    "model.vl_nheads": 4,
    "model.vl_dim_feedforward": 64,
    "model.vl_enc_layers": 2,
    "model.max_query_len": 20,
    "data.max_len": 20,
}
RMSIN = {
    "model.swin_type": "",
    "model.swin.embed_dim": 8,
    "model.swin.depths": "[1,1,2,1]",
    "model.swin.num_heads": "[1,1,2,2]",
    "model.swin.window_size": 4,
    "model.text.vocab_size": 60,
    "model.text.hidden_size": 32,
    "model.text.num_hidden_layers": 2,
    "model.text.num_attention_heads": 4,
    "model.text.intermediate_size": 64,
    "model.text.train_layers": 1,
    "model.cim.heads": 2,
    "model.cim.key_dim": 4,
    "model.rotated_kernels": 2,
}
MSAM = {
    "model.visual.darknet.first": 4,
    "model.visual.darknet.blocks": [1, 1, 1, 1, 1, 1],
    "model.text.vocab_size": 60,
    "model.text.bert.hidden_size": 32,
    "model.text.bert.num_hidden_layers": 2,
    "model.text.bert.num_attention_heads": 2,
    "model.text.bert.intermediate_size": 64,
    "model.text.bert.max_position_embeddings": 32,
    "model.text.bert.frozen_layers": 1,
    "model.fusion.head_dim": 8,
    "model.fusion.window": 3,
    "model.head.width": 32,
    "model.head.heads": 2,
    "model.head.hidden": 64,
    "model.head.encoder_layers": 2,
    "model.head.decoder_layers": 1,
    "model.head.num_bin": 50,
}
SAM = {
    "model.sam_type": "",
    "model.encoder.img_size": 64,
    "model.encoder.embed_dim": 32,
    "model.encoder.depth": 2,
    "model.encoder.num_heads": 2,
    "model.encoder.mlp_dim": 48,
    "model.encoder.window_size": 3,
    "model.encoder.global_blocks": [1],
    "model.decoder.width": 32,
    "model.decoder.num_heads": 4,
    "model.decoder.mlp_dim": 48,
    "model.decoder.iou_hidden": 32,
}
OUTPUTS = {"rmsin": {"mask_logits"}, "vglaw": {"box", "mask_logits"}, "clipvg": {"box"}}


def settings(values: dict[str, object]) -> list[str]:
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]


def start_file(*arguments: str) -> Done:
    """tools/benchmark.py as a process of its own."""
    command = [sys.executable, str(ROOT / "tools" / "benchmark.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


def start_here(*arguments: str) -> Done:
    """The verb in this process; what computes are its children."""
    return call(main, *arguments)


# One is compiled and one is a process of its own: compiling both would show nothing more.
@pytest.mark.parametrize(
    ("family", "tiny", "mode", "start"),
    [
        ("vglaw", VGLAW, "PYNATIVE", start_file),
        ("clipvg", CLIPVG, "GRAPH", start_here),
        ("rmsin", RMSIN, "PYNATIVE", start_here),
    ],
    ids=["vglaw", "clipvg", "rmsin"],
)
def test_both_sides_agree_and_everything_is_reported(
    tmp_path: Path, family: str, tiny: dict[str, object], mode: str, start: Callable[..., Done]
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    report = tmp_path / "report.json"
    once = ("--repeats", "1", "--warm-up", "1", "--size", "64")
    done = start(family, *once, "--json", str(report), *settings({**tiny, "device.mode_name": mode}))
    assert done.returncode == 0, done.stderr
    measured = json.loads(report.read_text())
    assert measured["largest_difference"] < 1e-3
    assert set(measured["forward"]["agreement"]) == OUTPUTS[family]
    assert set(measured["step"]["agreement"]) == {"loss", "grad_norm"}
    assert measured["size"] == 64 and measured["mode"] == mode
    for task in ("forward", "step"):
        for side in ("ours", "peer"):
            entry = measured[task][side]
            assert entry["seconds"] > 0 and entry["cpu_seconds"] > 0 and len(entry["all_seconds"]) == 1
            assert entry["peak_mib"] > 50 and entry["versions"]
    assert set(measured["idle_mib"]) == {"ours", "peer"}
    assert "training step" in done.stdout and "PyTorch" in done.stdout


def test_msam_beside_pytorch_its_kernels_and_both_ways_to_decode(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if not request.config.getoption("--all"):
        pytest.skip("nine processes that import everything; --all runs it")
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    report = tmp_path / "report.json"
    once = ("--repeats", "1", "--warm-up", "1", "--size", "64")
    done = start_here("msam", *once, "--json", str(report), *settings({**MSAM, "device.mode_name": "PYNATIVE"}))
    assert done.returncode == 0, done.stderr
    measured = json.loads(report.read_text())
    assert measured["largest_difference"] < 1e-3 and measured["family"] == "msam"
    assert set(measured["forward"]["agreement"]) == {"logits"}
    kernels = measured["kernels"]
    assert {"forward", "step", "conv forward", "matmul step", "softmax forward", "bmm step"} <= set(kernels)
    for task in ("forward", "step"):
        parts = [kernels[name]["ours"] for name in kernels if name.endswith(f" {task}")]
        assert 0 < sum(parts) and kernels[task]["ratio"] > 0
    assert measured["decoding"]["same"] and measured["decoding"]["steps"] == 37
    assert "bare kernels" in done.stdout and "37 tokens" in done.stdout


def test_the_kernels_of_a_network_are_what_it_computes() -> None:
    torch = pytest.importorskip("torch")
    from mindground.cli.bench.peer_kernels import PeerKernels, record

    frozen, learned = torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.Conv2d(8, 4, 1)
    frozen.requires_grad_(False)
    attention = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    linear, along, x = torch.nn.Linear(8, 5), torch.nn.Conv1d(8, 3, 1), torch.randn(2, 7, 8)

    def run() -> None:
        learned(frozen(torch.randn(2, 3, 16, 16)))
        found = attention(x, x, x, need_weights=False)[0]
        linear(linear(found)[..., :1].expand(2, 7, 8))
        along(x.transpose(1, 2))

    kernels = record(run)
    found = {(kernel.kind, kernel.shape): kernel for kernel in kernels}
    assert found["conv", (2, 3, 16, 16, 8, 3, 2, 1, 1)] == Kernel("conv", (2, 3, 16, 16, 8, 3, 2, 1, 1), False, False)
    assert found["conv", (2, 8, 8, 8, 4, 1, 1, 0, 1)] == Kernel("conv", (2, 8, 8, 8, 4, 1, 1, 0, 1), False, True)
    assert found["matmul", (14, 8, 5)] == Kernel("matmul", (14, 8, 5), True, True, 2)
    assert found["matmul", (14, 8, 3)] == Kernel("matmul", (14, 8, 3), False, True)
    assert found["bmm", (4, 7, 4, 7)].inputs and found["softmax", (28, 7)].count == 1
    # Both sides run what the list says, and the whole is the sum of the kinds.
    for side in (PeerKernels(kernels), OurKernels(kernels)):
        seconds = side.kernels()
        for task in ("forward", "step"):
            kinds = [value for name, value in seconds.items() if name.endswith(f" {task}")]
            assert len(kinds) == 4 and seconds[task] == pytest.approx(sum(kinds)) and min(kinds) > 0


def test_the_list_of_kernels_goes_through_a_file(tmp_path: Path) -> None:
    kernels = [Kernel("conv", (1, 2, 4, 4, 3, 3, 1, 1, 1), count=5), Kernel("softmax", (3, 4), weights=False)]
    write_kernels(tmp_path, kernels)
    assert read_kernels(tmp_path) == kernels
    first, *others = kernels[0].operands(np.random.default_rng(0))
    assert first.shape == (1, 2, 4, 4) and [other.shape for other in others] == [(3, 2, 3, 3)] * 3


def test_a_family_in_parts_is_compared_part_by_part(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    report = tmp_path / "report.json"
    once = ("--repeats", "1", "--warm-up", "1", "--size", "64", "--json", str(report))
    done = start_here("sam", *once, *settings({**SAM, "device.mode_name": "PYNATIVE"}))
    assert done.returncode == 0, done.stderr
    measured = json.loads(report.read_text())
    assert measured["largest_difference"] < 1e-3
    for task in ("encoder", "decoder_1", "decoder_64"):
        assert all(measured[task][side]["peak_mib"] > 50 for side in ("ours", "peer"))
    assert set(measured["decoder_64"]["agreement"]) == {"logits", "expected"}
    assert "decoder, 64 prompts" in done.stdout
    refused = start_here("sam", "--task", "step")
    assert refused.returncode == 2 and "parts" in refused.stderr


def test_many_sentences_stand_beside_one(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    once = ("--repeats", "1", "--warm-up", "1", "--size", "64", "--sentences", "4")
    settled = settings({**CLIPVG, "device.mode_name": "PYNATIVE"})
    done = start_here("clipvg", *once, "--json", str(report), *settled)
    assert done.returncode == 0, done.stderr
    found = json.loads(report.read_text())["sentences"]
    assert found["count"] == 4 and found["one_seconds"] > 0 and found["many_seconds"] > 0 and found["peak_mib"] > 50
    assert found["ratio"] == pytest.approx(found["many_seconds"] / found["one_seconds"])
    assert "4 sentences" in done.stdout and "times one" in done.stdout


def test_a_family_that_reads_both_together_has_no_sentences_to_compare() -> None:
    done = start_here("vglaw", "--sentences", "4")
    assert done.returncode == 2
    assert "together" in done.stderr and "Traceback" not in done.stderr


def test_missing_peer_names_the_file_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else real(name, *rest))
    done = start_here("vglaw")
    assert done.returncode == 2
    assert "torch" in done.stderr and "requirements-test.txt" in done.stderr and "Traceback" not in done.stderr


def test_the_published_recipes_are_what_is_compared() -> None:
    """An installed package has no configs/ folder: recipes come from the families themselves."""
    assert compared_families() == ["clipvg", "msam", "rmsin", "sam", "vglaw"]
    for family in ("clipvg", "rmsin", "vglaw"):
        modules = recipe_modules(family)
        assert modules is not None
        module = importlib.import_module(modules[0])
        compared = load_config(None, [f"--family={family}", f"--dataset={module.DATASET}", *module.OVERRIDES])
        (file,) = [path for path in (ROOT / "configs" / family).glob(f"{module.DATASET}.yaml")]
        published = load_config(file, module.OVERRIDES)
        build, theirs = ("towers", "clip") if family == "clipvg" else ("visual", "text")
        assert getattr(compared.model, build)() == getattr(published.model, build)()
        model, other = to_dict(compared)["model"], to_dict(published)["model"]
        changed = {key for key in model if model[key] != other[key]} - {"vit_model", "vit", theirs}
        assert not changed, (family, changed)
        assert compared.data.img_size == published.data.img_size and compared.data.max_len == published.data.max_len


def test_a_family_of_another_package_brings_its_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("compared_one", "compared_none"):
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[mindground.families]\n{name} = {name}\n", encoding="utf-8")
    package = tmp_path / "compared_one"
    package.mkdir()
    for file in ("__init__.py", "bench.py", "bench_peer.py", "../compared_none.py"):
        (package / file).write_text("", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert compared_families() == ["clipvg", "compared_one", "msam", "rmsin", "sam", "vglaw"]
    assert recipe_modules("compared_one") == ("compared_one.bench", "compared_one.bench_peer")
    (package / "bench_peer.py").unlink()
    importlib.invalidate_caches()
    assert recipe_modules("compared_one") is None


def test_a_difference_is_measured_against_the_largest_value() -> None:
    assert largest_difference(np.asarray([1.0, 4.0]), np.asarray([1.0, 5.0])) == pytest.approx(0.2)
    assert largest_difference(np.asarray([np.nan]), np.asarray([1.0])) == float("inf")
    with pytest.raises(BenchmarkError, match="shapes"):
        largest_difference(np.zeros(2), np.zeros(3))
