"""The predictor: images of every kind, batches of fixed shape, thresholds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from PIL import Image

from mindground.errors import CheckpointError, DataError, ImageError, MindGroundError
from mindground.inference.predictor import Predictor, as_rgb, check_sentence
from mindground.models.base import Encoder, GroundingModel
from mindground.structures import Batch, Geometry, Prediction, Sample, encode_mask


@pytest.fixture(autouse=True, scope="module")
def operator_by_operator() -> None:
    """Whatever mode the tests before these have left: a Cell that a graph runs records no calls."""
    ms.set_context(mode=ms.PYNATIVE_MODE)


@dataclass
class FakeExample:
    arrays: dict[str, np.ndarray]
    geometry: Geometry
    sample: Sample


class FakeTransform:
    """Represents an image by its mean colour and a sentence by its number of letters."""

    def from_image(self, image: np.ndarray, expression: str) -> FakeExample:
        arrays = {
            "image": image.mean((0, 1)).astype(np.float32),
            "length": np.asarray([len(expression)], np.float32),
            "box": np.zeros(4, np.float32),
        }
        arrays |= tokens(expression)
        sample = Sample("", "", "", expression)
        return FakeExample(arrays, Geometry(image.shape[:2], image.shape[:2], image.shape[:2]), sample)

    def with_expression(self, example: FakeExample, expression: str) -> FakeExample:
        arrays = {**example.arrays, "length": np.asarray([len(expression)], np.float32), **tokens(expression)}
        return FakeExample(arrays, example.geometry, Sample("", "", "", expression))


def tokens(expression: str) -> dict[str, np.ndarray]:
    """One token a letter, of 40."""
    mask = (np.arange(40) < len(expression)).astype(np.int32)
    return {"token_ids": mask * 7, "token_mask": mask}


class FakeModel(GroundingModel):
    """Answers with the red value and the sentence's length; the length / 100 is the score."""

    input_names = ("image", "length")
    output_names = ("answer",)

    def __init__(self) -> None:
        super().__init__()
        self.pick = nn.Identity()
        self.shapes: list[tuple[int, ...]] = []

    def construct(self, image: ms.Tensor, length: ms.Tensor) -> tuple[ms.Tensor, ...]:
        return (ms.ops.concat((self.pick(image[:, :1]), length), 1),)

    def decode(self, outputs: Any, batch: Batch) -> list[Prediction]:
        self.shapes.append(outputs["answer"].shape)
        return [
            Prediction(
                g.original_size, [[0, 0, *answer]], [answer[1] / 100], masks=(encode_mask(np.ones(g.original_size)),)
            )
            for answer, g in zip(outputs["answer"][: batch.count], batch.geometries, strict=False)
        ]


class SplitModel(FakeModel):
    """The same answers from two encoders and a head; every call of an encoder is recorded."""

    encoders: ClassVar[dict[str, Encoder]] = {
        "image": Encoder(("image",), ("image_features",), ("eye.",)),
        "text": Encoder(("token_ids",), ("text_features",), ("words.",)),
    }
    head_inputs = ("token_mask",)
    input_names = ("image", "token_ids", "token_mask")
    shares_image_features = True
    cuts_text = True

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, tuple[int, ...]]] = []

    def encode_image(self, image: ms.Tensor) -> ms.Tensor:
        self.calls.append(("image", image.shape))
        return image[:, :1]

    def encode_text(self, token_ids: ms.Tensor) -> ms.Tensor:
        self.calls.append(("text", token_ids.shape))
        return token_ids.astype(ms.float32)

    def head(self, image: ms.Tensor, text: ms.Tensor, mask: ms.Tensor) -> tuple[ms.Tensor, ...]:
        image = ms.ops.broadcast_to(image, (text.shape[0], 1))
        return (ms.ops.concat((self.pick(image), mask.astype(ms.float32).sum(1).expand_dims(1)), 1),)

    def construct(self, *inputs: ms.Tensor) -> tuple[ms.Tensor, ...]:
        return self.head(self.encode_image(inputs[0]), self.encode_text(inputs[1]), inputs[2])


def test_an_image_is_encoded_once_for_many_sentences() -> None:
    model = SplitModel()
    ask = Predictor(model, FakeTransform(), batch_size=2, graph=False)
    texts = ["a", "bb", "c" * 20, "d" * 35, "e" * 39]
    found = ask(red(), texts)
    assert [int(p.boxes_xyxy[0, 3]) for p in found] == [1, 2, 20, 35, 39]
    assert [p.boxes_xyxy[0, 2] for p in found] == [200] * 5
    assert [name for name, _ in model.calls].count("image") == 1
    # Sentences are cut to a few lengths only, never before their last token.
    assert [shape for name, shape in model.calls if name == "text"] == [(2, 16), (2, 40), (2, 40)]
    whole = Predictor(FakeModel(), FakeTransform(), batch_size=2, graph=False)(red(), texts)
    assert [p.boxes_xyxy.tolist() for p in found] == [p.boxes_xyxy.tolist() for p in whole]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(FakeModel(), FakeTransform(), batch_size=3, graph=False)


def red(value: int = 200, size: tuple[int, int] = (20, 30)) -> np.ndarray:
    image = np.zeros((*size, 3), np.uint8)
    image[..., 0] = value
    return image


def test_one_sentence_gives_one_prediction(predictor: Predictor) -> None:
    found = predictor(red(), "ship")
    assert isinstance(found, Prediction) and found.expression == "ship" and found.size == (20, 30)
    assert found.boxes_xyxy[0].tolist() == [0, 0, 200, 4]


def test_sentences_come_back_in_order_and_shapes_are_fixed(predictor: Predictor) -> None:
    predictor.model.shapes.clear()
    texts = ["a", "bb", "ccc", "dddd", "eeeee", "ffffff", "ggggggg"]
    found = predictor(red(), texts)
    assert [p.expression for p in found] == texts
    assert [int(p.boxes_xyxy[0, 3]) for p in found] == [1, 2, 3, 4, 5, 6, 7]
    predictor(red(), texts[:2])
    assert predictor.model.shapes == [(3, 2), (3, 2), (1, 2), (2, 2)]
    assert predictor(red(), []) == []


@pytest.mark.parametrize(
    ("count", "whole", "shared"),
    [(2, [2], [2]), (3, [4], [4]), (5, [4, 1], [8]), (16, [4] * 4, [16]), (17, [4] * 4 + [1], [16, 16])],
)
def test_batches_are_no_larger_than_needed(count: int, whole: list[int], shared: list[int]) -> None:
    texts = ["t" * (1 + number) for number in range(count)]
    model, split = FakeModel(), SplitModel()
    for network in (model, split):
        found = Predictor(network, FakeTransform(), graph=False)(red(), texts)
        assert [int(p.boxes_xyxy[0, 3]) for p in found] == list(range(1, count + 1))
    assert [shape[0] for shape in model.shapes] == whole
    assert [shape[0] for name, shape in split.calls if name == "text"] == shared


def test_batch_size_0_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size is 0"):
        Predictor(FakeModel(), FakeTransform(), batch_size=0, graph=False)


def test_graph_mode_gives_the_same() -> None:
    texts = ["a", "bb", "ccc", "dddd"]
    graph, plain = (Predictor(FakeModel(), FakeTransform(), batch_size=2, graph=graph) for graph in (True, False))
    for one, other in zip(graph(red(), texts), plain(red(), texts), strict=True):
        assert (one.boxes_xyxy == other.boxes_xyxy).all() and one.scores == other.scores


def test_min_score_makes_nothing_found_explicit(predictor: Predictor) -> None:
    short, long = predictor(red(), ["ship", "s" * 60], min_score=0.5)
    assert len(short.boxes_xyxy) == 0 and short.masks == () and short.expression == "ship"
    assert len(long.boxes_xyxy) == 1


def test_input_is_not_modified(predictor: Predictor) -> None:
    image = red()
    predictor(image, "ship")
    assert (image == red()).all()


@pytest.mark.parametrize("sentence", ["", "   ", "\n\t", "\x00", "\u200b"])
def test_empty_sentence_is_refused(predictor: Predictor, sentence: str) -> None:
    with pytest.raises(DataError, match="empty"):
        predictor(red(), sentence)


def test_sentence_must_be_text(predictor: Predictor) -> None:
    with pytest.raises(DataError, match="int"):
        predictor(red(), ["ship", 3])


@pytest.mark.parametrize("sentence", [3, b"ship", ["ship", None], [b"ship"], 1.5, "ship \ud800", ["ship", "\udcb8"]])
def test_what_is_no_text_is_a_data_error(predictor: Predictor, sentence: Any) -> None:
    with pytest.raises(DataError, match="sentence") as caught:
        predictor(red(), sentence)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("sentence", ["最左边的船", "🚢", "word " * 2000, " ship "])
def test_other_sentences_are_taken(predictor: Predictor, sentence: str) -> None:
    assert predictor(red(), sentence).expression == sentence
    assert check_sentence(sentence) == sentence.strip()


@pytest.mark.parametrize(
    "image",
    [
        np.full((6, 8), 200, np.uint8),
        np.full((6, 8, 1), 200, np.uint8),
        np.full((6, 8, 3), 200, np.uint8),
        np.full((6, 8, 4), 200, np.uint8),
        Image.new("L", (8, 6), 200),
        Image.new("RGBA", (8, 6), (200, 200, 200, 10)),
        Image.new("LA", (8, 6), (200, 10)),
        Image.new("P", (8, 6)),
        Image.new("CMYK", (8, 6)),
        Image.new("1", (8, 6)),
        Image.fromarray(np.arange(48, dtype=np.uint16).reshape(6, 8)),
        np.arange(48, dtype=np.uint16).reshape(6, 8),
        np.linspace(0, 1, 144, dtype=np.float32).reshape(6, 8, 3),
        np.zeros((6, 8), np.bool_),
    ],
)
def test_any_image_becomes_rgb(image: Any) -> None:
    pixels = as_rgb(image)
    assert pixels.shape == (6, 8, 3) and pixels.dtype == np.uint8


def test_values_are_kept() -> None:
    image = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    assert (as_rgb(image) == image).all() and (as_rgb(Image.fromarray(image)) == image).all()
    assert as_rgb(np.asarray([[0, 65535]], np.uint16))[0, :, 0].tolist() == [0, 255]


def test_blue_may_come_first(predictor: Predictor, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    assert (as_rgb(image[..., ::-1], bgr=True) == image).all()
    expected, got = (predictor(pixels, "ship", bgr=bgr) for pixels, bgr in ((image, False), (image[..., ::-1], True)))
    assert (got.boxes_xyxy == expected.boxes_xyxy).all() and (got.scores == expected.scores).all()
    Image.fromarray(image).save(tmp_path / "a.png")
    for other in (tmp_path / "a.png", Image.fromarray(image)):
        with pytest.raises(ImageError, match="bgr"):
            predictor(other, "ship", bgr=True)


def test_bands_of_files_and_arrays(predictor: Predictor, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    Image.fromarray(image[..., ::-1]).save(tmp_path / "a.png")
    expected = predictor(image, "ship")
    for other in (tmp_path / "a.png", str(tmp_path / "a.png"), image[..., ::-1]):
        assert (as_rgb(other, bands=(3, 2, 1)) == image).all()
        assert (predictor(other, "ship", bands=(3, 2, 1)).scores == expected.scores).all()
    with pytest.raises(ImageError, match="Pillow"):
        predictor(Image.fromarray(image), "ship", bands=(3, 2, 1))


def test_a_pillow_image_has_the_limits_of_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mindground.files.pixels.MAX_PIXELS", 100)
    assert as_rgb(Image.new("RGB", (10, 10))).shape == (10, 10, 3)
    with pytest.raises(ImageError, match="more than 100"):
        as_rgb(Image.new("RGB", (10, 11)))


def test_exif_turns_a_pillow_image(tmp_path: Path) -> None:
    image = Image.fromarray(red(size=(4, 9)))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    with Image.open(tmp_path / "turned.jpg") as opened:
        assert as_rgb(opened).shape == (9, 4, 3)
    assert as_rgb(tmp_path / "turned.jpg").shape == (9, 4, 3)


def test_public_names_apply_the_start_up_settings(run_python: Callable) -> None:
    code = "import os, sys, mindground; assert 'mindspore' not in sys.modules; mindground.load_checkpoint; "
    done = run_python(["-c", code + "print('mindspore' in sys.modules, os.environ['GLOG_v'], end='')"])
    assert done.stdout == "True 3" and "was imported before" not in done.stderr, done.stderr


def test_one_pixel(predictor: Predictor) -> None:
    assert predictor(np.zeros((1, 1, 3), np.uint8), "ship").size == (1, 1)


@pytest.mark.parametrize(
    "image", [np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4, 2), np.uint8), np.zeros(4), np.asarray([["a"]]), None]
)
def test_not_an_image_array(image: Any) -> None:
    with pytest.raises(ImageError, match="image array"):
        as_rgb(image)


def test_not_an_image_file(tmp_path: Path, predictor: Predictor) -> None:
    (tmp_path / "x.jpg").write_text("hello")
    with pytest.raises(ImageError, match="not an image"):
        predictor(tmp_path / "x.jpg", "ship")
    with pytest.raises(ImageError, match="missing.png"):
        predictor(str(tmp_path / "missing.png"), "ship")


def test_at_least_selects_boxes_scores_labels_and_masks() -> None:
    masks = tuple(encode_mask(np.eye(4) * i) for i in range(3))
    found = Prediction((4, 4), [[0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 3, 3]], [0.1, 0.9, 0.5], [7, 8, 9], masks)
    kept = found.at_least(0.5)
    assert kept.labels.tolist() == [8, 9] and kept.boxes_xyxy[:, 2].tolist() == [2, 3] and kept.masks == masks[1:]
    assert found.at_least(0.0) is found


def test_to_coco() -> None:
    mask = np.zeros((4, 4))
    mask[1:3, 1:4] = 1
    found = Prediction((4, 4), [[1, 1, 4, 3]], [0.25], masks=(encode_mask(mask),), expression="x")
    (record,) = found.to_coco(5)
    assert record["bbox"] == [1, 1, 3, 2] and record["area"] == 6 and record["image_id"] == 5
    assert record["segmentation"]["size"] == [4, 4] and record["text"] == "x" and record["score"] == 0.25
    assert Prediction((4, 4), [], []).to_coco() == []


def test_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere.ckpt"):
        Predictor.load(tmp_path / "nowhere.ckpt")


def test_foreign_file_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "x.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(MindGroundError, match="x.ckpt"):
        Predictor.load(tmp_path / "x.ckpt")
