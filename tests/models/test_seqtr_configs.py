"""The files of configs/seqtr resolve to what was published, one of a kind is built, contradictions are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mindground.config import load_config
from mindground.errors import ConfigError
from mindground.models import build_model
from mindground.weights.load import parameter_arrays

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "seqtr"
FILES = sorted(FOLDER.glob("*.yaml"))
# Data set of a file's name -> division, tokens of a sentence, vertices of a contour and part that is shuffled.
SETS = {
    "refcoco": ("refcoco-unc", 15, 18, 0.0),
    "refcoco+": ("refcocoplus-unc", 15, 12, 0.2),
    "refcocog_umd": ("refcocog-umd", 20, 12, 0.2),
    "refcocog_google": ("refcocog-google", 20, 12, 0.2),
    "referitgame": ("referitgame-berkeley", 20, 0, 0.0),
    "flickr30k": ("flickr30k", 20, 0, 0.0),
    "mixed": ("mixed", 40, 0, 0.0),
    "dior_rsvg": ("official", 20, 0, 0.0),
}
FOUR = [name for name in SETS if name.startswith("refcoco")]
TASKS = {
    "detection": [name for name in SETS if name != "dior_rsvg"],
    "segmentation": FOUR,
    "multitask": FOUR,
    "msam": [*FOUR, "dior_rsvg"],
    "detection_finetuned": [name for name in FOUR if "google" not in name],
    "segmentation_finetuned": [name for name in FOUR if "google" not in name],
}
NAMES = [(name, task) for task, names in TASKS.items() for name in names]
NARROW = (
    "--model.visual.darknet.first=4",
    "--model.visual.darknet.blocks=[1,1,1,1,1,1]",
    "--model.text.vocab_size=30",
    "--model.text.gru.embedding=8",
    "--model.text.gru.hidden=64",
    "--model.text.bert.hidden_size=16",
    "--model.text.bert.num_hidden_layers=1",
    "--model.text.bert.num_attention_heads=2",
    "--model.text.bert.intermediate_size=16",
    "--model.head.width=32",
    "--model.head.heads=2",
    "--model.head.hidden=32",
    "--model.head.encoder_layers=1",
    "--model.head.decoder_layers=1",
)


def test_every_set_has_its_file() -> None:
    own = [path.stem for path in FILES if not path.stem.startswith("published") and "tiny_synthetic" not in path.stem]
    assert sorted(own) == sorted(f"{name}_{task}" for name, task in NAMES)
    assert all(path.read_text(encoding="utf-8").startswith("# ") for path in FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_resolves(path: Path) -> None:
    assert load_config(path).family == "seqtr"


@pytest.mark.parametrize(("name", "task"), NAMES)
def test_it_is_what_was_published(name: str, task: str) -> None:
    config = load_config(FOLDER / f"{name}_{task}.yaml")
    data, train, head = config.data, config.train, config.model.head
    kind, msam, fine = task.split("_")[0], task == "msam", task.endswith("finetuned")
    division, words, rays, shuffled = SETS[name]
    assert (data.splitBy, data.max_len) == (division, 20 if msam else words)
    assert data.dataset == ("dior_rsvg" if name == "dior_rsvg" else "seqtr") and data.img_size == 640
    assert config.model.task == {"segmentation": "contour", "multitask": "multi"}.get(kind, "box")
    assert train.experiment_name == (f"msam_{name}" if msam else f"seqtr_{name}_{task}")
    optimiser = (train.optimizer, train.lr, train.beta2, train.eps, train.amsgrad, train.clip_max_norm, train.seed)
    assert optimiser == ("adam", 5e-4, 0.98, 1e-9, True, 0.15, 6666)
    epochs = {"segmentation": 90, "msam": 70}.get(kind, 15 if name == "mixed" else 60)
    assert train.max_epochs == (5 if fine else epochs)
    assert train.batch_size == (16 if msam or name == "mixed" else 128)
    plain = fine or kind == "multitask" or name == "mixed"
    assert (data.transform.jitter, train.ema_decay) == (("off", 0.0) if plain else ("fixed", 0.999))
    if config.model.task != "box":
        assert head.num_ray == rays
    if kind == "segmentation":
        assert head.shuffle_fraction == shuffled
    # Milestones are finished epochs; warm-up reaches 1 in the epoch behind it.
    steps = [segment for segment in train.schedule if segment.kind == "step"]
    last = {"segmentation": 75, "msam": 50}.get(kind, 12 if name == "mixed" else 50)
    assert [segment.milestones for segment in steps] == [[(4 if fine else last) - 1]]
    warm = [segment for segment in train.schedule if segment.kind == "linear"]
    assert [(s.epochs, s.start) for s in warm] == ([] if fine else [(1, 0.5)] if name == "mixed" else [(5, 1 / 6)])
    files = {part for part, file in train.pretrained.items() if file}
    assert files == ({"visual", "text"} if msam else {"model", "words"} if fine else {"visual", "words"})
    assert train.fresh == (["words", "positions"] if fine else [])
    assert config.model.text.type == ("bert" if msam else "gru") and config.model.text.gru.freeze_embedding
    assert config.model.fusion.type == ("kernels" if msam else "simple")
    assert data.sentences == "one" and data.vocab_from == ("train" if msam else "all")


@pytest.mark.parametrize("task", ["detection", "segmentation", "multitask", "msam"])
def test_one_of_a_kind_is_built_at_an_eighth_of_its_width(task: str) -> None:
    network = build_model(load_config(FOLDER / f"refcoco_{task}.yaml", list(NARROW)))
    arrays = parameter_arrays(network)
    positions = {"detection": 5, "segmentation": 37, "multitask": 42, "msam": 5}
    assert len(arrays["sequence_head.places"]) == positions[task]
    assert ("text_encoder.bert.embeddings.word_embeddings.embedding_table" in arrays) is (task == "msam")
    assert all(np.isfinite(array).all() for array in arrays.values())


@pytest.mark.parametrize(
    ("file", "words", "said"),
    [
        ("refcoco_detection", "--data.img_size=600", "multiple of 32"),
        ("refcoco_detection", "--data.img_size=672 --model.head.mapping=absolute", "640"),
        ("refcoco_detection", "--model.text.gru.hidden=100", "make them equal"),
        ("refcoco_segmentation", "--model.head.num_ray=2", "at least 3"),
        ("refcoco_segmentation", "--model.head.shuffle_fraction=1.5", "at most 1"),
        ("refcoco_multitask", "--train.warmup_steps=5", "train.schedule"),
        ("dior_rsvg_msam", "--model.fusion.window=0", "at least 1"),
        ("dior_rsvg_msam", "--data.max_len=600", "512 positions"),
        ("dior_rsvg_msam", "--train.pretrained.glove=x", "pretrained"),
        ("mixed_detection", "--data.seqtr.box=corners", "xywh"),
        ("mixed_detection", "--data.vocab_from=test", "train"),
    ],
)
def test_a_contradiction_is_refused(file: str, words: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build_model(load_config(FOLDER / f"{file}.yaml", ["--model.text.vocab_size=30", *words.split()]))
