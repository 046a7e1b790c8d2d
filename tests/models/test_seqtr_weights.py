"""Files of SeqTR and MSAM in and out, word vectors in a network, and what a fine-tuning leaves out."""

from __future__ import annotations

import logging
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from commands import Done, call
from mindground.backbones.darknet_weights import DARKNET_MAP, network_order
from mindground.cli.weights import export_file, import_file
from mindground.config import load_config
from mindground.engine.checkpoint import load_checkpoint, save_checkpoint
from mindground.engine.description import read_description
from mindground.engine.pretrained import load_pretrained
from mindground.engine.vocabulary import choose_vocabulary
from mindground.errors import ConfigError, WeightsError
from mindground.files.weights import read_weights
from mindground.models import build_model
from mindground.models.seqtr.weights import UPSTREAM_MAP
from mindground.text import build_words
from mindground.weights.load import parameter_arrays, parameter_shapes

WORDS = ["PAD", "UNK", "CLS", "the", "red", "ship"]
SMALL = (
    "--family=seqtr",
    "--model.visual.darknet.first=2",
    "--model.visual.darknet.blocks=[1,1,1,1,1,1]",
    "--model.visual.darknet.freeze_layer=2",
    "--model.text.gru.embedding=4",
    "--model.text.gru.hidden=32",
    "--model.text.gru.freeze_embedding=true",
    "--model.head.width=32",
    "--model.head.heads=1",
    "--model.head.hidden=16",
    "--model.head.encoder_layers=1",
    "--model.head.decoder_layers=1",
    "--model.head.num_bin=12",
    "--model.head.num_ray=5",
    "--train.random_encoders=false",
)
VOCABULARY = f"--model.text.vocab_size={len(WORDS)}"
MSAM = (
    "--model.text.type=bert",
    "--model.text.bert.hidden_size=64",
    "--model.text.bert.num_hidden_layers=2",
    "--model.text.bert.num_attention_heads=1",
    "--model.text.bert.intermediate_size=16",
    "--model.text.bert.max_position_embeddings=32",
    "--model.fusion.type=kernels",
    "--model.fusion.head_dim=8",
    "--model.fusion.window=3",
    "--data.tokenizer=wordpiece",
)
TASKS = {"box": 5, "contour": 11, "multi": 16}


def config(*words: str) -> Any:
    return load_config(overrides=[*SMALL, VOCABULARY, *words])


def tensors(seed: int, *words: str) -> dict[str, np.ndarray]:
    """Random tensors of the small network under upstream's names."""
    rng = np.random.default_rng(seed)
    shapes = parameter_shapes(build_model(config(*words)))
    ours = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in sorted(shapes.items())}
    return UPSTREAM_MAP.to_theirs(ours)


def saved(path: Path, state: dict[str, np.ndarray], averages: dict[str, np.ndarray], prefix: str = "") -> Path:
    """A checkpoint as upstream's program writes it."""

    def given(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
        held: dict[str, Any] = {prefix + name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        return held | {f"{prefix}vis_enc.darknet.0.bn.num_batches_tracked": torch.tensor(3)}

    content: dict[str, Any] = {"epoch": 3, "lr": 5e-4, "d_acc": 81.2, "optimizer": {"state": {0: torch.zeros(3)}}}
    content |= {"state_dict": given(state), "scheduler": {"last_epoch": 3}}
    if averages:
        content["ema_state_dict"] = given(averages)
    torch.save(content, path)
    return path


def vocabulary(folder: Path) -> Path:
    path = folder / "token_to_ix.pkl"
    path.write_bytes(pickle.dumps({word: place for place, word in enumerate(WORDS)}))
    return path


def bring(source: Path, *words: str) -> Done:
    """`weights import`, beside the source."""
    out = source.with_suffix(".ckpt")
    return call(import_file.main, source, "--family", "seqtr", "--out", out, "--overwrite", *words)


def equal(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("task", TASKS)
def test_plain_and_averaged_weights_there_and_back_to_the_bit(task: str, tmp_path: Path) -> None:
    plain, averages = tensors(1, f"--model.task={task}"), tensors(2, f"--model.task={task}")
    source = saved(tmp_path / "det_best.pth", plain, averages, "module." if task == "box" else "")
    vocab = f"--data.vocab={vocabulary(tmp_path)}"
    for option, wanted in (([], plain), (["--averages"], averages)):
        done = bring(source, vocab, *option)
        assert done.returncode == 0, done.stderr
        assert f"{len(plain)} loaded, 0 missing, 0 unexpected, 0 do not fit" in done.stdout
        loaded = load_checkpoint(source.with_suffix(".ckpt"))
        model = loaded.config.model
        assert (model.task, model.head.num_bin, len(loaded.tokenizer.tokens)) == (task, 12, 6)  # type: ignore[union-attr]
        assert model.visual.darknet.blocks == [1] * 6 and model.fusion.direction == "bottom_up"
        assert len(parameter_arrays(loaded.model)["sequence_head.places"]) == TASKS[task]
        out = tmp_path / "back.safetensors"
        done = call(export_file.main, source.with_suffix(".ckpt"), "--out", out, "--overwrite")
        assert done.returncode == 0 and equal(read_weights(out).tensors, wanted)


def test_averages_that_are_not_there(tmp_path: Path) -> None:
    source = saved(tmp_path / "x.pth", tensors(1), {})
    done = bring(source, "--averages")
    assert done.returncode != 0 and "holds no averaged weights" in done.stderr
    model = build_model(config())
    ckpt = save_checkpoint(tmp_path / "last.ckpt", model, config(), None, {})
    done = call(export_file.main, ckpt, "--averages", "--out", tmp_path / "x.safetensors")
    assert done.returncode != 0 and "holds no averages beside its weights" in done.stderr
    averages = {f"ema/{name}": array + 1 for name, array in parameter_arrays(model).items()}
    save_checkpoint(ckpt, model, config(), None, {}, extra=averages)
    done = call(export_file.main, ckpt, "--averages", "--out", tmp_path / "x.safetensors")
    assert done.returncode == 0, done.stderr
    wanted = UPSTREAM_MAP.to_theirs({name.removeprefix("ema/"): array for name, array in averages.items()})
    assert equal(read_weights(tmp_path / "x.safetensors").tensors, wanted)


def test_a_fusion_of_unknown_names_is_listed_and_needs_partial(tmp_path: Path) -> None:
    known = tensors(3, *MSAM)
    strange = {name.replace("fusion.stages.", "fusion.kernel_squeeze."): array for name, array in known.items()}
    foreign = sum(name not in known for name in strange)
    source = saved(tmp_path / "msam.pth", strange, {})
    words = ("--model.fusion.head_dim=8", "--model.fusion.window=3", "--model.text.bert.num_attention_heads=1")
    done = bring(source, *words)
    assert done.returncode != 0 and "fusion.kernel_squeeze.0" in done.stderr + done.stdout
    done = bring(source, "--partial", *words)
    assert done.returncode == 0, done.stderr
    assert f"{len(known) - foreign} loaded, {foreign} missing, {foreign} unexpected" in done.stdout
    assert f"{foreign} of its tensors are random: train it" in done.stdout
    whole = saved(tmp_path / "whole.pth", known, {})
    done = bring(whole, "--model.text.bert.num_attention_heads=1")
    assert done.returncode == 0, done.stderr
    fusion = load_checkpoint(whole.with_suffix(".ckpt")).config.model.fusion
    assert (fusion.type, fusion.mode, fusion.aggregate) == ("kernels", "mixed", "kc")
    assert (fusion.depths, fusion.window, fusion.head_dim) == ([2, 2, 2], 3, 8)


def vectors(folder: Path, *, left_out: str = "red") -> tuple[Path, dict[str, list[float]]]:
    table = {word: [float(place), 0.5, -1.0, place / 7] for place, word in enumerate(WORDS) if word != left_out}
    path = folder / "glove.txt"
    path.write_text("".join(f"{word} {' '.join(map(str, row))}\n" for word, row in table.items()))
    return path, table


def test_word_vectors_fill_the_rows_of_their_words(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, table = vectors(tmp_path)
    model = build_model(config("--train.random_encoders=true"))
    tokenizer = build_words(["the red ship"])
    with caplog.at_level("INFO", "mindground"):
        load_pretrained(model, {"words": str(path)}, random_parts=True, tokenizer=tokenizer)
    rows = parameter_arrays(model)["text_encoder.words.embedding_table"]
    for place, word in enumerate(WORDS):
        np.testing.assert_array_equal(rows[place], np.asarray(table.get(word, [0, 0, 0, 0]), np.float32))
    assert "5 of 6 words; zeros for red" in caplog.text
    path.write_text("bateau 1 2 3 4\n")
    with pytest.raises(ConfigError, match="another language or spelling"):
        load_pretrained(model, {"words": str(path)}, random_parts=True, tokenizer=tokenizer)


def test_a_frozen_table_without_vectors_is_refused(tmp_path: Path) -> None:
    weights = darknet(tmp_path)
    with pytest.raises(ConfigError, match=r"text_encoder\.words has no weights: give --train\.pretrained\.words"):
        load_pretrained(build_model(config()), {"visual": str(weights)}, config=config())
    path, _ = vectors(tmp_path)
    files = {"words": str(path), "visual": str(weights)}
    load_pretrained(build_model(config()), files, config=config(), tokenizer=build_words(["the red ship"]))
    bert = config(*MSAM, "--train.random_encoders=true")
    with pytest.raises(ConfigError, match="this network has no table of words"):
        load_pretrained(build_model(bert), {"words": str(path)}, random_parts=True, tokenizer=None)


def darknet(folder: Path, modules: int = 14) -> Path:
    """A `.weights` file of the small network's first modules."""
    shapes = parameter_shapes(build_model(config()))
    place = DARKNET_MAP.with_prefix(ours="visual_encoder.")
    leaves = ("bn.beta", "bn.gamma", "bn.moving_mean", "bn.moving_variance", "conv.weight")
    count = sum(
        int(np.prod(shapes[name + leaf]))
        for module, name in network_order(shapes, place.prefix)
        if module < modules
        for leaf in leaves
    )
    values = np.abs(np.random.default_rng(0).standard_normal(count)).astype("<f4") + 0.1
    path = folder / f"darknet{modules}.weights"
    path.write_bytes(struct.pack("<3iq", 0, 2, 0, 7) + values.tobytes())
    return path


def test_a_darknet_file_may_end_only_before_layers_that_learn(tmp_path: Path) -> None:
    path, _ = vectors(tmp_path)
    tokenizer = build_words(["the red ship"])

    def load(modules: int, **more: Any) -> None:
        files = {"words": str(path), "visual": str(darknet(tmp_path, modules))}
        load_pretrained(build_model(config()), files, tokenizer=tokenizer, **more)

    load(14)
    load(12)  # modules 12 and 13 learn
    with pytest.raises(WeightsError, match=r"ends before this layer.* 2 of them do not learn .*layers\.11\.") as caught:
        load(11)
    assert "\n" not in str(caught.value)
    load(11, random_parts=True)


SENTENCES = ["a blue boat", "the boat"]


@pytest.mark.parametrize("kind", ["ours", "theirs"])
def test_a_fine_tuning_starts_words_and_positions_anew(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pretrained = build_model(config("--train.random_encoders=true"))
    before = parameter_arrays(pretrained)
    if kind == "ours":
        tokenizer = build_words(["the red ship"])
        file = save_checkpoint(tmp_path / "pre.ckpt", pretrained, config(), tokenizer, {})
    else:
        file = saved(tmp_path / "pre.pth", UPSTREAM_MAP.to_theirs(before), {})
    glove = tmp_path / "glove.txt"
    glove.write_text("a 1 2 3 4\nblue 5 6 7 8\n")
    files = [f"--train.pretrained.model={file}", f"--train.pretrained.words={glove}"]
    words = [*SMALL, *files, "--train.fresh=[words,positions,tasks]", "--model.task=multi", "--data.use_mask=true"]
    fine = load_config(overrides=words)
    chosen = choose_vocabulary(fine, SENTENCES, None)
    assert list(chosen.tokenizer.tokens) == ["PAD", "UNK", "CLS", "a", "blue", "boat", "the"] and chosen.built  # type: ignore[attr-defined]
    fine.model.text.vocab_size = chosen.tokenizer.vocab_size
    model = build_model(fine)
    start = parameter_arrays(model)
    with caplog.at_level(logging.INFO, "mindground"):
        load_pretrained(
            model, fine.train.pretrained, fresh=fine.train.fresh, config=fine, built_vocabulary=chosen.built,
            tokenizer=chosen.tokenizer,
        )  # fmt: skip
    after = parameter_arrays(model)
    np.testing.assert_array_equal(after["text_encoder.words.embedding_table"][3:5], [[1, 2, 3, 4], [5, 6, 7, 8]])
    assert not after["text_encoder.words.embedding_table"][[0, 1, 2, 5, 6]].any()
    for name in ("sequence_head.places", "sequence_head.tasks"):
        np.testing.assert_array_equal(after[name], start[name])
    rest = set(before) - {"text_encoder.words.embedding_table", "sequence_head.places"}
    assert all(np.array_equal(after[name], before[name]) for name in rest)
    for said in (
        "text_encoder.words.embedding_table: left out by train.fresh",
        "sequence_head.places: of (5, 32), left out by train.fresh",
    ):
        assert said in caplog.text
    # Without it, a checkpoint of ours brings its vocabulary, and other positions do not fit.
    plain = load_config(overrides=[*SMALL, files[0], "--model.task=multi"])
    if kind == "ours":
        assert choose_vocabulary(plain, SENTENCES, None).source == str(file)
        assert read_description(file).tokenizer is not None
    plain.model.text.vocab_size = len(WORDS)
    with pytest.raises(WeightsError):
        load_pretrained(build_model(plain), plain.train.pretrained, config=plain)
    with pytest.raises(ConfigError, match=r"train\.fresh names 'word'; the parts of Seqtr are words, positions, tasks"):
        load_pretrained(model, {}, fresh=["word"])
