"""The refer family: split rules, layouts, cache, hostile pickles, missing files."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mindground.cli.data import preprocess as tool
from mindground.cli.exit_codes import run_command
from mindground.config import DataConfig, ReferConfig
from mindground.data import build_dataset, eval_splits, inspect_dataset
from mindground.data.formats.jsonl import samples_to_records
from mindground.data.formats.refer import Refer, preprocess, read_refer
from mindground.data.formats.refer_index import in_split
from mindground.errors import DataError, DatasetNotFoundError, UnsafeFileError
from mindground.structures import decode_segmentation, encode_mask, referent_mask
from mindground.structures.overlap import once_covered

ROOT = Path(__file__).resolve().parents[2]
SPLITS = ("train", "val", "testA", "testB", "testAB", "train")
POLYGONS = [[2.0, 2, 12, 2, 12, 12, 2, 12], [8.0, 8, 18, 8, 18, 18, 8, 18]]


def _content() -> tuple[list[dict[str, Any]], dict[str, Any]]:
    refs, annotations, sentence = [], [], 0
    for number, split in enumerate(SPLITS):
        sentences = []
        for turn in range(1 + number % 2):
            text = f"thing {number} turn {turn}"
            sentences.append({"sent_id": sentence, "sent": text, "raw": text.upper(), "tokens": text.split()})
            sentence += 1
        refs.append(
            {
                "ref_id": 10 + number,
                "ann_id": 100 + number,
                "image_id": number // 2,
                "category_id": 1 + number % 2,
                "file_name": f"COCO_{number // 2}_{number}.jpg",
                "split": split,
                "sent_ids": [item["sent_id"] for item in sentences],
                "sentences": sentences,
            }
        )
        annotations.append(
            {
                "id": 100 + number,
                "image_id": number // 2,
                "category_id": 1 + number % 2,
                "bbox": [2.0, 2.0, 16.0, 16.0],
                "area": 172,
                "iscrowd": 0,
                "segmentation": POLYGONS,
            }
        )
    images = [{"id": i, "file_name": f"COCO_{i}.jpg", "height": 20, "width": 30} for i in range(3)]
    categories = [{"id": 1, "name": "ship"}, {"id": 2, "name": "pier"}]
    return refs, {"images": images, "annotations": annotations, "categories": categories}


def _place(root: Path, dataset: str = "refcoco", split_by: str = "unc", images: str = "") -> Path:
    refs, instances = _content()
    folder = root / dataset
    folder.mkdir(parents=True)
    (folder / f"refs({split_by}).p").write_bytes(pickle.dumps(refs, protocol=2))
    (folder / "instances.json").write_text(json.dumps(instances))
    folder = root / (images or "images/mscoco/images/train2014")
    folder.mkdir(parents=True)
    for image in instances["images"]:
        (folder / image["file_name"]).touch()
    return root


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("train", ["train"]),
        ("val", ["val"]),
        ("testA", ["testA", "testAB"]),
        ("testB", ["testB", "testAB"]),
        ("test", ["testA", "testB", "testAB"]),
    ],
)
def test_split_rules(asked: str, expected: list[str]) -> None:
    assert [name for name in dict.fromkeys(SPLITS) if in_split(name, asked)] == expected


def test_one_sample_a_sentence_in_file_order(tmp_path: Path) -> None:
    dataset = build_dataset(DataConfig(dataset="refcoco", splitBy="unc", root=str(_place(tmp_path))), "train")
    assert dataset.sentences() == ["thing 0 turn 0", "thing 5 turn 0", "thing 5 turn 1"]
    sample = dataset[1]
    # The image's own name, not the ref's with its object suffix.
    assert Path(sample.image_path).name == "COCO_2.jpg" and sample.size == (20, 30)
    assert sample.boxes_xyxy.tolist() == [[2, 2, 18, 18]] and sample.object_ids == ("105",)
    assert dataset.categories == {1: "ship", 2: "pier"} and sample.labels.tolist() == [2]
    assert sample.masks((20, 30)).max() == 1 and int(sample.masks((20, 30)).sum()) < 200


@pytest.mark.parametrize("layout", ["images/mscoco/images/train2014", "images/coco/images/train2014", "images"])
def test_both_image_layouts(tmp_path: Path, layout: str) -> None:
    sample = read_refer(str(_place(tmp_path, images=layout)), "refcoco", "unc", "val")[0]
    assert Path(sample.image_path) == tmp_path / layout / "COCO_0.jpg"


def test_refclef_flat_and_nested(tmp_path: Path) -> None:
    root = _place(tmp_path, "refclef", "berkeley", "images/saiapr_tc-12")
    assert Path(read_refer(str(root), "refclef", "berkeley", "val")[0].image_path).name == "COCO_0.jpg"
    (root / "images/saiapr_tc-12/COCO_0.jpg").rename(root / "images/saiapr_tc-12/0.jpg")
    assert Path(read_refer(str(root), "refclef", "berkeley", "val")[0].image_path).name == "0.jpg"


def test_index_answers_what_upstream_gets_wrong() -> None:
    refs, instances = _content()
    refer = Refer(refs, instances)
    assert refer.getRefIds(image_ids=[0, 1]) == [10, 11, 12, 13]
    assert refer.getRefIds(image_ids=1, split="testA") == [12]
    assert refer.getRefIds(cat_ids=2, ref_ids=[10, 11]) == [11]
    assert refer.getAnnIds(ref_ids=[12, 13]) == [102, 103] and refer.getAnnIds(image_ids=2) == [104, 105]
    assert refer.getImgIds([10, 11, 12]) == [0, 1] and refer.getImgIds() == [0, 1, 2]
    assert refer.getCatIds() == [1, 2] and refer.loadCats([2, 1]) == ["pier", "ship"]
    assert [ref["ref_id"] for ref in refer.loadRefs([11, 10])] == [11, 10]
    assert refer.loadAnns(101)[0] is refer.refToAnn[11] and refer.loadImgs(2)[0]["file_name"] == "COCO_2.jpg"
    assert refer.getRefBox(10) == [2.0, 2.0, 16.0, 16.0]
    assert refer.sentToRef[0]["ref_id"] == 10 and refer.sentToTokens[0] == ["thing", "0", "turn", "0"]
    found = refer.getMask(refer.Refs[10])
    # Two squares of 10 x 10 pixels sharing 4 x 4.
    assert set(np.unique(found["mask"])) == {0, 1} and found["area"] == 184 and found["area_of_parts"] == 200
    assert refer.annToRef[100] is refer.Refs[10] and refer.imgToRefs[0] == refer.loadRefs([10, 11])


def test_cache_replaces_the_originals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = _place(tmp_path)
    direct = {split: read_refer(str(root), "refcoco", "unc", split) for split in ("train", "val", "testA", "test")}
    assert run_command(tool.main, ["--data_root", str(root), "--dataset", "refcoco", "--splitBy", "unc"]) == 0
    assert "train 3" in capsys.readouterr().out
    os.remove(root / "refcoco" / "refs(unc).p")
    os.remove(root / "refcoco" / "instances.json")
    for split, dataset in direct.items():
        cached = read_refer(str(root), "refcoco", "unc", split)
        assert len(cached) == len(dataset)
        by_id = {sample.sample_id: sample for sample in cached}
        for sample in dataset:
            twin = by_id[sample.sample_id]
            assert (twin.expression, twin.image_path, twin.size, twin.object_ids) == (
                sample.expression,
                sample.image_path,
                sample.size,
                sample.object_ids,
            )
            assert np.array_equal(twin.boxes_xyxy, sample.boxes_xyxy) and twin.segmentations == sample.segmentations
    with pytest.raises(DataError, match="no split 'testC'.*testAB"):
        read_refer(str(root), "refcoco", "unc", "testC")


def test_upstreams_own_cache_is_read_without_masks(tmp_path: Path) -> None:
    root = _place(tmp_path)
    content = preprocess(str(root), "refcoco", "unc")
    keys = ("bbox", "phrase", "ref_id", "image_id", "category_id", "attributes")
    items = {split: [{k: item[k] for k in keys} for item in found] for split, found in content["items"].items()}
    os.remove(root / "refcoco" / "refs(unc).p")
    cache = root / "refcoco" / "refcoco(unc).pkl"
    cache.write_bytes(pickle.dumps({"items": items, "index": content["index"]}, protocol=2))
    dataset = read_refer(str(root), "refcoco", "unc", "train")
    assert dataset.sentences() == ["thing 0 turn 0", "thing 5 turn 0", "thing 5 turn 1"]
    assert not dataset[0].has_masks and dataset[0].boxes_xyxy.tolist() == [[2, 2, 18, 18]]


def test_npy_masks_replace_the_outlines(tmp_path: Path) -> None:
    root = _place(tmp_path)
    folder = tmp_path / "masks" / "refcoco(unc)"
    folder.mkdir(parents=True)
    mask = np.zeros((20, 30), np.uint8)
    mask[3:5, 4:9] = 1
    np.save(folder / "11.npy", mask)
    sample = read_refer(str(root), "refcoco", "unc", "val", mask_path=str(tmp_path / "masks"))[0]
    assert np.array_equal(sample.masks((20, 30))[0], mask)
    with pytest.raises(DataError, match=r"10\.npy is missing"):
        read_refer(str(root), "refcoco", "unc", "train", mask_path=str(tmp_path / "masks"))
    np.save(folder / "11.npy", np.asarray([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(UnsafeFileError, match="Python objects"):
        read_refer(str(root), "refcoco", "unc", "val", mask_path=str(tmp_path / "masks"))
    with pytest.raises(DatasetNotFoundError, match="mask_path"):
        read_refer(str(root), "refcoco", "unc", "val", mask_path=str(tmp_path / "elsewhere"))


class _Evil:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


def test_a_pickle_with_code_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    root = _place(tmp_path)
    harm = tmp_path / "harm"
    for name in ("refs(unc).p", "refcoco(unc).pkl"):
        (root / "refcoco" / name).write_bytes(pickle.dumps([_Evil(str(harm))], protocol=2))
        with pytest.raises(UnsafeFileError, match="mkdir"):
            read_refer(str(root), "refcoco", "unc", "train")
        assert not harm.exists()
        os.remove(root / "refcoco" / name)  # then the cache is read in its place


def test_files_that_contradict_each_other(tmp_path: Path) -> None:
    refs, instances = _content()
    with pytest.raises(DataError, match="reference 10 .* annotation 100"):
        Refer(refs, {**instances, "annotations": instances["annotations"][1:]})
    with pytest.raises(DataError, match="more than one reference"):
        Refer([refs[0], refs[0]], instances)
    with pytest.raises(DataError, match="'ann_id'"):
        Refer([{"ref_id": 1}], instances)
    with pytest.raises(DataError, match="lacks 'images'"):
        Refer(refs, {"annotations": [], "categories": []})
    with pytest.raises(DataError, match="must hold a list"):
        Refer({"a": 1}, instances)  # what a wrong pickle may hold
    root = _place(tmp_path)
    (root / "refcoco" / "instances.json").write_text('{"images": [')
    with pytest.raises(DataError, match="instances.json is not valid JSON"):
        read_refer(str(root), "refcoco", "unc", "train")


def test_missing_parts_say_what_to_get_and_where_it_goes(tmp_path: Path) -> None:
    for root in ("", str(tmp_path)):
        wanted = r"refs\(umd\)\.p and instances\.json.*lichengunc/refer.*refcocog"
        with pytest.raises(DatasetNotFoundError, match=wanted):
            build_dataset(DataConfig(dataset="refcocog", splitBy="umd", root=root), "train")
    root = _place(tmp_path / "set")
    images = root / "images/mscoco/images/train2014"
    for path in images.iterdir():
        path.unlink()
    with pytest.raises(DatasetNotFoundError, match="holds none of the first 2 images.*train2014.zip"):
        read_refer(str(root), "refcoco", "unc", "train")
    images.rmdir()
    (root / "images").rename(root / "elsewhere")
    with pytest.raises(DatasetNotFoundError, match="train2014.zip.*data.image_root"):
        read_refer(str(root), "refcoco", "unc", "train")
    with pytest.raises(DataError, match="no split 'dev'.*testAB"):
        read_refer(str(root), "refcoco", "unc", "dev", str(root / "elsewhere"))
    assert (
        run_command(tool.main, ["--data_root", str(tmp_path / "none"), "--dataset", "refcoco", "--splitBy", "unc"]) == 2
    )


def test_published_evaluation_splits() -> None:
    expected = {
        ("refcoco", "unc"): ["val", "testA", "testB"],
        ("refcoco+", "unc"): ["val", "testA", "testB"],
        ("refcocog", "umd"): ["val", "test"],
        ("refcocog", "google"): ["val"],
        ("jsonl", ""): ["val"],
        ("synthetic", ""): ["val"],
    }
    for (dataset, split_by), splits in expected.items():
        assert eval_splits(DataConfig(dataset=dataset, splitBy=split_by)) == splits
    assert "test" in eval_splits(DataConfig(dataset="refclef"))
    assert eval_splits(DataConfig(dataset="refcoco", eval_splits=["testB"])) == ["testB"]


def test_every_look_up_takes_every_kind_of_id() -> None:
    refs, instances = _content()
    spare = {**instances["annotations"][0], "id": 200, "image_id": 2, "category_id": 2}  # nothing refers to it
    refer = Refer(refs, {**instances, "annotations": [*instances["annotations"], spare]})
    assert refer.getRefIds(ann_ids=[100, 103]) == [10, 13] and refer.getRefIds(ann_ids=200) == []
    assert refer.getRefIds(0, 1) == [10] and refer.getRefIds(2, split="train") == [15]
    assert refer.getAnnIds(2) == [104, 105, 200] and refer.getAnnIds(2, 2) == [105, 200]
    assert refer.getAnnIds(2, 2, 15) == [105] and refer.getAnnIds(ann_ids=[200, 7]) == [200]
    assert refer.getAnnIds(ref_ids=10, ann_ids=103) == [] and refer.getAnnIds(cat_ids=9) == []
    assert refer.getImgIds([12, 10]) == [1, 0] and refer.getImgIds([12, 10], cat_ids=1) == [1, 0]
    assert refer.getImgIds(cat_ids=2) == [0, 1, 2] and refer.getImgIds(ann_ids=200) == [2]
    assert refer.getImgIds(cat_ids=1, ann_ids=200) == [] and refer.getImgIds() == [0, 1, 2]
    assert refer.getCatIds(ref_ids=11) == [2] and refer.getCatIds(image_ids=0) == [1, 2]
    assert refer.getCatIds(ann_ids=[105, 200]) == [2] and refer.getCatIds(ref_ids=[10, 11], image_ids=1) == []
    assert refer.getCatIds() == [1, 2]
    with pytest.raises(KeyError):
        refer.getImgIds(99)


def _rrsisd(root: Path) -> Path:
    """References whose first mask is 20 x 30 in an image of 20 x 31; every object has one sentence."""
    refs, instances = _content()
    for ref in refs:
        ref["sentences"] = ref["sentences"][:1]
    mask = np.zeros((20, 30), np.uint8)
    mask[4:9, 6:20] = 1
    for number, annotation in enumerate(instances["annotations"]):
        annotation["segmentation"] = [encode_mask(mask)]
        if number == 0:
            instances["images"][0]["width"] = 31
    folder = root / "rrsisd"
    folder.mkdir(parents=True)
    (folder / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))
    (folder / "instances.json").write_text(json.dumps(instances))
    images = root / "images/rrsisd/JPEGImages"
    images.mkdir(parents=True)
    for image in instances["images"]:
        pixels = np.random.default_rng(image["id"]).integers(0, 255, (image["height"], image["width"], 3))
        Image.fromarray(pixels.astype(np.uint8)).save(images / image["file_name"])
    return root


def test_rrsisd_resizes_masks_of_another_size_and_names_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = _rrsisd(tmp_path)
    dataset = build_dataset(DataConfig(dataset="rrsisd", root=str(root)), "train")
    assert dataset[0].size == (20, 31) and dataset[0].masks((20, 31)).shape == (1, 20, 31)
    assert Path(dataset[0].image_path) == root / "images/rrsisd/JPEGImages/COCO_0.jpg"
    said = [record.message for record in caplog.records if "another size than their image" in record.message]
    assert len(said) == 1 and "COCO_0.jpg" in said[0]  # once a training, with the first of them
    inspection = inspect_dataset(DataConfig(dataset="rrsisd", root=str(root)), ["train", "val", "test"])
    named = [defect for defect in inspection.defects if defect.kind == "mask_size"]
    assert len(named) == 2 and all("COCO_0.jpg" in defect.subject and not defect.serious for defect in named)
    refer = Refer.from_folder(root / "rrsisd", "unc")
    found = refer.getMask(refer.Refs[10])
    assert found["mask"].shape == (20, 31) and np.array_equal(found["mask"], dataset[0].masks((20, 31))[0])
    assert inspection.published["test"] == {"expressions": 3481}
    with pytest.raises(DatasetNotFoundError, match="images/rrsisd/JPEGImages"):
        build_dataset(DataConfig(dataset="rrsisd", root=str(root), image_root=str(root / "no")), "train")


def test_parts_that_overlap_and_raw_sentences(tmp_path: Path) -> None:
    root = str(_place(tmp_path))
    refer_keys = ReferConfig(mask_overlap="upstream", sentence="raw")
    ours = build_dataset(DataConfig(dataset="refcoco", root=root), "train")
    theirs = build_dataset(DataConfig(dataset="refcoco", root=root, refer=refer_keys), "train")
    assert theirs.sentences() == [sentence.upper() for sentence in ours.sentences()]
    mask, once = (found[0].masks((20, 30))[0] for found in (ours, theirs))
    assert mask.sum() == 184 and once.sum() == 184 - 16 and not once[9, 9] and mask[9, 9]
    assert np.array_equal(referent_mask(theirs[0], (20, 30)), once)
    refer = Refer.from_folder(Path(root) / "refcoco", "unc")
    upstream = refer.getMask(refer.Refs[10], "upstream")
    assert np.array_equal(upstream["mask"], once) and upstream["area_of_parts"] == 200
    # What is written down is what was read.
    record = samples_to_records(theirs.samples, theirs.categories)[0]
    assert np.array_equal(decode_segmentation(record["mask"], (20, 30)), once)
    run_command(tool.main, ["--data_root", root, "--dataset", "refcoco", "--splitBy", "unc"])
    os.remove(Path(root) / "refcoco" / "refs(unc).p")
    with pytest.raises(DataError, match=r"data\.refer\.sentence=raw needs refs\(unc\)\.p"):
        build_dataset(DataConfig(dataset="refcoco", root=root, refer=refer_keys), "train")
    cached = build_dataset(DataConfig(dataset="refcoco", root=root, refer=ReferConfig("upstream")), "train")
    assert np.array_equal(cached[0].masks((20, 30))[0], once)


def test_outlines_of_many_parts_are_not_drawn_one_by_one() -> None:
    with pytest.raises(DataError, match="not drawn part by part"):
        once_covered([[0, 0, 1, 0, 1, 1]] * 5000, (10000, 10000))
