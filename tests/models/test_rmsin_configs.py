"""The files of configs/rmsin: each resolves to what was published, and its network is built at reduced width."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mindground.config import load_config
from mindground.config.registry import dataset_names
from mindground.models import build_model
from mindground.weights.load import parameter_arrays

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "rmsin"
FILES = sorted(path for path in FOLDER.glob("*.yaml") if "published" not in path.name)
# Trainings of the small default, which nobody published.
SMALL = {"tiny_synthetic": "synthetic", "lavt_tiny_synthetic": "synthetic", "nwpu_small": "rrsisd"}
# Data set of a file's name -> data set and division.
SETS = {
    "rrsisd": ("rrsisd", "unc"),
    "refcoco": ("refcoco", "unc"),
    "refcoco+": ("refcoco+", "unc"),
    "refcocog_umd": ("refcocog", "umd"),
    "refcocog_google": ("refcocog", "google"),
    "refsegrs": ("refsegrs", ""),
    "risbench": ("risbench", ""),
    "remotesam_896": ("rrsisd", "unc"),
}
NARROW = (
    "--model.swin_type=",
    "--model.swin.embed_dim=8",
    "--model.swin.depths=[1,1,2,1]",
    "--model.swin.num_heads=[1,1,2,2]",
    "--model.text.vocab_size=30",
    "--model.text.hidden_size=16",
    "--model.text.num_hidden_layers=1",
    "--model.text.num_attention_heads=2",
    "--model.text.intermediate_size=16",
    "--model.cim.heads=2",
    "--model.cim.key_dim=4",
)


def test_every_set_has_its_file() -> None:
    natural = [name for name in SETS if name.startswith("refcoco")]
    wanted = [*SETS, "lavt_rrsisd", *(f"lavt_{name}" for name in natural)]
    assert sorted(path.stem for path in FILES) == sorted([*wanted, *SMALL])


def _here(path: Path) -> str:
    """The data set of a file, which has a reader."""
    dataset = SMALL.get(path.stem) or SETS[path.stem.removeprefix("lavt_")][0]
    assert dataset in dataset_names()
    return dataset


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_resolves_and_builds(path: Path) -> None:
    dataset = _here(path)
    config = load_config(path)
    lavt, remote = path.stem.startswith("lavt_"), "896" in path.stem
    assert config.family == "rmsin" and config.data.dataset == dataset
    assert config.model.rotates is not lavt
    if path.stem not in SMALL:
        named, division = SETS[path.stem.removeprefix("lavt_")]
        assert not division or config.data.splitBy == division
        assert config.train.experiment_name == (path.stem if lavt or remote else f"rmsin_{path.stem}")
        train, swin = config.train, config.model.swin
        assert (train.lr, train.batch_size, train.batch_sum) == ((5e-5, 8, 32) if lavt else (3e-5, 2, 8))
        assert (train.max_epochs, train.weight_decay, train.lr_scheduler, train.poly_power) == (40, 0.01, "poly", 0.9)
        assert (swin.embed_dim, swin.depths, swin.num_heads) == (128, [2, 2, 18, 2], [4, 8, 16, 32])
        assert (swin.window_size, config.data.img_size, config.data.max_len) == (12, 896 if remote else 480, 20)
        assert config.model.coefficients() == ((1.0, 0.0) if lavt else (0.9, 0.1))
        assert set(train.pretrained) == ({"model"} if remote else {"visual", "text"}) and named == dataset
    network = build_model(load_config(path, list(NARROW)))
    arrays = parameter_arrays(network)
    assert any(name.startswith("cim.") for name in arrays) is not lavt
    assert sum(array.size for array in arrays.values()) < 3_000_000
    if remote:
        tokens = 28**2 + 14**2 + 10**2
        assert arrays["cim.blocks.0.csa1.attention.proj.weight"].shape == (28**2, tokens)
    assert all(np.isfinite(array).all() for array in arrays.values())
