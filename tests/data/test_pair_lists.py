"""The lists of pairs that TransVG and CLIP-VG publish: layouts, boxes, splits, and files that are none."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindground.config import DataConfig
from mindground.data import build_dataset, eval_splits
from mindground.data.formats.jsonl import read_jsonl, write_dataset
from mindground.data.formats.pair_lists import PAIR_LISTS
from mindground.errors import DataError, DatasetNotFoundError, UnsafeFileError
from mindground.files.plain_torch import read_plain_torch
from weights.make_fixtures import Attack


def zip_form(content: Any) -> bytes:
    """As torch.save writes since 1.6, without needing PyTorch."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("unc_train/data.pkl", pickle.dumps(content, 2))
        archive.writestr("unc_train/version", "3\n")
    return out.getvalue()


def legacy_form(content: Any) -> bytes:
    """As torch.save wrote before."""
    parts = (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True}, content, [])
    return b"".join(pickle.dumps(part, 2) for part in parts)


FORMS = {"zip": zip_form, "legacy": legacy_form, "pickle": pickle.dumps}


def five(image: str, box: Any, text: Any) -> tuple[Any, ...]:
    return (image, "useless placeholder", box, text, ["useless", ("place", "holder")])


def put(root: Path, dataset: str, lists: dict[str, list[Any]], form: Callable[[Any], bytes] = zip_form) -> DataConfig:
    folder = root / "splits" / dataset
    folder.mkdir(parents=True)
    for split, items in lists.items():
        (folder / f"{dataset}_{split}.pth").write_bytes(form(items))
    images = root / "data" / PAIR_LISTS[dataset].images
    images.mkdir(parents=True)
    for name in {item[0] for items in lists.values() for item in items}:
        (images / name).touch()
    return DataConfig(dataset=dataset, root=str(root / "splits"), image_root=str(root / "data"))


@pytest.mark.parametrize("form", sorted(FORMS))
def test_width_and_height_are_added_to_whole_pixels(tmp_path: Path, form: str) -> None:
    items = [five("a.jpg", [10.9, 20.9, 30.9, 40.9], "Left one"), five("b.jpg", [-1.9, 0.0, 5.2, 6.7], "ü")]
    dataset = build_dataset(put(tmp_path, "unc", {"train": items}, FORMS[form]), "train")
    # Cut first, then added: 10 + 30, not int(10.9 + 30.9).
    assert [s.boxes_xyxy[0].tolist() for s in dataset] == [[10, 20, 40, 60], [-1, 0, 4, 6]]
    assert [s.expression for s in dataset] == ["Left one", "ü"]
    assert dataset[0].image_path == str(tmp_path / "data/other/images/mscoco/images/train2014/a.jpg")
    assert [s.sample_id for s in dataset] == ["train-0", "train-1"] and dataset.fingerprint == ""


@pytest.mark.parametrize("dataset", sorted(PAIR_LISTS))
def test_every_set_has_its_box_and_length(tmp_path: Path, dataset: str) -> None:
    box = [10, 20, 30, 40]
    item = ("a.jpg", box, "text") if dataset == "flickr" else five("a.jpg", box, "text")
    config = put(tmp_path, dataset, {"val": [item], "train_pseudo": [list(item)]})
    corners = [10, 20, 30, 40] if dataset in ("referit", "flickr") else [10, 20, 40, 60]
    for split in ("val", "train_pseudo"):
        assert build_dataset(config, split)[0].boxes_xyxy.tolist() == [corners]
    other = item[:-1] if dataset != "flickr" else five("a.jpg", box, "text")
    (tmp_path / "splits" / dataset / f"{dataset}_test.pth").write_bytes(zip_form([item, other]))
    with pytest.raises(DataError, match=rf"{dataset.replace('+', '.')}_test.pth item 1 has"):
        build_dataset(config, "test")


def test_usual_splits() -> None:
    found = {name: eval_splits(DataConfig(dataset=name)) for name in PAIR_LISTS}
    assert found["unc"] == found["unc+"] == ["val", "testA", "testB"] and found["gref"] == ["val"]
    assert found["gref_umd"] == found["referit"] == found["flickr"] == ["val", "test"]


def test_trainval_is_both_files_or_its_own(tmp_path: Path) -> None:
    lists = {"train": [five("a.jpg", [0, 0, 2, 2], "a")], "val": [five("b.jpg", [0, 0, 2, 2], "b")]}
    joint = build_dataset(put(tmp_path / "joined", "unc+", lists), "trainval")
    assert [s.expression for s in joint] == ["a", "b"] and [s.sample_id for s in joint] == ["train-0", "val-0"]
    config = put(tmp_path / "own", "referit", lists)
    with pytest.raises(DatasetNotFoundError, match="referit_trainval.pth"):
        build_dataset(config, "trainval")
    (tmp_path / "own/splits/referit/referit_trainval.pth").write_bytes(zip_form(lists["val"]))
    assert [s.expression for s in build_dataset(config, "trainval")] == ["b"]


def test_lists_of_the_curriculum_are_splits(tmp_path: Path) -> None:
    """What a curriculum writes is read by its name; rejected pairs have their reliability appended."""
    item = five("a.jpg", [0, 0, 2, 2], "a")
    lists = {"train_pseudo_refine_0_5": [item, list(item)], "train_pseudo_bad_label_0_4": [[*item, 0.25]]}
    config = put(tmp_path, "gref_umd", lists)
    assert len(build_dataset(config, "train_pseudo_refine_0_5")) == 2
    assert len(build_dataset(config, "train_pseudo_bad_label_0_4")) == 1
    source = tmp_path / "splits/gref_umd/train_separate"
    source.mkdir()
    (source / "1_template_0_5.pth").write_bytes(zip_form([item]))
    assert len(build_dataset(config, "train_separate/1_template_0_5")) == 1


def test_arrays_and_tensors_are_read_as_numbers(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    items = [
        five("a.jpg", np.array([1.7, 2.0, 3.0, 4.0]), "array"),
        five("a.jpg", torch.tensor([1.7, 2.0, 3.0, 4.0]), "tensor"),
        five("a.jpg", [np.float64(1.7), 2, 3, np.int64(4)], "scalars"),
        (*five("a.jpg", [1, 2, 3, 4], "ordered")[:4], OrderedDict(r1=["none"])),
    ]
    config = put(tmp_path, "unc", {"train": items})
    for modern in (True, False):
        torch.save(items, tmp_path / "splits/unc/unc_train.pth", _use_new_zipfile_serialization=modern)
        assert [s.boxes_xyxy[0].tolist() for s in build_dataset(config, "train")] == [[1, 2, 4, 6]] * 4


BAD_BOXES = ([1, 2, 3], [1, 2, 3, "4"], [1, 2, 3, float("nan")], [1, 2, 3, 1e300], "1234", None, [True, 0, 1, 1])


@pytest.mark.parametrize("box", BAD_BOXES, ids=str)
def test_a_box_that_is_none_is_named(tmp_path: Path, box: Any) -> None:
    config = put(tmp_path, "unc", {"train": [five("a.jpg", [0, 0, 2, 2], "a"), five("a.jpg", box, "b")]})
    with pytest.raises(DataError, match=r"unc_train\.pth item 1: the box"):
        build_dataset(config, "train")


def test_what_is_no_list_of_pairs(tmp_path: Path) -> None:
    config = put(tmp_path, "unc", {"train": [five("a.jpg", [0, 0, 2, 2], "a")]})
    path = tmp_path / "splits/unc/unc_train.pth"
    whole = path.read_bytes()
    for content, said in [
        (zip_form({"model": 1}), "holds a dict"),
        (zip_form([3]), "item 0 has int"),
        (zip_form([five("a.jpg", [0, 0, 2, 2], None)]), "must be text"),
        (b"", "empty"),
        (whole[:-30], "cut off"),
        (legacy_form([1, 2])[:-8], "download it again"),
        (b"<!DOCTYPE html><html>", "download it again"),
    ]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=said):
            build_dataset(config, "train")


@pytest.mark.parametrize("form", sorted(FORMS))
def test_nothing_runs(tmp_path: Path, form: str) -> None:
    marker = tmp_path / "ran"
    config = put(tmp_path, "unc", {"train": [five("a.jpg", [0, 0, 2, 2], "a")]})
    path = tmp_path / "splits/unc/unc_train.pth"
    for payload, name in [
        (Attack(__import__("os").system, f"touch {marker}"), r"posix\.system"),
        (Attack(open, str(marker), "w"), "open"),
        (Attack(eval, f"open({str(marker)!r}, 'w')"), "eval"),
    ]:
        path.write_bytes(FORMS[form]([five("a.jpg", [0, 0, 2, 2], "a"), five("a.jpg", [0, 0, 2, 2], payload)]))
        with pytest.raises(UnsafeFileError, match=name):
            build_dataset(config, "train")
        assert not marker.exists()
    # An object that weight files may mention is no annotation either.
    path.write_bytes(FORMS[form]([five("a.jpg", [0, 0, 2, 2], __import__("argparse").Namespace(a=1))]))
    with pytest.raises(DataError, match="Namespace"):
        build_dataset(config, "train")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    config = put(tmp_path, "flickr", {"train": [("a.jpg", [0, 0, 2, 2], "a")]})
    with pytest.raises(DatasetNotFoundError, match=r"flickr_val\.pth is missing.*flickr_train\.pth.*CLIP-VG"):
        build_dataset(config, "val")
    with pytest.raises(DatasetNotFoundError, match="CLIP-VG"):
        build_dataset(DataConfig(dataset="flickr"), "train")
    image = tmp_path / "data/Flickr30k/flickr30k-images/a.jpg"
    image.unlink()
    with pytest.raises(DatasetNotFoundError, match="holds none of the first 1 images of flickr"):
        build_dataset(config, "train")
    image.parent.rmdir()
    with pytest.raises(DatasetNotFoundError, match="Flickr30k"):
        build_dataset(config, "train")
    (tmp_path / "data/a.jpg").touch()  # data.image_root may be the folder of the images itself
    assert build_dataset(config, "train")[0].image_path == str(tmp_path / "data/a.jpg")


def test_python_2_texts(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    path.write_bytes(b"(lp0\nS'caf\\xc3\\xa9'\np1\na.")
    assert read_plain_torch(path) == ["café"]


def test_json_lines_say_the_same(tmp_path: Path) -> None:
    """Written once as text, a list is no longer needed."""
    items = [five("a.jpg", [1, 2, 3, 4], "a"), five("b.jpg", [5, 6, 7, 8], "b"), five("b.jpg", [5, 6, 7, 8], "c")]
    config = put(tmp_path, "unc", {"train": items, "testA": items[:1]})
    theirs = [build_dataset(config, split) for split in ("train", "testA")]
    write_dataset(tmp_path / "text", theirs)
    for dataset in theirs:
        ours = read_jsonl(str(tmp_path / "text"), dataset.split)
        assert len(ours) == len(dataset) and ours.split == dataset.split
        for one, other in zip(ours, dataset, strict=True):
            assert (one.sample_id, one.image_id, one.expression, one.object_ids) == (
                *(other.sample_id, other.image_id, other.expression, other.object_ids),
            )
            assert (one.boxes_xyxy == other.boxes_xyxy).all()
            assert Path(one.image_path).resolve() == Path(other.image_path).resolve()
