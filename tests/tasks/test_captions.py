"""What each task says in a figure, and which metrics its curves and tables show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mindground.engine import logs, scoring
from mindground.engine.run_folder import RunFolder
from mindground.metrics.instances import InstanceMetrics
from mindground.models.interface import ModelInterface
from mindground.structures import Prediction, Sample, encode_mask
from mindground.tasks import MetricSettings, Task, task_of

SIZE = (100, 100)
NAMES = {1: "ship", 2: "storage tank"}
SETTINGS = MetricSettings(box_thresholds=(0.7,))


def instances(*answers: str) -> Task:
    return task_of(ModelInterface("nothing", answers or ("box",), many=True))


def referring(*answers: str) -> Task:
    return task_of(ModelInterface("expression", answers or ("box", "mask")))


def test_masks_are_summed_up_as_papers_name_them() -> None:
    names = {"mean_iou": 0.5, "overall_iou": 0.625, "canvas_mean_iou": 0.642, "canvas_overall_iou": 0.7779}
    names |= {f"{kind}_prec@{t}": 0.9 - t / 10 for kind in ("canvas", "mask") for t in (0.5, 0.6, 0.7, 0.8, 0.9)}
    lavt = MetricSettings(mask_protocol="lavt")
    assert referring("mask").summary_lines(names, lavt) == [
        "at network size (as papers count): mIoU 64.20  oIoU 77.79  "
        "P@0.5 85.00  P@0.6 84.00  P@0.7 83.00  P@0.8 82.00  P@0.9 81.00",
        "at original size: mIoU 50.00  oIoU 62.50  P@0.5 85.00  P@0.6 84.00  P@0.7 83.00  P@0.8 82.00  P@0.9 81.00",
    ]
    assert referring("mask").summary_lines(names, SETTINGS) == [] == referring("box").summary_lines({}, lavt)
    assert instances().summary_lines(names, lavt) == []


def two_objects() -> Sample:
    boxes = np.asarray([[10, 10, 30, 30], [50, 50, 90, 90]])
    return Sample("s", "s", "1", None, boxes, labels=np.asarray([1, 2]))


def test_both_objects_found_exactly() -> None:
    # The order is not that of the truth: the highest score belongs to the second object.
    found = Prediction(SIZE, [[50, 50, 90, 90], [10, 10, 30, 30]], [0.9, 0.6], np.asarray([2, 1]))
    words = instances().caption(two_objects(), found, NAMES)
    assert words.sentence == "2 of 2 objects found (same class, box IoU >= 0.5, score >= 0.30)"
    assert words.note == "2 of 2 detections drawn (score >= 0.30)" and words.shown == (0, 1)
    assert words.truth_texts == ("ship", "storage tank")
    assert words.prediction_texts == ("storage tank 0.90", "ship 0.60")


def test_another_class_a_second_detection_and_a_low_score_find_nothing() -> None:
    same = [50, 50, 90, 90]
    found = Prediction(SIZE, [same, same, [10, 10, 30, 30], [10, 10, 30, 30]], [0.9, 0.8, 0.7, 0.1], [2, 2, 2, 1])
    words = instances().caption(two_objects(), found, NAMES)
    assert words.sentence.startswith("1 of 2 objects") and words.shown == (0, 1, 2)
    assert words.note == "3 of 4 detections drawn (score >= 0.30)"
    words = instances().caption(two_objects(), found, NAMES, 0.05)
    assert words.sentence.startswith("2 of 2 objects") and words.sentence.endswith("score >= 0.05)")


def test_a_readable_number_is_drawn_and_the_caption_says_so() -> None:
    scores = np.linspace(0.31, 0.99, 40)
    found = Prediction(SIZE, np.tile([0, 0, 9, 9], (40, 1)), scores, np.full(40, 7))
    words = instances().caption(two_objects(), found, NAMES)
    assert words.shown == tuple(range(39, 19, -1)) and words.prediction_texts[0] == "class 7 0.99"
    assert words.note == "20 of 40 detections drawn (highest scores)"
    weak = replace(found, scores=np.full(40, 0.1))
    assert instances().caption(None, weak).note == "0 of 40 detections drawn (score >= 0.30)"
    assert instances().caption(None, Prediction(SIZE, [], [])).note == "nothing found"
    assert instances().caption(Sample("s", "s", "1"), found).sentence == "no object to find"


def test_a_model_of_masks_is_matched_by_masks() -> None:
    left, right = (np.zeros(SIZE, np.uint8) for _ in range(2))
    left[:, :50], right[:, 50:] = 1, 1
    sample = Sample("s", "s", "1", None, np.asarray([[0, 0, 50, 100]]), (encode_mask(left),), np.asarray([1]))
    for mask, number in ((left, 1), (right, 0)):
        found = Prediction(SIZE, [[0, 0, 50, 100]], [0.9], [1], (encode_mask(mask),))
        words = instances("mask").caption(sample, found)
        assert words.sentence == f"{number} of 1 object found (same class, mask IoU >= 0.5, score >= 0.30)"


def test_referring_says_the_sentence_and_the_iou() -> None:
    sample = Sample("s", "s", "1", "both ships", np.asarray([[0, 0, 20, 20], [20, 0, 40, 20]]))
    found = Prediction(SIZE, [[0, 0, 40, 20]], [0.8], expression="both ships")
    words = referring().caption(sample, found, NAMES)
    assert (words.sentence, words.note, words.legend) == ("both ships", "box IoU 1.00", "prediction 0.80")
    assert words.truth_texts == words.prediction_texts == ()
    assert referring().caption(sample, found, NAMES, 0.9).note == "nothing found"
    assert referring().caption(None, found).note == ""


@pytest.mark.parametrize(
    ("task", "curves", "areas"),
    [
        (referring("box"), ("prec@0.5", "box_mean_iou"), ("prec@0.5", "box_mean_iou", "box_overall_iou")),
        (
            referring("box", "mask"),
            ("prec@0.5", "box_mean_iou", "mean_iou"),
            ("prec@0.5", "box_mean_iou", "box_overall_iou"),
        ),
        (instances("box"), ("box_ap", "box_ap50"), ()),
        (instances("box", "mask"), ("mask_ap", "mask_ap50", "box_ap", "box_ap50"), ()),
    ],
)
def test_names_of_curves_and_areas(task: Task, curves: tuple[str, ...], areas: tuple[str, ...]) -> None:
    assert task.curve_names(SETTINGS) == curves and set(curves) <= set(task.metric_names(SETTINGS))
    assert task.area_names(SETTINGS) == areas and InstanceMetrics().breakdown() == {}


def test_thresholds_are_in_the_names() -> None:
    settings = MetricSettings(iou_threshold=0.7)
    assert referring().curve_names(settings)[0] == referring().area_names(settings)[0] == "prec@0.7"
    scores = {"prec@0.7": 0.25, "box_mean_iou": 0.5, "box_overall_iou": 0.75, "count": 4}
    values = {"protocol": {"split": "val"}, "by_area": {"small": scores, "large": scores}, "shuffled": {}}
    table = scoring._table("val", values, referring(), settings)
    assert "boxes, small       prec@0.7 0.2500   box_mean_iou 0.5000   box_overall_iou 0.7500   of 4" in table


def test_only_named_metrics_become_curves(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    axes = pytest.importorskip("matplotlib.axes")
    drawn: list[object] = []
    plot = axes.Axes.plot

    def watched(self: object, *points: object, **more: object) -> object:
        drawn.append(more.get("label"))
        return plot(self, *points, **more)

    monkeypatch.setattr(axes.Axes, "plot", watched)
    folder = RunFolder(tmp_path)
    log = logs.RunLog(folder, writes=True, curves=("prec@0.7", "box_mean_iou"))
    log.record("train", 1, {"total": 1.0})
    log.record("eval", 1, {"prec@0.7": 0.25, "prec@0.5": 0.5, "box_ap": 0.5})
    log.close()
    assert drawn == [None, "prec@0.7"] and folder.curve.is_file()
