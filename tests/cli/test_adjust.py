"""Overrides of a checkpoint's configuration act, or are refused by name."""

from __future__ import annotations

import re

import pytest

from mindground.cli.adjust import EVALUATION_KEYS, PREDICTION_KEYS, SAMPLES_KEYS, adjustment
from mindground.cli.parser import VerbParser
from mindground.config import Config, load_config, parse_command_line
from mindground.config.overrides import known_names
from mindground.errors import ConfigError
from mindground.models import families


def _adjusted(keys: tuple[str, ...], *words: str, family: str = "vglaw", split: str = "") -> Config:
    line = parse_command_line(words, VerbParser("test", None))
    return adjustment(line, "the test", keys, split=split)(load_config(None, [f"--family={family}"]))


def test_what_acts_passes() -> None:
    changed = _adjusted(EVALUATION_KEYS, "--batch_size=3", "--mask-threshold", "0.25", "--data.root=x", "--seed", "7")
    assert changed.eval.batch_size == 3 and changed.eval.mask_threshold == 0.25
    assert changed.data.root == "x" and changed.train.seed == 7
    assert _adjusted(PREDICTION_KEYS, "--data.img_size=128").data.img_size == 128
    assert _adjusted(SAMPLES_KEYS, "--dataset", "jsonl").data.dataset == "jsonl"


@pytest.mark.parametrize(
    ("keys", "word"),
    [
        (EVALUATION_KEYS, "--lr_base=1"),
        (EVALUATION_KEYS, "--data.vocab=v.txt"),
        (SAMPLES_KEYS, "--batch_size=3"),
        (SAMPLES_KEYS, "--device.precision=float16"),
        (SAMPLES_KEYS, "--iou-threshold=0.7"),
        (PREDICTION_KEYS, "--dataset=jsonl"),
    ],
)
def test_what_cannot_act_is_refused(keys: tuple[str, ...], word: str) -> None:
    with pytest.raises(ConfigError, match=f"{word.partition('=')[0]} has no effect on the test, which reads "):
        _adjusted(keys, word)


@pytest.mark.parametrize(
    ("family", "key", "value"),
    [
        ("vglaw", "model.bbox_loss_coef", "99"),
        ("vglaw", "model.dice_loss_coef", "9"),
        ("vglaw", "model.attention_loss_coef", "9"),
        ("vglaw", "model.text.dropout", "0.5"),
        ("vglaw", "model.text.start_gain", "2"),
        ("vglaw", "model.vit.drop_path_rate", "0.5"),
        ("vglaw", "model.vit.position_start", "sincos"),
        ("clipvg", "model.giou_loss_coef", "9"),
        ("clipvg", "model.vl_dropout", "0.5"),
        ("clipvg", "model.train_clip", "all"),
        ("clipvg", "data.transform.vertical_flip_prob", "1"),
        ("vglaw", "data.train_split", "val"),
        ("vglaw", "data.augment_variants", "3"),
        ("vglaw", "data.image_cache_mb", "3"),
        ("test_detector", "model.proposals", "3"),
    ],
)
def test_what_acts_in_training_only_is_refused(family: str, key: str, value: str) -> None:
    told = f"--{key} has no effect on the test: {key} acts in training only; leave it out"
    for keys in (EVALUATION_KEYS, SAMPLES_KEYS):
        with pytest.raises(ConfigError, match=re.escape(told)):
            _adjusted(keys, f"--{key}={value}", family=family)


def test_flags_of_training_are_refused_with_the_key_that_they_set() -> None:
    with pytest.raises(ConfigError, match=r"--flip_prob has no effect .*: data.transform.flip_prob acts in training"):
        _adjusted(EVALUATION_KEYS, "--flip_prob=1")
    with pytest.raises(ConfigError, match=r"--eval.select_by has no effect .*: eval.select_by acts in training only"):
        _adjusted(EVALUATION_KEYS, "--eval.select_by=mask_mean_iou")
    with pytest.raises(ConfigError, match=r"--model.text.dropout has no effect .* acts in training only"):
        _adjusted(PREDICTION_KEYS, "--model.text.dropout=0.5")


def test_keys_of_a_split_that_is_not_read_are_refused() -> None:
    train, val = "--data.synthetic.train_images=99", "--data.synthetic.val_images=9"
    for words, split in (((train,), "val"), ((train,), ""), ((val,), "train")):
        with pytest.raises(ConfigError, match="is the size of another split than"):
            _adjusted(EVALUATION_KEYS, *words, split=split)
    with pytest.raises(ConfigError, match="--split val names the split"):
        _adjusted(EVALUATION_KEYS, "--data.eval_splits=[val]", split="val")
    assert _adjusted(EVALUATION_KEYS, train, split="train").data.synthetic.train_images == 99
    assert _adjusted(EVALUATION_KEYS, val).data.synthetic.val_images == 9
    both = _adjusted(EVALUATION_KEYS, train, "--data.eval_splits=[val,train]")
    assert both.data.synthetic.train_images == 99


def test_unknown_keys_and_other_families_are_answered_as_everywhere() -> None:
    with pytest.raises(ConfigError, match="did you mean --eval.mask_threshold"):
        _adjusted(PREDICTION_KEYS, "--eval.mask_treshold=1")
    with pytest.raises(ConfigError, match="of family 'vglaw'"):
        _adjusted(PREDICTION_KEYS, "--family=clipvg")


def test_the_lists_name_keys_that_exist() -> None:
    known = set().union(*(set(known_names(family)) for family in families()))
    for pattern in {*EVALUATION_KEYS, *PREDICTION_KEYS, *SAMPLES_KEYS}:
        key = pattern.lstrip("-")
        assert any(name == key or name.startswith(f"{key.rstrip('.')}.") for name in known), pattern
