"""The registry of formats: one file adds one, options without use are refused, published counts are compared."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.rsvg_sets import make_set
from mindground.config import DataConfig
from mindground.data import DATASETS, Dataset, build_dataset, discovery, eval_splits, inspect_dataset, usual_split_by
from mindground.data.check.inspection import check_inspection, published_lines
from mindground.data.formats import registry, rsvg_lists
from mindground.data.formats.registry import FORMATS, DatasetFormat, Inspection
from mindground.errors import ConfigError, DataError, WriteError
from mindground.structures import Sample

OUTSIDE = """
from mindground.data.dataset import Dataset
from mindground.data.formats.registry import DatasetFormat
from mindground.structures import Sample

def read(root, split):
    return Dataset([Sample(f"{root}/a.png", "1", "a", "a ship")], name="mine", split=split)

FORMATS = (DatasetFormat("mine", read, takes=()),)
"""


def _read(root: str, split: str, image_root: str = "") -> Dataset:
    samples = [
        Sample(f"{split}{n // 2}.png", f"{split}{n}", f"{split}{n // 2}", f"{split} {n}", np.asarray([[0, 0, 4, 4]]))
        for n in range(6)
    ]
    return Dataset(samples, name="small", split=split)


def test_what_is_known() -> None:
    assert {"refcoco", "refcoco+", "refcocog", "refclef", "dior_rsvg", "jsonl", "coco", "synthetic"} <= set(DATASETS)
    assert {"unc", "unc+", "gref", "gref_umd", "referit", "flickr", "synthetic_instances"} <= set(DATASETS)
    assert all(FORMATS[name].name == name and FORMATS[name].splits for name in FORMATS)
    assert FORMATS["coco"].kinds == ("instances",) and FORMATS["jsonl"].kinds == ("referring", "instances")
    assert usual_split_by(DataConfig(dataset="refcocog")) == "umd" and usual_split_by(DataConfig(dataset="unc")) == ""
    assert eval_splits(DataConfig(dataset="refcoco", splitBy="somebody")) == ["val"]


@pytest.mark.parametrize("name", ["synthetic", "jsonl", "coco", "unc"])
def test_a_division_is_refused_where_there_is_one(name: str) -> None:
    told = f"data.splitBy='umd' has no use with data.dataset={name}, which knows one division"
    for read in (lambda data: build_dataset(data, "val"), lambda data: inspect_dataset(data, ["val"])):
        with pytest.raises(ConfigError, match=told):
            read(DataConfig(dataset=name, root="nowhere", splitBy="umd"))


def test_an_unknown_name_suggests_the_nearest() -> None:
    for ask in (lambda data: build_dataset(data, "train"), eval_splits, usual_split_by):
        with pytest.raises(ConfigError, match="'refcocos'; did you mean 'refcoco'.*synthetic"):
            ask(DataConfig(dataset="refcocos"))  # type: ignore[arg-type]


def test_names_are_there_without_numpy() -> None:
    words = "import sys; from mindground.data import DATASETS, eval_splits; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True, env=_environment())
    assert done.stdout.strip() == "False"


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(registry.__file__).parents[3])}


def _fresh() -> discovery.Discovered[DatasetFormat]:
    """The formats, looked up anew."""
    return discovery.Discovered("mindground.data.formats", registry.GROUP, "FORMATS", DatasetFormat, "data set")


def test_a_file_beside_the_others_is_a_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mindground.data.formats as home

    (tmp_path / "outside_format.py").write_text(OUTSIDE)
    monkeypatch.setattr(home, "__path__", [*home.__path__, str(tmp_path)])
    fresh = _fresh()
    assert fresh["mine"].read("/data", "val").samples[0].image_path == "/data/a.png" and "refcoco" in fresh
    sys.modules.pop("mindground.data.formats.outside_format")


def test_other_packages_bring_formats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_package_of_formats.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(tmp_path)

    def brings(value: str) -> None:
        point = importlib.metadata.EntryPoint("mine", value, registry.GROUP)
        monkeypatch.setattr(discovery, "entry_points", lambda group: [point] if group == registry.GROUP else [])

    brings("a_package_of_formats")
    assert _fresh()["mine"].kinds == ("referring",)
    brings("json")
    with pytest.raises(ConfigError, match="json must offer FORMATS"):
        len(_fresh())
    brings("no_such_package")
    fresh = _fresh()
    for _ in range(2):  # a failed look-up does not leave half a registry
        with pytest.raises(ConfigError, match="'mine' of mindground.formats names no_such_package"):
            len(fresh)


def test_a_script_registers_a_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry._REGISTRY, "_known", dict(registry._REGISTRY._known))
    registry.register(DatasetFormat("small", _read))
    assert "small" in DATASETS and len(build_dataset(DataConfig(dataset="small"), "val")) == 6  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="'refcoco', which is known already"):
        registry.register(DatasetFormat("refcoco", _read))


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"dataset": "jsonl", "mask_path": "masks"}, "mask_path"),
        ({"dataset": "synthetic", "image_root": "images"}, "image_root"),
        ({"dataset": "dior_rsvg", "mask_path": "masks"}, "mask_path"),
    ],
)
def test_an_option_without_use_is_refused(given: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=f"data.{key}='.*' has no use with data.dataset={given['dataset']}"):
        build_dataset(DataConfig(**given), "train")


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(DataError, match="'val' of nothing below '/x' holds no sample"):
        DatasetFormat("nothing", lambda root, split: Dataset([]), takes=()).read("/x", "val")


def _report(published: dict[str, dict[str, int]], **more: Any) -> Any:
    chosen = DatasetFormat("small", _read, published={"": published}, **more)
    return check_inspection(chosen.inspect("", ["val", "test"]), decode_images=False)


def test_counts_are_compared_with_the_published_ones() -> None:
    report = _report({"val": {"expressions": 6, "images": 3}})
    assert not [finding for finding in report.findings if finding.kind == "count"]
    assert report.as_dict()["published"] == {
        "val": {"expressions": {"found": 6, "published": 6}, "images": {"found": 3, "published": 3}}
    }
    assert published_lines(report) == ["val: 6 expressions, 3 images, as published"]
    report = _report({"val": {"expressions": 7, "images": 3}})
    counts = [finding for finding in report.findings if finding.kind == "count"]
    assert [(finding.level, finding.split, finding.subject) for finding in counts] == [
        ("warning", "val", "small expressions")
    ]
    assert "6 expressions, the literature counts 7" in counts[0].detail and published_lines(report) == []


def test_a_division_that_the_literature_does_not_know_is_compared_with_nothing() -> None:
    chosen = DatasetFormat("small", lambda root, split, split_by: _read(root, split), takes=("split_by",))
    chosen = registry.DatasetFormat(**{**vars(chosen), "published": {"": {"val": {"expressions": 7}}}})
    report = check_inspection(chosen.inspect("", ["val"], split_by="mine"), decode_images=False)
    assert report.published == {} and not [finding for finding in report.findings if finding.kind == "count"]


def test_what_splits_share_by_design_is_a_warning() -> None:
    def read(root: str, split: str) -> Dataset:
        sample = Sample("a.png", f"{split}", "a", f"it in {split}", np.asarray([[0, 0, 4, 4]]), object_ids=("o",))
        return Dataset([sample], name="small", split=split)

    for shared, levels in (((), {"error"}), (("images",), {"warning", "error"}), (("images", "objects"), {"warning"})):
        chosen = DatasetFormat("small", read, takes=(), shared={"": shared})
        report = check_inspection(chosen.inspect("", ["train", "val"]), decode_images=False)
        assert {finding.level for finding in report.findings if finding.kind.endswith("_overlap")} == levels


def test_published_counts_of_refcocog_by_division() -> None:
    chosen = FORMATS["refcocog"]
    assert chosen.published["umd"]["test"] == {"expressions": 9602, "images": 2600}
    assert chosen.shared == {"google": ("images",)} and FORMATS["gref"].published[""]["val"] == {"expressions": 9536}
    assert FORMATS["jsonl"].published == FORMATS["coco"].published == FORMATS["synthetic"].published == {}


def test_a_set_of_the_shape_of_dior_rsvg_is_compared_only_when_it_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DataConfig(dataset="dior_rsvg", root=str(make_set(tmp_path)))
    assert inspect_dataset(data, ["train"]).published == {}
    known = {"a release": {"train": 4, "val": 2, "test": 2}}
    for module in (rsvg_lists, sys.modules["mindground.data.formats.dior_rsvg"]):
        monkeypatch.setattr(module, "GENERATIONS", known)
    monkeypatch.setattr(rsvg_lists, "PUBLISHED_OBJECTS", 8)
    inspection: Inspection = inspect_dataset(data, ["train", "val"])
    assert inspection.facts["release"] == "a release" and inspection.shared == ("images", "objects")
    assert published_lines(check_inspection(inspection)) == [
        "train: 4 expressions, as published",
        "val: 2 expressions, as published",
    ]


def test_the_synthetic_set_cannot_be_kept_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="file"):
        FORMATS["synthetic_instances"].read(str(tmp_path / "file"), "val", train_images=1, val_images=1)
