"""The recipe of TransVG and CLIP-VG: windows and scales there and back, what is drawn, and the released slips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data.transform_support import WithTargets, make
from mindground.config import DataConfig, load_config, transform_config
from mindground.data.transforms import RECIPES, Crop, TransformParams, TransvgTransform, build_transform
from mindground.data.transforms.transvg import crop_accepted, draw_transvg_params, scale_sizes, transvg_geometry
from mindground.errors import ConfigError, DataError
from mindground.structures import (
    Example,
    Sample,
    clip_boxes,
    cxcywh_to_xyxy,
    encode_mask,
    mask_box,
    referent_truth,
)
from mindground.text import build_wordpiece

SIDE = 96
WORDS = build_wordpiece(["the left right top bottom bright bleft white cake"])
sizes = st.tuples(st.integers(1, 900), st.integers(1, 900))
EVERYTHING = {"aug_crop": True, "aug_scale": True, "translate": True, "flip_prob": 0.5, "vertical_flip_prob": 0.5}


def recipe(training: bool = True, **options: object) -> WithTargets:
    return make(TransvgTransform, WORDS, training, **{"img_size": SIDE, "flip_prob": 0.0, **options})


def scene(tmp_path: Path, text: str = "the white cake") -> Sample:
    """Dark, with a white rectangle, which is the referent."""
    mask = np.zeros((150, 200), np.uint8)
    mask[50:110, 30:90] = 1
    Image.fromarray(np.repeat(mask[..., None] * 255, 3, -1)).save(tmp_path / "scene.png")
    return Sample(str(tmp_path / "scene.png"), "s", "i", text, mask_box(mask)[None], (encode_mask(mask),))


@given(sizes, st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=120, deadline=None)
def test_boxes_come_back_through_both_resizes_and_the_window(shape: tuple[int, int], seed: int, legacy: bool) -> None:
    rng = np.random.default_rng(seed)
    box = (np.sort(rng.random((2, 2)), 0) * (shape[1], shape[0])).reshape(-1)
    options = {**EVERYTHING, "legacy_augmentation": legacy, "img_size": 224}
    params = draw_transvg_params(rng, shape, box, "a white cake", **options)
    geometry = transvg_geometry(params, shape, 224)
    top, left, bottom, right = geometry.visible()
    assert 0 <= top < bottom <= 224 and 0 <= left < right <= 224 and max(bottom - top, right - left) == params.size
    back = geometry.boxes_to_original(geometry.boxes_to_canvas(box), clip=False)[0]
    np.testing.assert_allclose(back, box, atol=1e-3 * max(shape) / 100)
    if not legacy:
        seen = recipe(**options).canvas_box(params, geometry, box)
        inside = geometry.boxes_to_original(seen)[0]
        # What the window cut off is gone; its centre stayed.
        assert (inside[2:] >= inside[:2]).all() and (clip_boxes(inside, shape) == inside).all()
        assert seen.min() >= -1e-3 and seen.max() <= 224 + 1e-3


def test_training_keeps_image_mask_box_and_padding_together(tmp_path: Path) -> None:
    sample, transform, seen = scene(tmp_path), recipe(**EVERYTHING), set()
    for seed in range(40):
        arrays, geometry = (example := transform(sample, np.random.default_rng(seed))).arrays, example.geometry
        mask, box = arrays["mask"][0], cxcywh_to_xyxy(arrays["box"]) * SIDE
        np.testing.assert_allclose(mask_box(mask), box, atol=1.01)
        white = (arrays["image"] > 1.9).all(0)
        assert np.count_nonzero(white & (mask > 0)) > 0.75 * mask.sum() and not (white & (mask == 0)).any()
        assert not arrays["image"][:, arrays["padding"] == 1].any() and arrays["image"][:, arrays["padding"] == 0].all()
        seen.add((geometry.flipped, geometry.upside_down, geometry.window is not None))
        _comes_back(example, sample)
    assert len(seen) == 8, "every combination of mirrors, with and without a window"


def _comes_back(example: Example, sample: Sample) -> None:
    """The canvas mask, mapped back, covers the referent but for what was cut, and nothing else."""
    geometry, truth = example.geometry, sample.masks((150, 200))[0]
    assert (back := geometry.map_to_original(example.arrays["mask"][0]) > 0.5).shape == (150, 200)
    box = geometry.boxes_to_original(cxcywh_to_xyxy(example.arrays["box"]) * SIDE)[0]
    np.testing.assert_allclose(mask_box(back), box, atol=5)  # a pixel of the canvas is up to three of the original
    assert truth[back].mean() > 0.9


def test_evaluation_smooths_what_it_shrinks_and_centres_it(tmp_path: Path) -> None:
    sample = scene(tmp_path)
    example = recipe(False, **EVERYTHING, mean=[0.0] * 3, std=[1 / 255] * 3)(sample, np.random.default_rng(0))
    expected = Image.open(sample.image_path).resize((96, 72), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(example.arrays["image"][:, 12:84].transpose(1, 2, 0), np.asarray(expected), atol=1e-3)
    assert example.geometry.offset == (0, 12) and example.geometry.window is None
    assert example.arrays["padding"].sum() == 24 * 96 and example.arrays["padding"].dtype == np.uint8
    asked = recipe(False).from_image(np.asarray(Image.open(sample.image_path)), "the white cake")
    assert set(asked.arrays) == {"image", "padding", "token_ids", "token_mask"}


def test_the_number_of_draws_never_depends_on_the_image() -> None:
    states = set()
    options = {**EVERYTHING, "aug_blur": True, "color_jitter_prob": 0.8, "img_size": SIDE}
    for shape, text in (((600, 800), "a cake"), ((600, 800), "the left cake"), ((3, 900), "a cake")):
        for box in ([0, 0, 1, 1], [1, 1, 3, 3]):
            rng = np.random.default_rng(4)
            draw_transvg_params(rng, shape, np.asarray(box, float), text, **options)
            states.add(rng.integers(2**60))
    assert len(states) == 1


def drawn_params(text: str, count: int = 60, **options: object) -> list[TransformParams]:
    box = np.asarray([300.0, 300, 350, 350])
    options = {"img_size": 224, **options}
    return [draw_transvg_params(np.random.default_rng(s), (800, 800), box, text, **options) for s in range(count)]


def test_windows_as_published() -> None:
    drawn = drawn_params("a cake", 300, aug_crop=True)
    cut = [params.crop for params in drawn if params.crop]
    assert 0.4 < len(cut) / len(drawn) < 0.6 and {params.short_side for params in drawn} == {None, 400, 500, 600}
    assert min(c.width for c in cut) >= 384 and max(c.height for c in cut) <= 600 and len({c.width for c in cut}) > 50
    assert not any(params.crop for params in drawn_params("a cake"))


@pytest.mark.parametrize(
    ("text", "cut", "cut_legacy"),
    [
        ("the left ship", False, False),
        ("a bright stopped car", True, False),
        ("a plane near the upper edge", False, True),
        ("in the lower centre", False, True),
        ("the north-eastern tank", False, True),
        ("a least expensive flower", True, True),
    ],
)
def test_words_of_place_forbid_a_window(text: str, cut: bool, cut_legacy: bool) -> None:
    assert any(params.crop for params in drawn_params(text, aug_crop=True)) == cut
    assert any(params.crop for params in drawn_params(text, aug_crop=True, legacy_augmentation=True)) == cut_legacy


def test_scales_relative_and_released() -> None:
    assert {params.size for params in drawn_params("a cake", aug_scale=True)} == {224, 213, 202, 190, 179, 168, 157}
    legacy = drawn_params("a cake", aug_scale=True, legacy_augmentation=True)
    assert {params.size for params in legacy} == set(scale_sizes(224, True)) == {224, 192, 160, 128, 96, 64, 32}


def test_the_released_window_test_may_lose_the_referent(tmp_path: Path) -> None:
    box, window = np.asarray([50.0, 50, 60, 60]), Crop(0, 54, 384, 400)
    assert crop_accepted(box, window) and crop_accepted(box, window, legacy=True)
    beside = Crop(10, 0, 30, 40)
    assert crop_accepted(box, beside, legacy=True) and not crop_accepted(box, beside)
    assert not crop_accepted(np.asarray([50.0, 50, 50, 60]), window), "no area"
    sample, params = scene(tmp_path), TransformParams(SIDE, Crop(100, 0, 90, 90), short_side=150)
    image = np.asarray(Image.open(sample.image_path))
    with pytest.raises(DataError, match="'s'.*no area"):
        recipe().apply(params, sample, image, referent_truth(sample))
    assert recipe(legacy_augmentation=True).apply(params, sample, image, referent_truth(sample)).arrays["box"][2] == 0


def test_sentences_follow_the_mirror(tmp_path: Path) -> None:
    sample = scene(tmp_path, "the bright left cake")
    for legacy, text in ((False, "the bright right cake"), (True, "the bleft right cake")):
        example = recipe(flip_prob=1.0, legacy_augmentation=legacy)(sample, np.random.default_rng(0))
        np.testing.assert_array_equal(example.arrays["token_ids"], WORDS([text], 8)[0][0])
        assert example.geometry.flipped and example.arrays["box"][0] == pytest.approx(1 - 60 / 200)


def test_recipes_are_chosen_by_name() -> None:
    for name in ("transvg", "referent_window"):
        section = DataConfig(transform=transform_config(name))
        made = build_transform(section, "referring", referent_truth, tokenizer=WORDS, training=True)
        assert isinstance(made, TransvgTransform) == (name == "transvg") and isinstance(made, RECIPES[name].transform)
    section = DataConfig(transform=transform_config("transvg"))
    with pytest.raises(ConfigError, match="does not prepare instances samples.*stretch"):
        build_transform(section, "instances", referent_truth, tokenizer=WORDS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data.transform.aug_crop=true"], r"data\.transform\.aug_crop=[Tt]rue belongs to .*transvg"),
        (
            ["--recipe=transvg", "--multi_scale=true"],
            r"data\.transform\.multi_scale=[Tt]rue belongs to .*referent_window",
        ),
        (
            ["--recipe=transvg", "--img_size=96", "--aug_scale=true", "--legacy_augmentation=true"],
            r"data\.img_size=96 must be at least 193",
        ),
    ],
)
def test_keys_of_another_recipe_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, words)
