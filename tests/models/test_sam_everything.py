"""The everything mode on a network without a network: options, crops, filters, forms, small regions, bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mindground.errors import ConfigError, DataError, ImageError
from mindground.models.sam.everything import MaskGenerator, generate
from mindground.models.sam.everything.grids import crops, point_grid
from mindground.models.sam.everything.options import EverythingOptions
from mindground.structures import decode_segmentation
from mindground.structures.nms import suppress
from mindground.structures.regions import clean_mask, remove_small_regions
from prompts import ColourPredictor, ColourSession, scene

OBJECTS = ((20, 10, 50, 40), (70, 50, 100, 80))
# The whole image is an answer of every point, too: a stricter rating leaves it and the unstable answer out.
ONE = {"points_per_side": 4, "stability_score_thresh": 0.9}


def found(image: np.ndarray, **options: Any) -> list[dict[str, Any]]:
    return everything(ColourSession(image), {**ONE, **options})


def everything(session: ColourSession, options: dict[str, Any]) -> list[dict[str, Any]]:
    return generate(session, session.image, options)


def boxes(records: list[dict[str, Any]]) -> list[list[int]]:
    return sorted(record["bbox"] for record in records)


def test_the_published_names_and_defaults() -> None:
    assert vars(EverythingOptions()) == {
        "points_per_side": 32,
        "points_per_batch": 64,
        "pred_iou_thresh": 0.88,
        "stability_score_thresh": 0.95,
        "stability_score_offset": 1.0,
        "box_nms_thresh": 0.7,
        "crop_n_layers": 0,
        "crop_nms_thresh": 0.7,
        "crop_overlap_ratio": 512 / 1500,
        "crop_n_points_downscale_factor": 1,
        "point_grids": None,
        "min_mask_region_area": 0,
        "output_mode": "binary_mask",
    }


WRONG = {
    "points_per_side": [0, -1, 2.5, True, "8", 100000],
    "points_per_batch": [0, 1.5, None],
    "pred_iou_thresh": [float("nan"), "high", None],
    "stability_score_thresh": [-0.1, 1.1, float("inf")],
    "stability_score_offset": [-1.0, None],
    "box_nms_thresh": [2, -1],
    "crop_n_layers": [-1, 7, 0.5],
    "crop_nms_thresh": [1.5],
    "crop_overlap_ratio": [-0.5, 3],
    "crop_n_points_downscale_factor": [0, 1.5],
    "min_mask_region_area": [-1, 0.5],
    "output_mode": ["png", None, ["coco_rle"]],
}


@pytest.mark.parametrize("name", WRONG)
def test_a_value_that_an_option_cannot_have_names_it(name: str) -> None:
    for value in WRONG[name]:
        if name == "points_per_side" and value is None:
            continue
        with pytest.raises(ConfigError, match=name) as caught:
            EverythingOptions.of({name: value})
        assert "\n" not in str(caught.value)


def test_points_come_from_one_place() -> None:
    for options in ({"points_per_side": None}, {"point_grids": [np.full((1, 2), 0.5)]}):
        with pytest.raises(ConfigError, match="points_per_side or point_grids"):
            EverythingOptions.of(options)
    with pytest.raises(ConfigError, match="needs 2"):
        EverythingOptions.of({"points_per_side": None, "point_grids": [[[0.5, 0.5]]], "crop_n_layers": 1})
    with pytest.raises(ConfigError, match="outside 0 to 1"):
        EverythingOptions.of({"points_per_side": None, "point_grids": [[[5.0, 5.0]]]})
    with pytest.raises(ConfigError, match="for every layer"):
        EverythingOptions.of({"points_per_side": None, "point_grids": [[1, 2, 3]]})
    with pytest.raises(ConfigError, match="did you mean points_per_side"):
        EverythingOptions.of({"point_per_side": 4})


def test_grid_points_are_centres_of_cells() -> None:
    assert point_grid(2).tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    assert point_grid(0).shape == (0, 2)


def test_every_object_is_found_once() -> None:
    records = found(scene(objects=OBJECTS))
    # The background, then the objects; one answer of each prompt is the whole image.
    assert boxes(records) == [[0, 0, 119, 89], [20, 10, 29, 29], [70, 50, 29, 29]]
    ship = next(record for record in records if record["bbox"][0] == 20)
    assert set(ship) == {
        "segmentation", "area", "bbox", "predicted_iou", "point_coords", "stability_score", "crop_box",
    }  # fmt: skip
    assert ship["area"] == 900 and ship["segmentation"].sum() == 900 and ship["segmentation"][10:40, 20:50].all()
    assert ship["crop_box"] == [0, 0, 120, 90] and ship["stability_score"] == 1
    (x, y), rating = ship["point_coords"][0], ship["predicted_iou"]
    assert 20 <= x < 50 and 10 <= y < 40 and rating == pytest.approx(0.95)


def test_nothing_that_survives_is_an_empty_list() -> None:
    image = scene(objects=OBJECTS)
    for options in ({"pred_iou_thresh": 2.0}, {"pred_iou_thresh": 2.0, "crop_n_layers": 1, "min_mask_region_area": 9}):
        assert found(image, **options) == []


def test_each_filter_leaves_out_what_it_should() -> None:
    image = scene(objects=OBJECTS)
    assert len(found(image, pred_iou_thresh=0.96)) == 1  # the whole image, rated 0.97
    assert len(found(image, pred_iou_thresh=0, box_nms_thresh=1, points_per_side=2)) == 2 * 4
    unstable = found(image, stability_score_thresh=0, box_nms_thresh=1, points_per_side=2)
    assert len(unstable) == 3 * 4 and {record["stability_score"] for record in unstable} == {0.0, 1.0}
    steady = found(image, stability_score_thresh=0.9, stability_score_offset=0.5, box_nms_thresh=1, points_per_side=2)
    assert len(steady) == 3 * 4


def test_batches_hold_as_many_points_as_asked() -> None:
    session = ColourSession(scene(objects=OBJECTS))
    everything(session, {"points_per_side": 5, "points_per_batch": 10})
    assert session.asked == [10, 10, 5]


def test_own_points() -> None:
    grid = [np.asarray([[30 / 120, 20 / 90]])]
    records = found(scene(objects=OBJECTS), points_per_side=None, point_grids=grid, pred_iou_thresh=0.9)
    assert [record["point_coords"] for record in records] == [[[30.0, 20.0]]] * 2


@pytest.mark.parametrize("mode", ["binary_mask", "uncompressed_rle", "coco_rle"])
def test_three_forms_of_one_mask(mode: str) -> None:
    image = scene(objects=OBJECTS)
    plain, records = found(image), found(image, output_mode=mode)
    assert len(plain) == len(records) > 0
    for one, other in zip(plain, records, strict=True):
        given = other["segmentation"]
        if mode == "binary_mask":
            assert given.dtype == bool and given.shape == (90, 120)
            mask = given
        elif mode == "uncompressed_rle":
            assert given["size"] == [90, 120] and sum(given["counts"]) == 90 * 120
            mask = coco_mask.decode(coco_mask.frPyObjects(given, 90, 120))
        else:
            assert isinstance(given["counts"], str)
            mask = coco_mask.decode(given)
            assert coco_mask.area(given) == other["area"]
        assert np.array_equal(mask, one["segmentation"]) and other["area"] == one["area"] == mask.sum()


def test_crops_lie_on_the_image() -> None:
    for size in ((90, 120), (1, 1), (1, 500), (37, 3)):
        for layers in range(4):
            made = crops(size, layers, 512 / 1500)
            covered = np.zeros((layers + 1, *size), bool)
            for crop in made:
                assert 0 <= crop.left < crop.right <= size[1] and 0 <= crop.top < crop.bottom <= size[0]
                covered[crop.layer, crop.top : crop.bottom, crop.left : crop.right] = True
            assert covered.all()
    assert [crop.layer for crop in crops((90, 120), 2, 0.1)] == [0] + [1] * 4 + [2] * 16


def test_objects_of_crops_win_and_cut_ones_are_left_out() -> None:
    objects = ((20, 60, 90, 130), (340, 220, 380, 260), (180, 150, 220, 190))
    image = scene((300, 400), objects)
    session = ColourSession(image)
    records = everything(session, {"points_per_side": 8, "stability_score_thresh": 0.9, "crop_n_layers": 1})
    assert len(session.opened) == 4
    by_box = {tuple(record["bbox"]): record for record in records}
    assert by_box[(20, 60, 69, 69)]["crop_box"][2:] != [400, 300]  # an object that a crop shows whole
    assert by_box[(340, 220, 39, 39)]["crop_box"][0] > 0
    assert by_box[(0, 0, 399, 299)]["crop_box"] == [0, 0, 400, 300]
    assert by_box[(180, 150, 39, 39)]["segmentation"].sum() == 1600
    assert len(records) == 4  # of the background no part that a crop cuts


def test_fewer_points_in_later_layers() -> None:
    image, asked = scene((64, 64)), []

    class Counting(ColourSession):
        def open(self, image: np.ndarray) -> ColourSession:
            made = Counting(image)
            made.asked = asked
            return made

    options = {"points_per_side": 4, "crop_n_layers": 2, "crop_n_points_downscale_factor": 2, "points_per_batch": 99}
    everything(Counting(image), options)
    assert asked == [4] * 4 + [1] * 16
    asked.clear()
    everything(Counting(image), {**options, "points_per_side": 3})
    assert asked == [1] * 4  # no point is left for layer 2, and its crops are not encoded


def test_small_regions_are_cleaned() -> None:
    image = scene((80, 80), [(10, 10, 60, 60)])
    image[30:33, 30:33] = 7  # a hole
    options = {"points_per_side": 8, "stability_score_thresh": 0.9, "pred_iou_thresh": 0.9, "box_nms_thresh": 0.9}
    before = {tuple(r["bbox"]): r["area"] for r in everything(ColourSession(image), options)}
    after = {
        tuple(r["bbox"]): r["area"] for r in everything(ColourSession(image), options | {"min_mask_region_area": 10})
    }
    assert before[(10, 10, 49, 49)] == 2491 and after[(10, 10, 49, 49)] == 2500


def test_holes_and_islands() -> None:
    mask = np.zeros((20, 20), bool)
    mask[2:12, 2:12] = True
    mask[5:7, 5:7] = False
    mask[15, 15] = mask[16, 16] = True  # touching at a corner: one island of 2
    filled, changed = remove_small_regions(mask, 5, "holes")
    assert changed and filled[5, 5] and filled[15, 15]
    cleaned, _ = clean_mask(mask, 5)
    assert cleaned.sum() == 100
    assert clean_mask(mask, 2)[1] is False
    only, changed = remove_small_regions(mask[14:], 50, "islands")
    assert changed and only.sum() == 2  # the largest stays, however small
    nothing, changed = clean_mask(np.zeros((6, 6), bool), 3)
    assert not changed and not nothing.any()


def test_suppression_keeps_the_surest() -> None:
    given = np.asarray([[0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30], [5, 5, 5, 9], [5, 5, 5, 9]], float)
    assert suppress(given, np.asarray([0.5, 0.9, 0.7, 0.1, 0.1]), 0.5).tolist() == [1, 2, 3]
    assert suppress(given, np.asarray([0.5, 0.9, 0.7, 0.1, 0.1]), 0.9).tolist() == [1, 2, 0, 3]
    assert suppress(np.zeros((0, 4)), np.zeros(0), 0.5).shape == (0,)


def test_memory_stays_bounded_whatever_is_asked() -> None:
    session = ColourSession(scene((1100, 1700), [(100, 100, 900, 900)]))
    everything(session, {"points_per_side": 2, "stability_score_thresh": 0.9})
    assert 0 < session.largest <= 1 << 24


@pytest.mark.parametrize("place", [0, 1])
def test_an_answer_that_is_not_finite_is_told(place: int) -> None:
    class Broken(ColourSession):
        def predict(self, *arguments: Any, **options: Any) -> tuple[np.ndarray, np.ndarray]:
            found = super().predict(*arguments, **options)
            found[place].flat[0] = np.nan
            return found

    with pytest.raises(ImageError, match="not finite"):
        everything(Broken(scene(objects=OBJECTS)), ONE)


def test_a_session_of_an_embedding_has_no_crops() -> None:
    session = ColourSession(scene(objects=OBJECTS), keep_image=False)
    assert len(everything(session, ONE)) == 3
    with pytest.raises(DataError, match="crop_n_layers=1 needs the pixels"):
        everything(session, ONE | {"crop_n_layers": 1})


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (30, 2)])
def test_images_of_a_few_pixels(size: tuple[int, int]) -> None:
    records = everything(ColourSession(scene(size)), ONE | {"crop_n_layers": 2, "output_mode": "coco_rle"})
    assert records[0]["area"] <= size[0] * size[1] and all(record["area"] for record in records)
    assert len({tuple(record["bbox"]) for record in records}) == len(records) > 0


def test_the_generator_opens_images() -> None:
    predictor, image = ColourPredictor(), scene(objects=OBJECTS)
    generator = MaskGenerator(predictor, **ONE, output_mode="coco_rle")
    records = generator.generate(image)
    assert len(records) == 3 and len(predictor.sessions) == 1
    prediction = generator.find(image)
    assert len(prediction) == 3 and prediction.boxes_xyxy.max() == 120
    assert all(decode_segmentation(m, (90, 120)).any() for m in prediction.masks)
    with pytest.raises(ConfigError, match="points_per_sid"):
        MaskGenerator(predictor, points_per_sid=3)
