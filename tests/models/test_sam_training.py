"""Segment Anything's prompts drawn from the truth, losses, clicks, metrics and transform; no network runs."""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
import pytest

from mindground.data.dataset import Dataset
from mindground.data.transforms.long_side import long_side_size
from mindground.errors import ConfigError, DataError
from mindground.metrics.prompted import PROMPTED_NAMES, PromptedMetrics
from mindground.models.interface import ModelInterface
from mindground.models.sam.config import TrainingConfig
from mindground.models.sam.evaluate import deepest_point, next_click, prompted_masks
from mindground.models.sam.kinds import BACKGROUND, FOREGROUND, NOT_A_POINT, TOP_LEFT
from mindground.models.sam.losses import dice_loss, error_click, focal_loss, mask_losses
from mindground.models.sam.targets import encode_prompts
from mindground.structures import Batch, Example, Geometry, Prediction, Sample
from mindground.tasks import task_for, task_of
from mindground.tasks.base import MetricSettings
from models.sam_networks import transform

SIDE, LOW = 32, 8


def example(*boxes: tuple[int, int, int, int]) -> Example:
    masks = np.zeros((len(boxes), SIDE, SIDE), np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = 1
    geometry = Geometry((SIDE, SIDE), (SIDE, SIDE), (SIDE, SIDE))
    return Example(
        {}, geometry, Sample("", "0", "0"), np.asarray(boxes, np.float32).reshape(-1, 4), masks=lambda: masks
    )


def drawn(made: Example, seed: int = 0, **keys: Any) -> dict[str, np.ndarray]:
    return encode_prompts(made, np.random.default_rng(seed), TrainingConfig(objects=3, rounds=3, **keys), LOW)


# ---- targets -----------------------------------------------------------------------------------------------------


def test_points_lie_inside_and_boxes_around() -> None:
    made = example((4, 6, 20, 12), (22, 20, 30, 30))
    kinds: set[int] = set()
    for seed in range(30):
        arrays = drawn(made, seed, box_noise=0.0)
        for index in range(3):
            mask, first = arrays["prompt_masks"][index], arrays["prompt_kinds"][index]
            place = arrays["prompt_places"][index]
            kinds.add(int(first[0]))
            if first[0] == FOREGROUND:
                assert mask[int(place[0, 1]), int(place[0, 0])] == 1 and first[1] == NOT_A_POINT
            else:
                assert np.array_equal(place.reshape(-1), arrays["prompt_boxes"][index])
    assert kinds == {FOREGROUND, TOP_LEFT}


def test_boxes_move_no_further_than_allowed_and_stay_on_the_canvas() -> None:
    made = example((0, 0, 30, 32))
    for seed in range(40):
        arrays = drawn(made, seed, box_share=1.0, box_noise=1.0, box_noise_pixels=3.0)
        moved = arrays["prompt_places"].reshape(3, 4) - arrays["prompt_boxes"]
        assert np.abs(moved).max() <= 3.0 and arrays["prompt_places"].min() >= 0
        assert arrays["prompt_places"].max() <= SIDE


def test_fewer_objects_are_asked_for_again_and_none_counts_nothing() -> None:
    arrays = drawn(example((4, 6, 20, 12)))
    assert arrays["prompt_valid"].tolist() == [1, 1, 1] and arrays["prompt_new"].tolist() == [1, 0, 0]
    empty = drawn(example())
    assert not empty["prompt_valid"].any() and not empty["prompt_new"].any()
    assert {name: value.shape for name, value in empty.items()} == {n: v.shape for n, v in arrays.items()}


def test_more_objects_are_drawn_and_a_seed_repeats_them() -> None:
    made = example(*((4 * i, 4 * i, 4 * i + 4, 4 * i + 4) for i in range(6)))
    seen = {tuple(drawn(made, seed)["prompt_boxes"][:, 0]) for seed in range(20)}
    assert len(seen) > 5
    first, second = drawn(made, 4), drawn(made, 4)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert first["prompt_new"].tolist() == [1, 1, 1]


def test_a_tiny_object_has_a_pixel_left_at_low_resolution() -> None:
    arrays = drawn(example((9, 9, 10, 10)))
    assert arrays["prompt_low"][0].sum() == 1 and arrays["prompt_low"].shape == (3, LOW, LOW)
    assert arrays["prompt_noise"].min() > 0 and arrays["prompt_noise"].shape == (3, 2, LOW, LOW)
    # A network that never corrects takes an array all the same.
    single = encode_prompts(example((9, 9, 10, 10)), np.random.default_rng(0), TrainingConfig(rounds=1), LOW)
    assert single["prompt_noise"].shape == (4, 1, LOW, LOW)


# ---- losses ------------------------------------------------------------------------------------------------------


def _case() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    logits = rng.standard_normal((2, 4, LOW, LOW)).astype(np.float32) * 3
    return logits, (rng.random((2, LOW * LOW)) < 0.3).astype(np.float32)


def _numpy_terms(logits: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    share = 1 / (1 + np.exp(-logits.astype(np.float64)))
    right = np.where(truth > 0, share, 1 - share)
    weight = np.where(truth > 0, 0.25, 0.75)
    focal = (weight * (1 - right) ** 2 * -np.log(right)).mean(-1)
    dice = 1 - (2 * (share * truth).sum(-1) + 1) / (share.sum(-1) + truth.sum(-1) + 1)
    found = logits > 0
    iou = (found & (truth > 0)).sum(-1) / (found | (truth > 0)).sum(-1)
    return focal, dice, iou


def test_terms_are_those_of_their_definitions() -> None:
    logits, truth = _case()
    flat = logits[:, 0].reshape(2, -1)
    focal, dice, _ = _numpy_terms(flat, truth)
    given = ms.Tensor(flat), ms.Tensor(truth)
    assert np.allclose(focal_loss(*given).asnumpy(), focal, rtol=1e-4)
    assert np.allclose(dice_loss(*given).asnumpy(), dice, rtol=1e-4)


def test_after_a_point_the_best_of_three_learns_after_a_box_the_single_one() -> None:
    logits, truth = _case()
    expected = np.full((2, 4), 0.5, np.float32)
    kinds = np.asarray([[FOREGROUND, NOT_A_POINT], [TOP_LEFT, 4]], np.int32)
    focal, dice, iou = _numpy_terms(logits.reshape(2, 4, -1), truth[:, None])
    best = 1 + int((20 * focal[0, 1:] + dice[0, 1:]).argmin())
    given = [ms.Tensor(value) for value in (logits, expected, truth, kinds)]
    whole = ms.Tensor(np.ones(2, np.float32))
    terms = mask_losses(*given, whole, (20.0, 1.0, 1.0), True)
    first = (focal[0, 0] + focal[0, best]) / 2
    assert np.isclose(float(terms[0].asnumpy()), (first + focal[1, 0]) / 2, rtol=1e-4)
    assert np.isclose(float(terms[2].asnumpy()), ((0.5 - iou) ** 2).mean(), rtol=1e-4)
    later = mask_losses(*given, whole, (20.0, 1.0, 1.0), False)
    assert np.isclose(float(later[1].asnumpy()), dice[:, 0].mean(), rtol=1e-4)
    half = mask_losses(*given, ms.Tensor(np.asarray([0, 1], np.float32)), (20.0, 1.0, 1.0), False)
    assert np.isclose(float(half[1].asnumpy()), dice[1, 0], rtol=1e-4)


def test_a_click_falls_into_what_is_wrong() -> None:
    truth = np.zeros((2, LOW, LOW), np.float32)
    truth[:, 2:5, 2:5] = 1
    logits = np.where(truth > 0, 1.0, -1.0).astype(np.float32)
    logits[0, 3, 4] = -1  # missed
    logits[1, 7, 0] = 1  # too much
    flat = [ms.Tensor(value.reshape(2, -1)) for value in (logits, truth, np.random.default_rng(0).random(truth.shape))]
    place, kind = error_click(flat[0], flat[1], flat[2].astype(ms.float32), LOW, SIDE)
    # The middle of cells of four pixels.
    assert place.asnumpy()[:, 0].tolist() == [[4 * 4 + 1.5, 3 * 4 + 1.5], [1.5, 7 * 4 + 1.5]]
    assert kind.asnumpy()[:, 0].tolist() == [FOREGROUND, BACKGROUND]


# ---- evaluation --------------------------------------------------------------------------------------------------


def test_deep_points_and_next_clicks() -> None:
    region = np.zeros((20, 30), bool)
    region[4:15, 6:17] = True
    assert deepest_point(region)[0] == (11, 9)
    assert deepest_point(np.ones((5, 5), bool))[0] == (2, 2)
    found = np.zeros_like(region)
    assert next_click(found, region) == ((11, 9), 1)
    found[:, 20:] = True
    found |= region
    assert next_click(found, region)[1] == 0


class _Truthful:
    """A network that answers every prompt with the same logits."""

    def __init__(self, logits: np.ndarray) -> None:
        self.logits, self.pieces = logits, []

    def features(self, name: str, arrays: Any) -> tuple[ms.Tensor, ...]:
        return (ms.Tensor(np.zeros((len(arrays["prompt_masks"]), 4, LOW // 4, LOW // 4), np.float32)),)

    def __call__(self, piece: str, embedding: Any, places: np.ndarray, *rest: Any) -> Any:
        self.pieces.append(piece)
        rated = np.tile(np.asarray([[0.1, 0.2, 0.9, 0.3]], np.float32), (len(places), 1))
        return ms.Tensor(np.tile(self.logits, (len(places), 1, 1, 1))), ms.Tensor(rated)


def test_an_evaluation_says_what_every_prompt_is_worth() -> None:
    made = drawn(example((8, 8, 24, 24)))
    logits = np.full((1, 4, LOW, LOW), -4.0, np.float32)
    logits[0, 0, 2:6, 2:6] = 4  # the single mask fits, the best rated one of three is empty
    run = _Truthful(logits)
    batch = {name: value[None] for name, value in made.items()}
    found = prompted_masks(None, run, batch)  # type: ignore[arg-type]
    scores = found["prompt_iou"][0]
    assert np.isnan(scores[1:]).all()
    assert scores[0, 0] == 0 and scores[0, 1] > 0.9 and scores[0, 2] > 0.9 and scores[0, 3] == 1
    assert run.pieces == ["answer", "answer", "answer_filled_masked", "answer_filled_masked"]


def test_metrics_are_means_over_objects_and_merge() -> None:
    first, second = PromptedMetrics(), PromptedMetrics()
    for metrics, name, figures in ((first, "a", [[0.2, 0.4, 0.6, 0.5]]), (second, "b", [[1.0] * 4, [0.6] * 4])):
        prediction = Prediction((4, 4), np.zeros((0, 4)), [], extras={"prompt_iou": np.asarray(figures)})
        metrics.update([prediction], Batch({}, [Sample("", name, name)], [], 1))
    first.merge([first.state(), second.state()])
    assert first.compute() == pytest.approx(dict(zip(PROMPTED_NAMES, (0.6, 2 / 3, 2.2 / 3, 0.7), strict=True)))
    assert [entry["sample_id"] for entry in first.records()] == ["a", "b"]
    assert PromptedMetrics().compute() == {}


def test_the_task_follows_from_what_is_asked() -> None:
    interface = ModelInterface("prompt", ("mask",), many=True)
    task = task_of(interface)
    assert task.kind == "instances" and not task.asks_expression and not task.has_classes
    assert task.selecting_metric("", MetricSettings()) == "iou_box"
    with pytest.raises(ConfigError, match="masks of all objects"):
        task_for("referring", interface)
    with pytest.raises(DataError, match="iou_box_as_mask"):
        task.controlled(Dataset([], {}, "x", "val"), 0)


# ---- transform ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "size"),
    [((30, 50), (38, 64)), ((50, 30), (64, 38)), ((1, 300), (1, 64)), ((64, 64), (64, 64)), ((1, 1), (64, 64))],
    ids=str,
)
def test_the_longer_side_fills_the_canvas(shape: tuple[int, int], size: tuple[int, int]) -> None:
    assert long_side_size(shape, 64) == size
    made = transform().from_image(np.full((*shape, 3), 255, np.uint8))
    assert made.geometry.resized_size == size and made.geometry.visible() == (0, 0, *size)
    image = made.arrays["image"]
    assert image.shape == (3, 64, 64) and (image[:, size[0] :] == 0).all() and (image[:, :, size[1] :] == 0).all()
    assert (image[:, : size[0], : size[1]] > 2).all()
