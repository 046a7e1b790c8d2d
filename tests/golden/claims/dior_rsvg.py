"""DIOR-RSVG: which number means which sample, and what the fork makes of the boxes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from golden.case import Case
from golden.claim import Checks, claim
from golden.claims.text import _clip, _vocabulary
from mindground.data.formats.dior_rsvg import legacy_target, read_annotations, read_dior_rsvg
from mindground.structures import cxcywh_to_xyxy, xyxy_to_cxcywh


@claim(model="dior-rsvg-index", modes=("host",))
def check(case: Case, mode: str, checks: Checks) -> None:
    """Samples of every list from real files, the same lists over another order, targets and token ids."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        (root / "Annotations").mkdir()
        (root / "JPEGImages").mkdir()
        for name, text in case.meta["files"].items():
            (root / "Annotations" / name).write_text(text, encoding="utf-8")
            (root / "JPEGImages" / name.replace(".xml", ".jpg")).touch()
        for split, numbers in case.meta["index"].items():
            (root / f"{split}.txt").write_text("".join(f"{number}\n" for number in numbers))
        _check_samples(case, root, checks)
        _check_other_order(case, root, checks)
        _check_items(case, root, checks)
    _check_legacy(case, checks)


def _check_samples(case: Case, root: Path, checks: Checks) -> None:
    for split in case.meta["index"]:
        found = [
            [Path(sample.image_path).name, sample.boxes_xyxy[0].tolist(), sample.expression]
            for sample in read_dior_rsvg(str(root), split)
        ]
        # train_pseudo is a copy of train.
        theirs = case.meta["expected"][f"{split.removesuffix('_pseudo')}/sorted"]
        checks.true(f"{split} sorted", found == theirs, f"ours {found}, reference {theirs}")


def _check_other_order(case: Case, root: Path, checks: Checks) -> None:
    """What an unsorted listing makes of the same numbers: the order of the files is all that differs."""
    paths = sorted((root / "Annotations").glob("*.xml"), reverse=True)
    files, defects = read_annotations(paths)
    checks.true("no defect", not defects, str(defects))
    objects = [[file.image, list(item.box or ()), item.sentence] for file in files for item in file.objects]
    for name, theirs in case.meta["expected"].items():
        split, order = name.split("/")
        if order == "reverse":
            found = [objects[number] for number in case.meta["index"][split]]
            checks.true(name, found == theirs, f"ours {found}, reference {theirs}")


def _check_items(case: Case, root: Path, checks: Checks) -> None:
    tokenizer = _clip(_vocabulary(case))
    samples = list(read_dior_rsvg(str(root), "test"))
    for place, sample in enumerate(samples):
        ids, _ = tokenizer([str(sample.expression).lower()], len(case.outputs[f"item{place}/ids"]))
        checks.exact(f"item{place}/ids", ids[0], case.outputs[f"item{place}/ids"])
        size = sample.size or (0, 0)
        scale = np.asarray([size[1], size[0]] * 2, np.float32)
        box = xyxy_to_cxcywh(sample.boxes_xyxy[0]) / scale
        checks.output(f"item{place}/box", box, case.outputs[f"item{place}/box"])
        legacy = legacy_target(sample.boxes_xyxy[0], size)
        checks.output(f"item{place}/legacy_box", legacy, case.outputs[f"item{place}/legacy_box"])
    items = {name.split("/")[0] for name in case.outputs if name.startswith("item")}
    checks.true("all items", len(items) == len(samples), f"{len(samples)} samples, {len(items)} in the reference")


def _check_legacy(case: Case, checks: Checks) -> None:
    true_xyxy = case.inputs["true_xyxy"]
    legacy = legacy_target(true_xyxy, (1, 1))
    checks.output("legacy_cxcywh", legacy, case.outputs["legacy_cxcywh"])
    # Its inverse: the left top corner as of any such box, the right bottom one in the place of the size.
    theirs = case.outputs["legacy_cxcywh"]
    back = np.concatenate([cxcywh_to_xyxy(theirs)[:, :2], theirs[:, 2:]], 1)
    checks.output("decoded", back, true_xyxy)
