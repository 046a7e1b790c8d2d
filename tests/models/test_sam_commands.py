"""Every flag of segment-anything's scripts, typed once, and the names of its Python interface."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from commands import call
from mindground import config as cf
from mindground.cli import predict
from mindground.cli.verbs import main as mindground
from mindground.errors import ConfigError
from mindground.inference.session import SamPredictor
from mindground.models.sam.everything import EverythingOptions, MaskGenerator

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models" / "sam-commands.md"

# Flags of scripts/amg.py with a value -> whether it is read here, or what the refusal says.
AMG = {
    "--input images": "--image PATH",
    "--output masks": "--everything DIR",
    "--checkpoint sam.pth": "--ckpt FILE",
    "--model-type vit_b": "the checkpoint says what network it holds",
    "--convert-to-rle": True,
    "--points-per-side 16": True,
    "--points-per-batch 8": True,
    "--pred-iou-thresh 0.8": True,
    "--stability-score-thresh 0.9": True,
    "--stability-score-offset 0.5": True,
    "--box-nms-thresh 0.6": True,
    "--crop-n-layers 1": True,
    "--crop-nms-thresh 0.6": True,
    "--crop-overlap-ratio 0.25": True,
    "--crop-n-points-downscale-factor 2": True,
    "--min-mask-region-area 100": True,
}
DEVICE = {"--device cuda": "--device_target=GPU", "--device cpu": "--device_target=CPU"}
EXPORT = (
    "--checkpoint F.pth",
    "--output F.onnx",
    "--model-type vit_b",
    "--return-single-mask",
    "--opset 17",
    "--quantize-out Q.onnx",
    "--gelu-approximate",
    "--use-stability-score",
    "--return-extra-metrics",
)


@pytest.mark.parametrize("flag", AMG)
def test_a_flag_of_amg(flag: str, tmp_path: Path) -> None:
    done = call(predict.main, "--image", "none.png", "--everything", "out", *flag.split(), cwd=tmp_path)
    wanted = AMG[flag]
    # What is read goes on until the image is missing.
    reason = "there is no image or folder none.png" if wanted is True else f"{flag.split()[0]} is not read; write "
    assert done.returncode == 2 and reason in done.stderr, done.stderr
    assert wanted is True or str(wanted) in done.stderr


@pytest.mark.parametrize("flag", DEVICE)
def test_the_device(flag: str) -> None:
    with pytest.raises(ConfigError, match=DEVICE[flag]):
        cf.load_config(None, ["--family=sam", *flag.split()])


def test_the_type_of_a_network_that_is_built() -> None:
    with pytest.raises(ConfigError, match="--model.sam_type=vit_l"):
        cf.load_config(None, ["--family=sam", "--model-type", "vit_l"])


@pytest.mark.parametrize("flag", EXPORT)
def test_there_is_no_export_yet(flag: str) -> None:
    done = call(lambda words: mindground(words), "export", *flag.split())
    assert done.returncode == 2 and "there is no verb 'export'" in done.stderr


def test_the_generator_has_the_published_options() -> None:
    assert list(inspect.signature(EverythingOptions).parameters) == [
        "points_per_side",
        "points_per_batch",
        "pred_iou_thresh",
        "stability_score_thresh",
        "stability_score_offset",
        "box_nms_thresh",
        "crop_n_layers",
        "crop_nms_thresh",
        "crop_overlap_ratio",
        "crop_n_points_downscale_factor",
        "point_grids",
        "min_mask_region_area",
        "output_mode",
    ]
    assert list(inspect.signature(MaskGenerator.generate).parameters) == ["self", "image"]


def test_the_predictor_has_the_published_names() -> None:
    names = ["point_coords", "point_labels", "box", "mask_input", "multimask_output", "return_logits"]
    assert list(inspect.signature(SamPredictor.predict).parameters)[1:] == names
    assert list(inspect.signature(SamPredictor.set_image).parameters)[1:] == ["image", "image_format"]
    assert list(inspect.signature(SamPredictor.forward).parameters)[1:] == ["batched_input", "multimask_output"]
    for name in ("reset_image", "get_image_embedding", "predict_batch", "original_size", "input_size", "is_image_set"):
        assert hasattr(SamPredictor, name)


@pytest.mark.parametrize("name", ["predict_torch", "set_torch_image", "transform", "device", "features", "model"])
def test_an_old_name_of_the_predictor_is_refused_with_the_new_one(name: str) -> None:
    predictor = SamPredictor(None)  # type: ignore[arg-type]
    with pytest.raises(AttributeError, match=f"SamPredictor has no {name}: .+"):
        getattr(predictor, name)
    assert not hasattr(predictor, name)
    assert f"`predictor.{name}" in PAGE.read_text("utf-8")


def test_the_page_has_a_line_for_every_flag() -> None:
    page = PAGE.read_text("utf-8")
    for flag in [*AMG, *DEVICE, *EXPORT]:
        assert re.search(rf"`[^`]*{flag.split()[0]}\b[^`]*`", page), flag
    for option in inspect.signature(EverythingOptions).parameters:
        if option not in ("point_grids", "output_mode"):
            assert f"`--{option.replace('_', '-')}`" in page
    from mindground.inference.everything_files import COLUMNS

    assert all(f"`{column}`" in page for column in COLUMNS)
