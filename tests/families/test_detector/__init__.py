"""A detector of a few hundred parameters: every instance of some classes, as boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mindground.config.keys import key
from mindground.errors import ConfigError
from mindground.models.interface import ModelInterface

if TYPE_CHECKING:
    from test_detector.network import Detector

__all__ = ["Config", "build", "interface"]


@dataclass
class Config:
    """The `model` section."""

    classes: int = 3
    width: int = 24
    # Cells with the highest objectness that are matched to objects.
    proposals: int = key(24, affects="numbers", training_only=True)
    # Objects of one image that the fixed-shape targets have room for.
    max_objects: int = 16
    # Detections of one image below this score are dropped.
    score_threshold: float = 0.05
    nms_iou: float = 0.5


def interface(config: Any) -> ModelInterface:
    """No question beside the image; boxes, many of them."""
    return ModelInterface("nothing", ("box",), many=True)


def build(config: Any) -> Detector:
    """Network of a resolved configuration. Raises ConfigError for a canvas that cells of 16 pixels do not divide."""
    model, size = config.model, config.data.img_size
    if size % 16:
        raise ConfigError(f"data.img_size={size} is no multiple of 16; use {max(1, round(size / 16)) * 16}")
    from test_detector.network import Detector

    return Detector(
        classes=model.classes,
        width=model.width,
        grid=size // 16,
        proposals=model.proposals,
        max_objects=model.max_objects,
        score_threshold=model.score_threshold,
        nms_iou=model.nms_iou,
    )
