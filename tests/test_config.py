"""Typed configuration: shipped files, order of layers, bad files, values, explanations."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mindground import config as cf
from mindground.config import registry
from mindground.config.keys import flat
from mindground.config.resolve import coerce
from mindground.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / "configs" / "vglaw").glob("*.yaml"))
CLIPVG = sorted((ROOT / "configs" / "clipvg").glob("*.yaml"))


def rates(config: cf.Config) -> dict[str, float]:
    """Learning rate of every group of parameters."""
    return {group: config.train.lr * factor for group, factor in config.train.lr_factors.items()}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_no_arguments_give_the_default_of_vglaw() -> None:
    config = cf.load_config()
    assert (config.family, config.data.dataset, config.data.eval_splits) == ("vglaw", "synthetic", ["val"])
    assert config.train.experiment_name == "quickstart"
    assert config.model.vit.embed_dim < 768
    tiny = next(path for path in CONFIGS if path.name == "tiny_synthetic.yaml")
    assert cf.load_config(tiny) == config


@pytest.mark.parametrize("family", ["vglaw", "clipvg"])
def test_every_family_has_its_default_and_its_own_run_folder(family: str) -> None:
    default = cf.load_config(overrides=[f"--family={family}"])
    assert (default.family, default.data.dataset, default.train.random_encoders) == (family, "synthetic", True)
    assert cf.load_config(ROOT / "configs" / family / "tiny_synthetic.yaml") == default
    others = {other: cf.load_config(overrides=[f"--family={other}"]) for other in registry.families()}
    assert len({config.train.experiment_name for config in others.values()}) == len(others)
    # Small: a width of the published networks would take hours.
    widths = [value for name, value in flat(cf.to_dict(default)).items() if name.endswith(("embed_dim", "_width"))]
    assert widths and max(widths) <= 128


def test_another_data_set_without_a_file_is_the_published_recipe() -> None:
    config = cf.load_config(overrides=["--dataset=refcocog"])
    assert config.model.visual().embed_dim == 768
    assert (config.data.splitBy, config.data.eval_splits, config.data.img_size) == ("umd", ["val", "test"], 448)
    assert (config.train.batch_sum, config.train.warmup_steps, config.data.transform.translate) == (256, 125, True)
    assert cf.load_config(overrides=["--family=clipvg", "--dataset=unc"]).train.lr_reference_batch == 320


@pytest.mark.parametrize("path", [*CONFIGS, *CLIPVG], ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_shipped_configurations_load_and_survive_both_round_trips(path: Path, tmp_path: Path) -> None:
    config = cf.load_config(path)
    assert cf.from_dict(cf.to_dict(config)) == config
    cf.dump_yaml(config, tmp_path / "out" / "config.yaml")
    assert cf.load_config(tmp_path / "out" / "config.yaml") == config
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["config.yaml"]


@pytest.mark.parametrize(
    ("name", "split_by", "splits"),
    [
        ("refcoco", "unc", ["val", "testA", "testB"]),
        ("refcoco+", "unc", ["val", "testA", "testB"]),
        ("refcocog", "umd", ["val", "test"]),
        ("refclef", "berkeley", ["val", "test"]),
    ],
)
def test_published_recipes(name: str, split_by: str, splits: list[str]) -> None:
    config = cf.load_config(next(p for p in CONFIGS if p.stem == name))
    train = config.train
    assert (config.data.dataset, config.data.splitBy, config.data.eval_splits) == (name, split_by, splits)
    assert rates(config) == {"base": 1e-4, "visual": 1e-5, "lang": 1e-5}
    assert (train.max_epochs, train.drop_epochs, train.drop_rate, train.batch_sum) == (20, [10], 0.1, 256)
    assert (train.clip_max_norm, train.weight_decay, train.eps, train.bias_correction) == (0.15, 1e-4, 1e-6, False)
    assert config.data.transform.translate and config.data.use_mask and config.model.law_type == "svd"


@pytest.mark.parametrize(
    ("name", "data_set", "splits"),
    [
        ("refcoco", "unc", ["val", "testA", "testB"]),
        ("refcoco+", "unc+", ["val", "testA", "testB"]),
        ("refcocog", "gref_umd", ["val", "test"]),
        ("referit", "referit", ["val", "test"]),
        ("flickr", "flickr", ["val", "test"]),
        ("dior_rsvg", "dior_rsvg", ["val", "test"]),
    ],
)
def test_published_recipes_of_clipvg(name: str, data_set: str, splits: list[str]) -> None:
    config = cf.load_config(next(p for p in CLIPVG if p.stem == name))
    data, train, model, transform = config.data, config.train, config.model, config.data.transform
    assert (data.dataset, data.eval_splits, transform.name, data.img_size, data.max_len) == (
        *(data_set, splits),
        *("transvg", 224, 77),
    )
    assert (transform.aug_crop, transform.aug_scale, transform.translate, transform.aug_blur) == (
        *(True, True),
        *(True, False),
    )
    assert (transform.flip_prob, transform.color_jitter_prob, data.tokenizer) == (0, 0.8, "clip_bpe")
    assert train.lr_factors == {"base": 1, "clip": 1}
    assert math.isclose(train.lr / train.lr_reference_batch, 2.5e-4 / 320)
    assert (train.lr_scheduler, train.lr_by_epoch, train.warmup_steps, train.max_epochs) == ("cosine", True, 0, 110)
    assert (train.beta1, train.beta2, train.eps, train.weight_decay) == (0.9, 0.999, 1e-8, 1e-4)
    assert (train.bias_correction, train.clip_max_norm, train.seed) == (True, 0, 13)
    assert (model.clip_model, model.vl_nheads, model.box_code) == ("ViT-B/16", 8, "cxcywh")
    assert config.eval.box_thresholds == [0.5, 0.6, 0.7, 0.8, 0.9]


def test_frozen_recipe_repeats_what_it_keeps() -> None:
    config = cf.load_config(next(p for p in CLIPVG if p.stem == "dior_rsvg_frozen"))
    data, model = config.data, config.model
    assert (model.train_clip, model.clip_model, config.train.feature_cache) == ("nothing", "ViT-B/16", "features")
    assert data.augment_variants == 1
    keys = cf.to_dict(config)["data"]["transform"]
    assert keys.pop("name") == "transvg" and not any(keys.values())


def test_an_explained_configuration_reads_back_and_names_its_origins(tmp_path: Path) -> None:
    file = ROOT / "configs" / "clipvg" / "dior_rsvg.yaml"
    line = cf.parse_command_line(["--config", str(file), "--vl_nheads=16", "--data.vocab=a: b"], explains=True)
    text = line.explained()
    assert cf.load_config(write(tmp_path / "c.yaml", text)) == line.config()
    told = {words.split(":")[0].strip(): words for words in text.splitlines()}
    assert told["vl_nheads"].endswith("# command line; published: 8")
    assert "dior_rsvg.yaml; published: 0.00025" in told["lr"]
    assert "published.yaml" in told["name"] and "published:" not in told["name"]
    assert "published.yaml" in told["clip"] and "#" not in told["base"]
    assert "#" not in told["vertical_flip_prob"]
    assert "schema: 2" in text.splitlines()[0]


def test_an_explained_schedule_says_which_keys_are_not_read(tmp_path: Path) -> None:
    line = cf.parse_command_line(["--train.schedule=[{kind: cosine, end: 0.1}]", "--pretrained_path=w.pkl"])
    text = line.explained()
    assert cf.load_config(write(tmp_path / "c.yaml", text)) == line.config()
    told = {words.split(":")[0].strip(): words for words in text.splitlines()}
    assert all("not read, train.schedule is" in told[name] for name in ("warmup_steps", "lr_scheduler"))
    assert "kind: cosine" in told["schedule"] and told["model"].endswith("# command line")
    assert "not read" not in cf.parse_command_line([]).explained()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("train: {batchsize: 4}", "'train.batch_size'"),
        ("trian: {batch_size: 4}", "'train'"),
        ("train: {batch_size: 'no'}", "whole number"),
        ("train: {batch_size: true}", "whole number"),
        ("train: {batch_size: }", "whole number"),
        ("train: {resume: }", "must be a text"),
        ("train: {short_comment: 7}", "in quotes"),
        ("data: {use_mask: 2}", "true or false"),
        ("data: {eval_splits: {a: 1}}", "a list"),
        ("train: 4", "section"),
        ("data: {synthetic: 4}", "section"),
        ("data: {transform: 4}", "section"),
        ("data: {transform: {name: 4}}", "data.transform.name=4 is unknown"),
        ("data: {transform: {flip_probe: 1}}", "'data.transform.flip_prob'"),
        ("data: {transform: {aug_crop: false}}", "belongs to data.transform.name=transvg"),
        ("train: {schedule: [{kind: cosine}], lr_scheduler: poly}", "train.lr_scheduler both describe"),
        ("train: {lr_factors: {visul: 1}}", "'train.lr_factors.visual'"),
        ("schema: 3", "update MindGround"),
        ("schema: x", "whole number"),
        ("schema: 2\ntrain: {lr_base: 1.0}", "it is called train.lr now"),
        ("schema: 2\ndata: {recipe: stretch}", "it is called data.transform.name now"),
        ("- a", "mapping"),
        ("train: {seed: 1, seed: 2}", "stands twice"),
        ("a: &x [1]\nb: *x", "aliases"),
        ("train: !!python/object/apply:os.system ['true']", "cannot read"),
        ("train: {? [a] : 1}", "cannot read"),
        ("[" * 5000, "cannot read"),
        ("family: [a]", "must be a text"),
        ("base: 4", "`base`"),
        ("base: absent.yaml", "does not exist"),
        ("base: c.yaml", "circle"),
        ("#" * (1 << 20) + "#", "1 MiB"),
    ],
)
def test_bad_files_are_named(text: str, says: str, tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", text)
    with pytest.raises(ConfigError) as caught:
        cf.load_config(path)
    assert says in str(caught.value)
    assert "c.yaml" in str(caught.value)


def test_bases_are_relative_to_their_file_and_the_child_wins(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    write(tmp_path / "grand.yaml", "train: {batch_size: 2, max_epochs: 7, drop_epochs: [1, 2]}\ndata: {img_size: 64}")
    write(tmp_path / "deep" / "base.yaml", "base: ../grand.yaml\ntrain: {batch_size: 3, lr: 1e-3}")
    child = write(tmp_path / "child.yaml", "base: [deep/base.yaml]\ntrain: {drop_epochs: [5]}")
    config = cf.load_config(child, ["--train.max_epochs=9"])
    assert (config.train.batch_size, config.train.lr, config.train.max_epochs) == (3, 1e-3, 9)
    assert (config.train.drop_epochs, config.data.img_size) == ([5], 64)


def test_micro_steps() -> None:
    train = cf.TrainConfig(batch_size=4, batch_sum=32)
    assert [train.micro_steps(ranks) for ranks in (1, 2, 8)] == [8, 4, 1]
    assert cf.TrainConfig(batch_size=4).micro_steps(3) == 1
    with pytest.raises(ConfigError, match="not a multiple"):
        train.micro_steps(3)


def test_fingerprint_sees_every_key() -> None:
    one, other = cf.load_config(), cf.load_config(overrides=["--train.seed=43"])
    assert cf.fingerprint(one) == cf.fingerprint(cf.load_config()) != cf.fingerprint(other)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_survive_yaml_and_text(value: float) -> None:
    assert coerce(yaml.safe_load(yaml.safe_dump(value)), float, "k") == value
    assert coerce(repr(value), float, "k") == value


@given(st.text(max_size=30))
def test_text_never_becomes_anything_else(value: str) -> None:
    for kind in (int, float, bool, list[int]):
        try:
            found = coerce(value, kind, "k")
        except ConfigError as error:
            assert str(error).startswith("k")
        else:
            assert isinstance(found, (int, float, list))


def test_import_is_light(run_python) -> None:
    code = (
        "import sys, time; start = time.process_time(); import mindground, mindground.config as c\n"
        "took = time.process_time() - start; c.load_config()\n"
        "print('mindspore' in sys.modules, 'mpi4py' in sys.modules, took)"
    )
    runs = [run_python(["-c", code]).stdout.split() for _ in range(3)]
    assert {tuple(words[:2]) for words in runs} == {("False", "False")}
    assert min(float(words[2]) for words in runs) < 0.3


def test_importing_mindground_imports_neither_models_nor_data(run_python) -> None:
    code = (
        "import sys, time; start = time.process_time(); import mindground; spent = time.process_time() - start\n"
        "loaded = [n for n in sys.modules if n.startswith(('mindground.data', 'mindground.models', 'numpy', 'cv2'))]\n"
        "print(spent, *loaded)"
    )
    runs = [run_python(["-c", code]).stdout.split() for _ in range(3)]
    assert all(len(words) == 1 for words in runs), runs
    assert min(float(words[0]) for words in runs) < 0.3
