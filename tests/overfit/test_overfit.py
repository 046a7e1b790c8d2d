"""The learning proofs themselves take minutes and are run by hand; here is what they draw, count and tell."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindground.data.formats.jsonl import read_jsonl
from mindground.structures import box_iou
from models.base import CASES
from overfit import engine
from overfit import run as runner
from overfit.draw import CLASSES, IMAGES, SENTENCES, draw_instances, draw_referring
from overfit.report import Counted, Report, by_average_precision, by_records, first_full, tell


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sixteen_sentences_and_their_exchange(seed: int, tmp_path: Path) -> None:
    draw_referring(tmp_path, seed, 64, copies=3)
    train, same, exchanged = (read_jsonl(str(tmp_path), split) for split in ("train", "same", "exchanged"))
    assert len(train) == 3 * len(same) == 3 * len(exchanged) == 3 * IMAGES * SENTENCES
    assert len({sample.sample_id for sample in train}) == len(train) and train.kind == "referring"
    told: dict[tuple[str, str], list[Any]] = {}
    for sample in same:
        told.setdefault((sample.image_id, str(sample.expression)), []).append(sample.boxes_xyxy[0])
    for image in {sample.image_id for sample in same}:
        mine = [sample for sample in same if sample.image_id == image]
        other = [sample for sample in exchanged if sample.image_id == image]
        assert sorted(map(str, (s.expression for s in mine))) == sorted(map(str, (s.expression for s in other)))
    for sample in exchanged:
        # What the sentence means in its image is never what the sample holds as its truth.
        meant = np.stack(told[sample.image_id, str(sample.expression)])
        assert box_iou(meant, np.repeat(sample.boxes_xyxy, len(meant), 0)).max() < 0.5


def test_instances_and_the_objects_of_another_image(tmp_path: Path) -> None:
    draw_instances(tmp_path, 0, 64, copies=2)
    train, same, exchanged = (read_jsonl(str(tmp_path), split) for split in ("train", "same", "exchanged"))
    assert len(train) == 2 * len(same) == 2 * len(exchanged) == 2 * IMAGES and same.kind == "instances"
    names = dict(same.categories)
    for sample, other in zip(same, exchanged, strict=True):
        assert 2 <= len(sample.boxes_xyxy) <= 5 and {names[int(label)] for label in sample.labels} <= set(CLASSES)
        assert sample.image_path == other.image_path
        assert not np.array_equal(sample.boxes_xyxy, other.boxes_xyxy)


def test_the_same_seed_draws_the_same(tmp_path: Path) -> None:
    for name, seed in (("a", 4), ("b", 4), ("c", 5)):
        draw_referring(tmp_path / name, seed, 64)
    texts = [(tmp_path / name / "same.jsonl").read_text() for name in "abc"]
    assert texts[0] == texts[1] != texts[2]
    assert (tmp_path / "a/0.png").read_bytes() == (tmp_path / "b/0.png").read_bytes()


# ---- counting ------------------------------------------------------------------------------------------------------


def test_right_ones_are_counted_by_boxes_and_by_masks() -> None:
    records = [
        {"box_iou": 0.5, "mask_iou": 0.9},
        {"box_iou": 0.49, "mask_iou": 0.2},
        {"box_iou": 1.0, "mask_iou": None},
    ]
    assert by_records(records, {}, 3) == [Counted("boxes", 2, 3, 3), Counted("masks", 1, 3, 3)]
    assert by_records([{"box_iou": None, "mask_iou": 0.7}], {}, 1) == [Counted("masks", 1, 1, 1)]
    with pytest.raises(ValueError, match="2 records for 3"):
        by_records(records[:2], {}, 3)
    with pytest.raises(ValueError, match="neither"):
        by_records([{"expression": "a"}], {}, 1)


def test_average_precision_needs_both_answers() -> None:
    boxes, masks = by_average_precision([], {"box_ap50": 1.0, "mask_ap50": 0.9, "box_ap": 0.1}, 4)
    assert boxes.reached and not masks.reached
    with pytest.raises(ValueError, match="AP50"):
        by_average_precision([], {"box_ap": 1.0}, 4)


@pytest.mark.parametrize(
    ("found", "exchanged", "passed"), [((16, 16), (0, 0), True), ((16, 15), (0, 0), False), ((16, 16), (0, 16), False)]
)
def test_a_proof_needs_everything_right_and_the_exchange_noticed(
    found: tuple[int, int], exchanged: tuple[int, int], passed: bool
) -> None:
    def figures(values: tuple[int, int]) -> list[Counted]:
        return [Counted(what, value, 16, 16) for what, value in zip(("boxes", "masks"), values, strict=True)]

    report = Report("made", 1, 300, 12.3, figures(found), figures(exchanged), 140)
    assert report.passed == passed
    text = tell(report)
    assert "made, seed 1: 300 steps in 12 s, all right from step 140 on" in text
    assert f"as drawn    masks {found[1]} of 16 right" in text and f"exchanged   masks {exchanged[1]} of 16" in text
    assert text.endswith("passed" if passed else "FAILED")
    assert not Report("made", 1, 1, 1.0, [], []).passed


def test_the_first_step_at_which_all_are_right() -> None:
    history = [(20, {"prec@0.5": 1.0, "mask_prec@0.5": 0.9}), (40, {"prec@0.5": 1.0, "mask_prec@0.5": 1.0})]
    assert first_full(history, asks_expressions=True) == 40
    assert first_full(history[:1], asks_expressions=True) is None
    assert first_full([(5, {"box_ap50": 0.5}), (9, {"box_ap50": 1.0})], asks_expressions=False) == 9


# ---- the whole, short ----------------------------------------------------------------------------------------------


def test_a_short_proof_through_the_engine(tmp_path: Path) -> None:
    case = next(case for case in CASES if case.family == "clipvg")
    source = engine.source_file(case.family)
    extra = ("--data.img_size=64", "--device.mode_name=PYNATIVE", *case.tiny)
    report = runner.prove(case.family, source, tmp_path, max_steps=4, seed=0, extra=extra, copies=2, size=64)
    assert report.steps == 4 and report.seconds > 0 and not report.passed
    assert [item.of for item in (*report.found, *report.exchanged)] == [16, 16]
    # What it tells is what the engine's own evaluation of that checkpoint finds.
    scores, records = engine.judge(tmp_path / "runs/overfit/last.ckpt", "same")
    assert len(records) == 16 and report.found[0].value == round(16 * scores["prec@0.5"])


def test_augmentation_is_taken_out_or_noticed(tmp_path: Path) -> None:
    draw_referring(tmp_path, 0, 64)
    source = tmp_path / "augmented.yaml"
    data = {"transform": {"name": "transvg", "flip_prob": 0.5, "color_jitter_prob": 0.9, "aug_scale": True}}
    source.write_text(json.dumps({"base": str(engine.source_file("clipvg")), "data": data}))
    config = engine.configure(source, tmp_path, tmp_path / "runs", steps=1, samples=4, seed=0, extra=())
    recipe = config.data.transform
    assert recipe.flip_prob == recipe.color_jitter_prob == 0.0 and not recipe.aug_scale
    with pytest.raises(ValueError, match="differ between two epochs"):
        engine._check_still(_Drifting())


class _Drifting:
    """A loader whose images are others in every epoch."""

    def epoch(self, number: int) -> list[Any]:
        batch = type("Batch", (), {"arrays": {"image": np.full((1, 2), number)}, "sample_ids": lambda self: ["a"]})
        return [batch()]


def test_the_command_names_what_it_does_not_know() -> None:
    command = [sys.executable, str(Path(runner.__file__)), "--family", "vglow"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "vglow" in done.stderr and "clipvg" in done.stderr
    done = subprocess.run([*command[:-1], "vglaw", "--variant", "absent"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "vglaw-absent.yaml" in done.stderr
