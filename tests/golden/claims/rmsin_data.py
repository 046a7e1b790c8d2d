"""Data, metrics and results of RMSIN and LAVT, through the product's own functions."""

from __future__ import annotations

import json
import pickle
import tempfile
from pathlib import Path

import mindspore as ms
import numpy as np

from golden.case import Case
from golden.claim import Checks, claim
from golden.compute import Apply
from mindground.data.formats.refer import Refer, read_refer
from mindground.data.transforms.base import TransformParams
from mindground.data.transforms.squash import SquashTransform
from mindground.metrics import ReferringMetrics
from mindground.models.rmsin.decode import decode_masks
from mindground.models.rmsin.targets import encode_mask as encode_target
from mindground.nn.resize import resize_maps
from mindground.structures import Batch, Geometry, Prediction, Sample, Truth, decode_segmentation, encode_mask
from mindground.structures.overlap import once_covered, part_counts


@claim(model="rmsin", kind="preprocess", modes=("host",))
def check_squash(case: Case, mode: str, checks: Checks) -> None:
    """Pillow's resize, normalisation, and the target by nearest pixels."""
    settings = case.config
    transform = SquashTransform(
        img_size=settings["size"], mean=settings["mean"], std=settings["std"], truth=lambda sample: truth
    )
    for name in settings["images"]:
        image, mask = case.inputs[name], case.inputs[f"{name}_mask"]
        box = np.asarray([[0, 0, image.shape[1], image.shape[0]]], np.float32)
        truth = Truth(box, np.zeros(1, np.int64), lambda size, found=mask: found[None], single=True)
        params, shape = TransformParams(settings["size"]), image.shape[:2]
        resized = transform.resample(image, params, transform.geometry(params, shape), nearest=False)[0]
        checks.exact(f"{name}_resized", resized, case.outputs[f"{name}_resized"])
        sample = Sample(name, name, name, "a", box)
        example = transform.apply(params, sample, image, truth)
        checks.output(name, example.arrays["image"], case.outputs[name], 1e-6)
        checks.exact(f"{name}_target", encode_target(example)["mask"][0], case.outputs[f"{name}_target"])


@claim(model="rmsin", kind="mask_decode", modes=("host",))
def check_parts(case: Case, mode: str, checks: Checks) -> None:
    """Parts that are counted, and the mask that published training sees."""
    for index, annotation in enumerate(case.config["annotations"]):
        size, outline = (annotation["height"], annotation["width"]), annotation["segmentation"]
        counts = part_counts(outline, size)
        checks.exact(f"sum{index}", counts, case.outputs[f"sum{index}"])
        mask = decode_segmentation(once_covered(outline, size), size)
        checks.exact(f"mask{index}", mask, case.outputs[f"mask{index}"])
        checks.exact(f"area{index}", int(counts.sum()), case.outputs[f"area{index}"])
        checks.exact(f"united{index}", decode_segmentation(outline, size), counts > 0)


@claim(model="rmsin", kind="refer_index", modes=("host",))
def check_index(case: Case, mode: str, checks: Checks) -> None:
    """Splits, raw sentences, image files and masks, from real files in a temporary folder."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "rrsisd"
        folder.mkdir()
        (folder / "instances.json").write_text(json.dumps(case.config["instances"]))
        (folder / "refs(unc).p").write_bytes(pickle.dumps(case.config["refs"], protocol=2))
        images = Path(place) / "JPEGImages"
        images.mkdir()
        for image in case.config["instances"]["images"]:
            (images / image["file_name"]).touch()
        refer = Refer.from_folder(folder, "unc")
        for name in case.outputs:
            kind, _, rest = name.partition("/")
            if kind == "mask":
                ref, image = refer.Refs[int(rest)], refer.Imgs[refer.Refs[int(rest)]["image_id"]]
                size = (image["height"], image["width"])
                outline = refer.refToAnn[ref["ref_id"]]["segmentation"]
                checks.exact(name, decode_segmentation(once_covered(outline, size), size), case.outputs[name])
                checks.exact(f"{name} file", image["file_name"], case.meta["note"]["file_name"][rest])
            else:
                _check_split(case, checks, refer, kind, str(place), str(images))


def _check_split(case: Case, checks: Checks, refer: Refer, split: str, root: str, images: str) -> None:
    refs = refer.getRefIds(split=split)
    checks.exact(split, refs, case.outputs[f"{split}/ref_id"])
    raw = [[sentence["raw"] for sentence in refer.Refs[ref]["sentences"]] for ref in refs]
    checks.true(f"{split} sentences", raw == case.meta["note"][split], f"ours {raw}")
    samples = read_refer(root, "rrsisd", "unc", split, image_root=images)
    count = sum(len(sentences) for sentences in raw)
    checks.exact(f"{split} samples", len(samples.samples), count)


@claim(model="rmsin", kind="metrics", modes=("host",))
def check_metrics(case: Case, mode: str, checks: Checks) -> None:
    """The scores that evaluation prints, at native and at network size, from masks of one size."""
    found, truth = case.inputs["pred"], case.inputs["gt"]
    size = found.shape[1:]
    names = [f"{place:04d}" for place in range(len(found))]
    whole = np.asarray([[0, 0, size[1], size[0]]], np.float32)
    samples = [
        Sample(name, name, name, "a", whole, (encode_mask(mask),)) for name, mask in zip(names, truth, strict=True)
    ]
    predictions = [
        Prediction(size, whole, np.ones(1), masks=(encode_mask(mask),), extras={"canvas_mask": mask}) for mask in found
    ]
    arrays = {"mask": truth[:, None].astype(np.float32), "has_mask": np.ones((len(truth), 1), np.float32)}
    metrics = ReferringMetrics(protocol="lavt")
    metrics.update(predictions, Batch(arrays, samples, [Geometry(size, size, size)] * len(samples), len(samples)))
    state, scores = metrics.state(), metrics.compute()
    for prefix in ("", "canvas_"):
        checks.exact(f"{prefix}I", state[f"{prefix}intersection"], case.outputs["I"])
        checks.exact(f"{prefix}U", state[f"{prefix}union"], case.outputs["U"])
        checks.output(f"{prefix}mIoU", 100 * scores[f"{prefix}mean_iou"], case.outputs["mIoU"], 1e-6)
        checks.output(f"{prefix}oIoU", 100 * scores[f"{prefix}overall_iou"], case.outputs["oIoU"], 1e-6)
        share = "canvas_prec" if prefix else "mask_prec"
        shares = [100 * scores[f"{share}@{threshold:g}"] for threshold in case.config["thresholds"]]
        checks.output(f"{prefix}precision", shares, case.outputs["precision"], 1e-6)
    checks.output("iou", [entry["mask_iou"] for entry in metrics.records()], case.outputs["iou"], 1e-6)


@claim(model="rmsin", kind="postprocess")
def check_results(case: Case, mode: str, checks: Checks) -> None:
    """Logits resized, decided, and repeated in original pixels."""
    low, size = case.inputs["logits_low"], tuple(case.config["input_size"])
    original = tuple(case.config["original_size"])
    logits = Apply(resize_maps, size, "aligned")(ms.Tensor(low)).asnumpy()
    checks.output("logits", logits, case.outputs["logits"], 1e-5)
    difference = logits[:, 1:] - logits[:, :1]
    checks.exact("argmax", difference[:, 0] > 0, case.outputs["argmax"] != 0)
    scale = (size[1] / original[1], size[0] / original[0])
    geometries = [Geometry(original, size, size, (0, 0), scale)] * len(low)
    samples = [Sample("a", str(index), "a", "a") for index in range(len(low))]
    predictions = decode_masks({"mask_logits": difference}, Batch({}, samples, geometries, len(low)))
    checks.exact("mask", [found.mask_arrays()[0] for found in predictions], case.outputs["mask"])
