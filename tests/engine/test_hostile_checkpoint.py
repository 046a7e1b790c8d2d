"""Checkpoints whose description was damaged or made to do harm: one sentence, and no memory is taken for it."""

from __future__ import annotations

import base64
import copy
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindground.config import from_dict, load_config, to_dict
from mindground.config.registry import family
from mindground.engine import checkpoint as module
from mindground.engine.checkpoint import load_checkpoint, read_checkpoint, save_checkpoint
from mindground.engine.pretrained import load_file
from mindground.errors import CheckpointError, ConfigError
from mindground.files.safetensors import write_safetensors_atomic
from mindground.models import build_model
from mindground.nn import init
from mindground.text import build_wordpiece
from mindground.weights.load import parameter_arrays

SMALL = {
    "family": "vglaw",
    "model": {
        "vit": {"patch_size": 16, "embed_dim": 32, "depth": 1, "num_heads": 2, "window_block_indexes": []},
        "text": {
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "max_position_embeddings": 16,
        },
        "law_rank": 4,
        "generator_heads": 2,
        "up_channels": 8,
    },
    "data": {"img_size": 64, "max_len": 8},
}
Tensors = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Tensors]:
    """Description and tensors of a small checkpoint."""
    tokenizer = build_wordpiece(["the red ship", "a small plane"])
    config = from_dict(SMALL)
    config.model.text.vocab_size = tokenizer.vocab_size
    path = tmp_path_factory.mktemp("good") / "good.ckpt"
    save_checkpoint(path, build_model(config), config, tokenizer, {"step": 1})
    contents = read_checkpoint(path)
    payload = {"schema": contents.schema, "config": contents.config, "tokenizer": contents.tokenizer, "state": {}}
    return payload, contents.tensors


def written(path: Path, payload: dict[str, Any], tensors: Tensors) -> Path:
    return write_safetensors_atomic(path, tensors, {"mindground": json.dumps(payload)})


def merges(data: bytes) -> dict[str, Any]:
    return {"kind": "clip_bpe", "repair": False, "merges": base64.b64encode(data).decode()}


def words(**entries: Any) -> dict[str, Any]:
    usual = {"kind": "wordpiece", "tokens": ["[PAD]", "[UNK]", "[CLS]", "[SEP]"], "lower": True, "keep_end": True}
    return {**usual, "clean": True, **entries}


TOKENIZERS = {
    "kind is a list": words(kind=["wordpiece"]),
    "kind is a table": words(kind={}),
    "kind unknown": words(kind="x" * 10_000),
    "tokens a number": words(tokens=7),
    "tokens numbers": words(tokens=[1, 2]),
    "tokens lists": words(tokens=[["a"]]),
    "tokens text": words(tokens="words"),
    "half a character": words(tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "\ud800"]),
    "no special tokens": words(tokens=["a"]),
    "a token twice": words(tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "a"]),
    "switch is text": words(lower="yes"),
    "grows is a number": words(grows=3),
    "merges a number": {"kind": "clip_bpe", "repair": False, "merges": 5},
    "merges no base64": {"kind": "clip_bpe", "repair": False, "merges": "?????"},
    "merges no zlib": merges(b"nothing"),
    "merges cut off": merges(zlib.compress(b"a b\n" * 1000)[:-8]),
    "merges of one word": merges(zlib.compress(b"word")),
    "merges no text": merges(zlib.compress(b"\xff\xfe \xff")),
    "merges of strange symbols": merges(zlib.compress(b"ab cd")),
    "merges that unpack to a gigabyte": merges(zlib.compress(bytes(1 << 30), 9)),
    "merges missing": {"kind": "clip_bpe", "repair": False},
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokenisers(name: str, good: tuple[dict[str, Any], Tensors], tmp_path: Path) -> None:
    payload, tensors = good
    path = written(tmp_path / "a.ckpt", {**payload, "tokenizer": TOKENIZERS[name]}, tensors)
    with pytest.raises(CheckpointError, match="tokeniser") as caught:
        load_checkpoint(path)
    assert len(str(caught.value)) < 600 and "\n" not in str(caught.value)


SIZES = {
    "model.vit.embed_dim": (100_000, 0, 33, 16_384),
    "model.vit.num_heads": (0, -1, 3),
    "model.vit.patch_size": (0, -16),
    "model.vit.depth": (0, 10**9, 256),
    "model.vit.mlp_ratio": (0.0, 1e9, 60.0),
    "model.vit.window_size": (0,),
    "model.vit.pretrain_img_size": (0, 1_000_000, 8192),
    "model.text.vocab_size": (10**9, 4_000_000, -1, 5),
    "model.text.hidden_size": (0, 10**9, 16_384),
    "model.text.num_attention_heads": (0,),
    "model.text.max_position_embeddings": (0, 10**9, 65_536),
    "model.text.intermediate_size": (10**9, 100_000),
    "model.up_channels": (10**9, 16_384, 0),
    "model.law_rank": (10**9, 0),
    "model.groups": ([10**9], [-1], [1, 1]),
    "data.img_size": (1_000_000, 0, 8192),
    "data.max_len": (10**9, 0),
    "eval.batch_size": (10**9,),
    "data.num_workers": (10**9,),
}


def _set(tree: dict[str, Any], key: str, value: Any) -> None:
    *path, leaf = key.split(".")
    for part in path:
        tree = tree[part]
    tree[leaf] = value


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in SIZES.items() for value in values])
def test_sizes_that_are_not_those_of_the_weights(
    key: str, value: Any, good: tuple[dict[str, Any], Tensors], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No array is made that is larger than a few times the file."""
    payload, tensors = copy.deepcopy(good[0]), good[1]
    _set(payload["config"], key, value)
    path = written(tmp_path / "a.ckpt", payload, tensors)
    largest = [0]
    make = init.msinit.initializer

    def watched(kind: Any, shape: Any = None, *rest: Any) -> Any:
        largest[0] = max(largest[0], int(np.prod(shape)))
        return make(kind, shape, *rest)

    monkeypatch.setattr(init.msinit, "initializer", watched)
    with pytest.raises(CheckpointError, match=r"a\.ckpt") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value) and largest[0] < 5_000_000


def test_more_entries_than_rows(good: tuple[dict[str, Any], Tensors], tmp_path: Path) -> None:
    payload, tensors = copy.deepcopy(good[0]), good[1]
    payload["tokenizer"]["tokens"].append("zeppelin")
    with pytest.raises(CheckpointError, match=r"entries and the word table \d+ rows.*'zeppelin'"):
        load_checkpoint(written(tmp_path / "a.ckpt", payload, tensors))


DESCRIPTIONS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a list": lambda good: [1, 2],
    "a number": lambda good: 5,
    "schema true": lambda good: {**good, "schema": True},
    "section is a list": lambda good: {**good, "config": {**good["config"], "model": [1]}},
    "section is text": lambda good: {**good, "config": {**good["config"], "data": "x" * 10_000}},
    "family is a list": lambda good: {**good, "config": {**good["config"], "family": [1]}},
    "family is unknown": lambda good: {**good, "config": {**good["config"], "family": "zzz"}},
    "recipe is a list": lambda good: {**good, "config": {**good["config"], "data": {"transform": [1]}}},
    "unknown key": lambda good: {**good, "config": {**good["config"], "model": {"a" * 5000: 1}}},
    "rate without end": lambda good: {**good, "config": {**good["config"], "train": {"lr": float("inf")}}},
    "count without end": lambda good: {**good, "state": {"step": 10**300}},
    "mean of a million": lambda good: {**good, "config": {**good["config"], "data": {"mean": [0.5] * 1_000_000}}},
}


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_descriptions(name: str, good: tuple[dict[str, Any], Tensors], tmp_path: Path) -> None:
    path = written(tmp_path / "a.ckpt", DESCRIPTIONS[name](copy.deepcopy(good[0])), good[1])
    with pytest.raises(CheckpointError, match=r"a\.ckpt") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize("depth", [300, 900, 100_000])
@pytest.mark.parametrize("where", ["config", "state", "tokenizer"])
def test_nested_descriptions(where: str, depth: int, good: tuple[dict[str, Any], Tensors], tmp_path: Path) -> None:
    deep = '{"a":' * depth + "1" + "}" * depth
    text = json.dumps({**good[0], where: "HERE"}).replace('"HERE"', deep)
    path = write_safetensors_atomic(tmp_path / "a.ckpt", good[1], {"mindground": text})
    if where == "state" and depth < 1000:
        assert load_checkpoint(path).model is not None, "what nobody reads does no harm"
        return
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


def test_numbers_of_thousands_of_digits(good: tuple[dict[str, Any], Tensors], tmp_path: Path) -> None:
    text = json.dumps({**good[0], "state": {"step": 7}}).replace('"step": 7', '"step": ' + "9" * 5000)
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(write_safetensors_atomic(tmp_path / "a.ckpt", good[1], {"mindground": text}))


def test_tensors_of_a_type_that_numpy_lacks(good: tuple[dict[str, Any], Tensors], tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    tensor = {"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]}
    header = json.dumps({"__metadata__": {"mindground": json.dumps(good[0])}, "model/x": tensor}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(CheckpointError, match="of type F8_E4M3"):
        read_checkpoint(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_named(
    value: float, good: tuple[dict[str, Any], Tensors], tmp_path: Path
) -> None:
    tensors = {name: array.copy() for name, array in good[1].items()}
    name = "text_encoder.embeddings.position_embeddings.embedding_table"
    tensors[f"model/{name}"][0, :3] = value
    path = written(tmp_path / "a.ckpt", good[0], tensors)
    with pytest.raises(
        CheckpointError, match=rf"3 of the \d+ numbers of '{name}' are NaN or infinite.*lower train\.lr"
    ):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match=name):
        load_file(build_model(module.stored_config(read_checkpoint(path))), str(path))


def test_a_whole_checkpoint_is_read_all_the_same(good: tuple[dict[str, Any], Tensors], tmp_path: Path) -> None:
    loaded = load_checkpoint(written(tmp_path / "a.ckpt", *good))
    arrays = parameter_arrays(loaded.model)
    assert all(np.array_equal(array, good[1][f"model/{name}"]) for name, array in arrays.items())


@pytest.mark.parametrize("name", ["vglaw", "clipvg"])
def test_every_size_of_a_family_has_an_upper_and_a_lower_end(name: str) -> None:
    """Whole numbers below `model`: none may be negative, and none a billion."""
    tree = to_dict(load_config(None, [f"--family={name}"]))
    keys = list(_whole_numbers(tree["model"], "model"))
    assert len(keys) >= 15
    for key in keys:
        for value in (-1, 10**9):
            changed = copy.deepcopy(tree)
            _set(changed, key, value)
            with pytest.raises(ConfigError, match=key.rsplit(".", 1)[1]):
                from_dict(changed)
    assert family(name).name == name


def _whole_numbers(tree: dict[str, Any], prefix: str) -> Any:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _whole_numbers(value, f"{prefix}.{name}")
        elif isinstance(value, int) and not isinstance(value, bool):
            yield f"{prefix}.{name}"
