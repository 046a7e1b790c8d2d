"""Made sentences as a person reads them: "on the far left" is the left of the image, not the left of a row.

`objection` knows nothing of the generator: it reads the sentence, the boxes and the size of the image.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from commands import call
from data.test_make_referring import NWPU, _scenes
from mindground.cli.data import make_referring
from mindground.data.make.expressions import PHRASES
from mindground.data.make.synthetic import make_scene, scene_sentences, sentence_generator

Box = tuple[float, float, float, float]  # x1, y1, x2, y2
_ABSOLUTE = re.compile(r"\b(far|very|extreme|utmost|entire) (left|right|top|bottom)\b")
_NINTH = re.compile(r"\bin the (?:(upper|middle|lower) (left|middle|right)|(center))\b")
_DIRECTIONS = {"left": (0, 1), "right": (0, -1), "top": (1, 1), "bottom": (1, -1)}


def objection(sentence: str, box: Box, size: tuple[int, int]) -> str:
    """Why a person would call the sentence false of the object in this box; empty where nobody would."""
    height, width = size
    centre = ((box[0] + box[2]) / 2 / width, (box[1] + box[3]) / 2 / height)
    for _, word in _ABSOLUTE.findall(sentence):
        axis, sense = _DIRECTIONS[word]
        depth = centre[axis] if sense > 0 else 1 - centre[axis]
        if depth > 0.5:
            return f"it lies in the other half than {word}"
        if depth > 1 / 3 + 1e-9:
            return f"it does not lie in the outer third on the {word}"
    for row, column, middle in _NINTH.findall(sentence):
        row, column = ("middle", "middle") if middle else (row, column)
        places = ("left", "middle", "right"), ("upper", "middle", "lower")
        for value, wanted, names in zip(centre, (column, row), places, strict=True):
            low = names.index(wanted) / 3
            if not low - 1e-9 <= value <= low + 1 / 3 + 1e-9:
                return f"its centre is not in the {wanted} third"
    return ""


def _objections(coco: dict[str, Any], out: Path, split: str) -> Iterator[tuple[str, str]]:
    for line in (out / f"{split}.jsonl").read_text("utf-8").split("\n"):
        record = json.loads(line) if line else {"sentences": []}
        for sentence in record["sentences"]:
            image = next(item for item in coco["images"] if str(item["id"]) == record["image_id"])
            own = next(item for item in coco["annotations"] if str(item["id"]) == record["object_id"])
            x, y, w, h = own["bbox"]
            yield sentence, objection(sentence, (x, y, x + w, y + h), (image["height"], image["width"]))


def _made(coco_file: Path, images: Path, out: Path, split: str, seed: int) -> list[tuple[str, str]]:
    done = call(make_referring.main, coco_file, "--images", images, "--out", out, "--seed", str(seed))
    assert done.returncode == 0, done.stderr
    return list(_objections(json.loads(coco_file.read_text("utf-8")), out, split))


def _absolute(found: Iterable[tuple[str, str]]) -> list[str]:
    return [sentence for sentence, _ in found if _ABSOLUTE.search(sentence)]


def test_the_reader_objects_to_false_sentences() -> None:
    box = (60.0, 10.0, 70.0, 20.0)
    for sentence, why in (
        ("the ship on the far left", "the other half"),
        ("the ship on the far right", "outer third"),
        ("the ship at the very bottom", "the other half"),
        ("the ship in the upper left", "left third"),
        ("the ship in the center of the image", "middle third"),
    ):
        assert why in objection(sentence, box, (100, 100)), sentence
    for sentence in ("the ship at the very top", "the leftmost ship", "the ship in the upper middle", "the ship"):
        assert not objection(sentence, box, (100, 100)), sentence


def test_no_phrase_escapes_the_reader() -> None:
    """Words of the image itself stand only in phrases that the reader knows."""
    for kind, phrases in PHRASES.items():
        for phrase in phrases:
            if kind in ("far left", "far right", "very top", "very bottom"):
                assert _ABSOLUTE.search(phrase) or not re.search(r"\b(far|very)\b", phrase)
            else:
                assert not _ABSOLUTE.search(phrase) and not re.search(r"\b(far|very)\b", phrase), phrase


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_made_sentences_over_random_boxes(tmp_path: Path, seed: int) -> None:
    coco = _scenes(120, seed)
    (tmp_path / "images").mkdir()
    for image in coco["images"]:
        (tmp_path / "images" / image["file_name"]).write_bytes(image["file_name"].encode())
    path = tmp_path / "instances_train.json"
    path.write_text(json.dumps(coco))
    found = _made(path, tmp_path / "images", tmp_path / "out", "train", seed)
    assert [pair for pair in found if pair[1]] == []
    assert len(found) > 800 and len(_absolute(found)) > 50
    # Ranks are said wherever the object lies.
    halves = sum(
        sentence.startswith("the leftmost") and objection(f"{sentence} on the far left", box, size) != ""
        for sentence, box, size in _with_boxes(tmp_path / "out")
    )
    assert halves > 5


def _with_boxes(out: Path) -> Iterator[tuple[str, Box, tuple[int, int]]]:
    for line in filter(None, (out / "train.jsonl").read_text("utf-8").split("\n")):
        record = json.loads(line)
        for sentence in record["sentences"]:
            yield sentence, tuple(record["box"]), tuple(record["size"])


@pytest.mark.skipif(not NWPU.is_dir(), reason="NWPU VHR-10 does not stand at ../shared/data")
@pytest.mark.parametrize(("split", "least"), [("train", 500), ("val", 60)])
def test_made_sentences_over_nwpu(tmp_path: Path, split: str, least: int) -> None:
    path = NWPU / "annotations" / f"instances_{split}.json"
    found = _made(path, NWPU / "images", tmp_path, split, 0)
    assert [pair for pair in found if pair[1]] == [] and len(_absolute(found)) >= least


def test_the_embedded_set_says_no_such_words() -> None:
    """Its sentences compare objects ("the ship on the left"), so they are the same as ever."""
    sentences = [
        sentence
        for index in range(400)
        for texts in scene_sentences(make_scene(0, "train", index, 128), sentence_generator(0, "train", index))
        for sentence in texts
    ]
    assert len(sentences) == 1886 and not any(_ABSOLUTE.search(sentence) for sentence in sentences)
