"""Drawing: positions of what is drawn, unchanged inputs, and unusual inputs."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mindground.data.dataset import Dataset
from mindground.errors import ImageError, WriteError
from mindground.models.interface import ModelInterface
from mindground.structures import Prediction, Sample, Truth, encode_mask, instance_truth
from mindground.tasks import task_for
from mindground.visualize import drawing as visualize
from mindground.visualize import text_drawing
from mindground.visualize.caption import Caption, plain_caption
from mindground.visualize.drawing import Palette, attention_overlay, contact_sheet, draw, save_png, side_by_side
from mindground.visualize.samples import show_samples

PALETTE = Palette()


def scene(height: int = 300, width: int = 400) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


def truth(box: tuple[float, ...] = (100, 50, 200, 150)) -> Truth:
    x0, y0, x1, y1 = box
    polygon = [x0, y0, x1, y0, x1, y1, x0, y1]
    return instance_truth(Sample("s", "s", "1", "the grey field", np.asarray([box]), ([polygon],)))


def prediction(box: tuple[int, ...] = (100, 50, 200, 150), **more: object) -> Prediction:
    size = (300, 400)
    mask = np.zeros(size, np.uint8)
    mask[box[1] : box[3], box[0] : box[2]] = 1
    return Prediction(size, np.asarray([box]), np.asarray([0.8]), masks=(encode_mask(mask),), **more)


def near(pixel: np.ndarray, colour: tuple[int, int, int], far: int = 40) -> bool:
    return bool(np.abs(pixel.astype(int) - colour).max() <= far)


def test_frame_is_where_the_box_is() -> None:
    panel = draw(scene(), prediction((100, 50, 200, 150)), width=800)  # twice the image's size
    assert near(panel[200, 200], PALETTE.prediction) and near(panel[100, 300], PALETTE.prediction)
    assert near(panel[40, 40], (90, 90, 90), 2)


def test_mask_tints_inside_only() -> None:
    panel = draw(scene(), prediction(), width=400)
    inside = panel[100, 150].astype(int)
    assert inside[2] > inside[0] + 40  # blue tint
    assert near(panel[250, 350], (90, 90, 90), 2)


def test_truth_is_green() -> None:
    panel = draw(scene(), None, truth(), width=400)
    assert near(panel[100, 100], PALETTE.truth, 60)


@pytest.mark.parametrize(("score", "name"), [(1.0, "prediction"), (0.8, "prediction 0.80")])
def test_only_a_measured_confidence_is_written(score: float, name: str) -> None:
    """A network without a confidence gives 1, which is not shown."""
    found = Prediction((300, 400), np.asarray([(100, 50, 200, 150)]), np.asarray([score]))
    layers = visualize._layers((300, 400), found, None, plain_caption(found), PALETTE)
    assert [layer.name for layer in layers] == [name]


def test_inputs_are_not_modified() -> None:
    image, found, true = scene(), prediction(extras={"attention_pooling": np.ones((4, 4))}), truth()
    boxes, maps = found.boxes_xyxy.copy(), found.extras["attention_pooling"].copy()
    for drawn in (draw(image, found, true), side_by_side(image, found, true), attention_overlay(image, maps)):
        assert drawn is not image and not np.shares_memory(drawn, image)
    assert (image == 90).all() and (found.boxes_xyxy == boxes).all()
    assert (true.boxes_xyxy[0] == (100, 50, 200, 150)).all()
    assert (found.extras["attention_pooling"] == maps).all()


def test_a_caption_chooses_what_is_drawn_and_names_it() -> None:
    found = Prediction((300, 400), [[100, 50, 200, 150], [250, 180, 350, 280]], [0.9, 0.2])
    plain = draw(scene(), found, width=400)
    assert near(plain[50, 150], PALETTE.prediction) and near(plain[180, 300], PALETTE.prediction)
    chosen = draw(scene(), found, caption=Caption("two ships", shown=(0,)), width=400)
    assert near(chosen[50, 150], PALETTE.prediction) and near(chosen[180, 300], (90, 90, 90), 1)
    named = draw(scene(), found, caption=Caption("two ships", prediction_texts=("ship 0.90",), shown=(0,)), width=400)
    changed = np.argwhere((named[:300] != chosen[:300]).any(-1))
    assert len(changed) and changed[:, 0].max() < 50, "the text is above its box"


def test_texts_of_the_truth_are_below_its_boxes_and_stay_on_the_image() -> None:
    true = Truth(np.asarray([[100, 50, 200, 150], [380, 270, 398, 298]]), np.zeros(2, np.int64))
    bare = draw(scene(), None, true, caption=Caption(), width=400)
    named = draw(scene(), None, true, caption=Caption(truth_texts=("storage tank", "harbour")), width=400)
    changed = np.argwhere((named[:300] != bare[:300]).any(-1))
    upper, lower = changed[changed[:, 0] < 200], changed[changed[:, 0] >= 200]
    assert upper[:, 0].min() > 150 and upper[:, 1].min() >= 97
    assert len(lower) and lower[:, 1].max() < 400


def test_texts_of_neighbours_do_not_cover_each_other() -> None:
    boxes = np.asarray([[100, 80, 200, 150], [104, 82, 204, 152], [98, 78, 198, 148]])
    places: list[np.ndarray] = []
    for box in boxes.astype(float):
        fits = [place for place in visualize._places(box, 60, (300, 400), False)]
        places.append(next(p for p in fits if not any(visualize._overlap(p, other) for other in places)))
    assert places[0][3] <= 80, "above its box where that is free"
    found = Prediction((300, 400), boxes, [0.9, 0.8, 0.7])
    one = Caption(prediction_texts=("ship 0.90", "", ""))
    all_three = Caption(prediction_texts=("ship 0.90", "tank 0.80", "house 0.70"))
    first, crowded = (draw(scene(), found, caption=words, width=400) for words in (one, all_three))
    where = tuple(slice(int(places[0][axis]), int(places[0][axis + 2])) for axis in (1, 0))
    assert (first[where] == crowded[where]).all(), "the first text is still readable"


def test_truth_without_objects_of_another_annotated_size() -> None:
    empty = instance_truth(Sample("s", "s", "1", size=(10, 10)))
    assert near(draw(scene(), None, empty, width=400)[100, 100], (90, 90, 90), 1)


def test_nothing_found_is_said() -> None:
    empty = Prediction((300, 400), [], [], expression="a ship")
    with_note, without = draw(scene(), empty, width=400), draw(scene(), None, expression="a ship", width=400)
    assert with_note.shape[0] > without.shape[0]
    assert near(with_note[100, 100], (90, 90, 90), 1)


def test_prediction_of_another_image_is_refused() -> None:
    with pytest.raises(ImageError, match=r"\(10, 10\).*\(300, 400\)"):
        draw(scene(), Prediction((10, 10), [], []))


@pytest.mark.parametrize("image", [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3)), np.zeros((0, 5, 3), np.uint8)])
def test_not_an_rgb_image(image: np.ndarray) -> None:
    with pytest.raises(ImageError, match="uint8 RGB"):
        draw(image)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (3, 2)])
def test_extreme_sizes(size: tuple[int, int]) -> None:
    found = Prediction(size, [[0, 0, size[1], size[0]]], [0.5], masks=(encode_mask(np.ones(size)),))
    panel = draw(np.zeros((*size, 3), np.uint8), found, expression="one pixel")
    assert panel.dtype == np.uint8 and max(panel.shape) < 4000


@pytest.mark.parametrize("text", ["", "最左边的船", "🚢 ship", "word " * 900, "x" * 5000, "a\nb\t\x00c", "مرحبا"])
def test_any_sentence_can_be_a_caption(text: str) -> None:
    panel = draw(scene(), prediction(), expression=text, width=400)
    assert panel.shape[1] == 400 and panel.shape[0] < 500


def test_caption_is_wrapped_and_cut() -> None:
    lines = text_drawing.fit_lines("the quick brown fox " * 30, 20, 300, 3)
    assert len(lines) == 3 and lines[-1].endswith("…")
    assert all(text_drawing.text_width(line, 20) <= 300 for line in lines)
    assert text_drawing.fit_lines("two words", 20, 300, 3) == ["two words"]
    chinese = text_drawing.fit_lines("左边的飞机旁边的船" * 3, 20, 200, 9)
    assert len(chinese) > 1 and "".join(chinese) == "左边的飞机旁边的船" * 3


def test_missing_font_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    text_drawing._warn_missing.cache_clear()
    private = "\ue123"  # a private-use character: no text font has it
    if not text_drawing.missing_characters(private):
        pytest.skip("a font here draws private-use characters")
    with caplog.at_level(logging.WARNING, "mindground"):
        text_drawing.text_width(private * 3, 20)
        text_drawing.text_width(private + "a", 20)
    assert len(caplog.records) == 1 and "MINDGROUND_FONT" in caplog.text


def test_contact_sheet_places_panels() -> None:
    panels = [np.full((20, 30, 3), value, np.uint8) for value in (10, 60, 110, 160, 210)]
    sheet = contact_sheet(panels, columns=2, gap=4)
    assert sheet.shape == (3 * 20 + 4 * 4, 2 * 30 + 3 * 4, 3)
    assert (sheet[4:24, 38:68] == 60).all() and (sheet[52:72, 4:34] == 210).all()
    assert contact_sheet(panels, columns=0, gap=4).shape == (28, 5 * 30 + 6 * 4, 3)
    assert contact_sheet(panels, title="runs/x").shape[0] > contact_sheet(panels).shape[0]
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([])


def test_attention_is_drawn_at_its_position() -> None:
    attention = np.zeros((10, 10))
    attention[1:3, 7:9] = 1
    heat = attention_overlay(scene(100, 100), attention)
    assert (heat[20, 80].astype(int) - 90).max() > 60
    assert near(heat[80, 20], (90, 90, 90), 5)
    assert (attention_overlay(scene(8, 8), np.ones((2, 2))) == 90).all()  # constant attention is not visible


def test_side_by_side_shows_attention() -> None:
    plain = side_by_side(scene(), prediction(), truth())
    more = side_by_side(scene(), prediction(extras={"attention_pooling": np.eye(4), "canvas_iou": (1, 2)}), truth())
    assert more.shape[1] > plain.shape[1] * 1.4


def test_save_png(tmp_path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (9, 7, 3), np.uint8)
    path = save_png(tmp_path / "new" / "ä b.png", image)
    assert (np.asarray(Image.open(path)) == image).all()
    (tmp_path / "file").write_text("x")
    with pytest.raises(WriteError, match="cannot be written"):
        save_png(tmp_path / "file" / "x.png", image)


def test_samples_are_drawn_in_the_sense_in_which_they_were_annotated(tmp_path: Path) -> None:
    """EXIF data turn the image; a size of the stored pixels says that the boxes lie in these."""
    stored = np.zeros((64, 96, 3), np.uint8)
    stored[8:27, 8:39] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(stored).save(tmp_path / "a.jpg", quality=95, exif=exif)
    seen: list[tuple[int, ...]] = []

    def ask(image: np.ndarray, sentence: str | None) -> Prediction:
        seen.append(image.shape)
        rows, columns = np.nonzero(image[..., 0] > 128)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        return Prediction(image.shape[:2], [box], [1.0])

    box = np.asarray([[8, 8, 39, 27]])
    sample = Sample(str(tmp_path / "a.jpg"), "s", "1", "the ship", box, size=(64, 96))
    whole = Sample(str(tmp_path / "a.jpg"), "t", "1", "the ship", np.asarray([[37, 8, 56, 39]]))
    task = task_for("referring", ModelInterface("expression", ("box",)))
    notes: list[str] = []

    def describe(sample: Sample, found: Prediction) -> Caption:
        notes.append(task.caption(sample, found).note)
        return task.caption(sample, found)

    show_samples(ask, Dataset([sample, whole]), [0, 1], tmp_path / "drawn.png", describe=describe)
    assert seen == [(64, 96, 3), (96, 64, 3)]
    assert all(float(note.rpartition(" ")[2]) > 0.9 for note in notes) and len(notes) == 2
