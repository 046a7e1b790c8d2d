"""Typed configuration on the command line: every form of a flag, upstream's spellings, mistakes and their cure."""

from __future__ import annotations

import argparse
import logging
import re
from pathlib import Path

import pytest

from mindground import config as cf
from mindground.config import registry
from mindground.config.keys import flat
from mindground.config.registry import transform_class
from mindground.config.resolve import keys_of
from mindground.config.upgrade import old_keys
from mindground.errors import ConfigError


def rates(config: cf.Config) -> dict[str, float]:
    """Learning rate of every group of parameters."""
    return {group: config.train.lr * factor for group, factor in config.train.lr_factors.items()}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


CLIPVG_LINE = (
    "--family clipvg --dataset unc --model ViT-B/32 --imsize 448 --max_query_len 40 --vl_nheads 16 --vl_hidden_dim 512 "
    "--vl_dim_feedforward 1024 --vl_enc_layers 3 --vl_dropout 0.2 --epochs 90 --batch_size 32 --lr 1e-4 "
    "--lr_scheduler step --lr_drop 60 --lr_power 0.8 --lr_exponential 0.7 --optimizer adamw --weight_decay 1e-3 "
    "--clip_max_norm 1 --aug_blur --aug_crop --aug_scale --aug_translate --data_root pictures --split_root lists "
    "--prompt {pseudo_query} --output_dir out --seed 3 --num_workers 1 --resume auto --lr_bert 0 --nheads 3"
)


def test_flags_of_clipvg_mean_what_they_say() -> None:
    config = cf.load_config(overrides=CLIPVG_LINE.split())
    data, train, model, transform = config.data, config.train, config.model, config.data.transform
    assert (model.clip_model, model.vl_nheads, model.vl_hidden_dim, model.vl_dim_feedforward) == (
        *("ViT-B/32", 16),
        *(512, 1024),
    )
    assert (model.vl_enc_layers, model.vl_dropout, data.img_size, data.max_len) == (3, 0.2, 448, 40)
    assert (train.max_epochs, train.batch_size, train.optimizer) == (90, 32, "adamw")
    assert rates(config) == {"base": 1e-4, "clip": 1e-4}
    assert (train.lr_scheduler, train.drop_epochs, train.poly_power, train.lr_exponential) == ("step", [60], 0.8, 0.7)
    assert (train.weight_decay, train.clip_max_norm, train.seed, train.resume) == (1e-3, 1, 3, "auto")
    assert (data.image_root, data.root, data.num_workers, train.output_dir) == ("pictures", "lists", 1, "out")
    assert transform.aug_blur and transform.aug_crop and transform.aug_scale and transform.translate
    # The same name is another key elsewhere, and what is not typed is the published recipe.
    assert cf.load_config(overrides=["--dataset=refcoco", "--data_root=x"]).data.root == "x"
    assert (transform.name, data.tokenizer, train.eps, train.lr_reference_batch) == ("transvg", "clip_bpe", 1e-8, 320)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--sup_type full", "--data.train_split=train,"),
        ("--sup_type un", "--data.train_split=train_pseudo"),
        ("--dataset dior_rs", "--dataset=dior_rsvg"),
        ("--device cuda:1", "--device_target=auto"),
        ("--device=cpu", "--device_target=CPU"),
        ("--optimizer rmsprop", "adamw, adam or sgd"),
        ("--prompt a{pseudo_query}", "export_jsonl"),
        ("--eval", "src/eval.py"),
        ("--eval_set testA", "--split=testA"),
        ("--eval_model x.pth", "import_weights.py x.pth"),
        ("--retrain x.pth", "--train.pretrained.model=x.pth"),
        ("--model RN50", "ViT-B/16"),
    ],
)
def test_old_spellings_are_refused_with_the_new_one(words: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        cf.load_config(overrides=["--family=clipvg", *words.split()])
    assert says in str(caught.value)


README_LINE = (
    "--batch_size 4 --batch_sum 256 --dataset=refcoco+ --splitBy=unc --experiment_name refcoco --short_comment try1 "
    "--law_type svd --img_size 448 --vit_model vitdet_b_mrcnn --pretrained_path w.pkl --translate --lr_lang 1e-5 "
    "--lr_visual 1e-5 --lr_base 1e-4 --lr_scheduler step --max_epochs 20 --drop_epochs 10 15 --log_freq 10 --use_mask "
    "--mode_name PYNATIVE --save_ckpt_dir out --device_target GPU --run_distribute False"
)


def test_upstream_flags_mean_what_they_say() -> None:
    config = cf.load_config(overrides=README_LINE.split())
    train, data, device = config.train, config.data, config.device
    assert (train.batch_size, config.eval.batch_size, train.batch_sum) == (4, 4, 256)
    assert (data.dataset, data.splitBy, data.img_size, data.transform.translate, data.use_mask) == (
        "refcoco+",
        "unc",
        448,
        True,
        True,
    )
    assert (train.experiment_name, train.short_comment, train.output_dir) == ("refcoco", "try1", "out")
    assert rates(config) == {"base": 1e-4, "visual": 1e-5, "lang": 1e-5} and train.lr_scheduler == "step"
    assert (train.max_epochs, train.drop_epochs, train.log_freq) == (20, [10, 15], 10)
    assert (config.model.law_type, config.model.vit_model) == ("svd", "vitdet_b_mrcnn")
    assert train.pretrained == {"model": "w.pkl"}
    assert (device.mode_name, device.device_target, device.run_distribute) == ("PYNATIVE", "GPU", False)


@pytest.mark.parametrize("words", [["--use_mask=false"], ["--use_mask", "False"], ["--data.use_mask", "no"]])
def test_switches_can_be_turned_off(words: list[str]) -> None:
    assert cf.load_config(overrides=words).data.use_mask is False


@pytest.mark.parametrize(
    "words", [["--drop_epochs", "10", "15"], ["--drop_epochs=[10, 15]"], ["--train.drop_epochs", "10,15"]]
)
def test_lists_in_every_form(words: list[str]) -> None:
    assert cf.load_config(overrides=words).train.drop_epochs == [10, 15]


def test_empty_list_and_empty_text() -> None:
    config = cf.load_config(overrides=["--drop_epochs=[]", "--resume="])
    assert (config.train.drop_epochs, config.train.resume) == ([], "")


def test_assignments_without_dashes_and_the_last_word_wins() -> None:
    config = cf.load_config(overrides=["train.max_steps=3", "--batch_size", "2", "train.max_steps=5"])
    assert (config.train.max_steps, config.train.batch_size) == (5, 2)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--batchsize 4", "--batch_size"),
        ("--train.batchsize=4", "--train.batch_size"),
        ("--lr_shceduler step", "--lr_scheduler"),
        ("--law_typ svd", "--law_type"),
        ("--model.vit.embed_dimm=3", "--model.vit.embed_dim"),
        ("--train.eval_splits=[a]", "--data.eval_splits"),
        ("--dataset refcooc", "'refcoco'"),
        ("--lr_scheduler noam", "step, cosine, poly, constant"),
        ("--batch_size False", "whole number"),
        ("--batch_size 1.5", "whole number"),
        ("--batch_size", "needs a value"),
        ("--batch_size 4 5", "takes one value"),
        ("--batch_size=4 5", "belongs to no option"),
        ("--use_mask abc", "true or false"),
        ("--lr_base nan", "finite number"),
        ("--lr_base __import__('os')", "finite number"),
        ("--eval_splits=[a", "a list"),
        ("--max_epochs 0", "at least 1"),
        ("--data.synthetic.image_size 63", "at least 64"),
        ("--flip_prob 1.5", "between 0 and 1"),
        ("--drop_epochs 15 10", "must rise"),
        ("--data.std 1 0 1", "above 0"),
        ("--family vglow", "vglaw"),
        ("--law_type swd", "svd"),
        ("--imsize 224", "--family clipvg"),
        ("--sup_type full", "--family clipvg"),
        ("--train.lr_factors.visul=1", "--train.lr_factors.visual"),
        ("--train.lr_factors={visul: 1}", "vglaw has base, visual, lang; did you mean 'train.lr_factors.visual'"),
        ("--train.lr_factors=3", "a mapping"),
        ("--train.lr_factors={visual: fast}", "finite number"),
        ("--train.lr_factors.visual=-1", "at least 0"),
        ("--train.pretrained.modle=x", "--train.pretrained.model"),
        ("--train.pretrained={model: 3}", "in quotes"),
        ("--lr_base=-1", "at least 0"),
        ("--train.lr=1 --lr_base=2", "leave one out"),
        ("--lr_base=1 --train.lr_factors.base=0.5 --train.lr=2", "leave one out"),
        ("--recipe=stretch --data.transform.name=transvg", "leave one out"),
        ("--data.transform.name=strech", "'stretch'"),
        ("--data.transform.flip_probe=1", "--data.transform.flip_prob"),
        ("--data.transform.flip_prob=yes", "finite number"),
        ("--train.schedule=[{kind: linar}]", "'linear'"),
        ("--train.schedule=[{kind: linear, stesp: 3}]", "'train.schedule[0].steps'"),
        ("--train.schedule=[{kind: cosine}, {kind: constant}]", "never reached"),
        ("--train.schedule=[cosine]", "a mapping with keys among kind, steps"),
        ("--train.schedule=[{kind: cosine}", "a list such as"),
        ("--train.schedule=[&a{kind: cosine},*a]", "a list such as"),
        ("--train.schedule=[{kind: cosine}] --warmup_steps=3", "train.warmup_steps both describe"),
        ("--train.optimizer=adagrad", "adamw, adam, sgd, rmsprop"),
        ("--train.optimizer=rmsprop --train.amsgrad", "choose adam or adamw"),
        ("--train.optimizer=sgd --train.amsgrad", "choose adam or adamw"),
        ("--train.nesterov", "choose sgd"),
        ("--train.optimizer=sgd --train.nesterov --train.momentum=0", "momentum above 0"),
        ("--train.batch_norm=global", "local, sync, frozen"),
        ("stray", "belongs to no option"),
    ],
)
def test_mistakes_are_named_with_the_cure(words: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        cf.load_config(overrides=re.split(r" (?=--)", words) if "{" in words else words.split())
    assert says in str(caught.value)


def test_a_command_keeps_its_own_options() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ckpt")
    parser.add_argument("--texts", nargs="*")
    parser.add_argument("--fast", action="store_true")
    words = ["--ckpt", "a.ckpt", "--batch_size", "2", "--texts", "a=b", "the ship", "--fast", "--train.seed=3"]
    line = cf.parse_command_line(words, parser)
    assert (line.options.ckpt, line.options.texts, line.options.fast) == ("a.ckpt", ["a=b", "the ship"], True)
    assert (line.config().train.batch_size, line.config().train.seed) == (2, 3)
    with pytest.raises(ConfigError, match="--ckpt"):
        cf.parse_command_line(["--ckptt", "a"], parser).config()


def test_overrides_on_a_checkpoint_keep_the_rest(tmp_path: Path) -> None:
    saved = cf.load_config(overrides=["--train.seed=7", "--img_size=64"])
    write(tmp_path / "more.yaml", "eval: {mask_threshold: 0.5}")
    line = cf.parse_command_line(["--config", str(tmp_path / "more.yaml"), "--eval.batch_size=3"])
    config = line.applied_to(saved)
    assert (config.train.seed, config.data.img_size) == (7, 64)
    assert (config.eval.mask_threshold, config.eval.batch_size) == (0.5, 3)
    assert cf.apply_overrides(saved, ["--dataset", "refcocog"]).data.eval_splits == ["val", "test"]
    assert saved.eval.batch_size != 3
    write(tmp_path / "other.yaml", "family: clipvg\neval: {batch_size: 2}")
    with pytest.raises(ConfigError, match="of family 'clipvg', the checkpoint of 'vglaw'"):
        cf.parse_command_line(["--config", str(tmp_path / "other.yaml")]).applied_to(saved)


def test_historical_flags_are_named_once_and_change_nothing(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("mindground").propagate = True
    with caplog.at_level(logging.WARNING, "mindground"):
        config = cf.load_config(overrides="--start_epoch 3 --use_selector --start_epoch 4".split())
    assert config == cf.load_config()
    assert len({record.getMessage() for record in caplog.records}) == 1, [r.pathname for r in caplog.records]
    assert "--start_epoch" in caplog.text and "--use_selector" in caplog.text


def test_every_flag_leads_to_a_key() -> None:
    for family in registry.families():
        facts = registry.family(family)
        keys = set(flat(cf.to_dict(cf.load_config(overrides=[f"--family={family}"])))) | set(old_keys(facts))
        keys |= {f"data.transform.{k}" for name in registry.recipe_names() for k in keys_of(transform_class(name))}
        keys |= {"train.lr_factors", "train.pretrained"} | {
            f"train.pretrained.{part}" for part in facts.pretrained_parts
        }
        assert {key for found in cf.overrides.known_names(family).values() for key in found} <= keys
