"""Files of RMSIN, LAVT, RemoteSAM, Swin and BERT in and out: what they say, what contradicts them, what is refused."""

from __future__ import annotations

import logging
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commands import Done, call
from golden.case import load_case
from mindground.cli.weights import export_file, import_file
from mindground.config import load_config
from mindground.engine.checkpoint import load_checkpoint
from mindground.engine.pretrained import load_pretrained
from mindground.errors import WeightsError
from mindground.files.safetensors import write_safetensors_atomic
from mindground.files.weights import read_weights
from mindground.models import build_model
from mindground.weights.load import parameter_arrays
from models.rmsin_files import HEADS, SMALL, computed, network, save

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "golden"
LAVT = "--model.variant=lavt"


@pytest.fixture(scope="module")
def rmsin() -> dict[str, np.ndarray]:
    return network()


@pytest.fixture(scope="module")
def lavt() -> dict[str, np.ndarray]:
    return network(LAVT)


def bring(source: Path, *words: str) -> Done:
    """`weights import`, beside the source."""
    shared = ("--family", "rmsin", "--data.dataset=refcoco", "--out", source.with_suffix(".ckpt"), "--overwrite")
    return call(import_file.main, source, *shared, *words)


def equal(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


LAYOUTS = {
    "one": {},
    "one-data-parallel": {"main": "module."},
    "two": {"two_parts": True},
    "two-bert-data-parallel": {"two_parts": True, "text": "module."},  # as RMSIN's program saves it
    "two-both-data-parallel": {"two_parts": True, "main": "module.", "text": "module."},
    "two-network-data-parallel": {"two_parts": True, "main": "module."},
}


@pytest.mark.parametrize(
    ("variant", "layout"),
    [*(("rmsin", layout) for layout in LAYOUTS), ("lavt", "one"), ("lavt", "two-bert-data-parallel")],
)
def test_there_and_back_to_the_bit(
    variant: str, layout: str, rmsin: dict[str, np.ndarray], lavt: dict[str, np.ndarray], tmp_path: Path
) -> None:
    tensors = rmsin if variant == "rmsin" else lavt
    args = Namespace(mha="", img_size=96, swin_type="base", model="lavt_one", window12=True)
    source = save(tmp_path / "best.pth", {**tensors, **computed()}, args=args, **LAYOUTS[layout])
    done = bring(source, *(HEADS if variant == "rmsin" else HEADS[2:]))
    assert done.returncode == 0, done.stderr
    assert f"{len(tensors)} loaded, 0 missing, 0 unexpected, 0 do not fit, 0 reshaped, 5 ignored" in done.stdout
    config = load_checkpoint(source.with_suffix(".ckpt")).config
    expected = "rmsin" if variant == "rmsin" else "lavt" if LAYOUTS[layout].get("two_parts") else "lavt_one"
    assert (config.model.variant, config.data.img_size, config.model.swin.window_size) == (expected, 96, 4)
    assert config.model.swin.depths == [1, 2, 1, 1] and config.model.text.hidden_size == 16
    for family, part in (("rmsin", "text_encoder."), ("rmsin-two-part", "bert_model.")):
        out = tmp_path / f"{family}.safetensors"
        done = call(export_file.main, source.with_suffix(".ckpt"), "--family", family, "--out", out)
        assert done.returncode == 0, done.stderr
        written = read_weights(out).tensors
        assert any(name.startswith(part) for name in written)
        assert equal({name.replace(part, "text_encoder.", 1): array for name, array in written.items()}, tensors)
    # What was written is read like the file itself.
    assert bring(out, *(HEADS if variant == "rmsin" else HEADS[2:])).returncode == 0


@pytest.mark.parametrize("name", ["rmsin-tiny", "lavt-tiny"])
def test_names_are_those_of_the_reference(name: str, tmp_path: Path) -> None:
    """Every tensor of a recorded state dict comes in, on the grid and with the sizes that its shapes show, and out."""
    if not (REFERENCE / name).is_dir():
        pytest.skip("the reference cases are not beside this checkout")
    tensors = load_case(REFERENCE / name).state_dict()
    source = save(tmp_path / "tiny.pth", tensors, args=Namespace(mha="1-1-1-1", img_size=128))
    heads = ("--model.cim.heads=4", "--model.cim.key_dim=8") if name == "rmsin-tiny" else ()
    done = bring(source, *heads, "--model.text.num_attention_heads=4")
    assert done.returncode == 0, done.stderr
    model = load_checkpoint(source.with_suffix(".ckpt")).config.model
    assert (model.swin.embed_dim, model.swin.num_heads, model.swin.window_size) == (8, [1, 2, 4, 8], 5)
    out = tmp_path / "back.safetensors"
    assert call(export_file.main, source.with_suffix(".ckpt"), "--out", out).returncode == 0
    assert equal(read_weights(out).tensors, tensors)


@pytest.mark.parametrize(("side", "grid"), [(64, 2), (96, 3), (160, 5)])
def test_the_grid_and_the_image_size_come_from_the_file(side: int, grid: int, tmp_path: Path) -> None:
    """As in RemoteSAM's file, whose grid is 28 at 896 pixels where RMSIN has 15 at 480."""
    source = save(tmp_path / "other.pth", network(f"--data.img_size={side}"))
    done = bring(source, *HEADS)
    assert done.returncode == 0, done.stderr
    assert f"cross-scale grid {grid} x {grid}, so images of {side} pixels" in done.stdout
    assert "model.fusion_heads=[1, 1, 1, 1] is assumed" in done.stdout
    config = load_checkpoint(source.with_suffix(".ckpt")).config
    assert (config.model.cim.grid, config.data.img_size) == (grid, side)


def test_a_nearby_image_size_is_taken_from_the_arguments(tmp_path: Path, rmsin: dict[str, np.ndarray]) -> None:
    source = save(tmp_path / "a.pth", rmsin, args=Namespace(img_size=90, mha=None, dataset="refcocog", splitBy="umd"))
    done = bring(source, *HEADS)
    assert done.returncode == 0 and "images of 90 pixels" in done.stdout and "dataset 'refcocog'" in done.stdout
    # Sizes that the grid rules out, and texts of strangers, are not believed.
    for size in (480, -3, True, "96", 10**12):
        save(tmp_path / "a.pth", rmsin, args=Namespace(img_size=size, mha="x-y"))
        done = bring(source, *HEADS)
        assert done.returncode == 0 and "images of 96 pixels" in done.stdout and "is assumed" in done.stdout


@pytest.mark.parametrize(
    ("flag", "theirs", "asked"),
    [
        ("--model.variant=lavt", "'rmsin'", "model.variant='lavt'"),
        ("--swin_type=base", "8", "model.swin.embed_dim=128"),
        ("--model.swin.depths=[1,1,1,1]", "[1, 2, 1, 1]", "model.swin.depths=[1, 1, 1, 1]"),
        ("--model.swin.num_heads=[1,1,1,1]", "[1, 2, 4, 8]", "model.swin.num_heads=[1, 1, 1, 1]"),
        ("--window12", "4", "model.swin.window_size=12"),
        ("--mha=1-1-2-2", "[1, 2, 2, 4]", "model.fusion_heads=[1, 1, 2, 2]"),
        ("--image-size=480", "96", "data.img_size=480"),
        ("--img_size=480", "96", "data.img_size=480"),
        ("--model.cim.grid=5", "3", "model.cim.grid=5"),
        ("--depth=1", "2", "model.text.num_hidden_layers=1"),
        ("--model.text.hidden_size=32", "16", "model.text.hidden_size=32"),
        ("--model.text.intermediate_size=32", "24", "model.text.intermediate_size=32"),
    ],
)
def test_a_flag_that_contradicts_the_file_is_refused_with_both_values(
    flag: str, theirs: str, asked: str, rmsin: dict[str, np.ndarray], tmp_path: Path
) -> None:
    source = save(tmp_path / "best.pth", rmsin, args=Namespace(mha="1-2-2-4", img_size=96))
    done = bring(source, *HEADS, *flag.split())
    assert done.returncode == 2 and not source.with_suffix(".ckpt").exists()
    assert f"best.pth: {asked}" in done.stderr and f"the file says {theirs};" in done.stderr, done.stderr


def test_flags_that_agree_are_taken(rmsin: dict[str, np.ndarray], tmp_path: Path) -> None:
    source = save(tmp_path / "best.pth", rmsin, args=Namespace(mha="1-2-2-4", img_size=96))
    flags = "--mha 1-2-2-4 --img_size 96 --model.swin.window_size=4 --ddp_trained_weights"
    done = bring(source, *HEADS, *flags.split())
    assert done.returncode == 0, done.stderr
    assert load_checkpoint(source.with_suffix(".ckpt")).config.model.fusion_heads == [1, 2, 2, 4]


def test_heads_that_the_file_does_not_say_can_be_given(lavt: dict[str, np.ndarray], tmp_path: Path) -> None:
    done = bring(save(tmp_path / "best.pth", lavt), "--mha", "1-1-2-2", *HEADS[2:])
    assert done.returncode == 0, done.stderr
    assert load_checkpoint(tmp_path / "best.ckpt").config.model.fusion_heads == [1, 1, 2, 2]


def _without(tensors: dict[str, np.ndarray], part: str) -> dict[str, np.ndarray]:
    return {name: array for name, array in tensors.items() if part not in name}


HALF: dict[str, Any] = {
    "a stage without its fusion": (
        lambda t: _without(t, "layers.1.fusion"),
        "missing     backbone.layers.1.hook.fusion",
    ),
    "no decoder norm": (lambda t: _without(t, "classifier.bn2_3.running"), "missing     decoder.levels.1.bn2.moving"),
    "no BERT": (lambda t: _without(t, "text_encoder."), "missing     text_encoder.embeddings"),
    "a tensor more": (lambda t: {**t, "classifier.extra.weight": np.ones(3)}, "unexpected  classifier.extra.weight"),
    "another shape": (
        lambda t: {**t, "classifier.conv1_1.weight": np.ones((3, 32, 1, 1), np.float32)},
        "unfit       decoder.classify.weight: file (3, 32, 1, 1), model (2, 32, 1, 1)",
    ),
    "whole numbers": (
        lambda t: {**t, "classifier.conv1_1.bias": np.ones(2, np.int64)},
        "unfit       decoder.classify.bias: file holds int64, model float32",
    ),
}


@pytest.mark.parametrize("case", HALF)
def test_a_half_matching_file_is_refused_with_the_table(
    case: str, rmsin: dict[str, np.ndarray], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    change, line = HALF[case]
    source = save(tmp_path / "best.pth", change(rmsin))
    with caplog.at_level(logging.WARNING, "mindground"):
        done = bring(source, *SMALL[1:])
    assert done.returncode == 2 and "does not match the model" in done.stderr, done.stderr
    assert line in caplog.text + done.stderr + done.stdout
    assert not source.with_suffix(".ckpt").exists()


def test_a_second_part_that_repeats_names_is_refused(tmp_path: Path) -> None:
    one = {"bert_model.a": np.ones(1, np.float32), "text_encoder.a": np.ones(1, np.float32)}
    source = save(tmp_path / "twice.pth", one, two_parts=True)
    with pytest.raises(WeightsError, match=r"two tensors are called .*bert_model\.a"):
        read_weights(source)


def test_a_stranger_is_refused_before_a_network_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mindground.models.build_model", lambda config: pytest.fail("built"))
    source = save(tmp_path / "resnet.pth", {"conv1.weight": np.ones((2, 3, 7, 7), np.float32)})
    done = bring(source)
    assert done.returncode == 2 and "none of its 1 tensors (first 'conv1.weight')" in done.stderr


def test_training_starts_from_a_task_file_and_compares_it(lavt: dict[str, np.ndarray], tmp_path: Path) -> None:
    source = save(tmp_path / "best.pth", lavt, two_parts=True, text="module.", args=Namespace(mha="1-2-2-4"))
    config = load_config(overrides=[*SMALL, LAVT, "--mha=1-2-2-4"])
    model = build_model(config)
    (report,) = load_pretrained(model, {"model": str(source)}, config=config)
    assert len(report.loaded) == len(lavt) and not report.missing
    assert np.array_equal(parameter_arrays(model)["decoder.classify.bias"], lavt["classifier.conv1_1.bias"])
    for wrong, says in (("--mha=1-1-1-1", "model.fusion_heads"), ("--model.swin.window_size=7", "window_size=7")):
        config = load_config(overrides=[*SMALL, LAVT, "--mha=1-2-2-4", wrong])
        with pytest.raises(WeightsError, match=says):
            load_pretrained(model, {"model": str(source)}, config=config)


# ---- the two encoders alone ----------------------------------------------------------------------------------------


def microsoft(tensors: dict[str, np.ndarray], window: int, prefix: str = "") -> dict[str, np.ndarray]:
    """A classifier whose stages are those of the tiny network, with tables of another window."""
    own = {
        name.removeprefix("backbone."): array
        for name, array in tensors.items()
        if name.startswith("backbone.")
        and not any(word in name for word in ("fusion", "gate", "visual_residual", "cim", "backbone.norm"))
    }
    rng = np.random.default_rng(5)
    for name in own:
        if name.endswith("relative_position_bias_table"):
            own[name] = rng.standard_normal(((2 * window - 1) ** 2, own[name].shape[1])).astype(np.float32)
    tokens = window * window
    own["layers.0.blocks.0.attn.relative_position_index"] = np.zeros((tokens, tokens), np.int64)
    own["layers.0.blocks.0.attn_mask"] = np.zeros((4, tokens, tokens), np.float32)
    own |= {"norm.weight": np.ones(64, np.float32), "head.weight": np.ones((5, 64), np.float32)}
    return {prefix + name: array for name, array in own.items()}


def bert(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Hugging Face's file of the same text encoder."""
    part = {f"bert.{n.removeprefix('text_encoder.')}": a for n, a in tensors.items() if n.startswith("text_encoder.")}
    pooler = {"bert.pooler.dense.weight": np.ones((16, 16), np.float32), "bert.pooler.dense.bias": np.ones(16)}
    return {**part, **pooler, "cls.predictions.bias": np.ones(40, np.float32)}


@pytest.mark.parametrize("prefix", ["", "backbone.", "encoder."])
@pytest.mark.parametrize("window", [4, 7])
def test_both_encoders_start_a_training(
    window: int, prefix: str, rmsin: dict[str, np.ndarray], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    visual = save(tmp_path / "swin.pth", microsoft(rmsin, window, prefix))
    text = write_safetensors_atomic(tmp_path / "model.safetensors", bert(rmsin))
    config = load_config(overrides=list(SMALL))
    model = build_model(config)
    with caplog.at_level(logging.INFO, "mindground"):
        first, second = load_pretrained(model, {"visual": str(visual), "text": str(text)}, config=config)
    tables = [name for name in first.loaded if name.endswith("bias_table")]
    assert len(tables) == 5 and set(first.reshaped) == (set(tables) if window == 7 else set())
    assert len(first.ignored) == 4 and not first.unexpected and not second.unexpected and len(second.ignored) == 3
    assert all(name.startswith(("backbone.norm", "backbone.layers")) for name in first.missing)
    arrays = parameter_arrays(model)
    assert np.array_equal(arrays["backbone.patch_embed.proj.weight"], rmsin["backbone.patch_embed.proj.weight"])
    if window == 7:
        assert "bicubic from window 7 to window 4" in caplog.text


def test_an_encoder_of_another_size_is_refused_with_both_values(rmsin: dict[str, np.ndarray], tmp_path: Path) -> None:
    visual = save(tmp_path / "swin.pth", microsoft(rmsin, 7))
    for change, says in (
        ("--model.swin.embed_dim=16", "embed_dim=16 is set, and the file says 8"),
        ("--model.swin.num_heads=[1,1,1,1]", r"num_heads=\[1, 1, 1, 1\] is set, and the file says \[1, 2, 4, 8\]"),
    ):
        config = load_config(overrides=[*SMALL, change])
        with pytest.raises(WeightsError, match=says):
            load_pretrained(build_model(config), {"visual": str(visual)}, config=config)


def test_an_imported_encoder_serves_as_a_part(rmsin: dict[str, np.ndarray], tmp_path: Path) -> None:
    visual = save(tmp_path / "swin.pth", microsoft(rmsin, 7))
    out = tmp_path / "swin.ckpt"
    words = ("--family", "swin", "--into", "rmsin", "--out", out, *SMALL[1:])
    done = call(import_file.main, visual, *words)
    assert done.returncode == 0, done.stderr
    assert "Swin of no published size: width 8" in done.stdout and "the backbone swin" in done.stdout
    assert all(not name.startswith("backbone.") for name in read_weights(out).tensors)
    config = load_config(overrides=list(SMALL))
    (report,) = load_pretrained(build_model(config), {"visual": str(out)}, config=config, random_parts=True)
    assert len(report.loaded) > 50 and report.missing and set(report.missing) == set(report.expected_missing)
