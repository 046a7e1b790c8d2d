"""Every flag of RMSIN's and LAVT's `args.py`, typed once: what it sets here, or how it is refused or passed over."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from mindground import config as cf
from mindground.cli.adjust import EVALUATION_KEYS, adjustment
from mindground.cli.parser import VerbParser
from mindground.cli.train import main as train
from mindground.config.registry import family
from mindground.errors import ConfigError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models" / "rmsin.md"
PUBLISHED = Path(__file__).resolve().parents[2] / "configs" / "rmsin" / "published.yaml"

# Flag as typed -> keys and the values that they get.
READ: dict[str, dict[str, object]] = {
    "--dataset refcoco+": {"data.dataset": "refcoco+"},
    "--splitBy google": {"data.splitBy": "google"},
    "--model_id RMSIN": {"train.experiment_name": "RMSIN"},
    "--swin_type tiny": {"model.swin_type": "tiny", "model.swin.embed_dim": 96, "model.swin.depths": [2, 2, 6, 2]},
    "--swin_type small": {"model.swin_type": "small", "model.swin.embed_dim": 96, "model.swin.depths": [2, 2, 18, 2]},
    "--swin_type base": {"model.swin_type": "base", "model.swin.embed_dim": 128},
    "--swin_type large": {"model.swin_type": "large", "model.swin.embed_dim": 192},
    "--window12": {"model.swin.window_size": 12},
    "--pretrained_swin_weights swin.pth": {"train.pretrained.visual": "swin.pth"},
    "--img_size 896": {"data.img_size": 896},
    "--mha 1-2-2-4": {"model.fusion_heads": [1, 2, 2, 4]},
    "--fusion_drop 0.2": {"model.fusion_dropout": 0.2},
    "-b 16": {"train.batch_size": 16, "eval.batch_size": 16},
    "--batch-size 16": {"train.batch_size": 16, "eval.batch_size": 16},
    "--lr 0.00005": {"train.lr": 5e-5},
    "--wd 1e-3": {"train.weight_decay": 1e-3},
    "--weight-decay 1e-3": {"train.weight_decay": 1e-3},
    "--epochs 30": {"train.max_epochs": 30},
    "--amsgrad": {"train.amsgrad": True},
    "--resume auto": {"train.resume": "auto"},
    "--ck_bert bert/model.safetensors": {"train.pretrained.text": "bert/model.safetensors"},
    "--refer_data_root ./refer/data/": {"data.root": "./refer/data/"},
    "--output-dir ./checkpoints/": {"train.output_dir": "./checkpoints/"},
    "-j 8": {"data.num_workers": 8},
    "--workers 8": {"data.num_workers": 8},
    "--print-freq 50": {"train.log_freq": 50},
}
IGNORED = {
    "--pin_mem": "pinned memory",
    "--ddp_trained_weights": "`module.`",
    "--local_rank 0": "launcher",
    "--master_port 12345": "mpirun",
    "--master_addr 127.0.0.1": "mpirun",
    "--use_env": "mpirun",
}
REFUSED = {
    "--model lavt": "--model.variant=lavt",
    "--model lavt_one": "--model.variant=rmsin",
    "--split testA": "--split testA",
    "--ck_bert bert-base-uncased": "--train.pretrained.text=bert-base-uncased/model.safetensors",
    "--bert_tokenizer bert-base-uncased": "--data.vocab=bert-base-uncased/vocab.txt",
    "--resume ./checkpoints/model_best_RMSIN.pth": "weights import ./checkpoints/model_best_RMSIN.pth --family rmsin",
    "--device cuda:0": "--device_target=GPU",
    "--device cpu": "--device_target=CPU",
    "--device xla": "--device_target=auto",
    "--nproc_per_node 4": "mpirun -n 4 mindground train",
}


def _load(words: str) -> cf.Config:
    return cf.load_config(PUBLISHED, ["--data.dataset=refcoco", *words.split()])


@pytest.mark.parametrize("words", READ)
def test_a_flag_sets_its_keys(words: str) -> None:
    before, config = _load(""), _load(words)
    for key, value in READ[words].items():
        if key.startswith("train.pretrained."):
            assert config.train.pretrained[key.rsplit(".", 1)[1]] == value
        else:
            assert cf.value_of(config, key) == value
    unchanged = {"--swin_type base", "--window12"}  # as published
    assert (cf.to_dict(before) == cf.to_dict(config)) is (words in unchanged)


def test_a_switch_with_a_value_of_its_own() -> None:
    seven = "--model.swin.window_size=7"
    assert _load(seven).model.swin.window_size == 7
    assert _load(f"{seven} --window12").model.swin.window_size == 12
    assert _load(f"{seven} --window12=false").model.swin.window_size == 7
    with pytest.raises(ConfigError, match="true or false"):
        _load("--window12 7")


def test_lists_with_dashes_hold_whole_numbers_only() -> None:
    for wrong in ("1-2-2", "a-b-c-d", "1-2-2-", "1--2-2-4"):
        with pytest.raises(ConfigError, match="fusion_heads|mha"):
            _load(f"--mha {wrong}")


@pytest.mark.parametrize("words", IGNORED)
def test_a_flag_without_effect_is_named_in_a_warning(words: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "mindground"):
        config = _load(words)
    (record,) = caplog.records
    assert words.split()[0] in record.message and IGNORED[words] in record.message
    assert cf.to_dict(config) == cf.to_dict(_load(""))


@pytest.mark.parametrize("words", REFUSED)
def test_an_old_spelling_is_refused_with_the_new_one(words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(words)
    assert f"{words} is not read" in str(caught.value) and REFUSED[words] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_flags_of_one_letter_are_told_as_they_are_typed() -> None:
    with pytest.raises(ConfigError, match="unknown option -q"):
        _load("-q 3")
    with pytest.raises(ConfigError, match="-j belongs to family rmsin"):
        cf.load_config(overrides=["--family=clipvg", "-j", "3"])
    with pytest.raises(ConfigError, match="needs a value"):
        _load("-b")


README = {
    "LAVT": "--dataset refcoco --model_id refcoco --batch-size 8 --lr 0.00005 --wd 1e-2 --swin_type base "
    "--pretrained_swin_weights ./pretrained_weights/swin_base_patch4_window12_384_22k.pth --epochs 40 --img_size 480",
    "RMSIN": "--dataset rrsisd --model_id RMSIN --epochs 40 --img_size 480",
}


@pytest.mark.parametrize("name", README)
def test_training_commands_of_the_readmes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = README[name].split()
    code = train(["--family", "rmsin", *words, "-j", "4", "--print-freq", "10", "--explain-config"])
    said = capsys.readouterr().out
    assert code == 0 and "max_epochs" in said and re.search(r"swin_base_patch4|pretrained", said)


def test_scoring_command_of_the_readmes() -> None:
    """`test.py --swin_type base --dataset ... --resume X.pth --split val --workers 4 --window12 --img_size 480`."""
    words = "--swin_type base --dataset refcoco --split val --workers 4 --window12 --ddp_trained_weights --img_size 480"

    def adjusted(more: str) -> cf.Config:
        parser = VerbParser(None, "")
        parser.add_argument("--split")
        line = cf.parse_command_line([*words.split(), *more.split()], parser)
        return adjustment(line, "evaluation", EVALUATION_KEYS, split="val")(_load("--workers 2"))

    config, before = adjusted(""), _load("--workers 4")
    assert cf.to_dict(config) == cf.to_dict(before)
    with pytest.raises(
        ConfigError,
        match=r"weights import ./x.pth --family rmsin .*--out X.ckpt, then mindground eval",
    ):
        adjusted("--resume ./x.pth")


def test_the_page_has_a_line_for_every_flag() -> None:
    page = PAGE.read_text(encoding="utf-8")
    facts = family("rmsin")
    flags = {*facts.flags, *facts.ignored_flags, *facts.refused_flags}
    flags |= set("dataset splitBy img_size batch_size lr resume output_dir local_rank".split())
    for flag in sorted(flags):
        typed = f"-{flag}" if len(flag) == 1 else f"--{flag}"
        assert re.search(rf"`[^`]*(?<![\w-]){re.escape(typed).replace('_', '[-_]')}\b[^`]*`", page), typed
    for word in ("torch.distributed.launch", "test.py", "demo_inference.py", "pretrained_weights", "init_demo_model"):
        assert word in page, word
