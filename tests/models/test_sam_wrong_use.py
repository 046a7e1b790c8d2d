"""Sessions of Segment Anything: mistakes that are told with their cure, odd images, many prompts.

The network is a stand-in that counts what it is asked, so that nothing here waits for MindSpore.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mindground.data.transforms.long_side import LongSideTransform
from mindground.errors import DataError, ImageError
from mindground.files.images import read_image
from mindground.inference.images import as_rgb
from mindground.inference.session import NoImageError, SamPredictor
from mindground.models.sam.ask import MOST_PROMPTS
from mindground.models.sam.session import SamSession
from mindground.structures import instance_truth
from prompts import scene

SIDE, GRID, WIDTH = 64, 4, 8


class Answer:
    """As a tensor of MindSpore."""

    def __init__(self, value: np.ndarray) -> None:
        self.value = value

    def asnumpy(self) -> np.ndarray:
        return self.value


class Network:
    """Answers a disc around the first token of each prompt."""

    input_size, grid = SIDE, GRID
    mask_decoder = SimpleNamespace(width=WIDTH)

    def __init__(self) -> None:
        self.images, self.asked = 0, []

    def features(self, name: str, arrays: dict[str, np.ndarray]) -> tuple[Answer]:
        assert name == "image" and arrays["image"].shape == (1, 3, SIDE, SIDE)
        self.images += 1
        return (Answer(np.zeros((1, WIDTH, GRID, GRID), np.float32)),)

    def __call__(self, piece: str, embedding: Any, places: np.ndarray, kinds: np.ndarray, *rest: Any) -> Any:
        self.asked.append((piece, *places.shape[:2]))
        y, x = (np.mgrid[: 4 * GRID, : 4 * GRID] + 0.5) * SIDE / (4 * GRID)
        at = places[:, 0, :, None, None]
        logits = 12.0 - np.hypot(x - at[:, 0], y - at[:, 1])
        rated = np.tile(np.asarray([0.4, 0.9, 0.5, 0.7], np.float32), (len(places), 1))
        return Answer(np.stack([logits] * 4, 1).astype(np.float32)), Answer(rated)

    def open(self, image: Any, *, bgr: bool = False) -> SamSession:
        transform = LongSideTransform(img_size=SIDE, mean=[0.0] * 3, std=[1.0] * 3, truth=instance_truth)
        return SamSession(self, self, transform, as_rgb(image, bgr=bgr))  # type: ignore[arg-type]


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def session(network: Network) -> SamSession:
    return network.open(scene((90, 120)))


# ---- mistakes --------------------------------------------------------------------------------------------------------

LOW = np.zeros((4 * GRID, 4 * GRID), np.float32)
WRONG: dict[str, dict[str, Any]] = {
    "there is no prompt: give points, a box": {},
    "labels were given without points": {"labels": [1]},
    r"point \(121, 5\) lies outside the image of 120 x 90": {"points": [(5, 5), (121, 5)]},
    r"point \(5, 91\) lies outside": {"points": [(5, 91)]},
    r"point \(-1, 0\) lies outside": {"points": [(-1, 0)]},
    "points hold a number that is not finite": {"points": [(np.nan, 5)]},
    "points hold a number that is not": {"points": [(np.inf, 5)]},
    r"points have the shape \(3,\)": {"points": [1, 2, 3]},
    r"points have the shape \(2,\)": {"points": (420, 310)},
    r"points have the shape \(0,\)": {"points": []},
    "points 'middle' are no numbers": {"points": "middle"},
    "2 points need as many labels": {"points": [(1, 1), (2, 2)], "labels": [1]},
    "1 points need as many labels": {"points": [(1, 1)], "labels": [1, 0]},
    "label 2 means nothing": {"points": [(1, 1)], "labels": [2]},
    "labels 'yes' are no numbers": {"points": [(1, 1)], "labels": "yes"},
    r"box \[10.0, 10.0, 10.0, 30.0\] has no area": {"box": (10, 10, 10, 30)},
    r"box \[30.0, 10.0, 10.0, 40.0\] has no area": {"box": (30, 10, 10, 40)},
    r"box \[200.0, 10.0, 210.0, 40.0\] lies outside": {"box": (200, 10, 210, 40)},
    "reaches far beyond it": {"box": (-1e300, -1e300, 1e300, 1e300)},
    "boxes hold a number that is not finite": {"box": (0, 0, np.nan, 9)},
    r"boxes have the shape \(2,\)": {"box": (1, 2)},
    "box and boxes were both given": {"box": (0, 0, 9, 9), "boxes": [(0, 0, 9, 9)]},
    "points are of 1 prompts and boxes of 2": {"points": [(1, 1)], "boxes": [(0, 0, 9, 9)] * 2},
    r"mask prompt has the shape \(90, 120\)": {"mask": np.zeros((90, 120), np.float32)},
    "mask prompt is of the type": {"mask": np.asarray("mask")},
    "mask prompt holds a number that is not finite": {"mask": LOW + np.nan},
    r"2 prompts need \(2, 1, 16, 16\)": {"boxes": [(0, 0, 9, 9)] * 2, "mask": LOW},
}


@pytest.mark.parametrize("reason", WRONG)
def test_a_mistake_is_told_with_its_cure(network: Network, session: SamSession, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        session(**WRONG[reason])
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    assert network.asked == []  # before the network runs


def test_a_prompt_before_an_image_is_told(network: Network) -> None:
    predictor = SamPredictor(network)  # type: ignore[arg-type]
    for ask in (
        lambda: predictor.predict(np.asarray([[1, 1]]), np.asarray([1])),
        lambda: predictor.predict_batch(None, None, np.asarray([[0, 0, 9, 9]])),
        predictor.get_image_embedding,
        lambda: predictor.original_size,
        lambda: predictor.input_size,
    ):
        with pytest.raises(RuntimeError, match=r"call set_image\(image\) before") as caught:
            ask()
        assert isinstance(caught.value, NoImageError)
    predictor.set_image(scene((20, 30)))
    assert predictor.is_image_set and predictor.original_size == (20, 30)
    predictor.reset_image()
    with pytest.raises(NoImageError):
        predictor.get_image_embedding()
    with pytest.raises(ImageError, match="image_format='XYZ'"):
        predictor.set_image(scene((20, 30)), "XYZ")
    with pytest.raises(ImageError):
        predictor.set_image("no such file.png")
    assert not predictor.is_image_set  # the earlier image does not answer for the new one
    predictor.set_image(scene((20, 30)))
    with pytest.raises(DataError, match="point_labels must come with point_coords"):
        predictor.predict(np.asarray([[1, 1]]))


# ---- odd images ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 3)])
def test_images_of_a_few_pixels(network: Network, size: tuple[int, int]) -> None:
    session = network.open(scene(size))
    found = session(points=[(size[1] / 2, size[0] / 2)])
    assert found.size == size and len(found) == 3 and found.mask_arrays().shape == (3, *size)
    assert session(box=(0, 0, size[1], size[0]), multimask=False).mask_arrays().shape == (1, *size)
    assert isinstance(session.everything(points_per_side=2, crop_n_layers=1), list)


def test_an_image_of_16_bits(network: Network, tmp_path: Path) -> None:
    deep = np.linspace(0, 4000, 40 * 60).reshape(40, 60).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    session = network.open(tmp_path / "deep.png")
    assert session.size == (40, 60) and session.image is not None
    assert np.array_equal(session.image, read_image(tmp_path / "deep.png")) and session.image.dtype == np.uint8
    assert session.image.min() < 30 and session.image.max() > 200  # its own range, not that of 16 bits
    assert network.open(deep).size == (40, 60)
    for wrong in (np.zeros((5, 5, 7), np.uint8), np.zeros(5), "none.png", None):
        with pytest.raises(ImageError):
            network.open(wrong)


def test_an_image_of_20_megapixels(network: Network) -> None:
    session = network.open(np.zeros((4000, 5000, 3), np.uint8))
    found = session(points=[(4000, 3000)])
    (x0, y0, x1, y1) = found.boxes_xyxy[0]
    assert x0 < 4000 < x1 and y0 < 3000 < y1 and found.size == (4000, 5000)
    assert network.images == 1 and session.low_size == (51, 64)


# ---- many prompts ----------------------------------------------------------------------------------------------------


def test_a_thousand_prompts_run_in_parts(network: Network) -> None:
    import tracemalloc

    session = network.open(scene((150, 200)))
    generator = np.random.default_rng(0)
    points = generator.uniform(0, [200, 150], (1000, 1, 2))
    tracemalloc.start()
    found = session(points)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == 3000 and max(count for _, count, _ in network.asked) == MOST_PROMPTS
    assert {shape[2] for shape in network.asked} == {2}  # one shape to compile for
    # All of them at once in original pixels would be 3000 x 150 x 200 numbers, 360 MB.
    assert most < 32 << 20
    assert "low_res" not in found.extras and found.extras["prompt"].tolist() == np.repeat(np.arange(1000), 3).tolist()


def test_prompts_together_are_equal_to_prompts_alone(session: SamSession) -> None:
    boxes = [(5, 5, 40, 40), (20, 30, 90, 80), (0, 0, 120, 90)]
    together = session(boxes=boxes, multimask=False)
    alone = [session(box=box, multimask=False) for box in boxes]
    assert together.masks == tuple(one.masks[0] for one in alone)
    logits, rated = session.predict(boxes=boxes)
    for index, box in enumerate(boxes):
        own, own_rated = session.predict(boxes=[box])
        assert np.array_equal(logits[index], own[0]) and np.array_equal(rated[index], own_rated[0])
