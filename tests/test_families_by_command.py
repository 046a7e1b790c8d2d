"""Two small families outside the package (tests/families) through the public commands: the contracts that VG-LAW and
CLIP-VG do not use, without any change to a file outside their folders.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import pytest

from commands import call
from mindground.cli import main
from mindground.config import load_config
from mindground.data import build_dataset
from mindground.data.make.synthetic import CATEGORIES
from mindground.engine.assemble import assemble
from mindground.engine.checkpoint import load_checkpoint, read_checkpoint
from mindground.engine.forward import Runner, evaluating
from mindground.engine.optim import optimizer_from_config
from mindground.engine.step import TrainStep
from mindground.inference import image_files
from mindground.inference.predictor import Predictor
from mindground.models import build_model, families, model_interface
from mindground.nn.batch_norm import buffers
from mindground.runtime import device, distributed
from mindground.structures import Batch, Prediction
from mindground.tasks import task_of
from mindground.visualize import samples as drawn_samples
from mindground.visualize.caption import Caption

FAMILIES = Path(__file__).resolve().parent / "families"
SOURCES = os.pathsep.join([str(FAMILIES.parents[1] / "src"), str(FAMILIES)])
SMALL = {
    "test_detector": ("--data.synthetic.train_images=8", "--data.synthetic.val_images=4"),
    "test_generator": ("--data.synthetic.train_images=3", "--data.synthetic.val_images=2"),
}


@pytest.fixture(autouse=True)
def restored_mode() -> Iterator[None]:
    """A command sets the mode of its process; the next test finds the one from before."""
    before = ms.get_context("mode")
    yield
    ms.set_context(mode=before)


def losses(folder: Path, kind: str = "train") -> list[dict[str, Any]]:
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").split("\n")
    return [record for record in map(json.loads, filter(None, lines)) if record["kind"] == kind]


def train(folder: Path, family: str, *more: str) -> Path:
    """The command `mindground train` in this process; the run folder."""
    words = [f"--family={family}", f"--data.root={folder / 'data'}", f"--train.output_dir={folder}", *SMALL[family]]
    done = call(main, "train", *words, "--train.log_freq=1", *more)
    assert done.returncode == 0, done.stderr
    return folder / family


def test_they_are_found_by_entry_point() -> None:
    assert {"test_detector", "test_generator", "vglaw", "clipvg"} <= set(families())
    config = load_config(None, ["--family=test_detector"])
    interface = model_interface(config)
    assert (interface.asks, interface.many, config.data.dataset) == ("nothing", True, "synthetic_instances")


@pytest.mark.parametrize("mode", ["GRAPH", "PYNATIVE"])
@pytest.mark.parametrize("family", ["test_detector", "test_generator"])
def test_train_evaluate_predict(family: str, mode: str, tmp_path: Path) -> None:
    folder = train(tmp_path, family, f"--mode_name={mode}", "--train.max_steps=3")
    assert len(losses(folder)) == 3 and all(np.isfinite(record["total"]) for record in losses(folder))
    best = str(folder / "best.ckpt")
    out, records = tmp_path / "scores.json", tmp_path / "records"
    options = ["--with-shuffled", "--out", str(out), "--records", str(records), f"--mode_name={mode}"]
    done = call(main, "eval", "--ckpt", best, *options)
    assert done.returncode == 0, done.stderr
    scores = json.loads(out.read_text("utf-8"))
    detects = family == "test_detector"
    assert ("box_ap" if detects else "prec@0.5") in scores and scores["shuffled"]["count"] == scores["count"]
    if detects:
        assert all({"image_id", "category_id", "bbox", "score"} <= set(one) for one in json.loads(records.read_text()))
    else:
        lines = [json.loads(line) for line in records.read_text("utf-8").split("\n") if line]
        assert len(lines) == scores["count"] and all(line["expression"] for line in lines)
    image = next((tmp_path / "data").rglob("*.png"))
    question = [] if detects else ["--text", "the red ship"]
    done = call(main, "predict", "--ckpt", best, "--image", str(image), "--out", str(tmp_path / "out"), *question)
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "out" / "predictions.json").read_text("utf-8"))
    # A detector's categories are its classes; a sentence is a category of its own.
    assert len(document["queries"]) == 1 and len(document["categories"]) == (4 if detects else 1)
    wrong = ["--text", "a ship"] if detects else []
    done = call(main, "predict", "--ckpt", best, "--image", str(image), "--out", str(tmp_path / "o2"), *wrong)
    assert done.returncode == 2 and ("leave the sentence out" if detects else "give a sentence") in done.stderr
    done = call(main, "show", "--ckpt", best, "--indexes", "0,1", "--out", str(tmp_path / "drawn.png"))
    assert done.returncode == 0 and (tmp_path / "drawn.png").is_file(), done.stderr


def test_show_and_predict_draw_what_the_task_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Class names and matches of instances reach the figure, and so does the threshold of the user."""
    config = load_config(None, ["--family=test_detector", f"--data.root={tmp_path}", *SMALL["test_detector"]])
    # A detector that finds every object exactly, under its own class.
    samples = list(build_dataset(config.data, "val"))
    truth = iter(samples)

    class Exact(Predictor):
        def __init__(self) -> None:
            self.config, self.categories, self.name, self.asks_expression = config, CATEGORIES, "exact", False
            self._task = task_of(model_interface(config))

        def __call__(self, image: np.ndarray, *_: Any) -> Prediction:
            sample = next(truth)
            count = len(sample.boxes_xyxy)
            return Prediction(image.shape[:2], sample.boxes_xyxy, np.full(count, 0.2), sample.labels)

    monkeypatch.setattr(Predictor, "load", lambda *_, **__: Exact())
    words: list[Caption] = []
    for module in (drawn_samples, image_files):
        monkeypatch.setattr(module, "draw", lambda image, *_, caption, **__: words.append(caption) or image)
    for more in ([], ["--min-score", "0.1"]):
        truth = iter(samples)
        done = call(
            main, "show", "--ckpt", "x.ckpt", "--sheet", "4", "--out", str(tmp_path / "a.png"), "--overwrite", *more
        )
        assert done.returncode == 0, done.stderr
    weak, all_found = words[:4], words[4:]
    for sample, low, high in zip(samples, weak, all_found, strict=True):
        count = len(sample.boxes_xyxy)
        names = tuple(CATEGORIES[int(label)] for label in sample.labels)
        assert low.truth_texts == high.truth_texts == names and low.shown == ()
        assert set(high.prediction_texts) == {f"{name} 0.20" for name in names}
        assert not count or high.sentence.startswith(f"{count} of {count} object")
        assert not count or low.sentence.startswith(f"0 of {count} object")
    words.clear()
    truth = iter([next(sample for sample in samples if len(sample.boxes_xyxy))] * 2)
    for more in ([], ["--min-score", "0.1"]):
        image = ["--image", samples[0].image_path, "--out", str(tmp_path / "out"), "--overwrite"]
        done = call(main, "predict", "--ckpt", "x.ckpt", *image, *more)
        assert done.returncode == 0, done.stderr
    assert words[0].shown == () and words[1].shown and "0.20" in words[1].prediction_texts[0]


@pytest.mark.parametrize("family", ["test_detector", "test_generator"])
def test_both_modes_have_the_same_numbers(family: str, tmp_path: Path, run_python: Callable[..., Any]) -> None:
    """Each mode in a process of its own, as users run them; Adam turns the last bit of a small gradient into a step."""
    # Every cell is matched: rounding must not decide which of two equally likely cells is.
    words = [f"--family={family}", "--max_steps=3", "--train.log_freq=1", *SMALL[family]]
    words += ["--model.proposals=64"] if family == "test_detector" else []
    curves = []
    for mode in ("GRAPH", "PYNATIVE"):
        folder = tmp_path / mode
        places = [f"--data.root={tmp_path / 'data'}", f"--train.output_dir={folder}", f"--mode_name={mode}"]
        done = run_python(["-m", "mindground", "train", *words, *places], timeout=180, PYTHONPATH=SOURCES)
        assert done.returncode == 0, done.stderr
        curves.append([record["total"] for record in losses(folder / family)])
    assert len(curves[0]) == 3
    np.testing.assert_allclose(curves[0], curves[1], rtol=2e-4)


def test_two_ranks_train_the_detector(tmp_path: Path, run_python: Callable[..., Any]) -> None:
    """With a normaliser over both ranks, and BatchNorm statistics that are equal before evaluation and save."""
    words = ["--family=test_detector", f"--data.root={tmp_path / 'data'}", f"--train.output_dir={tmp_path}"]
    words += [*SMALL["test_detector"], "--train.batch_size=2", "--train.log_freq=1", "--train.batch_norm=frozen"]
    done = run_python(["-m", "mindground", "train", *words], ranks=2, timeout=180, PYTHONPATH=SOURCES)
    assert done.returncode == 0, done.stderr
    two = [record["total"] for record in losses(tmp_path / "test_detector")]
    one = train(tmp_path / "one", "test_detector", "--train.batch_norm=frozen")
    # Frozen statistics: two ranks with two images are one process with four.
    np.testing.assert_allclose(two, [record["total"] for record in losses(one)], rtol=2e-4)
    refused = run_python(
        ["-m", "mindground", "train", *words, "--train.batch_norm=sync"], ranks=2, timeout=120, PYTHONPATH=SOURCES
    )
    assert refused.returncode == 2 and "batch_norm=sync cannot work with 2 ranks on CPUs" in refused.stderr


def test_the_frozen_image_encoder_is_kept_without_text(tmp_path: Path) -> None:
    plain = train(tmp_path / "plain", "test_detector", "--data.augment_variants=1")
    place = tmp_path / "features"
    kept = train(tmp_path / "kept", "test_detector", "--data.augment_variants=1", f"--train.feature_cache={place}")
    pairs = zip(losses(plain), losses(kept), strict=True)
    assert all(one["total"] == pytest.approx(two["total"], rel=1e-5) for one, two in pairs)
    assert [path.name.split("-")[:2] for path in place.iterdir()] == [["test_detector", "image"]]
    assert list(place.rglob("*.npz"))


def detector(*more: str) -> tuple[Any, Any, TrainStep, Batch]:
    """A detector with its first step and batch."""
    config = load_config(None, ["--family=test_detector", *SMALL["test_detector"], *more])
    device.apply(**vars(config.device))
    comm = distributed.get_comm()
    device.seed_everything(3)
    parts = assemble(config, comm)
    step = TrainStep(parts.model, optimizer_from_config(parts.model, config.train), comm, graph=True, seed=1)
    return config, parts.model, step, next(iter(parts.loader.epoch(0)))


def test_a_staged_step_moves_statistics_once_and_encodes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scout leaves BatchNorm alone, and what the frozen encoder gives is shared by scout and loss."""
    _, model, step, batch = detector()
    encoded: list[bool] = []
    features = Runner.features

    def watched(self: Runner, encoder: str, arrays: Any) -> Any:
        encoded.append(self.model.training)
        return features(self, encoder, arrays)

    monkeypatch.setattr(Runner, "features", watched)
    with evaluating(model):
        seen = model.mix(model.encode_image(ms.Tensor(batch.arrays["image"]))).asnumpy()
    step([batch], 1.0, 0)
    assert encoded == [False], "once, in evaluation mode"
    np.testing.assert_allclose(model.norm.moving_mean.asnumpy(), 0.1 * seen.mean((0, 2, 3)), rtol=1e-4, atol=1e-6)


def test_the_normaliser_is_the_mean_over_all_ranks() -> None:
    _, model, _, batch = detector()
    count = len(batch.samples)
    outputs = Runner(model, graph=False).scout(batch.arrays)

    class Other:
        """Another rank has found ten more."""

        def all_gather_object(self, value: float) -> list[float]:
            return [value, value + 10]

    rng = np.random.default_rng(0)
    alone = model.assign(outputs, batch, distributed.get_comm(), rng)
    together = model.assign(outputs, batch, Other(), rng)
    assert alone["proposal"].shape == (count, model.proposals)
    assert together["normaliser"][0] == pytest.approx(alone["matched"].sum() + 5)


def test_the_average_covers_statistics(tmp_path: Path) -> None:
    """What is kept as best holds averaged BatchNorm statistics, and the run goes on with the others."""
    folder = train(tmp_path, "test_generator", "--train.max_steps=3")
    best, last = (read_checkpoint(folder / f"{name}.ckpt").tensors for name in ("best", "last"))
    for name in buffers(build_model(load_checkpoint(folder / "best.ckpt").config)):
        np.testing.assert_array_equal(best[f"model/{name}"], last[f"ema/{name}"])
        assert not np.array_equal(last[f"model/{name}"], last[f"ema/{name}"]), name
    assert any(name.startswith("optimizer/vmax/") for name in last), "amsgrad keeps the largest second moment"


def test_decoding_with_a_cache_is_teacher_forcing_on_its_own_tokens(tmp_path: Path) -> None:
    config = load_config(None, ["--family=test_generator", *SMALL["test_generator"]])
    device.apply(**vars(config.device))
    device.seed_everything(5)
    parts = assemble(config, distributed.get_comm())
    model, batch = parts.model, next(iter(parts.loader.epoch(0)))
    runner = Runner(model, graph=True)
    with evaluating(model):
        tokens = model.infer(runner, batch.arrays)["tokens"]
        start = np.full((len(tokens), 1), model.bins)
        forced = {**batch.arrays, "previous": np.concatenate([start, tokens[:, :-1]], 1).astype(np.int32)}
        logits = runner.network(forced)["logits"]
    np.testing.assert_array_equal(logits.argmax(-1), tokens)
    assert len(runner._pieces) == 3, "memory, one decoding step for all places, and the network"
