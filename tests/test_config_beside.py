"""Configurations beside pretrained weights: sizes that no tensor tells, vocabularies, activations."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commands import call
from mindground.cli.weights import import_file
from mindground.config import Config, load_config
from mindground.engine.pretrained import load_pretrained
from mindground.errors import ConfigError, MindGroundError, WeightsError
from mindground.files.safetensors import write_safetensors_atomic
from mindground.models import build_model
from mindground.weights.load import parameter_arrays

# A small BERT with another number of heads, and another epsilon, than are usual here.
BERT = {
    "model_type": "bert",
    "hidden_size": 96,
    "num_attention_heads": 6,
    "num_hidden_layers": 2,
    "intermediate_size": 160,
    "max_position_embeddings": 64,
    "layer_norm_eps": 1e-5,
    "hidden_act": "gelu",
    "vocab_size": 40,
}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{n}" for n in range(35))]
# Everything but the text encoder.
OTHERS = (
    "--data.dataset=jsonl",
    "--data.img_size=64",
    "--model.vit_model=",
    "--model.vit.embed_dim=32",
    "--model.vit.depth=1",
    "--model.vit.num_heads=2",
    "--model.vit.window_block_indexes=[]",
    "--model.generator_heads=4",
    "--model.law_rank=4",
    "--model.up_channels=8",
)


def config_of(*words: object) -> Config:
    return load_config(None, [*OTHERS, *map(str, words)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as it is downloaded: configuration, vocabulary, weights under the published names."""
    folder = tmp_path_factory.mktemp("minilm")
    (folder / "config.json").write_text(json.dumps(BERT))
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    keys = [f"--model.text.{name}={BERT[name]}" for name in BERT if name in _SECTION]
    model = build_model(config_of(*keys, "--data.max_len=8"))
    text = {n: a for n, a in parameter_arrays(model).items() if n.startswith("text_encoder.")}
    write_safetensors_atomic(folder / "model.safetensors", type(model).weight_maps()["bert"].to_theirs(text))
    return folder


_SECTION = ("hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size") + (
    "max_position_embeddings",
    "layer_norm_eps",
    "vocab_size",
)


def test_a_folder_needs_no_flag(folder: Path) -> None:
    config = config_of(f"--train.pretrained.text={folder}", "--model.text.num_hidden_layers=2")
    text = config.model.text
    assert (text.hidden_size, text.num_attention_heads, text.intermediate_size) == (96, 6, 160)
    assert text.layer_norm_eps == 1e-5 and text.max_position_embeddings == 64
    assert Path(config.data.vocab) == folder / "vocab.txt"
    text.vocab_size = len(WORDS)
    (report,) = load_pretrained(build_model(config), config.train.pretrained, config=config)
    assert not report.missing and len(report.loaded) > 20


def test_more_layers_than_the_file_has_are_refused_and_fewer_taken(folder: Path) -> None:
    path = f"--train.pretrained.text={folder}"
    assert config_of(path, "--model.text.num_hidden_layers=1").model.text.num_hidden_layers == 1
    with pytest.raises(ConfigError, match=r"config\.json says model\.text\.num_hidden_layers=2, and 6 is set"):
        config_of(path)  # the published recipe says 6


@pytest.mark.parametrize(
    ("key", "value"), [("num_attention_heads", 12), ("layer_norm_eps", 1e-12), ("hidden_size", 768)]
)
def test_a_contradiction_is_refused_with_both_values(key: str, value: Any, folder: Path) -> None:
    for path in (folder, folder / "model.safetensors"):
        words = (f"--train.pretrained.text={path}", f"--model.text.{key}={value}", "--model.text.num_hidden_layers=2")
        with pytest.raises(ConfigError, match=rf"says model\.text\.{key}={BERT[key]}, and {value} is set"):
            config_of(*words)


def test_another_vocabulary_than_that_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    words = (f"--train.pretrained.text={folder}", "--model.text.num_hidden_layers=2")
    (tmp_path / "other.txt").write_text("\n".join(WORDS[::-1]))
    with pytest.raises(ConfigError, match=r"data\.vocab=.*other\.txt is not the vocabulary .*vocab\.txt"):
        config_of(*words, f"--data.vocab={tmp_path / 'other.txt'}")
    (tmp_path / "same.txt").write_bytes((folder / "vocab.txt").read_bytes())
    assert config_of(*words, f"--data.vocab={tmp_path / 'same.txt'}").data.vocab.endswith("same.txt")


def test_an_imported_file_remembers_its_configuration(folder: Path, tmp_path: Path) -> None:
    """The head count of a backbone that `weights import` wrote is compared as that of the original."""
    out = tmp_path / "bert.ckpt"
    words = ("--family", "bert", "--depth", 2, "--out", out, *OTHERS)
    done = call(import_file.main, folder, *words)
    assert done.returncode == 0, done.stderr
    config = config_of(f"--train.pretrained.text={folder}", "--model.text.num_hidden_layers=2")
    config.model.text.vocab_size = len(WORDS)
    load_pretrained(build_model(config), {"text": str(out)}, config=config)
    config.model.text.num_attention_heads = 3
    with pytest.raises(ConfigError, match=r"bert\.ckpt says model\.text\.num_attention_heads=6, and 3 is set"):
        load_pretrained(build_model(config), {"text": str(out)}, config=config)
    done = call(import_file.main, folder, *words, "--overwrite", "--model.text.num_attention_heads=3")
    assert done.returncode == 2 and "num_attention_heads=6, and 3 is set" in done.stderr


def test_weights_of_others_need_their_vocabulary(folder: Path) -> None:
    config = config_of(f"--train.pretrained.text={folder}", "--model.text.num_hidden_layers=2")
    config.model.text.vocab_size = len(WORDS)
    with pytest.raises(WeightsError, match=r"holds a word table, and data\.vocab is empty"):
        load_pretrained(build_model(config), config.train.pretrained, config=config, built_vocabulary=True)


def test_without_a_configuration_one_line_says_what_nothing_tells(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_of(f"--train.pretrained.text={folder}", "--model.text.num_hidden_layers=2")
    config.model.text.vocab_size = len(WORDS)
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes((folder / "model.safetensors").read_bytes())
    with caplog.at_level(logging.INFO, "mindground"):
        load_pretrained(build_model(config), {"text": str(alone)}, config=config)
    assert sum("no tensor tells the number of heads" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize(
    "content",
    ["[]", "{", "{" * 3000, '{"hidden_size": "x"}', '{"hidden_size": true}', '{"hidden_size": 9999999999}'],
)
def test_damaged_configurations(content: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(ConfigError, match=r"config\.json") as caught:
        config_of(f"--train.pretrained.text={tmp_path}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("entry", [{"hidden_act": "gelu_new"}, {"position_embedding_type": "relative_key"}])
def test_variants_that_are_not_built_are_refused(entry: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**BERT, **entry}))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(ConfigError, match=next(iter(entry))):
        config_of(f"--train.pretrained.text={tmp_path}")


def test_a_cased_vocabulary_is_refused(folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "vocab.txt", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    with pytest.raises(MindGroundError, match="do_lower_case=false"):
        config_of(f"--train.pretrained.text={tmp_path}", "--model.text.num_hidden_layers=2")


def test_configurations_of_something_else_say_nothing(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "vit", "hidden_size": 768, "hidden_act": "gelu_new"}')
    write_safetensors_atomic(tmp_path / "mae.safetensors", {"x": np.zeros(2, np.float32)})
    config = config_of(f"--train.pretrained.visual={tmp_path / 'mae.safetensors'}")
    assert config.model.text.hidden_size == 768
    with pytest.raises(ConfigError, match="holds no weights"):
        config_of(f"--train.pretrained.visual={tmp_path / '..'}")


CLIPS = {
    "laion": ("open_clip_config.json", {"model_cfg": {"vision_cfg": {"width": 768}, "text_cfg": {}}}, "gelu"),
    "openai": ("open_clip_config.json", {"model_cfg": {"quick_gelu": True, "vision_cfg": {}}}, "quick_gelu"),
    "hf": ("config.json", {"vision_config": {}, "text_config": {}}, "quick_gelu"),
    "hf-gelu": (
        "config.json",
        {"vision_config": {"hidden_act": "gelu"}, "text_config": {"hidden_act": "gelu"}},
        "gelu",
    ),
}


@pytest.mark.parametrize("name", CLIPS)
def test_the_activation_of_clip_comes_from_the_configuration_beside_it(name: str, tmp_path: Path) -> None:
    file, content, activation = CLIPS[name]
    (tmp_path / file).write_text(json.dumps(content))
    path = write_safetensors_atomic(tmp_path / "clip.safetensors", {"x": np.zeros(2, np.float32)})
    words = ["--family=clipvg", "--data.dataset=unc", f"--train.pretrained.model={path}"]
    assert load_config(None, words).model.clip.activation == activation
    other = "gelu" if activation == "quick_gelu" else "quick_gelu"
    with pytest.raises(ConfigError, match=rf"says model\.clip\.activation={activation}, and {other} is set"):
        load_config(None, [*words, f"--model.clip.activation={other}"])


def test_clip_with_other_heads_or_two_activations_is_refused(tmp_path: Path) -> None:
    path = write_safetensors_atomic(tmp_path / "clip.safetensors", {"x": np.zeros(2, np.float32)})
    words = ["--family=clipvg", "--data.dataset=unc", f"--train.pretrained.model={path}"]
    for vision in ({"hidden_size": 768, "num_attention_heads": 16}, {"hidden_act": "gelu"}):
        (tmp_path / "config.json").write_text(json.dumps({"vision_config": vision, "text_config": {}}))
        with pytest.raises(ConfigError, match="64 wide|hidden_act"):
            load_config(None, words)
