"""Options of the everything mode, under the names and with the defaults of the published mask generator."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from mindground.errors import ConfigError, shown

__all__ = ["MOST_LAYERS", "OUTPUT_MODES", "EverythingOptions"]

OUTPUT_MODES = ("binary_mask", "uncompressed_rle", "coco_rle")
MOST_LAYERS = 6
"""Layer n cuts an image into 4^n crops, each of which is encoded."""
_MOST_SIDE = 1024


@dataclass(frozen=True)
class EverythingOptions:
    """How an image is covered with points, and which of their masks are kept.

    Attributes:
        points_per_side: points along each side of the image; None where `point_grids` says them.
        points_per_batch: prompts that the mask decoder answers at once.
        pred_iou_thresh: masks that the network rates no better than this are left out; 0 keeps all.
        stability_score_thresh: masks that are less stable are left out. Stability is the share of the pixels above
            -`stability_score_offset` that are above +`stability_score_offset`, too; 0 keeps all.
        stability_score_offset: distance of both thresholds from the mask's own, 0.
        box_nms_thresh: IoU of boxes above which the worse of two masks of one crop is left out.
        crop_n_layers: layer i = 1.. runs on 4^i crops of the image as well.
        crop_nms_thresh: IoU of boxes above which the one of two masks that is from the larger crop is left out.
        crop_overlap_ratio: overlap of the crops of layer 1, as a share of the image's short side.
        crop_n_points_downscale_factor: layer i has `points_per_side` divided by the i-th power of this.
        point_grids: for every layer points (N, 2) as shares of width and height, instead of `points_per_side`.
        min_mask_region_area: holes and islands of fewer pixels are removed from the masks; 0 removes none.
        output_mode: `binary_mask` (memory grows with the number of masks), `uncompressed_rle` or `coco_rle`.
    """

    points_per_side: int | None = 32
    points_per_batch: int = 64
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    point_grids: Sequence[np.ndarray] | None = None
    min_mask_region_area: int = 0
    output_mode: str = "binary_mask"

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> EverythingOptions:
        """The options of that names; an unknown name is answered with the nearest. Raises ConfigError."""
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, 1)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
                raise ConfigError(f"everything mode has no option {shown(name)}; {hint}")
        return cls(**options)

    def __post_init__(self) -> None:
        """Raises ConfigError, with the name of the option."""
        if (self.points_per_side is None) == (self.point_grids is None):
            raise ConfigError("give points_per_side or point_grids, and None for the other one")
        if self.points_per_side is not None:
            self._whole("points_per_side", 1, _MOST_SIDE)
        self._whole("points_per_batch", 1)
        self._whole("crop_n_layers", 0, MOST_LAYERS)
        self._whole("crop_n_points_downscale_factor", 1)
        self._whole("min_mask_region_area", 0)
        self._number("pred_iou_thresh")
        for name in ("stability_score_thresh", "box_nms_thresh", "crop_nms_thresh", "crop_overlap_ratio"):
            self._number(name, 0, 1)
        self._number("stability_score_offset", 0)
        if self.output_mode not in OUTPUT_MODES:
            raise ConfigError(f"output_mode {shown(self.output_mode)} is none of {', '.join(OUTPUT_MODES)}")
        if self.point_grids is not None:
            object.__setattr__(self, "point_grids", self._checked_grids(self.point_grids))

    def _whole(self, name: str, low: int, high: int | None = None) -> None:
        value = getattr(self, name)
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not whole or value < low or (high is not None and value > high):
            limits = f"from {low} to {high}" if high is not None else f"of at least {low}"
            raise ConfigError(f"{name} is {shown(value)}; give a whole number {limits}")

    def _number(self, name: str, low: float = -math.inf, high: float = math.inf) -> None:
        value = getattr(self, name)
        number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not low <= value <= high:
            limits = "" if low == -math.inf else f" from {low:g}" + ("" if high == math.inf else f" to {high:g}")
            raise ConfigError(f"{name} is {shown(value)}; give a finite number{limits}")

    def _checked_grids(self, grids: Sequence[np.ndarray]) -> list[np.ndarray]:
        try:
            made = [np.asarray(grid, np.float64).reshape(-1, 2) for grid in grids]
        except (TypeError, ValueError) as error:
            raise ConfigError("point_grids must hold points (N, 2) for every layer of crops") from error
        if len(made) != self.crop_n_layers + 1:
            raise ConfigError(
                f"point_grids has {len(made)} grids; crop_n_layers={self.crop_n_layers} needs {self.crop_n_layers + 1}"
            )
        for grid in made:
            if not ((grid >= 0) & (grid <= 1)).all():
                raise ConfigError("point_grids holds points outside 0 to 1; they are shares of width and height")
        return made
