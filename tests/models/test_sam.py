"""Sessions of Segment Anything: prompts of every kind, wrong use, odd images, segment-anything's names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mindspore as ms
import numpy as np
import pytest

from mindground.errors import DataError, ImageError, MindGroundError
from mindground.inference.session import NoImageError, SamPredictor
from mindground.models.sam.ask import MOST_PROMPTS, ask, prompt_tokens
from mindground.models.sam.kinds import BOTTOM_RIGHT, FOREGROUND, NOT_A_POINT, NOTHING, TOP_LEFT
from mindground.models.sam.session import SamSession
from mindground.models.sam.upscale import upscaled
from models.sam_networks import CELLS, SIDE, network, noise_image, predictor

HEIGHT, WIDTH = 30, 50
BOX = (5.0, 4.0, 40.0, 25.0)


@pytest.fixture(scope="module")
def tiny() -> Iterator[Any]:
    """A predictor; its network runs operator by operator."""
    before = ms.get_context("mode")
    ms.set_context(mode=ms.PYNATIVE_MODE)
    ms.set_seed(3)
    yield predictor(network())
    ms.set_context(mode=before)


@pytest.fixture(scope="module")
def session(tiny: Any) -> SamSession:
    opened: SamSession = tiny.open(noise_image(HEIGHT, WIDTH))
    return opened


# ---- answers -----------------------------------------------------------------------------------------------------


def test_an_opened_image_says_what_it_is(session: SamSession) -> None:
    assert session.size == (HEIGHT, WIDTH) and session.low_size == (38, SIDE)
    assert session.embedding.shape == (1, 16, 4, 4) and session.embedding.dtype == np.float32


def test_several_prompts_at_once_are_those_one_by_one(session: SamSession) -> None:
    rng = np.random.default_rng(1)
    low = rng.uniform(0, 20, (MOST_PROMPTS + 2, 2))
    boxes = np.concatenate([low, low + rng.uniform(2, 9, low.shape)], 1)
    together, expected = session.predict(boxes=boxes)
    assert together.shape == (len(boxes), 3, CELLS, CELLS) and expected.shape == (len(boxes), 3)
    for index in (0, 7, MOST_PROMPTS, MOST_PROMPTS + 1):
        alone, rated = session.predict(boxes=boxes[index : index + 1])
        assert np.allclose(alone[0], together[index], atol=1e-4)
        assert np.allclose(rated[0], expected[index], atol=1e-4)


def test_tokens_that_fill_the_shape_change_nothing(tiny: Any, session: SamSession) -> None:
    """Three clicks run as four tokens and some that are none; the network itself takes exactly four."""
    points = np.asarray([[[10.0, 5.0], [30.0, 20.0], [45.0, 8.0]]])
    labels = np.asarray([[1, 0, 1]])
    filled, rated = session.predict(points, labels)
    scale = np.asarray([SIDE / WIDTH, 38 / HEIGHT])
    places, kinds = prompt_tokens(points * scale, labels, None)
    assert kinds.tolist() == [[FOREGROUND, 1, FOREGROUND, NOT_A_POINT]]
    exact = tiny.model.answer(*map(ms.Tensor, (session.embedding, places, kinds)))
    assert np.allclose(filled, exact[0].asnumpy()[:, 1:], atol=1e-4)
    assert np.allclose(rated, exact[1].asnumpy()[:, 1:], atol=1e-4)


def test_every_part_of_a_prompt_counts(session: SamSession) -> None:
    point = [[20.0, 10.0]]
    first, _ = session.predict(np.asarray([point]), np.asarray([[1]]))
    others = [
        session.predict(np.asarray([point]), np.asarray([[0]])),
        session.predict(np.asarray([[[21.0, 10.0]]]), np.asarray([[1]])),
        session.predict(np.asarray([point]), np.asarray([[1]]), np.asarray([BOX])),
        session.predict(np.asarray([point]), np.asarray([[1]]), mask_input=first[:, :1]),
    ]
    assert all(np.abs(first - other).max() > 1e-5 for other, _ in others)
    single, _ = session.predict(np.asarray([point]), np.asarray([[1]]), multimask=False)
    assert single.shape == (1, 1, CELLS, CELLS)


def test_a_prediction_has_the_best_mask_first_and_its_logits(session: SamSession) -> None:
    found = session(points=[(20, 10)], logits=True)
    assert len(found) == 3 and found.size == (HEIGHT, WIDTH)
    rated = found.extras["expected_iou"]
    assert (np.diff(rated) <= 0).all() and np.allclose(found.scores, np.clip(rated, 0, 1))
    native = found.extras["logits"]
    assert native.shape == (3, HEIGHT, WIDTH)
    assert (found.mask_arrays() == (native > 0)).all()
    assert np.array_equal(session.upscale(found.extras["low_res"]), native)
    again = session(points=[(20, 10), (5, 5)], labels=[1, 0], mask=found.extras["low_res"][0], multimask=False)
    assert len(again) == 1


def test_many_boxes_tell_whose_a_mask_is(session: SamSession) -> None:
    found = session(boxes=[BOX, (1, 1, 9, 9)], multimask=False)
    assert found.extras["prompt"].tolist() == [0, 1] and "low_res" not in found.extras
    assert session(boxes=[BOX, (1, 1, 9, 9)], multimask=False, logits=True).extras["low_res"].shape[0] == 2


def test_logits_come_back_as_they_lie_on_the_canvas() -> None:
    """A bar over the left half of the image, which covers the upper part of the canvas."""
    low = np.full((1, CELLS, CELLS), -5.0, np.float32)
    low[:, :, : CELLS // 2] = 5.0
    native = upscaled(low, SIDE, (38, SIDE), (HEIGHT, WIDTH)) > 0
    assert native[0, :, : WIDTH // 2 - 2].all() and not native[0, :, WIDTH // 2 + 2 :].any()


# ---- wrong use ---------------------------------------------------------------------------------------------------

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no prompt": ({}, "give points, a box"),
    "labels alone": ({"labels": [1]}, "without points"),
    "labels that do not match": ({"points": [(1, 1), (2, 2)], "labels": [1]}, "one label a point"),
    "labels of text": ({"points": [(1, 1)], "labels": ["x"]}, "are no numbers"),
    "an unknown label": ({"points": [(1, 1)], "labels": [7]}, "label 7 means nothing"),
    "a point outside": ({"points": [(WIDTH + 1, 3)]}, r"lies outside the image of 50 x 30"),
    "a negative point": ({"points": [(-1, 3)]}, "outside the image"),
    "a point that is no number": ({"points": [(float("nan"), 3)]}, "not finite"),
    "a point of three": ({"points": [(1, 2, 3)]}, r"give \(x, y\)"),
    "points of text": ({"points": ["here"]}, "are no numbers"),
    "a sentence": ({"points": "the ship"}, "GroundedPredictor"),
    "a box as large as no image": ({"box": (-1e300, -1e300, 1e300, 1e300)}, "reaches far beyond it"),
    "no point at all": ({"points": np.zeros((0, 2))}, r"give \(x, y\)"),
    "a box without area": ({"box": (5, 5, 5, 9)}, "has no area"),
    "a box upside down": ({"box": (5, 9, 8, 5)}, "has no area"),
    "a box outside": ({"box": (60, 1, 70, 5)}, "lies outside the image"),
    "a box of three": ({"box": (1, 2, 3)}, "left, top, right, bottom"),
    "an infinite box": ({"box": (1, 2, float("inf"), 9)}, "not finite"),
    "box and boxes": ({"box": BOX, "boxes": [BOX]}, "give all of them as boxes"),
    "points of one and boxes of two": ({"points": [(1, 1)], "boxes": [BOX, BOX]}, "give both for every prompt"),
    "a mask in pixels of the image": ({"points": [(1, 1)], "mask": np.zeros((HEIGHT, WIDTH))}, "low-resolution logits"),
    "a mask of text": ({"points": [(1, 1)], "mask": np.asarray([["a"]])}, "give the logits"),
    "a mask with nan": ({"points": [(1, 1)], "mask": np.full((CELLS, CELLS), np.nan)}, "not finite"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_use_is_told_with_the_cure(session: SamSession, name: str) -> None:
    prompt, said = WRONG[name]
    with pytest.raises(DataError, match=said) as caught:
        session(**prompt)
    assert "\n" not in str(caught.value)


def test_a_box_that_reaches_over_the_edge_is_asked_as_it_is(session: SamSession) -> None:
    assert len(session(box=(-3, -3, 20, 20), multimask=False)) == 1


def test_an_embedding_of_another_network_is_refused(tiny: Any, session: SamSession) -> None:
    image = noise_image(HEIGHT, WIDTH)
    with pytest.raises(DataError, match="encode the image again"):
        SamSession(tiny.model, tiny._runner, tiny.transform, image, np.zeros((1, 16, 8, 8), np.float32))
    kept = SamSession(tiny.model, tiny._runner, tiny.transform, image, session.embedding)
    assert np.allclose(kept.predict(boxes=[BOX])[0], session.predict(boxes=[BOX])[0])


# ---- odd images --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (7, 3)], ids=str)
def test_tiny_and_thin_images(tiny: Any, size: tuple[int, int]) -> None:
    with tiny.open(noise_image(*size)) as opened:
        found = opened(points=[(size[1] / 2, size[0] / 2)])
    assert found.size == size and found.mask_arrays().shape == (3, *size)


def test_an_image_of_sixteen_bits(tiny: Any) -> None:
    deep = noise_image(9, 12).astype(np.uint16) * 257
    assert np.allclose(tiny.open(deep).embedding, tiny.open(noise_image(9, 12)).embedding, atol=1e-3)


def test_an_image_of_twenty_megapixels(tiny: Any) -> None:
    large = np.zeros((4000, 5000, 3), np.uint8)
    large[1000:2000, 2000:3000] = 255
    with tiny.open(large) as opened:
        found = opened(box=(2000, 1000, 3000, 2000), multimask=False)
    assert found.size == (4000, 5000) and len(found.masks) == 1


def test_what_is_no_image_is_refused(tiny: Any) -> None:
    with pytest.raises(ImageError):
        tiny.open(np.zeros((4, 4, 7), np.uint8))


# ---- many prompts ------------------------------------------------------------------------------------------------


class _Counting:
    """Answers a prompt with the x of its first token, and notes how many run together."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.lengths: set[int] = set()

    def __call__(self, piece: str, embedding: Any, places: np.ndarray, kinds: np.ndarray, *rest: Any) -> Any:
        self.counts.append(len(kinds))
        self.lengths.add(kinds.shape[1])
        logits = np.broadcast_to(places[:, 0, 0, None, None, None], (len(kinds), 4, 2, 2)).astype(np.float32)
        return ms.Tensor(np.ascontiguousarray(logits)), ms.Tensor(np.ascontiguousarray(logits[:, :, 0, 0]))


def test_a_thousand_prompts_run_in_chunks_of_a_few_shapes() -> None:
    run = _Counting()
    boxes = np.tile(np.asarray([[0.0, 0.0, 9.0, 9.0]]), (1000, 1))
    boxes[:, 0] = np.arange(1000)
    logits, expected = ask(run, np.zeros((1, 4, 2, 2), np.float32), *prompt_tokens(None, None, boxes))
    assert max(run.counts) == MOST_PROMPTS and len(run.counts) == 63 and len(set(run.counts)) <= 2
    assert np.array_equal(expected[:, 0], np.arange(1000)) and np.array_equal(logits[:, 1, 0, 0], np.arange(1000))


def test_clicks_of_any_number_have_few_shapes() -> None:
    run = _Counting()
    for count in range(1, 20):
        tokens = prompt_tokens(np.zeros((1, count, 2)), np.ones((1, count), np.int32), None)
        ask(run, np.zeros((1, 4, 2, 2), np.float32), *tokens)
    assert run.lengths == {2, 4, 8, 16, 32}


def test_tokens_of_a_prompt() -> None:
    places, kinds = prompt_tokens(np.asarray([[[1.0, 2.0], [3.0, 4.0]]]), np.asarray([[-10, -1]]), [[5, 6, 7, 8]])
    assert kinds.tolist() == [[NOTHING, NOT_A_POINT, TOP_LEFT, BOTTOM_RIGHT]]
    assert places[0].tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]


# ---- segment-anything's names ------------------------------------------------------------------------------------


def test_prompts_before_an_image(tiny: Any) -> None:
    named = SamPredictor(tiny)
    for call in (
        lambda: named.predict(np.asarray([[1, 1]]), np.asarray([1])),
        lambda: named.predict_batch(np.asarray([[[1, 1]]]), np.asarray([[1]])),
        named.get_image_embedding,
        lambda: named.original_size,
    ):
        with pytest.raises(RuntimeError, match="set_image"):
            call()
    assert issubclass(NoImageError, MindGroundError) and not named.is_image_set


def test_segment_anythings_predictor(tiny: Any, session: SamSession) -> None:
    named = SamPredictor(tiny)
    named.set_image(noise_image(HEIGHT, WIDTH)[..., ::-1], "BGR")
    assert np.array_equal(named.get_image_embedding(), session.embedding)
    assert named.original_size == (HEIGHT, WIDTH) and named.input_size == (38, SIDE)
    point, label = np.asarray([[20, 10]]), np.asarray([1])
    masks, scores, low = named.predict(point_coords=point, point_labels=label)
    assert masks.shape == (3, HEIGHT, WIDTH) and masks.dtype == bool and scores.shape == (3,)
    logits, rated = session.predict(point[None], label[None])
    assert np.array_equal(low, logits[0]) and np.array_equal(scores, rated[0])
    again = named.predict(
        point_coords=point, point_labels=label, mask_input=low[:1], multimask_output=False, return_logits=True
    )
    assert again[0].dtype == np.float32 and again[2].shape == (1, CELLS, CELLS)
    batch = named.predict_batch(None, None, np.asarray([BOX, (1, 1, 9, 9)]))
    assert batch[0].shape == (2, 3, HEIGHT, WIDTH) and batch[1].shape == (2, 3)
    with pytest.raises(DataError, match="point_labels"):
        named.predict(point_coords=point)
    with pytest.raises(ImageError, match="BGR"):
        named.set_image(noise_image(3, 3), "HSV")
    assert named.is_image_set  # a mistaken call forgets nothing


def test_a_batch_of_images_of_different_sizes(tiny: Any) -> None:
    named = SamPredictor(tiny)
    found = named.forward(
        [
            {"image": noise_image(HEIGHT, WIDTH), "boxes": np.asarray([BOX])},
            {"image": noise_image(8, 9), "point_coords": np.asarray([[[1, 2]]]), "point_labels": np.asarray([[1]])},
        ],
        multimask_output=False,
    )
    assert [entry["masks"].shape for entry in found] == [(1, 1, HEIGHT, WIDTH), (1, 1, 8, 9)]
    assert set(found[0]) == {"masks", "iou_predictions", "low_res_logits"}
    with pytest.raises(DataError, match="has no image"):
        named.forward([{"boxes": np.asarray([BOX])}], False)
    with pytest.raises(DataError, match="'box'"):
        named.forward([{"image": noise_image(8, 9), "box": BOX}], False)
