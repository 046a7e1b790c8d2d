"""Overrides of a checkpoint's configuration act, or are refused by name."""

from __future__ import annotations

import pytest

from mindground.cli.adjust import EVALUATION_KEYS, PREDICTION_KEYS, SAMPLES_KEYS, adjustment
from mindground.cli.parser import VerbParser
from mindground.config import Config, load_config, parse_command_line
from mindground.config.overrides import known_names
from mindground.errors import ConfigError
from mindground.models import families


def _adjusted(keys: tuple[str, ...], *words: str) -> Config:
    line = parse_command_line(words, VerbParser("test", None))
    return adjustment(line, "the test", keys)(load_config())


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
        (EVALUATION_KEYS, "--flip_prob=1"),
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
