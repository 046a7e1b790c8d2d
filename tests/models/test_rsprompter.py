"""RSPrompter on the host: objects in fixed shapes, samples of a step, boxes that fill up, ways back to the image."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import mindspore as ms
import numpy as np
import pytest

from mindground.config import load_config
from mindground.detection.anchors import AnchorGrid
from mindground.detection.prompter import RoiPrompter
from mindground.errors import ConfigError, DataError
from mindground.models.rsprompter.assign import LOSS_NAMES, Plans, Rules, sampled_targets
from mindground.models.rsprompter.config import EncoderConfig, RsPrompterConfig
from mindground.models.rsprompter.decode import decode_instances, mask_in_box, mask_of_canvas
from mindground.models.rsprompter.targets import Objects, encode_objects, objects_of
from mindground.structures import Batch, Example, Geometry

SIDE = 64
SIZES = [(16, 16), (8, 8), (4, 4), (2, 2), (1, 1)]
GRID = AnchorGrid((4, 8, 16, 32, 64), (4, 8))
COMM = SimpleNamespace(size=1, all_gather_object=lambda value: [value])


def _example(boxes: Any, labels: Any, masks: Any = "drawn") -> Example:
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    drawn = np.zeros((len(boxes), SIDE, SIDE), np.uint8)
    for mask, (left, top, right, bottom) in zip(drawn, boxes.astype(int), strict=True):
        mask[top:bottom, left:right] = 1
    geometry = Geometry((40, 64), (40, 64), (SIDE, SIDE))
    sample: Any = SimpleNamespace(sample_id="scene/3")
    return Example({}, geometry, sample, boxes, np.asarray(labels, np.int64), None if masks is None else lambda: drawn)


def test_objects_come_back_from_packed_bits() -> None:
    arrays = encode_objects(_example([[2, 3, 11, 20], [5, 5, 5, 9], [30, 1, 31, 2]], [3, 1, 1]), 5, 3)
    assert arrays["object_count"] == 2 and arrays["seen_size"].tolist() == [40, 64]
    found = objects_of({name: value[None] for name, value in arrays.items()}, 0, (SIDE, SIDE))
    # The second has no width.
    assert found.labels.tolist() == [2, 0] and found.boxes.tolist() == [[2, 3, 11, 20], [30, 1, 31, 2]]
    masks = found.masks(np.asarray([1, 0, 0]))
    assert masks.sum((1, 2)).tolist() == [1, 9 * 17, 9 * 17] and masks[0, 1, 30] == 1


def test_an_image_may_be_empty() -> None:
    arrays = encode_objects(_example([], [], None), 5, 3)
    assert arrays["object_count"] == 0 and not arrays["object_masks"].any()


@pytest.mark.parametrize(
    ("labels", "room", "masks", "words"),
    [([1, 2], 1, "drawn", "max_objects=2"), ([0, 2], 5, "drawn", "gives 1 to 3"), ([4, 2], 5, "drawn", r"\[2, 4\]"),
     ([1, 2], 5, None, "outline")],
)  # fmt: skip
def test_what_does_not_fit_is_an_error(labels: list[int], room: int, masks: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        encode_objects(_example([[2, 3, 11, 20], [4, 4, 9, 9]], labels, masks), room, 3)


def _objects(count: int, seed: int = 0) -> Objects:
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 40, (count, 2))
    boxes = np.concatenate([low, low + rng.uniform(1, 20, (count, 2))], 1).astype(np.float32)
    return Objects(boxes, rng.integers(0, 3, count), np.zeros((count, SIDE * SIDE // 8), np.uint8), (SIDE, SIDE))


@pytest.mark.parametrize("counts", [(0, 0), (0, 3), (300, 2)])
def test_samples_have_one_shape_whatever_is_there(counts: tuple[int, int]) -> None:
    rules, plans = Rules(3, 32, 0.5, 16, 0.25), Plans(SIZES[:4], (4, 8, 16, 32))
    proposals = [np.asarray([[0, 0, 30, 30], [np.nan, 0, 1, 1]], np.float32), np.zeros((0, 4), np.float32)]
    objects = [_objects(count, seed) for seed, count in enumerate(counts)]
    found, samples = sampled_targets(
        proposals, objects, rules, GRID, SIZES, (SIDE, SIDE), plans, COMM, np.random.default_rng(0)
    )
    assert {*found, "mask_truth"} == set(LOSS_NAMES)
    assert found["rpn_index"].shape == (2, 32) and found["roi_labels"].shape == (32,)
    assert found["mask_real"].shape == found["mask_image"].shape == (8,) and len(samples) == 2
    assert all(np.isfinite(value).all() for value in found.values())
    assert found["mask_real"].sum() == found["mask_total"] == found["roi_positive"].sum() <= 8
    assert (found["roi_labels"][found["roi_positive"] == 0] == 3).all() and found["mask_labels"].max() < 3
    assert bool(found["mask_total"] > 0) == any(counts)


def test_the_number_of_pixels_never_falls() -> None:
    plans = Plans([(64, 64), (32, 32), (16, 16), (8, 8)], (4, 8, 16, 32))
    large, small = np.asarray([[0, 0, 100, 100]], np.float32), np.asarray([[8, 8, 12, 12]], np.float32)
    images = np.zeros(1, np.int64)
    first = plans("a", small, images, 1, 7).pixels.shape[1]
    wide = plans("a", large, images, 1, 7).pixels.shape[1]
    again = plans("a", small, images, 1, 7)
    assert first < wide == again.pixels.shape[1] == again.row_weights.shape[2]
    assert plans("b", small, images, 1, 7).pixels.shape[1] == first


def test_boxes_that_fill_up_leave_prompts_and_statistics_alone() -> None:
    rng = np.random.default_rng(1)
    features = rng.standard_normal((5, 8, 14, 14)).astype(np.float32)
    real = np.asarray([1, 1, 0, 1, 0], np.float32)
    net, other = (RoiPrompter(8, 14, 2) for _ in range(2))
    ms.load_param_into_net(other, {name: value for name, value in net.parameters_and_names()})
    net.set_train(True)
    other.set_train(True)
    whole = net(ms.Tensor(features), ms.Tensor(real)).asnumpy()[real > 0]
    alone = other(ms.Tensor(features[real > 0])).asnumpy()
    assert np.allclose(whole, alone, atol=1e-5) and np.ptp(alone) > 1e-3
    for name in ("moving_mean", "moving_variance"):
        ours, theirs = (getattr(one.point_emb[1], name).asnumpy() for one in (net, other))
        assert np.allclose(ours, theirs, atol=1e-6) and not np.allclose(ours, np.round(ours), atol=1e-6)
    before = net.point_emb[1].moving_variance.asnumpy().copy()
    none = net(ms.Tensor(features), ms.Tensor(np.zeros(5, np.float32))).asnumpy()
    assert np.isfinite(none).all() and np.array_equal(net.point_emb[1].moving_variance.asnumpy(), before)


def test_what_lies_in_the_padding_is_no_instance() -> None:
    geometry = Geometry((20, 32), (40, 64), (SIDE, SIDE), scale=(2.0, 2.0))
    logits = np.full((1, 3, 16, 16), -9.0, np.float32)
    logits[0, 0, 2:6, 4:8] = 9
    outputs = {
        "det_boxes": np.asarray([[[16, 8, 32, 24], [4, 50, 20, 60], [0, 0, 0, 0]]], np.float32),
        "det_scores": np.asarray([[0.9, 0.8, 0]], np.float32),
        "det_labels": np.asarray([[2, 1, 0]]),
        "det_count": np.asarray([2]),
        "det_logits": logits,
    }
    batch = Batch({}, [], [geometry], 1)
    found = decode_instances(outputs, batch, mask_of_canvas)[0]
    assert found.boxes_xyxy.tolist() == [[8, 4, 16, 12]] and found.labels is not None and found.labels.tolist() == [3]
    mask = found.mask_arrays()[0]
    assert mask[5:11, 9:15].all() and not mask[:3].any() and not mask[:, 18:].any()
    inside = np.full((28, 28), 9.0, np.float32)
    pasted = mask_in_box(inside, np.asarray([8, 4, 16, 12], np.float32), geometry)
    assert pasted.sum() == 64 and pasted[4:12, 8:16].all()


def test_unknown_variants_and_layers_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.variant"):
        load_config(None, ["--family=rsprompter", "--model.variant=query"])
    with pytest.raises(ConfigError, match="select_layers"):
        RsPrompterConfig(encoder=EncoderConfig(select_layers=[1, 13]))
    assert RsPrompterConfig(sam_type="vit_h").layers() == tuple(range(1, 33, 2))
    assert RsPrompterConfig(sam_type="vit_b").layers() == (1, 3, 5, 7, 9, 11)
