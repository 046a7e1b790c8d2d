"""Options of every verb outside their range are refused before anything runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mindground.cli.verbs import main
from mindground.config import load_config
from mindground.errors import ConfigError

PREDICT = "predict --ckpt none.ckpt --image a.png --text ship"
COCO = "a.json --images b --out c"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (f"{PREDICT} --min-score 7", "--min-score: 7 must lie between 0 and 1"),
        (f"{PREDICT} --min-score nan", "--min-score: nan must lie between 0 and 1"),
        (f"{PREDICT} --min-score high", "--min-score: 'high' is not a number"),
        (f"{PREDICT} --batch_size 0", "--batch_size: 0 must be at least 1"),
        ("show --ckpt none.ckpt --sheet -3", "--sheet: -3 must be at least 1"),
        ("show --ckpt none.ckpt --sheet 0", "--sheet: 0 must be at least 1"),
        ("show --ckpt none.ckpt --sheet 1.5", "--sheet: '1.5' is not a whole number"),
        ("curriculum --out c --start-threshold 7", "--start-threshold: 7 must lie between 0 and 1"),
        ("curriculum --out c --ranks 0", "--ranks: 0 must be at least 1"),
        ("weights import a.pth --family bert --out b --depth -2", "--depth: -2 must be at least 1"),
        ("weights import a.pth --family bert --out b --image-size=-2", "--image-size: -2 must be at least 1"),
        ("data check --dataset jsonl --min-box-iou 2", "--min-box-iou: 2 must lie between 0 and 1"),
        (f"data make-referring {COCO} --seed -1", "--seed: -1 must be at least 0"),
        (f"data make-referring {COCO} --per-object 0", "--per-object: 0 must be at least 1"),
        (f"data make-referring {COCO} --min-side -1", "--min-side -1.0 must be a number of pixels, 0 or more"),
        (f"data make-template-source {COCO} --seed -1", "--seed: -1 must be at least 0"),
        (f"data make-template-source {COCO} --min-score 2", "--min-score: 2 must lie between 0 and 1"),
        (f"data make-template-source {COCO} --min-share 2", "--min-share: 2 must lie between 0 and 1"),
        (f"data make-template-source {COCO} --sentences 0", "--sentences: 0 must be at least 1"),
        ("data make-dior-rsvg a --out c --seed -1", "--seed: -1 must be at least 0"),
        ("data plant-wrong-boxes --out c --plant-seed -1", "--plant-seed: -1 must be at least 0"),
        ("bench vglaw --batch 0", "--batch: 0 must be at least 1"),
        ("bench vglaw --size -1", "--size: -1 must be at least 0"),
    ],
)
def test_values_outside_their_range(words: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    said = capsys.readouterr().err
    assert says in said and "Traceback" not in said


@pytest.mark.parametrize("name", ["x.jpg", "a/x.TIFF"])
def test_show_writes_png_files_only(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["show", "--ckpt", "none.ckpt", "--out", name]) == 2
    assert f"--out {name}: images are written as PNG; use {name.split('.')[0]}.png" in capsys.readouterr().err
    (tmp_path / name).mkdir(parents=True)  # a folder that is there is one
    assert main(["show", "--ckpt", "none.ckpt", "--out", name]) == 2
    assert "none.ckpt does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("family", "key", "value"),
    [
        ("vglaw", "model.text.dropout", "7"),
        ("vglaw", "model.text.start_gain", "-1"),
        ("vglaw", "model.vit.drop_path_rate", "1"),
        ("vglaw", "model.dice_loss_coef", "-1"),
        ("vglaw", "eval.mask_threshold", "7"),
        ("vglaw", "eval.iou_threshold", "-1"),
        ("vglaw", "eval.box_thresholds", "[0.5,7]"),
        ("vglaw", "eval.batch_size", "0"),
        ("clipvg", "model.vl_dropout", "-0.5"),
        ("clipvg", "model.giou_loss_coef", "-1"),
    ],
)
def test_keys_outside_their_range(family: str, key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"{key}=") + ".* must "):
        load_config(None, [f"--family={family}", f"--{key}={value}"])
