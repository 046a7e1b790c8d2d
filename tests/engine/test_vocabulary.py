"""Weights and vocabulary belong together: starting from a checkpoint, continuing, and ids without a row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commands import Done, call
from mindground.cli import predict, train
from mindground.data.formats.jsonl import write_jsonl
from mindground.engine.checkpoint import Contents, check_vocabulary, read_checkpoint
from mindground.errors import CheckpointError
from mindground.text import ClipTokenizer, WordPieceTokenizer, build_wordpiece
from mindground.weights.words import word_tables

WORDS = ("red ship", "blue ship", "green car", "red car", "old pier", "new pier", "dark tank", "pale tank")
TABLE = "text_encoder.embeddings.word_embeddings.embedding_table"
CONFIG = """
family: vglaw
model:
  vit: {patch_size: 16, embed_dim: 32, depth: 1, num_heads: 2, window_block_indexes: [], pretrain_img_size: 64}
  text: {hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 64, start_gain: 1.0}
  law_rank: 4
  generator_heads: 2
  up_channels: 8
data: {dataset: jsonl, img_size: 64, max_len: 8, num_workers: 0, use_mask: false, eval_splits: [val]}
train: {batch_size: 8, max_steps: 6, warmup_steps: 2, lr: 0.003, weight_decay: 0.01, random_encoders: true,
        lr_factors: {visual: 1.0, lang: 1.0}, experiment_name: first}
device: {device_target: CPU}
"""


def write_set(folder: Path, words: Sequence[str], extra: str = "") -> Path:
    """Sixteen samples to train, eight to score; `extra` stands behind the training sentences."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(folder / f"{number}.png")
    for split, count in (("train", 2), ("val", 1)):
        records = [
            {
                "image": f"{index % 4}.png",
                "sentence": f"the {word}{extra if split == 'train' else ''}",
                "box": [2 + 5 * index, 4, 20 + 5 * index, 30],
            }
            for _ in range(count)
            for index, word in enumerate(words)
        ]
        write_jsonl(folder / f"{split}.jsonl", records)
    return folder


def run(folder: Path, *words: object) -> Done:
    done = call(train.main, *words, "--train.output_dir=runs", cwd=folder)
    assert "Traceback" not in done.stderr
    return done


def metrics(run_folder: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((run_folder / "metrics.json").read_text())
    found.pop("step")
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained run."""
    folder = tmp_path_factory.mktemp("vocabulary")
    (folder / "small.yaml").write_text(CONFIG)
    write_set(folder / "data", WORDS)
    done = run(folder, "--config=small.yaml", "--data.root=data")
    assert done.returncode == 0, done.stderr
    return folder


def table(contents: Contents) -> np.ndarray:
    return contents.part("model")[TABLE]


def test_starting_from_a_checkpoint_keeps_its_words_in_their_rows(trained: Path) -> None:
    """At learning rate 0, with new sentences in another order, the scores are those of the checkpoint."""
    write_set(trained / "more", WORDS, " beside a zebra")
    lines = (trained / "more" / "train.jsonl").read_text().splitlines()
    (trained / "more" / "train.jsonl").write_text("\n".join(lines[::-1]) + "\n")
    best = trained / "runs" / "first" / "best.ckpt"
    done = run(trained, "--from", best, "--data.root=more", "--train.lr=0", "--train.max_steps=2")
    assert done.returncode == 0, done.stderr
    before, after = read_checkpoint(best), read_checkpoint(trained / "runs" / "first_finetuned" / "last.ckpt")
    old, new = before.tokenizer, after.tokenizer
    assert old is not None and new is not None
    kept = len(old["tokens"])
    assert new["tokens"][:kept] == old["tokens"] and sorted(new["tokens"][kept:]) == ["beside", "zebra"]
    assert f"{kept} entries kept, 2 appended as new rows of the word table" in done.stderr
    assert np.array_equal(table(after)[:kept], table(before)) and len(table(after)) == kept + 2
    assert table(after)[kept:].std() > 0.005, "new rows start as rows of a new table do"
    assert metrics(trained / "runs" / "first_finetuned") == metrics(best.parent)


def test_a_checkpoint_named_as_pretrained_brings_its_vocabulary(trained: Path) -> None:
    best = trained / "runs" / "first" / "best.ckpt"
    words = (
        "--config=small.yaml",
        "--data.root=more",
        "--train.lr=0",
        "--train.max_steps=1",
        f"--pretrained_path={best}",
    )
    write_set(trained / "more", WORDS[::-1][:6] + WORDS[:2], " beside a zebra")
    done = run(trained, *words, f"--pretrained_path={best}", "--train.experiment_name=second")
    assert done.returncode == 0, done.stderr
    after = read_checkpoint(trained / "runs" / "second" / "best.ckpt")
    rows = len(table(read_checkpoint(best)))
    assert np.array_equal(table(after)[:rows], table(read_checkpoint(best))) and len(table(after)) == rows + 2
    assert "the warm-up lasts 2 steps and the run 1" in done.stderr


def test_another_vocabulary_than_the_checkpoints_is_refused(trained: Path) -> None:
    best = trained / "runs" / "first" / "best.ckpt"
    (trained / "vocab.txt").write_text("\n".join(build_wordpiece(["another ship"]).tokens))
    words = ("--config=small.yaml", "--data.root=data", f"--pretrained_path={best}", "--train.experiment_name=third")
    done = run(trained, *words, "--data.vocab=vocab.txt")
    assert done.returncode == 2 and "the word table of the checkpoint belongs to its own" in done.stderr
    tokens = read_checkpoint(best).tokenizer
    assert tokens is not None
    (trained / "vocab.txt").write_text("\n".join(tokens["tokens"][::-1]))
    assert run(trained, *words, "--data.vocab=vocab.txt").returncode == 2, "the same words in other rows"


def test_a_continued_run_refuses_other_sentences(trained: Path) -> None:
    words = ("--config=small.yaml", "--data.root=changed", "--train.resume=auto", "--train.max_steps=7")
    write_set(trained / "changed", WORDS, " beside a zebra")
    done = run(trained, *words)
    assert done.returncode == 2 and "the training sentences are not those of before" in done.stderr
    assert "train --from" in done.stderr
    before = table(read_checkpoint(trained / "runs" / "first" / "last.ckpt"))
    write_set(trained / "changed", WORDS)
    assert run(trained, *words).returncode == 0
    assert table(read_checkpoint(trained / "runs" / "first" / "last.ckpt")).shape == before.shape


def test_the_run_folder_of_the_checkpoint_is_never_taken(trained: Path) -> None:
    best = trained / "runs" / "first" / "best.ckpt"
    done = run(trained, "--from", best, "--data.root=data", "--train.experiment_name=first")
    assert done.returncode == 2 and "is that of the checkpoint" in done.stderr and best.is_file()
    done = run(trained, "--from", trained / "absent.ckpt")
    assert done.returncode == 2 and "does not exist" in done.stderr


def test_fine_tuning_is_low_and_without_warm_up(trained: Path) -> None:
    best = trained / "runs" / "first" / "best.ckpt"
    shown = run(trained, "--from", best, "--explain-config")
    assert shown.returncode == 0 and "lr: 0.0003\n" in shown.stdout, shown.stderr
    for line in ("warmup_steps: 0", "experiment_name: first_finetuned", f"model: {best}", "vocab: ''"):
        assert line in shown.stdout


def test_words_that_the_vocabulary_does_not_know_are_named(trained: Path) -> None:
    """On the terminal and in predictions.json; and no threshold acts where a network gives no score."""
    words = ("--ckpt", trained / "runs" / "first" / "best.ckpt", "--image", trained / "data" / "0.png")
    asked = (*words, "--text", "the red zeppelin", "--text", "the red ship", "--out", trained / "out")
    done = call(predict.main, *asked, "--min-score", "0.5")
    assert done.returncode == 2 and "--min-score does nothing: this network gives a box without a score" in done.stderr
    done = call(predict.main, *asked)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the vocabulary does not know 'zeppelin'") == 1
    queries = json.loads((trained / "out" / "predictions.json").read_text())["queries"]
    assert [query["unknown_words"] for query in queries] == [["zeppelin"], []]


def test_ids_without_a_row_are_refused_by_name() -> None:
    tokenizer = build_wordpiece(["the ship"])
    shapes = {TABLE: (tokenizer.vocab_size, 8)}
    check_vocabulary(tokenizer, shapes, "x.ckpt")
    with pytest.raises(CheckpointError, match=rf"{tokenizer.vocab_size} entries and the word table \d+ rows.*'the'"):
        check_vocabulary(tokenizer, {TABLE: (tokenizer.vocab_size - 1, 8)}, "x.ckpt")


def test_word_tables_are_known_by_their_names() -> None:
    names = [TABLE, "clip.text.token_embedding", "bert.embeddings.word_embeddings.weight", "token_embedding.weight"]
    assert word_tables([*names, "embeddings.position_embeddings.weight", "x.tokens"]) == names


def test_only_a_vocabulary_of_sentences_grows() -> None:
    built = build_wordpiece(["the red ship"])
    new = built.new_entries(["the ship, 船 and pier"])
    assert set(new) >= {"船", "##船", "and", "pier"} and "ship" not in new
    grown = built.extended(new)
    assert grown.ids("the red ship") == built.ids("the red ship") and not grown.new_entries(["a pier"])[1:]
    assert WordPieceTokenizer(built.tokens).new_entries(["zebra"]) == []
    assert ClipTokenizer([]).new_entries(["zebra"]) == []
