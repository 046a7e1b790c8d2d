"""The refer API and tools/preprocess.py against upstream's copies."""

from __future__ import annotations

import json
import pickle
import tempfile
from pathlib import Path

import numpy as np

from golden.case import Case
from golden.claim import Checks, claim
from mindground.data.formats.refer import Refer, preprocess, read_refer
from mindground.structures import decode_segmentation


@claim(model="refer dataset API", modes=("host",))
def check(case: Case, mode: str, checks: Checks) -> None:
    """Masks, areas, boxes, split filter and cache, from real files in a temporary folder."""
    config = case.meta["config"]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / config["dataset"]
        folder.mkdir()
        (Path(place) / "images/mscoco/images/train2014").mkdir(parents=True)
        for image in case.meta["instances"]["images"]:
            (Path(place) / "images/mscoco/images/train2014" / image["file_name"]).touch()
        (folder / "instances.json").write_text(json.dumps(case.meta["instances"]))
        (folder / f"refs({config['splitBy']}).p").write_bytes(pickle.dumps(case.meta["refs"], protocol=2))
        refer = Refer.from_folder(folder, config["splitBy"])
        _check_index(case, refer, checks)
        _check_cache(case, place, checks)


def _check_index(case: Case, refer: Refer, checks: Checks) -> None:
    for key, theirs in case.outputs.items():
        kind, number = key.rsplit("/", 1)
        ref = refer.Refs[int(number)]
        image = refer.Imgs[ref["image_id"]]
        size = (image["height"], image["width"])
        if kind == "mask_rle":
            outline = case.meta["rle_annotation"]["segmentation"]
            checks.exact(key, decode_segmentation(outline, size), theirs)
            continue
        # Upstream sums the parts; a mask of ours is 0 or 1, so both readings are compared.
        found = refer.getMask(ref)
        parts = refer.refToAnn[int(number)]["segmentation"]
        checks.exact(f"{key} summed", sum(decode_segmentation([part], size) for part in parts), theirs)
        checks.exact(key, found["mask"], (theirs > 0).astype(np.uint8))
        checks.exact(f"area/{number}", found["area_of_parts"], case.meta["areas"][number])
        checks.exact(f"box/{number}", refer.getRefBox(int(number)), refer.refToAnn[int(number)]["bbox"])


def _check_cache(case: Case, place: str, checks: Checks) -> None:
    config, theirs = case.meta["config"], case.meta["preprocessed"]
    ours = preprocess(place, config["dataset"], config["splitBy"])
    checks.true("cache splits", list(ours["items"]) == list(theirs["items"]), f"ours {list(ours['items'])}")
    for split, items in theirs["items"].items():
        same = [{key: item[key] for key in items[0]} for item in ours["items"][split]]
        checks.true(f"cache/{split}", same == items, f"ours {same}, reference {items}")
        samples = read_refer(place, config["dataset"], config["splitBy"], split)
        checks.true(f"sentences/{split}", [s.expression for s in samples] == [item["phrase"] for item in items])
        boxes = np.asarray([item["bbox"] for item in items], np.float32)
        got = np.asarray([s.boxes_xyxy[0] for s in samples])
        checks.exact(f"boxes/{split}", np.concatenate([got[:, :2], got[:, 2:] - got[:, :2]], 1), boxes)
    for name, table in theirs["index"].items():
        found = {str(key): value for key, value in ours["index"][name].items()}
        checks.true(f"index/{name}", found == table, f"ours {found}, reference {table}")
