"""The values that travel through MindGround, all on the host and all NumPy; nothing here imports MindSpore."""

from __future__ import annotations

from mindground.structures.batch import Batch, Example
from mindground.structures.boxes import (
    box_iou,
    clip_boxes,
    cxcywh_to_xyxy,
    intersection_and_union,
    xywh_to_xyxy,
    xyxy_to_cxcywh,
    xyxy_to_xywh,
)
from mindground.structures.geometry import Geometry
from mindground.structures.mask_file import MaskFile
from mindground.structures.masks import Segmentation, decode_segmentation, encode_mask, mask_box
from mindground.structures.outlines import Outline, check_outline, check_size, outline_box
from mindground.structures.polygons import MaskPart, mask_parts, mask_polygons
from mindground.structures.prediction import Prediction
from mindground.structures.probability import ProbabilityMap
from mindground.structures.sample import IgnoredRegion, MaskedSample, Sample
from mindground.structures.truth import Truth, instance_truth, referent_box, referent_mask, referent_truth

__all__ = [
    "Batch",
    "Example",
    "Geometry",
    "IgnoredRegion",
    "MaskFile",
    "MaskPart",
    "MaskedSample",
    "Outline",
    "Prediction",
    "ProbabilityMap",
    "Sample",
    "Segmentation",
    "Truth",
    "box_iou",
    "check_outline",
    "check_size",
    "clip_boxes",
    "cxcywh_to_xyxy",
    "decode_segmentation",
    "encode_mask",
    "instance_truth",
    "intersection_and_union",
    "mask_box",
    "mask_parts",
    "mask_polygons",
    "outline_box",
    "referent_box",
    "referent_mask",
    "referent_truth",
    "xywh_to_xyxy",
    "xyxy_to_cxcywh",
    "xyxy_to_xywh",
]
