"""A grounding network and a promptable one together: which prompt is made of which answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mindground.errors import DataError, ImageError
from mindground.inference.grounded import GroundedPredictor, surest_point
from mindground.structures import Geometry, ProbabilityMap
from prompts import ColourPredictor, Grounder, scene

OBJECTS = ((20, 10, 50, 40), (70, 50, 100, 80))
IMAGE = scene(objects=OBJECTS)
GEOMETRY = Geometry((90, 120), (90, 120), (90, 120))


def both(**grounder: Any) -> GroundedPredictor:
    return GroundedPredictor(Grounder(**grounder), ColourPredictor())


def test_the_box_prompts_and_the_mask_answers() -> None:
    predictor = both()
    found = predictor(IMAGE, "the left ship")
    (mask,) = found.mask_arrays()
    assert mask.sum() == 900 and mask[10:40, 20:50].all()
    assert found.boxes_xyxy.tolist() == [[20, 10, 50, 40]] and found.expression == "the left ship"
    assert found.scores[0] == np.float32(0.8) and found.mask_scores[0] == pytest.approx(1, abs=1e-3)
    assert found.extras["prompt_boxes"].tolist() == [[15, 5, 55, 45]]
    assert np.isnan(found.extras["prompt_points"]).all() and found.extras["predicted_iou"][0] == np.float32(0.95)


def test_the_surest_point_prompts_too() -> None:
    logits = np.full((90, 120), -5, np.float32)
    logits[60, 80], logits[12, 30] = 9, 3  # the surest of all is outside the box
    predictor = both(logits=logits, box=(15, 5, 55, 45))
    found = predictor(IMAGE, "the left ship")
    assert found.extras["prompt_points"].tolist() == [[30, 12]]
    # A background pixel, whose area is asked because of the point.
    logits[12, 30], logits[7, 17] = -5, 3
    found = both(logits=logits, box=(15, 5, 55, 45))(IMAGE, "the left ship")
    assert found.extras["prompt_points"].tolist() == [[17, 7]] and found.mask_arrays()[0][0, 0] == 1
    without = GroundedPredictor(Grounder(logits=logits), ColourPredictor(), point=False)(IMAGE, "the left ship")
    assert np.isnan(without.extras["prompt_points"]).all() and without.mask_arrays()[0].sum() == 900


def test_a_point_must_be_more_likely_than_not() -> None:
    low = ProbabilityMap(np.full((90, 120), -1, np.float32), GEOMETRY)
    assert surest_point(low, (0, 0, 120, 90)) is None
    high = ProbabilityMap(np.arange(90 * 120, dtype=np.float32).reshape(90, 120), GEOMETRY)
    assert surest_point(high, (10.5, 3.2, 20.4, 8.1)) == (20, 8)
    assert surest_point(high, (500, 500, 600, 600)) is None and surest_point(high, (5, 5, 5, 5)) is None


def test_several_sentences_in_order() -> None:
    predictor = both()
    found = predictor(IMAGE, ["one", "two"], min_score=0.1)
    assert [one.expression for one in found] == ["one", "two"]
    assert predictor.grounder.calls == [(["one", "two"], 0.1, {})]
    assert len(predictor.segmenter.sessions) == 1  # encoded once


def test_nothing_found_stays_nothing() -> None:
    found = both()(IMAGE, "ship", min_score=0.9)
    assert len(found) == 0 and found.masks == ()
    predictor = both(box=(0, 0, 0, 0))  # a network of masks alone whose mask is empty
    found = predictor(IMAGE, "ship")
    assert len(found) == 1 and not found.mask_arrays().any() and not predictor.segmenter.sessions


def test_an_answer_that_is_not_finite_is_told() -> None:
    predictor = both()
    session = predictor.open(IMAGE)
    asked = session.prompts.predict
    session.prompts.predict = lambda *rest, **options: tuple(value * np.nan for value in asked(*rest, **options))
    with pytest.raises(ImageError, match=r"colours\.ckpt holds numbers that are not finite"):
        session("ship")


def test_a_box_beyond_the_image_is_cut() -> None:
    found = both(box=(-50, -50, 300, 300))(IMAGE, "everything")
    assert found.extras["prompt_boxes"].tolist() == [[0, 0, 120, 90]]


def test_a_session_takes_sentences_and_prompts() -> None:
    predictor = both()
    with predictor.open(IMAGE) as session:
        assert session("the left ship").mask_arrays()[0].sum() == 900
        assert [len(one) for one in session(["a", "b"])] == [1, 1]
        assert len(session(points=[(80, 60)])) == 3
        assert len(session([(80, 60)], multimask=False)) == 1
        assert session(box=(60, 45, 110, 85), multimask=False).mask_arrays()[0].sum() == 900
        assert len(session.everything(points_per_side=4, stability_score_thresh=0.9)) == 3
        assert session.size == (90, 120) and len(predictor.segmenter.sessions) == 1
        for wrong in ({"box": (0, 0, 5, 5)}, {"points": [(1, 1)]}, {"labels": [1]}):
            with pytest.raises(DataError, match="one of them"):
                session("ship", **wrong)
        with pytest.raises(DataError, match="twice"):
            session([(1, 1)], points=[(1, 1)])


def test_networks_of_the_wrong_kind_are_refused() -> None:
    with pytest.raises(DataError, match=r"words\.ckpt answers no prompts"):
        GroundedPredictor(Grounder(), Grounder())
    with pytest.raises(DataError, match="reads no sentence"):
        silent = Grounder()
        silent.asks_expression = False
        GroundedPredictor(silent, ColourPredictor())


def test_it_looks_like_a_predictor() -> None:
    predictor = both()
    assert predictor.name == "words.ckpt + colours.ckpt" and predictor.categories == {1: "ship"}
    assert predictor.unknown_words("x") == ["x"] and predictor.gives_scores and predictor.config is None
    assert predictor.caption(predictor(IMAGE, "ship")).sentence == "ship"
