"""Real networks, very small and untrained: everything, kept embeddings, sentences of every grounding family."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from cli.test_predict_masks import build_checkpoint
from commands import call
from mindground import Predictor
from mindground.cli import predict
from mindground.errors import DataError, ImageError
from mindground.inference.grounded import GroundedPredictor
from prompts import save, scene

IMAGE = scene((60, 90), [(20, 10, 50, 40)])
TINY = (
    *("--family=sam", "--data.img_size=32", "--model.encoder.img_size=32", "--model.encoder.embed_dim=8"),
    *("--model.encoder.depth=2", "--model.encoder.num_heads=2", "--model.encoder.mlp_dim=16"),
    *("--model.encoder.window_size=2", "--model.encoder.global_blocks=[1]", "--model.decoder.width=16"),
    *("--model.decoder.num_heads=2", "--model.decoder.mlp_dim=16", "--model.decoder.iou_hidden=16"),
    "--device.mode_name=PYNATIVE",
)
WIDE: dict[str, Any] = {"points_per_side": 2, "pred_iou_thresh": -9.0, "stability_score_thresh": 0.0}


def sam_checkpoint(folder: Path, *more: str, seed: int = 1) -> Path:
    import mindspore as ms

    from mindground.config import load_config
    from mindground.engine.checkpoint import save_checkpoint
    from mindground.models import build_model
    from mindground.runtime.device import apply

    config = load_config(None, [*TINY, *more])
    apply(**vars(config.device))
    ms.set_seed(seed)
    np.random.seed(seed)
    return save_checkpoint(folder / f"sam{seed}.ckpt", build_model(config), config, None, {"step": 0, "epoch": 0})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sam_checkpoint(tmp_path_factory.mktemp("sam"))


@pytest.fixture(scope="module")
def segmenter(checkpoint: Path) -> Predictor:
    return Predictor.load(checkpoint, mode="PYNATIVE")


def test_everything_asks_as_many_prompts_as_there_are_points(segmenter: Predictor) -> None:
    with segmenter.open(IMAGE) as session:
        one = session.everything(**WIDE, points_per_batch=1, output_mode="coco_rle")
        all_at_once = session.everything(**WIDE, output_mode="coco_rle")
        alone = session(points=[(22.5, 15.0)])  # the first point of the grid
        assert [r["point_coords"] for r in one] == [r["point_coords"] for r in all_at_once]
        assert np.allclose([r["predicted_iou"] for r in one], [r["predicted_iou"] for r in all_at_once], atol=1e-5)
        own = [r["predicted_iou"] for r in one if r["point_coords"] == [[22.5, 15.0]]]
        assert own and all(np.isclose(alone.extras["expected_iou"], rating, atol=1e-5).any() for rating in own)
        crops = session.everything(**WIDE | {"points_per_side": 1}, crop_n_layers=1, output_mode="coco_rle")
    for record in [*one, *crops]:
        mask = coco_mask.decode(record["segmentation"])
        assert mask.shape == (60, 90) and mask.sum() == record["area"] > 0


def test_a_kept_embedding_answers_as_the_image(segmenter: Predictor, checkpoint: Path, tmp_path: Path) -> None:
    path = save(tmp_path / "in" / "a.png", IMAGE)
    words = ("--ckpt", checkpoint, "--image", path, "--mode_name", "PYNATIVE")
    for dtype in ("float32", "float16"):
        done = call(predict.main, *words, "--embed", tmp_path / dtype, "--embed-dtype", dtype)
        assert done.returncode == 0, done.stderr
    with segmenter.open(path) as image, segmenter.open(tmp_path / "float32" / "a.safetensors") as kept:
        assert (kept.size, kept.low_size, kept.image) == (image.size, image.low_size, None)
        for prompt in ({"points": [(30, 20)]}, {"box": (20, 10, 50, 40)}):
            one, other = image(**prompt), kept(**prompt)
            assert one.masks == other.masks and np.array_equal(one.scores, other.scores)
        assert kept.everything(**WIDE, output_mode="coco_rle") == image.everything(**WIDE, output_mode="coco_rle")
        with pytest.raises(DataError, match="crop_n_layers=1 needs the pixels"):
            kept.everything(**WIDE, crop_n_layers=1)
        half = segmenter.open(str(tmp_path / "float16" / "a.safetensors"))
        near = half(points=[(30, 20)]).extras["expected_iou"]
        assert np.allclose(near, image(points=[(30, 20)]).extras["expected_iou"], atol=1e-2)
    with pytest.raises(ImageError, match="mean nothing"):
        segmenter.open(tmp_path / "float32" / "a.safetensors", bgr=True)


def test_an_embedding_of_another_network_is_refused(segmenter: Predictor, checkpoint: Path, tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", IMAGE)
    done = call(
        predict.main, "--ckpt", checkpoint, "--image", path, "--mode_name", "PYNATIVE", "--embed", tmp_path / "kept"
    )
    assert done.returncode == 0, done.stderr
    for more, seed in (((), 2), (("--data.img_size=48",), 1), (("--data.mean=[0.1,0.2,0.3]",), 1)):
        other = Predictor.load(sam_checkpoint(tmp_path, *more, seed=seed), mode="PYNATIVE")
        with pytest.raises(DataError, match="was encoded by network"):
            other.open(tmp_path / "kept" / "a.safetensors")
    # What the encoder does not depend on changes nothing.
    same = Predictor.load(
        sam_checkpoint(tmp_path, "--model.encoder.train=false", "--model.prompts.rounds=1"), mode="PYNATIVE"
    )
    assert same.network_key == segmenter.network_key
    assert same.open(tmp_path / "kept" / "a.safetensors").size == (60, 90)


def test_everything_by_the_command(checkpoint: Path, tmp_path: Path) -> None:
    save(tmp_path / "a.png", IMAGE)
    words = (
        "--ckpt",
        checkpoint,
        "--image",
        "a.png",
        "--mode_name",
        "PYNATIVE",
        "--everything",
        "out",
        "--rle",
        "sa1b",
    )
    loose = ("--points-per-side", 2, "--pred-iou-thresh", -9, "--stability-score-thresh", 0, "--crop-n-layers", 1)
    done = call(predict.main, *words, *loose, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    annotations = json.loads((tmp_path / "out" / "a.json").read_text())["annotations"]
    assert annotations and all(coco_mask.area(one["segmentation"]) == one["area"] for one in annotations)


@pytest.mark.parametrize("family", ["vglaw", "boxes", "rmsin"])
def test_sentences_of_every_kind_of_network(
    segmenter: Predictor, checkpoint: Path, tmp_path: Path, family: str
) -> None:
    grounder = build_checkpoint(tmp_path / family, family)
    shutil.copy(save(tmp_path / "x" / "a.png", IMAGE), tmp_path / "a.png")
    predictor = GroundedPredictor(Predictor.load(grounder, mode="PYNATIVE"), segmenter)
    alone = Predictor.load(grounder, mode="PYNATIVE")(IMAGE, "the red ship")
    with predictor.open(IMAGE) as session:
        found = session("the red ship")
        assert found.scores == alone.scores and found.expression == "the red ship"
        assert np.allclose(found.extras["prompt_boxes"], np.clip(alone.boxes_xyxy, 0, [90, 60, 90, 60]))
        assert np.isnan(found.extras["prompt_points"]).all() == (family == "boxes")
        prompt: dict[str, Any] = {"box": found.extras["prompt_boxes"][0], "multimask": False}
        if family != "boxes":
            prompt |= {"points": found.extras["prompt_points"]}
        assert session(**prompt).masks == found.masks  # its mask is the answer
    words = ("--ckpt", checkpoint, "--ground", grounder, "--image", "a.png", "--text", "the red ship", "--json")
    done = call(predict.main, *words, "--mode_name", "PYNATIVE", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)["annotations"]
    assert record["segmentation"] == found.masks[0] and record["text"] == "the red ship"
