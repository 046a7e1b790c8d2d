"""DIOR-RSVG: the numbering, its verification, and every defect named with file and object."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data.rsvg_sets import change, make_set, xml
from mindground.config import DataConfig
from mindground.data import build_dataset, eval_splits
from mindground.data.formats.dior_rsvg import legacy_target, load_dior_rsvg, read_dior_rsvg
from mindground.data.formats.rsvg_lists import GENERATIONS, check_lists, divide, image_disjoint, leak_report
from mindground.data.formats.rsvg_xml import MAX_BYTES
from mindground.errors import ConfigError, DataError, DatasetNotFoundError, UnsafeFileError


def test_numbers_count_objects_over_sorted_files(tmp_path: Path) -> None:
    root = make_set(tmp_path)
    found = {split: read_dior_rsvg(str(root), split) for split in ("train", "val", "test")}
    assert [s.expression for s in found["train"]] == [
        "ship 0 of 00001",
        "ship 0 of 00003",
        "ship 1 of 00003",
        "ship 0 of 11726",
    ]
    sample = found["test"][0]
    assert (sample.sample_id, sample.image_id, sample.size) == ("4", "00003", (40, 60))
    assert sample.boxes_xyxy.tolist() == [[3, 2, 22, 30]] and Path(sample.image_path).name == "00003.jpg"
    assert found["test"].categories == {1: "ship"} and sample.labels.tolist() == [1]
    assert len({dataset.fingerprint for dataset in found.values()}) == 1 and len(found["val"].fingerprint) == 64


def test_both_layouts(tmp_path: Path) -> None:
    make_set(tmp_path / "data" / "DIOR-RS-VG")
    lists = tmp_path / "splits" / "dior_rs"
    lists.mkdir(parents=True)
    for path in (tmp_path / "data" / "DIOR-RS-VG").glob("*.txt"):
        path.rename(lists / path.name)
    (lists / "train_pseudo.txt").write_text((lists / "train.txt").read_text())
    config = DataConfig(dataset="dior_rsvg", root=str(tmp_path / "splits"), image_root=str(tmp_path / "data"))
    assert len(build_dataset(config, "train")) == len(build_dataset(config, "train_pseudo")) == 4
    assert eval_splits(config) == ["val", "test"]


def test_the_fingerprint_is_of_the_numbering(tmp_path: Path) -> None:
    first, second = make_set(tmp_path / "a"), make_set(tmp_path / "b", {"train": [0], "val": [1]})
    before = read_dior_rsvg(str(first), "val").fingerprint
    assert read_dior_rsvg(str(second), "val").fingerprint == before
    change(first, "00001", "ship 0 of", "vessel 0 of")
    assert read_dior_rsvg(str(first), "val").fingerprint == before
    assert read_dior_rsvg(str(first), "val", "image_disjoint").fingerprint != before
    (first / "Annotations" / "00002.xml").write_text(xml("00002", 1))
    assert read_dior_rsvg(str(first), "val").fingerprint != before


DEFECTS: dict[str, tuple[str, str, str]] = {
    "swapped corners": ("<xmin>2</xmin>", "<xmin>50</xmin>", "corners swapped"),
    "decimal comma": ("<ymax>30</ymax>", "<ymax>216,00</ymax>", "216,00"),
    "no number": ("<ymin>2</ymin>", "<ymin>nan</ymin>", "'nan'"),
    "outside": ("<xmax>20</xmax>", "<xmax>61</xmax>", "leaves an image of 60 x 40"),
    "negative": ("<ymin>2</ymin>", "<ymin>-1</ymin>", "leaves"),
    "empty box": ("<xmax>20</xmax>", "<xmax>1</xmax>", "encloses nothing"),
    "no corner": ("<ymin>2</ymin>", "", "<ymin>"),
    "no sentence": ("<description>ship 0 of 00003</description>", "", "<description>"),
    "no name": ("<name>ship</name>", "", "<name>"),
    "empty sentence": ("ship 0 of 00003", "  ", "no words"),
    "two sentences": ("</description>", "</description><description>another</description>", "2 elements"),
}


@pytest.mark.parametrize("name", sorted(DEFECTS))
def test_a_defect_is_named_with_file_and_object(tmp_path: Path, name: str) -> None:
    root = make_set(tmp_path)
    old, new, said = DEFECTS[name]
    if name == "swapped corners":
        old = "<xmin>1</xmin>"
    change(root, "00003", old, new)
    with pytest.raises(DataError) as caught:
        read_dior_rsvg(str(root), "train")
    assert "00003.xml object 2" in str(caught.value) and said in str(caught.value)
    # An object of another split is none of this one's business; the numbers stay what they were.
    assert [sample.sample_id for sample in read_dior_rsvg(str(root), "val")] == ["1", "5"]


LISTS: dict[str, tuple[str, str]] = {
    "0\n3\n2\n6\n": (r"train.txt line 3: 2 follows 3", "unsorted"),
    "0\n2\n2\n6\n": (r"train.txt line 3: number 2 stands here a second time", "duplicate"),
    "0\n2\n8\n": (r"train.txt line 3: number 8 is beyond the last object, 7", "range"),
    "0\n1\n6\n": (r"train.txt and val.txt: 1 numbers stand in both", "overlap"),
    "0\n00003\n": (r"train.txt line 2: '00003' looks like a file's number", "file number"),
    "0\n3.jpg\n": (r"train.txt line 2: '3.jpg' is no object number", "format"),
}


@pytest.mark.parametrize("text", sorted(LISTS), ids=lambda text: LISTS[text][1])
def test_a_bad_list_is_refused_with_its_line(tmp_path: Path, text: str) -> None:
    root = make_set(tmp_path)
    (root / "train.txt").write_text(text)
    for split in ("train", "test"):
        with pytest.raises(DataError, match=LISTS[text][0]):
            read_dior_rsvg(str(root), split)


def test_generations_are_told_by_their_lengths() -> None:
    new, old = (dict(lengths) for lengths in GENERATIONS.values())
    assert sum(new.values()) == sum(old.values()) == 38320

    def lists(lengths: dict[str, int]) -> dict[str, list[int]]:
        places = np.cumsum([0, *lengths.values()])
        return {split: list(range(places[k], places[k + 1])) for k, split in enumerate(lengths)}

    for name, lengths in GENERATIONS.items():
        assert check_lists(lists(dict(lengths)), 38320) == (name, [])
    mixed = lists(new) | {"test": lists(old)["test"]}
    generation, defects = check_lists(mixed, 38320)
    assert generation == "" and defects[0].kind == "list_generation"
    assert (
        "train.txt is of the current release" in defects[0].detail and "test.txt is of the first" in defects[0].detail
    )
    generation, defects = check_lists(lists(new), 38319)
    assert generation == "" and [defect.kind for defect in defects if defect.serious] == ["count"]
    assert "38319" in defects[0].detail
    generation, defects = check_lists({"train": [0, 1], "val": [2], "test": [3]}, 5)
    assert [(defect.kind, defect.serious) for defect in defects] == [("uncovered", False)]


ATTACKS: dict[str, Callable[[str], str]] = {
    "billion laughs": lambda text: '<!DOCTYPE a [<!ENTITY b "xxxxxxxx"><!ENTITY c "&b;&b;&b;">]>' + text,
    "outside file": lambda text: '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>' + text,
    "spaced": lambda text: "<?xml version='1.0'?>\n<!doctype annotation>" + text,
}


@pytest.mark.parametrize("name", sorted(ATTACKS))
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_refused(tmp_path: Path, name: str, encoding: str) -> None:
    root = make_set(tmp_path)
    path = root / "Annotations" / "00010.xml"
    path.write_bytes(ATTACKS[name](path.read_text().replace("ship 0", "&b;")).encode(encoding))
    wanted = DataError if name == "spaced" else UnsafeFileError  # lower case declares nothing: it is no XML
    with pytest.raises(wanted, match=r"00010\.xml"):
        read_dior_rsvg(str(root), "train")


def test_broken_and_huge_files_end_the_counting(tmp_path: Path) -> None:
    root = make_set(tmp_path)
    path = root / "Annotations" / "00010.xml"
    whole = path.read_text()
    for content in (whole[: len(whole) // 2], "", "<html></html>", whole + " " * MAX_BYTES):
        path.write_text(content)
        with pytest.raises(DataError, match=r"00010\.xml"):
            read_dior_rsvg(str(root), "train")
    path.write_text(whole)
    assert len(read_dior_rsvg(str(root), "train")) == 4


def test_tags_before_positions(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Fields in another order are found by tag; without their tags by the published readers' positions, and said."""
    root = make_set(tmp_path)
    path = root / "Annotations" / "00010.xml"
    text = path.read_text()
    pose = "<pose>Unspecified</pose>"
    path.write_text(text.replace(pose, "<truncated>0</truncated><difficult>0</difficult>" + pose))
    with caplog.at_level(logging.WARNING, "mindground"):
        moved = read_dior_rsvg(str(root), "val")[1]
    assert (
        moved.expression == "ship 0 of 00010" and moved.boxes_xyxy.tolist() == [[1, 2, 20, 30]] and not caplog.records
    )
    path.write_text(text.replace("bndbox", "box").replace("description", "text"))
    with caplog.at_level(logging.WARNING, "mindground"):
        guessed = read_dior_rsvg(str(root), "val")[1]
    assert guessed.expression == moved.expression and (guessed.boxes_xyxy == moved.boxes_xyxy).all()
    assert len(caplog.records) == 1 and "00010.xml" in caplog.records[0].getMessage()


def test_a_image_outside_the_folder_is_refused(tmp_path: Path) -> None:
    root = make_set(tmp_path)
    change(root, "00010", "00010.jpg", "../../secret.jpg")
    with pytest.raises(DataError, match=r"00010\.xml.*no plain file name"):
        read_dior_rsvg(str(root), "val")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    for root in ("", str(tmp_path)):
        with pytest.raises(DatasetNotFoundError, match="RSVG-pytorch"):
            read_dior_rsvg(root, "train")
    root = make_set(tmp_path / "set")
    with pytest.raises(DatasetNotFoundError, match=r"extra\.txt is missing"):
        read_dior_rsvg(str(root), "extra")
    with pytest.raises(ConfigError, match="image_disjoint"):
        read_dior_rsvg(str(root), "train", "umd")
    for path in (root / "JPEGImages").iterdir():
        path.unlink()
    with pytest.raises(DatasetNotFoundError, match="holds none of the first"):
        read_dior_rsvg(str(root), "train")
    (root / "JPEGImages").rmdir()
    with pytest.raises(DatasetNotFoundError, match="JPEGImages"):
        read_dior_rsvg(str(root), "train")


def test_image_disjoint_division() -> None:
    rng = np.random.default_rng(0)
    images = [f"{place:05d}.jpg" for place, count in enumerate(rng.integers(1, 6, 2000)) for _ in range(count)]
    lists = image_disjoint(images)
    assert sorted(number for numbers in lists.values() for number in numbers) == list(range(len(images)))
    assert all(numbers == sorted(numbers) for numbers in lists.values())
    used = [{images[number] for number in numbers} for numbers in lists.values()]
    assert not (used[0] & used[1] or used[0] & used[2] or used[1] & used[2])
    shares = [len(numbers) / len(images) for numbers in lists.values()]
    np.testing.assert_allclose(shares, [26991 / 38320, 3829 / 38320, 7500 / 38320], atol=0.002)
    assert image_disjoint(images) == lists != image_disjoint(images, 1)
    # Names decide, not their order or number: most images stay where they were when one is added.
    before, after = divide(images, [1] * len(images)), divide([*images, "new"], [1] * (len(images) + 1))
    assert np.mean([a == b for a, b in zip(before, after[:-1], strict=True)]) > 0.99


def test_the_leak_is_counted_exactly(tmp_path: Path) -> None:
    root = make_set(tmp_path, {"train": [0, 2, 3, 6], "val": [1, 5], "test": [4, 7]})
    leak = load_dior_rsvg(str(root)).leak()
    assert leak["val"]["on_train_images"] == {"count": 1, "share": 0.5}
    assert leak["val"]["train_neighbours"] == {"count": 2, "share": 1.0}
    assert leak["val"]["images"] == {"count": 1, "of": 2, "share": 0.5}
    assert leak["test"]["on_train_images"]["count"] == 2 and leak["test"]["on_train_objects"]["count"] == 0
    report = leak_report({"train": [0], "test": [1, 2]}, ["a", "a", "b"], ["a:box", "a:box", "b:box"])
    assert report["test"]["on_train_objects"] == {"count": 1, "share": 0.5} and "val" not in report


def test_sentences_of_one_box_share_its_object(tmp_path: Path) -> None:
    root = make_set(tmp_path, {"train": list(range(8))})
    change(root, "00001", "<xmin>2</xmin>", "<xmin>1</xmin>")
    change(root, "00001", "<xmax>21</xmax>", "<xmax>20</xmax>")
    ids = [sample.object_ids[0] for sample in read_dior_rsvg(str(root), "train")]
    assert ids == ["0", "0", "2", "3", "4", "5", "6", "7"]


def test_what_the_fork_trains_on() -> None:
    target = legacy_target(np.asarray([[100, 200, 700, 400]]), (800, 800))
    np.testing.assert_allclose(target, [[(100 + 350) / 800, (200 + 200) / 800, 700 / 800, 400 / 800]])
    assert legacy_target(np.asarray([600, 0, 800, 400]), (400, 800))[0] > 1
