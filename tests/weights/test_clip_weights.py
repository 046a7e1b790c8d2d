"""CLIP's and CLIP-VG's files in and out: what they say about themselves, second names, head counts, larger images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import pytest

from mindground.backbones import clip_weights
from mindground.cli.weights import export_file, import_file
from mindground.config import load_config
from mindground.engine.checkpoint import load_checkpoint
from mindground.engine.optim import optimizer_from_config
from mindground.engine.pretrained import load_file
from mindground.errors import ConfigError, WeightsError
from mindground.files.weights import read_weights
from mindground.models import build_model

torch = pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT / "tests" / "golden" / "cases"
VOCABULARY = ROOT / "tests" / "golden" / "vocab" / "bpe_simple_vocab_16e6.txt.gz"
ARCHIVE = CASES / "clip-torchscript-archive" / "ViT-tiny.pt"
CHECKPOINT = CASES / "clipvg-checkpoint" / "best_checkpoint.pth"
TINY = [
    *("--family=clipvg", "--dataset=unc", "--model.clip_model=", "--img_size=32", "--max_len=12", "--vl_nheads=4"),
    *("--model.clip.patch_size=8", "--model.clip.vision_width=64", "--model.clip.vision_layers=2"),
    *("--model.clip.vision_heads=1", "--model.clip.vocab_size=60", "--model.clip.context_length=12"),
    *("--model.clip.text_width=64", "--model.clip.text_layers=1", "--model.clip.text_heads=1"),
    *("--model.clip.embed_dim=64", "--vl_dim_feedforward=64", "--vl_enc_layers=1", "--model.max_query_len=12"),
]


def bring(source: Path, family: str, out: Path, *more: str) -> Path:
    import_file.main([str(source), "--family", family, "--out", str(out), *more])
    return out


def take(checkpoint: Path, out: Path, *more: str) -> dict[str, np.ndarray]:
    export_file.main([str(checkpoint), "--out", str(out), *more])
    return read_weights(out).tensors


def upstream(path: Path) -> dict[str, Any]:
    """A checkpoint of upstream as PyTorch reads it."""
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(path, weights_only=True)


def test_an_archive_of_openai(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    out = bring(ARCHIVE, "clip", tmp_path / "clip.ckpt")
    said = capsys.readouterr().out
    assert "image 64 x 2, text 64 x 1, patches of 8 pixels, images of 32" in said
    assert "50 loaded, 0 missing, 0 unexpected" in said and "none of the files of OpenAI" in said
    theirs, ours = read_weights(ARCHIVE).tensors, read_weights(out).tensors
    assert all(array.dtype == np.float32 for array in ours.values())
    assert np.array_equal(ours["visual.conv1.weight"], theirs["visual.conv1.weight"].astype(np.float32))
    digest, name = clip_weights.published_name(ARCHIVE)
    assert name == "" and digest in said
    monkeypatch.setitem(clip_weights.PUBLISHED_FILES, digest, "ViT-B-16.pt")
    larger = bring(ARCHIVE, "clip", tmp_path / "larger.ckpt", "--image-size=64")
    said = capsys.readouterr().out
    assert "this is the ViT-B-16.pt of OpenAI" in said and "4 x 4 patches resized to 8 x 8" in said
    # Both the archive and what was made of it start a training.
    networks = [build_model(load_config(None, TINY)) for _ in range(2)]
    for network, path in zip(networks, (ARCHIVE, out), strict=True):
        load_file(network, str(path))
    values = [network.clip.text.token_embedding.asnumpy() for network in networks]
    assert np.array_equal(values[0], values[1]) and np.array_equal(values[0], theirs["token_embedding.weight"])
    assert "8 x 8 patches resized to 4 x 4" in load_file(networks[0], str(larger)).table()


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_hugging_face_there_and_back(suffix: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    text = {"vocab_size": 60, "max_position_embeddings": 12, "eos_token_id": 59}
    sizes = {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 1}
    vision = {"image_size": 32, "patch_size": 8, "num_hidden_layers": 2}
    settings = transformers.CLIPConfig(
        text_config={**text, **sizes, "num_hidden_layers": 1}, vision_config={**vision, **sizes}, projection_dim=64
    )
    torch.manual_seed(0)
    theirs = transformers.CLIPModel(settings).eval()
    state = {**theirs.state_dict(), "text_model.embeddings.position_ids": torch.arange(12)[None]}
    source = tmp_path / f"model.{suffix}"
    if suffix == "bin":
        torch.save(state, source)
    else:
        from safetensors.torch import save_file

        save_file(state, source)
    out = bring(source, "clip", tmp_path / "towers.ckpt")
    network = build_model(load_config(None, TINY))
    load_file(network, str(out))
    image = np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        pooled = theirs.visual_projection(theirs.vision_model(torch.tensor(image)).pooler_output).numpy()
    assert np.allclose(network.clip.pooled_image(ms.Tensor(image)).asnumpy(), pooled, atol=1e-4)
    back = clip_weights.HUGGINGFACE_MAP.to_theirs(read_weights(out).tensors)
    names = {name for name in state if not name.endswith("position_ids")}
    assert back.keys() == names and all(np.array_equal(back[name], state[name].numpy()) for name in names)


def test_a_checkpoint_of_the_fork(tmp_path: Path, capsys: Any) -> None:
    out = bring(CHECKPOINT, "clipvg", tmp_path / "fork.ckpt")
    said = capsys.readouterr().out
    assert "model.vl_nheads=4, says the file; no shape can verify it" in said
    assert "model.box_code=dior_legacy" in said and "49 ignored" in said and "second name" in said
    assert "trained with: model 'ViT-B/16', imsize '32', dataset 'dior_rs'" in said and "extract_layers" not in said
    loaded = load_checkpoint(out)
    data, model = loaded.config.data, loaded.config.model
    assert (data.dataset, data.img_size, data.max_len, data.transform.name) == ("dior_rsvg", 32, 12, "transvg")
    assert (model.vl_nheads, model.box_code, model.clip_model, model.blocks()) == (4, "dior_legacy", "", [0, 1])
    # Boxes in the fork's code are decoded and never trained.
    with pytest.raises(ConfigError, match="box_code=cxcywh"):
        optimizer_from_config(loaded.model, loaded.config.train)
    # Out again: the same tensors under upstream's names, second names left out.
    theirs = read_weights(CHECKPOINT).tensors
    first = {name: array for name, array in theirs.items() if "_encoder_clip_vg." not in name}
    back = take(out, tmp_path / "back.safetensors")
    assert back.keys() == first.keys() and all(np.array_equal(back[name], first[name]) for name in first)
    towers = take(out, tmp_path / "openai.safetensors", "--family=clip")
    assert all(np.array_equal(towers[name], theirs[f"clip.{name}"]) for name in towers) and len(towers) == 50
    assert "vision_model.pre_layrnorm.weight" in take(out, tmp_path / "hf.safetensors", "--family=clip-huggingface")


def test_second_names_must_agree(tmp_path: Path) -> None:
    whole = upstream(CHECKPOINT)
    name = "image_encoder_clip_vg.ln_pre.weight"
    whole["model"][name] = whole["model"][name] + 1
    torch.save(whole, tmp_path / "changed.pth")
    with pytest.raises(WeightsError, match=f"{name}.*clip.visual.ln_pre.weight.*differ"):
        bring(tmp_path / "changed.pth", "clipvg", tmp_path / "x.ckpt")
    assert not (tmp_path / "x.ckpt").exists()


def test_a_wrong_head_count_is_named(tmp_path: Path, capsys: Any) -> None:
    out = bring(CHECKPOINT, "clipvg", tmp_path / "asked.ckpt", "--model.vl_nheads=2")
    assert "vl_nheads=2 was asked for, and the file says 4" in capsys.readouterr().out
    assert load_checkpoint(out).config.model.vl_nheads == 2
    bare = tmp_path / "bare.pth"
    torch.save({"model": upstream(CHECKPOINT)["model"]}, bare)
    out = bring(bare, "clipvg", tmp_path / "bare.ckpt")
    assert "model.vl_nheads=8 is assumed" in capsys.readouterr().out
    model = load_checkpoint(out).config.model
    assert (model.vl_nheads, model.box_code) == (8, "cxcywh")
    # In training the wrong number would go unnoticed; it is refused where the file says the right one.
    config = load_config(None, [*TINY, "--vl_nheads=8"])
    with pytest.raises(WeightsError, match="set --model.vl_nheads=4"):
        load_file(build_model(config), str(CHECKPOINT), config)
    load_file(build_model(config), str(bare), config)
    config = load_config(None, TINY)
    load_file(build_model(config), str(CHECKPOINT), config)


@pytest.mark.parametrize(("word", "says"), [("--img_size=33", "use 32"), ("--max_len=13", "the 12 words")])
def test_sizes_that_do_not_fit_the_network(word: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        build_model(load_config(None, [*TINY, word]))


def test_a_vocabulary_of_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="49408 entries, the word table of the file 60"):
        bring(CHECKPOINT, "clipvg", tmp_path / "x.ckpt", f"--data.vocab={VOCABULARY}")


def test_larger_images_and_a_prediction(tmp_path: Path, capsys: Any) -> None:
    from mindground.inference.predictor import Predictor

    words = [w for w in TINY if not w.startswith(("--max_len", "--model.max_query_len"))]
    words = [
        w.replace("vocab_size=60", "vocab_size=49408").replace("context_length=12", "context_length=77") for w in words
    ]
    network = build_model(load_config(None, words))
    arrays = {name: p.asnumpy() for name, p in network.parameters_and_names()}
    state = {k: torch.tensor(v) for k, v in type(network).weight_maps()["clipvg"].to_theirs(arrays).items()}
    args = argparse.Namespace(vl_nheads=4, model="ViT-B/16", imsize=32, dataset="referit", vl_dropout=0.0)
    torch.save({"model": state, "args": args}, tmp_path / "best_checkpoint.pth")
    more = (f"--data.vocab={VOCABULARY}", "--image-size=48")
    out = bring(tmp_path / "best_checkpoint.pth", "clipvg", tmp_path / "large.ckpt", *more)
    said = capsys.readouterr().out
    assert "reshaped    vl_pos_embed: positions of 4 x 4 patches resized to 6 x 6" in said and "2 reshaped" in said
    loaded = load_checkpoint(out)
    assert (loaded.config.data.img_size, loaded.config.data.dataset) == (48, "referit")
    kept = loaded.model.vl_pos_embed.asnumpy()
    assert kept.shape[0] == 79 + 36 and np.array_equal(kept[:79], arrays["vl_pos_embed"][:79])
    predictor = Predictor.load(out, mode="PYNATIVE")
    box = predictor(np.zeros((30, 50, 3), np.uint8), "the ship in the harbour").boxes_xyxy[0]
    assert np.isfinite(box).all() and (box >= 0).all() and box[2] <= 50 and box[3] <= 30
