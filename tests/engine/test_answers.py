"""What the training split cannot teach is not answered: sets without masks give models of boxes alone."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from commands import call
from mindground.cli import main
from mindground.config import Config, load_config
from mindground.data import build_dataset
from mindground.data.formats.jsonl import samples_to_records, write_description, write_jsonl
from mindground.engine.answers import narrow_answers
from mindground.engine.checkpoint import read_checkpoint
from mindground.inference.predictor import Predictor
from mindground.models import model_interface

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "vglaw" / "tiny_synthetic.yaml"


def boxes_set(folder: Path, masks: int) -> Path:
    """The embedded set, small, as JSON lines; `masks` of its training samples keep their outlines."""
    words = [f"--data.root={folder / 'drawn'}", "--data.synthetic.train_images=4", "--data.synthetic.val_images=2"]
    config = load_config(None, words)
    for split in ("train", "val"):
        dataset = build_dataset(config.data, split)
        records: list[dict[str, Any]] = samples_to_records(dataset, dataset.categories)
        for number, record in enumerate(records):
            if split == "train" and number >= masks:
                del record["mask"]
        write_jsonl(folder / "set" / f"{split}.jsonl", records)
    write_description(folder / "set", "boxes", dataset.categories, ".")
    return folder / "set"


def narrowed(root: Path, *more: str) -> Config:
    config = load_config(None, ["--data.dataset=jsonl", f"--data.root={root}", *more])
    narrow_answers(config, build_dataset(config.data, "train"))
    return config


def test_no_mask_means_boxes_alone_and_some_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mindground")
    config = narrowed(boxes_set(tmp_path, 0))
    assert model_interface(config).answers == ("box",) and len(caplog.records) == 1
    assert "no sample of boxes train has a mask" in caplog.text
    caplog.clear()
    config = narrowed(boxes_set(tmp_path, 3))
    assert model_interface(config).answers == ("box", "mask") and "3 of " in caplog.text
    caplog.clear()
    config = narrowed(boxes_set(tmp_path, 1000))
    assert model_interface(config).answers == ("box", "mask") and not caplog.records
    config = narrowed(boxes_set(tmp_path, 0), "--data.use_mask=false")
    assert model_interface(config).answers == ("box",) and not caplog.records


def test_the_checkpoint_remembers_and_nothing_made_of_it_has_masks(tmp_path: Path) -> None:
    root, masked = boxes_set(tmp_path / "boxes", 0), boxes_set(tmp_path / "masks", 1000)
    image = next((tmp_path / "boxes" / "drawn").rglob("*.png"))

    def train(data: Path, name: str, steps: int, *more: str) -> Path:
        data_words = ["--data.dataset=jsonl", f"--data.root={data}", "--train.batch_size=2", "--train.batch_sum=2"]
        words = [*data_words, f"--train.output_dir={tmp_path}", f"--train.experiment_name={name}", *more]
        length = [f"--train.max_steps={steps}", "--mode_name=PYNATIVE"]
        done = call(main, "train", "--config", CONFIG, *words, *length)
        assert done.returncode == 0, done.stderr
        return tmp_path / name / "best.ckpt"

    def predictions(checkpoint: Path) -> str:
        out = tmp_path / f"found of {checkpoint.parent.name}"
        done = call(main, "predict", "--ckpt", checkpoint, "--image", image, "--text", "a ship", "--out", out)
        assert done.returncode == 0, done.stderr
        return (out / "predictions.json").read_text("utf-8")

    best = train(root, "plain", 1)
    assert read_checkpoint(best).config["data"]["use_mask"] is False
    found = Predictor.load(best, "CPU", mode="PYNATIVE")(str(image), "the red ship")
    assert not found.masks and found.scores.tolist() == [1.0]
    out = tmp_path / "scores.json"
    done = call(main, "eval", "--ckpt", best, "--out", out, "--mode_name=PYNATIVE")
    scores = json.loads(out.read_text("utf-8"))
    assert done.returncode == 0 and "prec@0.5" in scores and "mean_iou" not in scores
    # A run of boxes is continued, and a model with a mask head is a start for one without.
    train(root, "plain", 2, "--train.resume=auto")
    with_masks = train(masked, "masks", 1)
    train(root, "tuned", 1, f"--train.pretrained.model={with_masks}")
    assert "counts" in predictions(with_masks) and "counts" not in predictions(best)
