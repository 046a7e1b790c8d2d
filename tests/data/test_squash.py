"""The recipe `squash`: Pillow's resize, the black squares of RMSIN's training."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mindground.data.transforms.squash import (
    BOX_SIDE,
    SquashParams,
    SquashTransform,
    black_boxed,
    draw_boxes,
    nearest_pixels,
    paint_boxes,
)
from mindground.structures import Sample, referent_truth
from mindground.structures.overlap import once_covered, part_counts


def _transform(**keys: object) -> SquashTransform:
    common = {"img_size": 64, "mean": (0.0,) * 3, "std": (1.0,) * 3, "truth": referent_truth}
    return SquashTransform(**common, **keys)  # type: ignore[arg-type]


def _sample(number: int) -> Sample:
    box = np.asarray([[0, 0, 100, 80]], np.float32)
    return Sample("", f"s{number}", f"i{number}", "a", box, object_ids=(f"o{number}",))


IMAGE = np.random.default_rng(0).integers(1, 256, (80, 100, 3), np.uint8)


def test_images_are_resized_as_pillow_does() -> None:
    sample = _sample(0)
    transform = _transform()
    example = transform.apply(SquashParams(64), sample, IMAGE, referent_truth(sample))
    theirs = np.asarray(Image.fromarray(IMAGE).resize((64, 64), Image.Resampling.BILINEAR), np.float32) / np.float32(
        255
    )
    assert np.array_equal(example.arrays["image"], theirs.transpose(2, 0, 1))
    mask = (IMAGE[:, :, 0] > 127).astype(np.uint8)
    theirs = np.asarray(Image.fromarray(mask).resize((33, 21), Image.Resampling.NEAREST))
    assert np.array_equal(nearest_pixels(mask, (21, 33)), theirs)


def test_recorded_squares_give_the_same_image_again_and_leave_the_original() -> None:
    before = IMAGE.copy()
    sample, transform = _sample(0), _transform(black_boxes="legacy", black_box_part=1.0)
    params = transform.draw_params(np.random.default_rng(3), (80, 100), sample.boxes_xyxy, "a")
    assert 20 <= len(params.boxes) <= 60
    first, second = (transform.apply(params, sample, IMAGE, referent_truth(sample)) for _ in range(2))
    assert np.array_equal(first.arrays["image"], second.arrays["image"])
    assert np.array_equal(IMAGE, before)
    painted = paint_boxes(IMAGE, params.boxes)
    black = np.zeros((80, 100), bool)
    for x, y in params.boxes:
        black[y : y + BOX_SIDE, x : x + BOX_SIDE] = True
    assert not painted[black].any() and np.array_equal(painted[~black], IMAGE[~black]) and black.any()


def test_legacy_draws_both_coordinates_from_the_width() -> None:
    rng = np.random.default_rng(0)
    legacy = np.concatenate([draw_boxes(rng, (40, 400), "legacy") for _ in range(20)])
    inside = np.concatenate([draw_boxes(rng, (40, 400), "inside") for _ in range(20)])
    assert legacy[:, 1].max() > 300 and inside[:, 1].max() == 40 - BOX_SIDE
    assert legacy.min() >= 0 and max(legacy[:, 0].max(), inside[:, 0].max()) == 400 - BOX_SIDE
    # An image smaller than a square is painted from its corner.
    assert set(draw_boxes(rng, (20, 30), "legacy")) == {(0, 0)}


def test_a_fifth_of_the_objects_is_painted_and_always_the_same() -> None:
    chosen = [black_boxed(_sample(number), 0.2) for number in range(2000)]
    assert 0.17 < np.mean(chosen) < 0.23
    assert chosen == [black_boxed(_sample(number), 0.2) for number in range(2000)]
    assert not any(black_boxed(_sample(number), 0.0) for number in range(100))
    transform = _transform(black_boxes="inside")
    params = transform.draw_params(np.random.default_rng(3), (80, 100), np.zeros((1, 4)), "a")
    for number in range(20):
        sample = _sample(number)
        image = transform.apply(params, sample, IMAGE, referent_truth(sample)).arrays["image"]
        assert (image == 0).all(0).any() == chosen[number], number


def test_nothing_is_painted_by_default() -> None:
    params = _transform().draw_params(np.random.default_rng(3), (80, 100), np.zeros((1, 4)), "a")
    assert params.boxes == () and not params.flip


def test_what_two_parts_cover_is_background_in_published_training() -> None:
    left, right = [0, 0, 10, 0, 10, 10, 0, 10], [5, 0, 15, 0, 15, 10, 5, 10]
    counts = part_counts([left, right], (12, 20))
    assert counts.max() == 2 and counts[5, 7] == 2
    assert once_covered([left], (12, 20)) == [left]
    outline = once_covered([left, right], (12, 20))
    assert part_counts(outline, (12, 20))[5].tolist() == (counts[5] == 1).astype(int).tolist()


def test_a_wrong_part_is_refused() -> None:
    from mindground.config import load_config
    from mindground.errors import ConfigError

    for wrong in ("2", "-0.1"):
        with pytest.raises(ConfigError, match="black_box_part"):
            load_config(overrides=["--data.transform.name=squash", f"--data.transform.black_box_part={wrong}"])
    with pytest.raises(ConfigError, match="flip_prob"):
        load_config(overrides=["--data.transform.name=squash", "--data.transform.flip_prob=2"])
    # All objects, always.
    always = ["--data.transform.black_box_part=1", "--data.transform.vertical_flip_prob=1"]
    assert load_config(overrides=["--data.transform.name=squash", *always]).data.transform.black_box_part == 1
