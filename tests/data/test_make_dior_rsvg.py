"""tools/make_dior_rsvg.py: what is written reads back as the same samples, under every division."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mindground.cli.data import make_dior_rsvg as tool
from mindground.cli.exit_codes import run_command
from mindground.data.formats.dior_rsvg import load_dior_rsvg, read_dior_rsvg
from mindground.data.formats.jsonl import read_jsonl, write_jsonl

ROOT = Path(__file__).resolve().parents[2]


def _source(root: Path, **changes: Any) -> Path:
    """Twelve images with two objects each, one of them with two sentences; eight to train, four to validate."""
    root.mkdir()
    records: dict[str, list[dict[str, Any]]] = {"train": [], "val": []}
    for number in range(12):
        name, split = f"{number:03d}.jpg", "train" if number < 8 else "val"
        cv2.imwrite(str(root / name), np.random.default_rng(number).integers(0, 255, (30, 50, 3), np.uint8))
        for place, sentences in enumerate((["a <ship> & more", "the ship"], ["the other"])):
            box = [5 + place, 6, 25.4, 20]
            record = {"id": f"{number}-{place}", "image": name, "size": [30, 50], "box": box, "category": "ship"}
            records[split].append({**record, "sentences": sentences, "object_id": f"{number}-{place}"})
    records["val"][-1].update(changes)
    for split, items in records.items():
        write_jsonl(root / f"{split}.jsonl", items)
    return root


def _make(source: Path, out: Path, *extra: str) -> int:
    return run_command(tool.main, [str(source), "--out", str(out), *extra])


@pytest.mark.parametrize("division", ["expression", "image", "keep"])
def test_what_is_written_reads_back(tmp_path: Path, division: str, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = _source(tmp_path / "set"), tmp_path / "rsvg"
    assert _make(source, out, "--division", division) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["files"] == 12 and report["objects"] == sum(report["lists"].values()) == 36
    assert report["largest_rounding"] == pytest.approx(0.4, abs=1e-3)
    splits = ["train", "val"] if division == "keep" else ["train", "val", "test"]
    assert list(report["lists"]) == splits
    samples = [sample for split in splits for sample in read_dior_rsvg(str(out), split)]
    theirs = [sample for split in ("train", "val") for sample in read_jsonl(str(source), split)]

    def facts(items: list[Any]) -> list[Any]:
        return sorted((s.image_id.removesuffix(".jpg"), s.expression, *np.round(s.boxes_xyxy[0])) for s in items)

    assert facts(samples) == facts(theirs) and samples[0].size == (30, 50)
    whole = load_dior_rsvg(str(out), splits)
    assert not whole.defects and whole.categories == {1: "ship"}
    leaks = {split: values["on_train_images"]["count"] for split, values in whole.leak().items()}
    assert (sum(leaks.values()) > 0) == (division == "expression")


def test_it_is_stable_and_seeded(tmp_path: Path) -> None:
    source = _source(tmp_path / "set")
    texts = []
    for name, seed in (("a", "0"), ("b", "0"), ("a", "0"), ("c", "1")):
        assert _make(source, tmp_path / name, "--seed", seed, "--overwrite") == 0
        texts.append((tmp_path / name / "test.txt").read_bytes())
    assert texts[0] == texts[1] == texts[2] != texts[3]


def test_another_division_takes_the_place_of_the_first(tmp_path: Path) -> None:
    source, out = _source(tmp_path / "set"), tmp_path / "rsvg"
    assert _make(source, out) == 0 and (out / "test.txt").is_file()
    assert _make(source, out, "--division", "keep") == 2 and (out / "test.txt").is_file()
    assert _make(source, out, "--division", "keep", "--overwrite") == 0
    assert not (out / "test.txt").exists() and len(read_dior_rsvg(str(out), "train")) == 24


@pytest.mark.parametrize("how", ["copy", "hardlink", "symlink"])
def test_images(tmp_path: Path, how: str) -> None:
    source, out = _source(tmp_path / "set"), tmp_path / "rsvg"
    for more in ((), ("--overwrite",)):
        assert _make(source, out, "--pictures", how, *more) == 0
        here, there = out / "JPEGImages" / "003.jpg", source / "003.jpg"
        assert here.read_bytes() == there.read_bytes()
        assert here.is_symlink() == (how == "symlink") and os.path.samefile(here, there) == (how != "copy")


def test_from_coco_files(tmp_path: Path) -> None:
    source = _source(tmp_path / "set")
    coco = {
        "images": [{"id": 1, "file_name": "000.jpg", "height": 30, "width": 50}],
        "annotations": [{"id": 7, "image_id": 1, "category_id": 3, "bbox": [2, 3, 20, 15]}],
        "categories": [{"id": 3, "name": "ship"}],
    }
    (tmp_path / "instances_train.json").write_text(json.dumps(coco))
    words = [str(tmp_path / "instances_train.json"), "--out", str(tmp_path / "out"), "--division", "keep"]
    assert run_command(tool.main, words) == 2
    assert run_command(tool.main, [*words, "--images", str(source)]) == 0
    samples = read_dior_rsvg(str(tmp_path / "out"), "train")
    assert {tuple(sample.boxes_xyxy[0]) for sample in samples} == {(2, 3, 22, 18)}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"box": [5, 6, 51, 20]}, "not inside"),
        ({"box": [5.2, 6, 5.4, 20]}, "not inside"),
        ({"sentences": [None]}, "has none"),
        ({"image": "other/003.jpg"}, "would both be called 003"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, changes: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = _source(tmp_path / "set", **changes)
    assert _make(source, tmp_path / "rsvg") == 2
    assert said in capsys.readouterr().err and not (tmp_path / "rsvg").exists()


def test_other_annotations_are_not_joined(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = _source(tmp_path / "set"), tmp_path / "rsvg"
    (out / "Annotations").mkdir(parents=True)
    (out / "Annotations" / "zzz.xml").write_text("<annotation/>")
    assert _make(source, out) == 2 and "zzz.xml" in capsys.readouterr().err
