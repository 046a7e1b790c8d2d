"""Sessions of Segment Anything on the host: what is told before the network runs, odd images, memory.

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


@pytest.mark.parametrize(
    "prompt", [{}, {"points": [(121, 5)]}, {"box": (10, 10, 10, 30)}, {"points": [(1, 1)], "labels": [2]}], ids=str
)
def test_a_mistake_is_told_before_the_network_runs(
    network: Network, session: SamSession, prompt: dict[str, Any]
) -> None:
    with pytest.raises(DataError):
        session(**prompt)
    assert network.asked == []


def test_an_image_that_fails_leaves_none(network: Network) -> None:
    """The earlier image does not answer for the new one."""
    predictor = SamPredictor(network)  # type: ignore[arg-type]
    predictor.set_image(scene((20, 30)))
    assert predictor.original_size == (20, 30)
    with pytest.raises(ImageError):
        predictor.set_image("no such file.png")
    with pytest.raises(NoImageError, match=r"call set_image\(image\) before"):
        predictor.get_image_embedding()
    with pytest.raises(ImageError, match="image_format='XYZ'"):
        predictor.set_image(scene((20, 30)), "XYZ")


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
