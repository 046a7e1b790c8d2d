"""What follows from a task: names of metrics that a split can give, and the control of instances."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mindground.data import Dataset
from mindground.errors import ConfigError
from mindground.models.interface import ModelInterface
from mindground.structures import IgnoredRegion, Sample, encode_mask
from mindground.tasks import MetricSettings, Task, task_for, task_of

BOTH = ModelInterface("nothing", ("box", "mask"), many=True)
SETTINGS = MetricSettings()


def _instances(sample_id: str, boxes: list[list[int]], size: tuple[int, int] = (200, 200), **fields: Any) -> Sample:
    outlines = []
    for left, top, right, bottom in boxes:
        mask = np.zeros(size, np.uint8)
        mask[top:bottom, left:right] = 1
        outlines.append(encode_mask(mask))
    given = {"segmentations": tuple(outlines), "labels": np.ones(len(boxes)), "size": size, **fields}
    return Sample("none.png", sample_id, sample_id, None, np.asarray(boxes, np.float32), **given)


def _split(*samples: Sample, kind: str = "instances") -> Dataset:
    return Dataset(list(samples), {1: "ship"}, "harbour", "val", kind=kind)


def _task(interface: ModelInterface = BOTH) -> Task:
    return task_for("instances" if interface.asks == "nothing" else "referring", interface)


def test_a_split_names_what_its_truth_can_give() -> None:
    small, large = [0, 0, 10, 10], [0, 0, 150, 150]
    assert _task().metric_names(SETTINGS, _split(_instances("a", [small]))) == tuple(
        f"{form}_{name}" for form in ("mask", "box") for name in ("ap", "ap50", "ap75", "ap_small")
    )
    both = _task().metric_names(SETTINGS, _split(_instances("a", [small]), _instances("b", [large])))
    assert "box_ap_large" in both and "mask_ap_small" in both and "box_ap_medium" not in both
    unmasked = _split(_instances("a", [small], segmentations=()))
    assert not [name for name in _task().metric_names(SETTINGS, unmasked) if name.startswith("mask")]
    # Only the file knows how large the image is, so that outlines cannot be measured yet.
    unknown = _split(replace(_instances("a", [small]), size=None))
    assert _task().metric_names(SETTINGS, unknown) == _task().metric_names(SETTINGS)


def test_a_metric_that_the_split_lacks_is_refused_by_name() -> None:
    split = _split(_instances("a", [[0, 0, 10, 10]]))
    with pytest.raises(ConfigError, match="select_by='box_ap_large' is no metric of this run; choose one of mask_ap, "):
        _task().selecting_metric("box_ap_large", SETTINGS, split)
    assert _task().selecting_metric("", SETTINGS, split) == "mask_ap"
    with pytest.raises(ConfigError, match="split 'val' gives no metric.*box and mask"):
        _task().selecting_metric("", SETTINGS, _split(_instances("a", [])))


def test_masks_of_a_referring_split() -> None:
    task = _task(ModelInterface("expression", ("box", "mask")))
    boxes_only = Sample("none.png", "a", "a", "a ship", np.asarray([[0, 0, 10, 10]], np.float32))
    with pytest.raises(ConfigError, match="select_by='mean_iou'"):
        task.selecting_metric("mean_iou", SETTINGS, _split(boxes_only, kind="referring"))
    outlined = replace(_instances("b", [[0, 0, 10, 10]]), expression="a ship")
    assert task.selecting_metric("mean_iou", SETTINGS, _split(boxes_only, outlined, kind="referring")) == "mean_iou"


def test_a_model_that_finds_nothing_scores_zero_in_every_form() -> None:
    from mindground.structures import Batch, Geometry, Prediction

    metrics = _task().metrics(SETTINGS)
    sample = _instances("a", [[0, 0, 10, 10]])
    nothing = Prediction((200, 200), np.zeros((0, 4)), np.zeros(0), labels=np.zeros(0, np.int64))
    geometry = Geometry((200, 200), (200, 200), (200, 200))
    metrics.update([nothing], Batch({}, [sample], [geometry], 1))
    scores = metrics.compute()
    assert set(scores) == set(_task().metric_names(SETTINGS, _split(sample))) and not any(scores.values())
    # A box without a mask is a box that is right and a mask that is missing.
    metrics = _task().metrics(SETTINGS)
    found = Prediction((200, 200), sample.boxes_xyxy, np.ones(1), labels=np.ones(1, np.int64))
    metrics.update([found], Batch({}, [sample], [geometry], 1))
    assert metrics.compute()["box_ap"] == pytest.approx(1.0) and metrics.compute()["mask_ap"] == 0.0


def test_the_control_takes_all_of_another_image_at_the_right_size() -> None:
    crowd = IgnoredRegion([100, 100, 200, 200], None, 1)
    first = _instances("a", [[40, 20, 80, 40]], ignored=(crowd,))
    second = _instances("b", [[5, 5, 10, 10], [0, 0, 20, 20]], size=(100, 50))
    changed = {sample.sample_id: sample for sample in _task().controlled(_split(first, second), 0).samples}
    assert changed["b"].boxes_xyxy.tolist() == [[10, 10, 20, 20]], "a quarter as wide, half as high"
    assert changed["b"].masks((100, 50))[0].sum() == 100 and changed["b"].size == (100, 50)
    (region,) = changed["b"].ignored
    assert region.box_xyxy.tolist() == [25, 50, 50, 100] and region.mask((100, 50)).sum() == 25 * 50
    assert len(changed["a"].boxes_xyxy) == 2 and changed["a"].ignored == () and changed["a"].has_masks


def test_a_model_without_a_task_is_refused_by_what_it_asks() -> None:
    unknown = ModelInterface("melody", ("mask",))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="asks for a melody has no task yet"):
        task_of(unknown)
    with pytest.raises(ConfigError, match="harbour holds instances samples, and this family asks for a melody"):
        task_for("instances", unknown, "harbour")
    with pytest.raises(ConfigError, match="harbour holds referring samples, and this family draws its prompts"):
        task_for("referring", ModelInterface("prompt", ("mask",)), "harbour")


def test_a_box_alone_has_no_score() -> None:
    assert not ModelInterface("expression", ("box",)).scored
    assert ModelInterface("expression", ("box", "mask")).scored and ModelInterface("expression", ("mask",)).scored
    assert ModelInterface("nothing", ("box",), many=True).scored
