"""Features of frozen encoders: the same numbers as without keeping them, and no second run of the encoders."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import pytest

from engine.fakes import OneRank
from mindground.config import Config, from_dict
from mindground.engine.assemble import assemble
from mindground.engine.features import DiskStore, open_stores
from mindground.engine.forward import Runner
from mindground.engine.trainer import Trainer
from mindground.errors import CheckpointError, ConfigError
from mindground.files.text import read_lines

TOWERS = {
    "patch_size": 16,
    "vision_width": 16,
    "vision_layers": 2,
    "vision_heads": 2,
    "vocab_size": 0,
    "context_length": 12,
    "text_width": 16,
    "text_layers": 1,
    "text_heads": 2,
    "embed_dim": 16,
}


def small(folder: Path, name: str, data: dict[str, Any] | None = None, **settings: Any) -> Config:
    train_clip, mode = settings.pop("train_clip", "nothing"), settings.pop("mode", "GRAPH")
    return from_dict(
        {
            "family": "clipvg",
            "model": {
                "clip_model": "",
                "clip": TOWERS,
                "extract_layers": [0, 1],
                "vl_nheads": 2,
                "vl_dim_feedforward": 32,
                "vl_enc_layers": 2,
                "vl_dropout": 0.1,
                "max_query_len": 12,
                "train_clip": train_clip,
            },
            "data": {
                "dataset": "synthetic",
                "recipe": "transvg",
                "img_size": 64,
                "max_len": 12,
                "translate": True,
                "flip_prob": 0.5,
                "augment_variants": 2,
                "synthetic": {"train_images": 4, "val_images": 2, "image_size": 64},
                **(data or {}),
            },
            "train": {
                "batch_size": 4,
                "max_epochs": settings.pop("max_epochs", 4),
                "clip_max_norm": 0.0,
                "random_encoders": True,
                "log_freq": 1,
                "output_dir": str(folder),
                "experiment_name": name,
                **settings,
            },
            "eval": {"batch_size": 4},
            "device": {"mode_name": mode},
        }
    )


def run(config: Config) -> tuple[Trainer, list[dict[str, Any]]]:
    from mindground.runtime import device

    device.apply(**vars(config.device))
    device.seed_everything(config.train.seed)
    comm = OneRank()
    trainer = Trainer(config, comm, assemble(config, comm))
    folder = trainer.run()
    return trainer, [json.loads(line) for line in read_lines(folder / "log.jsonl")]


def totals(rows: list[dict[str, Any]], kind: str, name: str) -> np.ndarray:
    return np.asarray([row[name] for row in rows if row["kind"] == kind])


def test_kept_features_train_to_the_same_numbers(tmp_path: Path) -> None:
    _, plain = run(small(tmp_path, "plain"))
    trainer, kept = run(small(tmp_path, "kept", feature_cache=str(tmp_path / "features")))
    assert totals(plain, "train", "total") == pytest.approx(totals(kept, "train", "total"), rel=1e-5)
    assert totals(plain, "eval", "box_mean_iou") == pytest.approx(totals(kept, "eval", "box_mean_iou"), abs=1e-5)
    # Dropout and augmentation were on, or this proves little.
    assert len(set(np.round(totals(plain, "train", "total"), 6))) > 3

    files = {path.name for path in (tmp_path / "features").rglob("*.npz")}
    calls: list[str] = []
    again = small(tmp_path, "again", feature_cache=str(tmp_path / "features"))
    ms.set_context(mode=ms.GRAPH_MODE)
    comm = OneRank()
    from mindground.runtime import device

    device.seed_everything(again.train.seed)
    parts = assemble(again, comm)
    second = Trainer(again, comm, parts)
    for half in ("encode_image", "encode_text"):
        object.__setattr__(parts.model, half, lambda *_, half=half: calls.append(half))
    second.run()
    assert calls == []
    assert {path.name for path in (tmp_path / "features").rglob("*.npz")} == files
    for (name, one), (_, other) in zip(
        trainer.parts.model.parameters_and_names(), parts.model.parameters_and_names(), strict=True
    ):
        assert np.array_equal(one.asnumpy(), other.asnumpy()), name


def test_each_encoder_is_kept_by_itself(tmp_path: Path) -> None:
    """Text features where only the text encoder is frozen, and the same numbers as without."""
    _, plain = run(small(tmp_path, "plain", train_clip="visual_positions", mode="PYNATIVE", max_epochs=2))
    store = tmp_path / "features"
    _, kept = run(
        small(
            tmp_path,
            "kept",
            train_clip="visual_positions",
            feature_cache=str(store),
            mode="PYNATIVE",
            max_epochs=2,
        )
    )
    assert [path.name.split("-")[:2] for path in store.iterdir()] == [["clipvg", "text"]]
    assert totals(plain, "train", "total") == pytest.approx(totals(kept, "train", "total"), rel=1e-5)


def test_half_as_large(tmp_path: Path) -> None:
    """Features in float16: batches hold float32 again, near the exact ones."""
    _, exact = run(small(tmp_path, "exact", feature_cache="memory", mode="PYNATIVE", max_epochs=2))
    store = tmp_path / "features"
    _, rounded = run(
        small(
            tmp_path,
            "rounded",
            feature_cache=str(store),
            feature_dtype="float16",
            mode="PYNATIVE",
            max_epochs=2,
        )
    )
    assert totals(exact, "train", "total") == pytest.approx(totals(rounded, "train", "total"), rel=5e-3)
    with np.load(next(store.rglob("*.npz"))) as archive:
        assert archive["arr_0"].dtype == np.float16


def test_features_are_computed_in_evaluation_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[bool] = []
    features = Runner.features

    def watched(self: Runner, encoder: str, arrays: Any) -> Any:
        modes.append(self.model.training)
        return features(self, encoder, arrays)

    monkeypatch.setattr(Runner, "features", watched)
    trainer, _ = run(small(tmp_path, "kept", feature_cache="memory", mode="PYNATIVE", max_epochs=1))
    assert modes and not any(modes) and trainer.parts.model.training


def test_what_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    cases = (
        ({"train_clip": "all"}, {}, "train_clip=nothing"),
        ({}, {"augment_variants": 0}, "data.augment_variants"),
    )
    for settings, data, says in cases:
        config = small(tmp_path, "refused", data, feature_cache="memory", **settings)
        with pytest.raises(ConfigError, match=says):
            run(config)


def test_a_damaged_feature_file_is_named(tmp_path: Path) -> None:
    store = DiskStore(tmp_path)
    store.put("abcd", [np.arange(3.0), np.ones((2, 2))])
    assert "abcd" in store and store.get("abce") is None
    first, second = store.get("abcd")
    assert first.tolist() == [0, 1, 2] and second.shape == (2, 2)
    path = next(tmp_path.rglob("*.npz"))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(CheckpointError, match="abcd.npz.*damaged"):
        store.get("abcd")


def test_other_encoders_find_no_features_of_these(tmp_path: Path) -> None:
    """A folder belongs to the weights of its own encoder, and to what says how it uses them."""
    from mindground.models import build_model

    def folders(**changed: Any) -> dict[str, Path]:
        config = small(tmp_path, "x")
        config.model.clip.vocab_size = 20
        for key, value in changed.items():
            if key != "weight":
                setattr(config.model, key, value)
        ms.set_seed(1)
        model = build_model(config)
        table = model.clip.visual.positional_embedding
        table.set_data(table + changed.get("weight", 0.0))
        options = {
            "family": "clipvg",
            "settings": asdict(config.model),
            "variants": 1,
            "dtype": "float32",
            "precision": "float32",
        }
        stores = open_stores(model, str(tmp_path), **options)
        return {name: store.folder for name, store in stores.items() if isinstance(store, DiskStore)}

    usual, moved, elsewhere = folders(), folders(weight=1.0), folders(vl_dropout=0.3)
    assert usual["image"] != moved["image"] and usual["text"] == moved["text"]
    assert usual == elsewhere, "the joint encoder changes no feature"
    assert usual["image"] != folders(extract_layers=[1])["image"]
