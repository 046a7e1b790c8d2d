"""What is chosen on the host: ties, nothing to find, more than there is room for, and numbers that are none."""

from __future__ import annotations

import numpy as np
import pytest

from mindground.detection.anchors import AnchorGrid
from mindground.detection.assigners import assign_by_iou, pairwise_iou
from mindground.detection.box_coder import ROI_DEVIATIONS, decode_boxes, encode_boxes
from mindground.detection.box_head import find_detections, sample_rois
from mindground.detection.mask_head import crop_masks, paste_mask
from mindground.detection.matching import match_queries, matching_costs
from mindground.detection.nms import detections_per_class, suppress, suppress_in_groups
from mindground.detection.queries import query_instances
from mindground.detection.roi_align import plan_rois, roi_levels
from mindground.detection.rpn import ProposalRules, propose, rpn_targets
from mindground.detection.samplers import sample_boxes

GRID = AnchorGrid((8, 16), (4,))
SIZES = [(8, 8), (4, 4)]
NONE = np.zeros((0, 4), np.float32)


def _rng() -> np.random.Generator:
    return np.random.default_rng(5)


def _boxes(count: int, seed: int = 0, side: float = 64) -> np.ndarray:
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, side * 0.7, (count, 2))
    return np.concatenate([low, low + rng.uniform(2, side * 0.3, (count, 2))], 1).astype(np.float32)


# ---- assignment and sampling ---------------------------------------------------------------------------------------


def test_of_equal_overlaps_the_first_object_is_found() -> None:
    twice = np.asarray([[0, 0, 10, 10], [0, 0, 10, 10]], np.float32)
    found = assign_by_iou(np.asarray([[0, 0, 10, 9]], np.float32), twice, 0.7, 0.3, 0.3, False)
    assert found.objects.tolist() == [1] and found.overlaps[0] == pytest.approx(0.9)


def test_all_boxes_of_the_best_overlap_become_an_objects_own() -> None:
    anchors = np.asarray([[0, 0, 10, 10], [10, 0, 20, 10], [40, 40, 50, 50]], np.float32)
    middle = np.asarray([[5, 0, 15, 10]], np.float32)  # a third of both
    assert assign_by_iou(anchors, middle, 0.7, 0.3, 0.3, True).objects.tolist() == [1, 1, 0]
    assert assign_by_iou(anchors, middle, 0.7, 0.3, 0.3, False).objects.tolist() == [-1, -1, 0]
    assert assign_by_iou(anchors, middle, 0.7, 0.4, 0.4, True).objects.tolist() == [0, 0, 0], "below the least overlap"


def test_a_box_that_is_no_number_takes_no_part() -> None:
    boxes = np.asarray([[0, 0, 10, 10], [np.nan, 0, 10, 10], [0, 0, np.inf, 10]], np.float32)
    for objects in (boxes[:1], NONE):
        found = assign_by_iou(boxes, objects, 0.5, 0.5, 0.5, True)
        assert found.objects.tolist() == [len(objects), -1, -1]
        assert np.isfinite(found.overlaps).all()


def test_assignment_follows_from_all_overlaps() -> None:
    boxes, objects = _boxes(200), _boxes(9, 1)
    overlaps = pairwise_iou(boxes, objects)
    found = assign_by_iou(boxes, objects, 0.4, 0.2, 0.3, False)
    assert np.array_equal(found.overlaps, overlaps.max(1))
    wanted = np.where(overlaps.max(1) >= 0.4, overlaps.argmax(1) + 1, np.where(overlaps.max(1) < 0.2, 0, -1))
    assert found.objects.tolist() == wanted.tolist() and len(set(wanted)) > 4


@pytest.mark.parametrize(("number", "share", "wanted"), [(4, 0.5, (2, 2)), (4, 0.25, (1, 3)), (100, 0.5, (6, 20))])
def test_a_sample_has_its_size(number: int, share: float, wanted: tuple[int, int]) -> None:
    objects = np.asarray([1] * 6 + [0] * 20 + [-1] * 9)
    found = sample_boxes(objects, number, share, _rng())
    assert (len(found.positives), len(found.negatives)) == wanted
    for part in found:
        assert (np.diff(part) > 0).all()
    again = sample_boxes(objects, number, share, _rng())
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))


def test_targets_of_an_image_without_objects_are_background() -> None:
    large = np.asarray([[10, 10, 40, 44]], np.float32)
    found = rpn_targets(GRID, SIZES, [NONE, large], [(64, 64)] * 2, _rng(), samples=16)
    assert found.positive[0].sum() == 0 and found.real[0].sum() == 16 and found.real.shape == (2, 16)
    # One is counted in the place of those that an image has none of.
    assert found.total == 1 + 16 + found.real[1].sum()
    assert found.positive[1].sum() >= 1


def test_anchors_beyond_the_padding_take_no_part() -> None:
    found = rpn_targets(GRID, SIZES, [NONE], [(16, 8)], _rng(), samples=1000)
    cells = np.asarray(GRID.grid(SIZES))[found.anchors[0][found.real[0] > 0]]
    centres = (cells[:, :2] + cells[:, 2:]) / 2
    assert centres[:, 0].max() < 8 + 1e-4 and centres[:, 1].max() < 16 + 1e-4


def test_of_three_hundred_objects_a_fixed_number_is_sampled() -> None:
    boxes = _boxes(300)
    found = sample_rois(_boxes(50, 2), boxes, np.arange(300) % 3, 3, _rng(), samples=64, share=0.25)
    assert found.boxes.shape == (64, 4) and found.positive.sum() == 16
    assert (found.labels[:16] == found.objects[:16] % 3).all() and (found.labels[16:] == 3).all()
    assert np.isfinite(found.deltas).all()


@pytest.mark.parametrize("objects", [0, 2])
def test_proposals_that_are_no_numbers_are_dropped(objects: int) -> None:
    proposals = np.concatenate([np.full((4, 4), np.nan, np.float32), _boxes(3)])
    found = sample_rois(proposals, _boxes(objects, 3), np.zeros(objects, int), 1, _rng(), samples=32, share=1.0)
    assert found.real.sum() <= 3 + objects and np.isfinite(found.boxes).all() and found.positive.sum() >= objects


def test_no_proposal_and_no_object() -> None:
    found = sample_rois(NONE, NONE, np.zeros(0, int), 3, _rng(), samples=8)
    assert found.real.sum() == 0 and (found.labels == 3).all() and (found.objects == -1).all()


# ---- suppression ---------------------------------------------------------------------------------------------------


def _suppress_one_by_one(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        if all(pairwise_iou(boxes[index : index + 1], boxes[other : other + 1])[0, 0] <= threshold for other in kept):
            kept.append(int(index))
    return kept


@pytest.mark.parametrize("count", [1, 30, 300])
def test_suppression_of_blocks_is_that_of_single_boxes(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes, scores = _boxes(count), np.random.default_rng(1).integers(0, 20, count) / 20  # many equal scores
    wanted = _suppress_one_by_one(boxes, scores, 0.3)
    for block in (1, 7, 256):
        monkeypatch.setattr("mindground.detection.nms._BLOCK", block)
        assert suppress(boxes, scores, 0.3).tolist() == wanted


def test_equal_scores_keep_the_first_and_the_threshold_itself_stays() -> None:
    boxes = np.asarray([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 5]], np.float32)
    assert suppress(boxes, np.ones(3), 0.5).tolist() == [0, 2]


def test_groups_do_not_see_each_other_and_nothing_gives_nothing() -> None:
    boxes = np.asarray([[0, 0, 10, 10]] * 3, np.float32)
    assert suppress_in_groups(boxes, np.asarray([0.5, 0.9, 0.7]), np.asarray([0, 0, 4]), 0.5).tolist() == [1, 2]
    assert suppress_in_groups(NONE, np.zeros(0), np.zeros(0, int), 0.5).tolist() == []
    assert detections_per_class(np.zeros((0, 3, 4)), np.zeros((0, 3)), 0.05, 0.5, 10).boxes.shape == (0, 4)


def test_what_is_no_number_does_not_stay() -> None:
    boxes = np.asarray([[0, 0, 10, 10], [np.nan] * 4, [20, 20, 30, 30]], np.float32)
    assert suppress(boxes, np.asarray([0.1, 0.9, np.nan]), 0.5).tolist() == [0]
    assert suppress_in_groups(boxes, np.asarray([0.1, 0.9, 0.2]), np.zeros(3, int), 0.5).tolist() == [2, 0]


def test_proposals_of_a_broken_network_are_finite() -> None:
    count = len(GRID.grid(SIZES))
    logits, deltas = np.zeros(count, np.float32), np.zeros((count, 4), np.float32)
    logits[:9], deltas[20:40] = np.nan, np.inf
    found = propose(logits, deltas, GRID, SIZES, (64, 64), ProposalRules(50, 0.7, 20))
    assert len(found.boxes) == 20 and np.isfinite(found.boxes).all() and np.isfinite(found.scores).all()
    none = propose(np.full(count, np.nan, np.float32), deltas, GRID, SIZES, (64, 64), ProposalRules())
    assert none.boxes.shape == (0, 4)


def test_no_proposal_gives_no_detection() -> None:
    found = find_detections(np.zeros((0, 4), np.float32), np.zeros((0, 12), np.float32), NONE, (64, 64))
    assert found.boxes.shape == (0, 4) and found.labels.shape == (0,)


def test_boxes_come_back_from_their_differences() -> None:
    priors, boxes = _boxes(20), _boxes(20, 1)
    assert decode_boxes(priors, encode_boxes(priors, boxes)) == pytest.approx(boxes, abs=1e-3)
    scaled = encode_boxes(priors, boxes, ROI_DEVIATIONS)
    assert decode_boxes(priors, scaled, None, ROI_DEVIATIONS) == pytest.approx(boxes, abs=1e-3)


# ---- boxes on maps, masks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("box", [[3, 3, 3, 3], [60, 60, 61, 61], [-50, -50, -20, -20], [np.nan] * 4, [0, 0, 64, 1]])
def test_any_box_has_a_plan_of_one_size(box: list[float]) -> None:
    boxes = np.asarray([box, [0, 0, 64, 64]], np.float32)
    plan = plan_rois(boxes, np.asarray([0, 1]), [(16, 16), (8, 8)], (4, 8), 2, 7, length=1024)
    assert plan.pixels.shape == (2, 1024) and plan.pixels.min() >= 0 and plan.pixels.max() < 2 * (256 + 64)
    assert np.isfinite(plan.row_weights).all()
    total = (plan.row_weights[1] @ plan.column_weights[1].T).reshape(-1)
    assert total == pytest.approx(np.ones(49), abs=1e-5), "weights of a bin inside the map sum to 1"


def test_a_box_larger_than_the_plan_is_refused() -> None:
    with pytest.raises(ValueError, match="covers"):
        plan_rois(np.asarray([[0, 0, 64, 64]]), np.zeros(1), [(16, 16)], (4,), 1, 7, length=64)


def test_levels_of_boxes() -> None:
    boxes = np.asarray([[0, 0, 1, 1], [0, 0, 111, 111], [0, 0, 112, 112], [0, 0, 9999, 9999], [5, 5, 5, 5]])
    assert roi_levels(boxes, 4).tolist() == [0, 0, 1, 3, 0]


def test_masks_of_small_boxes() -> None:
    mask = np.zeros((1, 32, 32), np.uint8)
    mask[0, 4:8, 4:8] = 1
    assert crop_masks(mask, np.asarray([[4, 4, 8, 8]])).mean() > 0.9
    assert crop_masks(mask, np.asarray([[20, 20, 21, 21]])).sum() == 0
    assert crop_masks(np.zeros((0, 8, 8)), NONE).shape == (0, 28, 28)


@pytest.mark.parametrize("box", [[10, 10, 10, 10], [-9, -9, -3, -3], [np.nan] * 4, [90, 90, 99, 99]])
def test_a_box_without_pixels_has_an_empty_mask(box: list[float]) -> None:
    assert not paste_mask(np.ones((28, 28)), np.asarray(box), (40, 30)).any()


def test_a_pasted_mask_fills_its_box() -> None:
    pasted = paste_mask(np.ones((28, 28)), np.asarray([5, 6, 15, 20]), (40, 30))
    wanted = np.zeros((40, 30), bool)
    wanted[6:20, 5:15] = True
    assert (pasted == wanted).all()
    assert paste_mask(np.ones((28, 28)), np.asarray([5.2, 6.2, 6.9, 7.9]), (40, 30)).sum() >= 1, "about one pixel"


# ---- matching ------------------------------------------------------------------------------------------------------


def test_more_objects_than_queries() -> None:
    found = match_queries(np.asarray([[3.0, 1.0, 2.0], [0.5, 2.0, 9.0]]))
    assert found.queries.tolist() == [0, 1] and found.objects.tolist() == [1, 0]


@pytest.mark.parametrize("shape", [(0, 3), (5, 0)])
def test_nothing_to_match(shape: tuple[int, int]) -> None:
    found = match_queries(np.zeros(shape))
    assert len(found.queries) == len(found.objects) == 0


def test_a_cost_that_is_no_number_is_the_last_choice() -> None:
    found = match_queries(np.asarray([[np.nan], [5.0], [np.inf]]))
    assert found.queries.tolist() == [1]


def test_costs_of_huge_logits_are_finite() -> None:
    points = np.asarray([[200.0, -200.0], [-200.0, 200.0]], np.float32)
    costs = matching_costs(np.zeros((2, 3)), points, np.asarray([[1.0, 0.0]], np.float32), np.asarray([1]))
    assert np.isfinite(costs.total).all() and match_queries(costs.total).queries.tolist() == [0]


def test_a_query_may_stand_under_several_classes_and_an_empty_mask_has_no_score() -> None:
    logits = np.asarray([[2.0, 1.9, 0.0], [-5.0, -5.0, 5.0]])
    masks = np.full((2, 8, 8), -1.0, np.float32)
    masks[0, 2:5, 1:3] = 4
    found = query_instances(logits, masks, (8, 8), (8, 8), 3)
    assert found.queries[:2].tolist() == [0, 0] and found.labels[:2].tolist() == [0, 1]
    assert found.boxes[0].tolist() == [1, 2, 3, 5] and found.boxes[2].tolist() == [0, 0, 0, 0] and found.scores[2] == 0
