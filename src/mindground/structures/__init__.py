"""The values that travel through MindGround, all on the host and all NumPy; nothing here imports MindSpore."""

from __future__ import annotations

from mindground.structures.batch import Batch
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
from mindground.structures.masks import Segmentation, decode_segmentation, encode_mask, mask_box
from mindground.structures.prediction import Prediction
from mindground.structures.referent import referent_box, referent_mask
from mindground.structures.sample import IgnoredRegion, Sample

__all__ = [
    "Batch",
    "Geometry",
    "IgnoredRegion",
    "Prediction",
    "Sample",
    "Segmentation",
    "box_iou",
    "clip_boxes",
    "cxcywh_to_xyxy",
    "decode_segmentation",
    "encode_mask",
    "intersection_and_union",
    "mask_box",
    "referent_box",
    "referent_mask",
    "xywh_to_xyxy",
    "xyxy_to_cxcywh",
    "xyxy_to_xywh",
]
