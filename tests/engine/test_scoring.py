"""eval.py as it is started: protocol, exchanged sentences, records, and two ranks that count like one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.test_pretrained import small
from mindground.config import Config, apply_overrides
from mindground.data import build_dataset
from mindground.engine.assemble import fill_vocabulary
from mindground.engine.checkpoint import read_checkpoint, save_checkpoint, stored_config
from mindground.engine.scoring import score
from mindground.engine.vocabulary import vocabulary_of
from mindground.errors import ConfigError
from mindground.files.text import read_lines
from mindground.models import build_model
from mindground.text import build_tokenizer
from mindground.weights.load import parameter_arrays

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small VG-LAW with random weights and five images to ask about."""
    folder = tmp_path_factory.mktemp("scoring")
    keys = {"root": folder / "data", "synthetic.train_images": 4, "synthetic.val_images": 5, "synthetic.image_size": 64}
    words = [f"--data.{key}={value}" for key, value in keys.items()]
    config: Config = apply_overrides(small(), [*words, "--model.text.vocab_size=0", "--eval.batch_size=4"])
    sentences = build_dataset(config.data, "train").sentences()
    tokenizer = build_tokenizer(config.data.tokenizer, config.data.vocab, sentences)
    fill_vocabulary(config.model, tokenizer.vocab_size)
    return save_checkpoint(folder / "a.ckpt", build_model(config), config, tokenizer, {"step": 3})


def test_averages_are_scored_apart(checkpoint: Path, tmp_path: Path) -> None:
    """The averages of a last checkpoint give what they give as the weights of a checkpoint of their own."""
    contents = read_checkpoint(checkpoint)
    config = apply_overrides(stored_config(contents), ["--device.mode_name=PYNATIVE"])
    tokenizer, models = vocabulary_of(contents), [build_model(config) for _ in range(2)]
    averages = parameter_arrays(models[1])
    extra = {f"ema/{name}": value for name, value in averages.items()}
    last = save_checkpoint(tmp_path / "last.ckpt", models[0], config, tokenizer, {"step": 3}, extra=extra)
    plain = save_checkpoint(tmp_path / "plain.ckpt", models[0], config, tokenizer, {"step": 3})
    best = save_checkpoint(tmp_path / "best.ckpt", models[0], config, tokenizer, {"step": 3}, weights=averages)
    numbers = {
        name: {key: value for key, value in score(path, weights=weights).items() if isinstance(value, float)}
        for name, path, weights in (("plain", plain, "all"), ("best", best, "all"), ("averaged", last, "averaged"))
    }
    both = score(last)
    assert numbers["plain"] != numbers["best"] == numbers["averaged"]
    assert {key: value for key, value in both.items() if isinstance(value, float)} == numbers["plain"]
    apart = {key: value for key, value in both["averaged"].items() if isinstance(value, float)}
    assert apart == numbers["best"] and "averaged" not in score(last, weights="plain")
    with pytest.raises(ConfigError, match="holds no averages"):
        score(best, weights="averaged")


def test_two_ranks_count_like_one(checkpoint: Path, run_python: Callable, tmp_path: Path) -> None:
    found: list[dict[str, Any]] = []
    for ranks in (1, 2):
        words = [
            "--ckpt",
            checkpoint,
            "--with-shuffled",
            "--with-constant",
            "--out",
            f"{ranks}.json",
            "--records",
            f"{ranks}.jsonl",
        ]
        done = run_python([str(ROOT / "src" / "eval.py"), *words], ranks=ranks, timeout=120)
        assert done.returncode == 0, done.stderr
        assert "exchanged sentences" in done.stderr
        found.append(json.loads((tmp_path / f"{ranks}.json").read_text("utf-8")))
    one, two = found
    assert one["constant_box"] == two["constant_box"] and 0 < one["constant_box"]["prec@0.5"] < 1
    assert one["protocol"] == two["protocol"] and one["protocol"]["step"] == 3
    assert one["protocol"]["sentences_per_object"] == "all"
    assert one["protocol"]["sentences"] == "as annotated" and one["count"] == one["shuffled"]["count"]
    for kind in ("by_area", "by_word"):
        counts = [{name: scores["count"] for name, scores in each[kind].items()} for each in found]
        assert counts[0] == counts[1] and len(counts[0]) > 0
    assert sum(scores["count"] for scores in one["by_area"].values()) == one["count"]
    for values in ("", "shuffled"):
        first, second = (each[values] if values else each for each in found)
        for name in ("prec@0.5", "mean_iou", "box_mean_iou", "canvas_mean_iou", "count"):
            assert math.isclose(first[name], second[name], rel_tol=1e-4, abs_tol=1e-6), name
    lines = [[json.loads(line) for line in read_lines(tmp_path / f"{n}.jsonl")] for n in (1, 2)]
    assert [r["sample_id"] for r in lines[0]] == [r["sample_id"] for r in lines[1]]
    assert len(lines[0]) == one["count"] and {"box_iou", "mask_iou", "expression", "split"} <= lines[0][0].keys()
    assert math.isclose(sum(r["mask_iou"] for r in lines[0]) / len(lines[0]), one["mean_iou"], abs_tol=1e-4)
