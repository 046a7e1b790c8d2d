"""Every made sentence is true of exactly one object, checked by rules of our own read from the sentence itself."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindground.cli.data import make_referring as tool
from mindground.cli.exit_codes import run_command
from mindground.config import DataConfig
from mindground.data import build_dataset
from mindground.data.formats.refer import Refer
from mindground.files.text import read_lines

ROOT = Path(__file__).resolve().parents[2]
NWPU = ROOT.parent / "shared" / "data" / "nwpu-vhr10"
NAMES = {1: "ship", 2: "storage_tank", 3: "vehicle", 4: "large-vehicle", 5: "bus"}

Box = tuple[float, float, float, float]  # x, y, width, height as COCO has it


def _middle(box: Box) -> tuple[float, float]:
    return box[0] + box[2] / 2, box[1] + box[3] / 2


def _class_pool(phrase: str, boxes: dict[int, Box], names: dict[int, str]) -> list[int]:
    return [key for key, name in names.items() if name == phrase or name.endswith(f" {phrase}")]


_SIDE = "(left|right|top|bottom)"
_CELL = "((?:upper|middle|lower) (?:left|middle|right)|center)"
_RANKS = ("first", "second", "third", "fourth", "fifth")


class _Objects:
    """The objects of one image, by id; a sentence is read literally and without any tolerance."""

    def __init__(self, sentence: str, boxes: dict[int, Box], names: dict[int, str], size: tuple[int, int]) -> None:
        self.sentence, self.boxes, self.names, self.size = sentence, boxes, names, size

    def x(self, key: int) -> float:
        return _middle(self.boxes[key])[0]

    def y(self, key: int) -> float:
        return _middle(self.boxes[key])[1]

    def area(self, key: int) -> float:
        return self.boxes[key][2] * self.boxes[key][3]

    def pool(self, phrase: str) -> list[int]:
        found = _class_pool(phrase, self.boxes, self.names)
        assert found, f"no object is a {phrase!r}: {self.sentence}"
        return found

    def outermost(self, phrase: str, side: str) -> list[int]:
        axis, sign = (self.x if side in ("left", "right") else self.y), -1 if side in ("right", "bottom") else 1
        best = min(sign * axis(k) for k in self.pool(phrase))
        return [k for k in self.pool(phrase) if sign * axis(k) == best]

    def ranked(self, phrase: str, rank: str, side: str) -> list[int]:
        axis, sign = (self.x if side in ("left", "right") else self.y), -1 if side in ("right", "bottom") else 1
        order = sorted(self.pool(phrase), key=lambda k: sign * axis(k))
        return [order[_RANKS.index(rank)]]

    def in_cell(self, phrase: str, cell: str) -> list[int]:
        height, width = self.size
        row, column = ("middle middle" if cell == "center" else cell).split()
        inside = []
        for k in self.pool(phrase):
            x, y = self.x(k), self.y(k)
            across = "left" if x < width / 3 else "middle" if x < 2 * width / 3 else "right"
            down = "upper" if y < height / 3 else "middle" if y < 2 * height / 3 else "lower"
            inside += [k] if (row, column) == (down, across) else []
        return inside

    def of_size(self, phrase: str, word: str) -> list[int]:
        chosen, small = self.pool(phrase), word.startswith("small")
        assert (len(chosen) == 2) == word.endswith("er"), self.sentence
        extreme = (min if small else max)(self.area(k) for k in chosen)
        return [k for k in chosen if self.area(k) == extreme]

    def nearest(self, phrase: str, anchor_phrase: str) -> list[int]:
        (anchor,) = self.pool(anchor_phrase)
        gap = {k: float(np.hypot(self.x(k) - self.x(anchor), self.y(k) - self.y(anchor))) for k in self.pool(phrase)}
        return [k for k in gap if gap[k] == min(gap.values())]

    def beside(self, phrase: str, relation: str, anchor_phrase: str) -> list[int]:
        (anchor,) = self.pool(anchor_phrase)
        inside = []
        for k in self.pool(phrase):
            dx, dy = self.x(k) - self.x(anchor), self.y(k) - self.y(anchor)
            where = ("left of" if dx < 0 else "right of") if abs(dx) > abs(dy) else ("above" if dy < 0 else "below")
            inside += [k] if where == relation else []
        return inside


def matches(sentence: str, boxes: dict[int, Box], names: dict[int, str], size: tuple[int, int]) -> list[int]:
    """Ids of the objects that the sentence fits."""
    objects = _Objects(sentence, boxes, names, size)
    if found := re.fullmatch(rf"the {_SIDE}most (.+)", sentence):
        return objects.outermost(found[2], found[1])
    if found := re.fullmatch(rf"the (.+) (?:on the far|at the very|furthest to the) {_SIDE}", sentence):
        return objects.outermost(found[1], found[2])
    if found := re.fullmatch(rf"the (.+) that is (\w+) from the {_SIDE}", sentence):
        return objects.ranked(found[1], found[2], found[3])
    if found := re.fullmatch(rf"the ({'|'.join(_RANKS)}) (.+) from the {_SIDE}", sentence):
        return objects.ranked(found[2], found[1], found[3])
    if found := re.fullmatch(rf"the (.+?) in the {_CELL}(?: of the image)?", sentence):
        return objects.in_cell(found[1], found[2])
    if found := re.fullmatch(r"the (largest|biggest|larger|bigger|smallest|smaller) (.+)", sentence):
        return objects.of_size(found[2], found[1])
    if found := re.fullmatch(r"the (.+) (?:closest|nearest) to the (.+)", sentence):
        return objects.nearest(found[1], found[2])
    if found := re.fullmatch(r"the (.+?) (?:to the )?(left of|right of|above|below) the (.+)", sentence):
        return objects.beside(found[1], found[2], found[3])
    found = re.fullmatch(r"the (?:only )?(.+)", sentence)
    assert found, f"a sentence of an unknown form: {sentence}"
    return objects.pool(found[1])


def verify(coco: dict[str, Any], records: list[dict[str, Any]]) -> int:
    """Assert that every sentence of every record fits its object and no other; returns how many there are."""
    names = {item["id"]: item["name"].replace("_", " ").replace("-", " ").lower() for item in coco["categories"]}
    images = {str(image["id"]): image for image in coco["images"]}
    count = 0
    for record in records:
        image = images[record["image_id"]]
        here = [item for item in coco["annotations"] if item["image_id"] == image["id"]]
        boxes = {item["id"]: tuple(item["bbox"]) for item in here}
        classes = {item["id"]: names[item["category_id"]] for item in here}
        own = next(item for item in here if str(item["id"]) == record["object_id"])
        x, y, width, height = own["bbox"]
        assert record["box"] == pytest.approx([x, y, x + width, y + height])
        for sentence in record["sentences"]:
            found = matches(sentence, boxes, classes, (image["height"], image["width"]))
            assert found == [own["id"]], (sentence, record["id"], found)
            count += 1
    return count


def _scenes(images: int, seed: int, first_id: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    annotations = []
    for image in range(images):
        for _ in range(int(rng.integers(1, 9))):
            width, height = rng.integers(10, 90, 2).tolist()
            x, y = int(rng.integers(0, 400 - width)), int(rng.integers(0, 300 - height))
            outline = [[x, y, x + width, y, x + width, y + height, x, y + height]]
            annotations.append(
                {
                    "id": first_id + len(annotations),
                    "image_id": first_id + image,
                    "category_id": int(rng.integers(1, 6)),
                    "bbox": [x, y, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                    "segmentation": outline,
                }
            )
    return {
        "images": [{"id": first_id + i, "file_name": f"{i}.png", "height": 300, "width": 400} for i in range(images)],
        "annotations": annotations,
        "categories": [{"id": key, "name": name} for key, name in NAMES.items()],
    }


def _records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in read_lines(path)]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for number in range(60):
        (tmp_path / "images" / f"{number}.png").write_bytes(b"%d" % number)
    for name, seed in (("train", 0), ("val", 1)):
        (tmp_path / f"instances_{name}.json").write_text(json.dumps(_scenes(60, seed)))
    return tmp_path


def _run(place: Path, *names: str, out: str = "out", extra: tuple[str, ...] = ()) -> int:
    files = [str(place / f"instances_{name}.json") for name in names]
    return run_command(tool.main, [*files, "--images", str(place / "images"), "--out", str(place / out), *extra])


def test_every_sentence_is_true_of_exactly_one_object(place: Path) -> None:
    assert _run(place, "train") == 0
    records = _records(place / "out" / "train.jsonl")
    assert verify(_scenes(60, 0), records) > 400
    text = " ".join(sentence for record in records for sentence in record["sentences"])
    for word in ("leftmost", "second", "upper left", "largest", "smaller", "left of", "above", "closest", "only"):
        assert word in text, word


def test_the_check_itself_finds_a_wrong_sentence() -> None:
    boxes = {1: (0.0, 0.0, 10.0, 10.0), 2: (50.0, 0.0, 20.0, 20.0), 3: (0.0, 80.0, 5.0, 5.0)}
    names = {1: "ship", 2: "ship", 3: "car"}
    assert matches("the leftmost ship", boxes, names, (100, 100)) == [1]
    assert matches("the larger ship", boxes, names, (100, 100)) == [2]
    assert matches("the ship", boxes, names, (100, 100)) == [1, 2]
    assert matches("the car below the ship", {**boxes}, {**names, 2: "car"}, (100, 100)) == [3]
    coco = _scenes(1, 5)
    item = coco["annotations"][0]
    x, y, w, h = item["bbox"]
    coco["annotations"].append({**item, "id": 999, "bbox": [x + 1, y + 1, w + 20, h]})
    record = {
        "id": "r",
        "image_id": "0",
        "object_id": str(item["id"]),
        "box": [x, y, x + w, y + h],
        "sentences": [f"the {NAMES[item['category_id']].replace('_', ' ').replace('-', ' ')}"],
    }
    with pytest.raises(AssertionError):
        verify(coco, [record])


def test_same_seed_same_files_other_seed_other_phrasings(place: Path) -> None:
    for out, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert _run(place, "train", "val", out=out, extra=("--seed", seed)) == 0
    for name in ("train.jsonl", "val.jsonl", "instances.json", "refs(unc).p"):
        assert (place / "a" / name).read_bytes() == (place / "b" / name).read_bytes()
    assert (place / "a" / "train.jsonl").read_bytes() != (place / "c" / "train.jsonl").read_bytes()


def test_both_layouts_hold_the_same_samples_and_splits_merge(place: Path) -> None:
    # Both files number images and objects from 0; the second split must not overwrite the first.
    assert _run(place, "train") == 0 and _run(place, "val") == 0 and _run(place, "train") == 0
    out, images = str(place / "out"), str(place / "images")
    for split in ("train", "val"):
        ours = build_dataset(DataConfig(dataset="jsonl", root=out), split)
        refer = build_dataset(DataConfig(dataset="refcoco", splitBy="unc", root=out, image_root=images), split)
        assert sorted((s.expression, s.image_path) for s in ours) == sorted((s.expression, s.image_path) for s in refer)
        boxes = {(s.expression, s.image_path): s for s in refer}
        for sample in ours:
            twin = boxes[sample.expression, sample.image_path]
            assert np.array_equal(sample.boxes_xyxy, twin.boxes_xyxy)
            assert np.array_equal(sample.masks(sample.size), twin.masks(sample.size))
            assert ours.categories[int(sample.labels[0])] == NAMES[int(twin.labels[0])]
    refer_index = Refer.from_folder(out, "unc")
    assert len(refer_index.Imgs) == 120


def test_a_crowd_silences_its_class_only(place: Path) -> None:
    coco = _scenes(1, 3)
    shape = coco["annotations"][0]
    boxes = {1: [10, 10, 40, 40], 2: [200, 200, 40, 40], 3: [300, 20, 60, 60]}
    coco["annotations"] = [
        {
            **shape,
            "id": key,
            "bbox": box,
            "segmentation": None,
            "category_id": 1 if key < 3 else 2,
            "iscrowd": int(key == 2),
        }
        for key, box in boxes.items()
    ]
    (place / "instances_crowd.json").write_text(json.dumps(coco))
    assert _run(place, "crowd") == 0
    records = _records(place / "out" / "crowd.jsonl")
    assert [record["object_id"] for record in records] == ["3"]
    assert not any("ship" in sentence for sentence in records[0]["sentences"])


def test_wrong_input_ends_with_code_2_and_leaves_foreign_files(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run_command(tool.main, [str(place / "no.json"), "--images", str(place / "images"), "--out", str(place / "out")])
        == 2
    )
    assert (
        run_command(tool.main, [str(place / "instances_val.json"), "--images", str(place / "no"), "--out", str(place)])
        == 2
    )
    assert "--images" in capsys.readouterr().err
    foreign = place / "instances.json"
    foreign.write_text(json.dumps(_scenes(2, 0)))
    before = foreign.read_bytes()
    assert _run(place, "train", out=".") == 2
    assert foreign.read_bytes() == before and "another --out" in capsys.readouterr().err


@pytest.mark.skipif(not NWPU.is_dir(), reason="NWPU VHR-10 does not stand at ../shared/data")
@pytest.mark.parametrize(("split", "least"), [("train", 3000), ("val", 400)])
def test_nwpu_gives_enough_unique_sentences(tmp_path: Path, split: str, least: int) -> None:
    path = NWPU / "annotations" / f"instances_{split}.json"
    assert run_command(tool.main, [str(path), "--images", str(NWPU / "images"), "--out", str(tmp_path)]) == 0
    count = verify(json.loads(path.read_text()), _records(tmp_path / f"{split}.jsonl"))
    assert count >= least
    dataset = build_dataset(DataConfig(dataset="jsonl", root=str(tmp_path)), split)
    assert len(dataset) == count and all(Path(sample.image_path).is_file() for sample in dataset)
