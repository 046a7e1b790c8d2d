"""In which forms answers are written: masks, probabilities, counts of classes, figures."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mindground.errors import printable
from mindground.files.atomic import atomic_file
from mindground.files.rasters import GeoImage
from mindground.geo.geotiff import write_geotiff
from mindground.structures import Prediction, decode_segmentation, mask_parts, mask_polygons
from mindground.visualize.drawing import Palette

__all__ = ["CLASS_TEMPLATE", "MASK_FORMS", "MIN_AREA", "PROBABILITY_FORMS", "Forms", "written"]

_LOG = logging.getLogger("mindground")

MASK_FORMS = ("rle", "polygon", "png")
PROBABILITY_FORMS = ("png8", "png16", "geotiff")
CLASS_TEMPLATE = "{class} in the image"
MIN_AREA = 16
"""Pixels of the smallest part of a mask that counts as an object."""
_PARTS = 1000  # listed of one mask; a mask of noise has any number


@dataclass(frozen=True)
class Forms:
    """What is written of every answer beside figures and boxes.

    Attributes:
        masks: of `MASK_FORMS`. `segmentation` in `predictions.json` is run lengths ("rle") or polygons ("polygon"), not
            both; without either it is left out. "png" writes a file of 0 and 255 for every sentence.
        probability: one of `PROBABILITY_FORMS`: a file for every sentence; empty for none.
        classes: sentence -> name of the class that it asks for. Given, `predictions.json` counts each of them.
        min_area: parts of a mask with fewer pixels are not counted.
        palette: style of the figures.
        geometry: of the features in GeoJSON, one of `geo.geojson.GEOMETRIES`.
    """

    masks: tuple[str, ...] = ("rle",)
    probability: str = ""
    classes: Mapping[str, str] = field(default_factory=dict)
    min_area: int = MIN_AREA
    palette: Palette = field(default_factory=Palette)
    geometry: str = "mask"

    def __post_init__(self) -> None:
        if unknown := [form for form in self.masks if form not in MASK_FORMS]:
            raise ValueError(f"masks={unknown[0]!r} is none of {', '.join(MASK_FORMS)}")
        if self.probability and self.probability not in PROBABILITY_FORMS:
            raise ValueError(f"probability={self.probability!r} is none of {', '.join(PROBABILITY_FORMS)}")
        if {"rle", "polygon"} <= set(self.masks):
            raise ValueError("masks: one segmentation is either rle or polygon; leave one of them out")

    def file_names(self, name: str, number: int, asked: bool) -> dict[str, str]:
        """Key of a query in `predictions.json` -> name of the file that is written for it.

        Args:
            name: of the image's figure, without extension.
            number: of the sentence, from 1.
            asked: False where the network reads no sentence, and there is one answer an image.
        """
        ending = f"-{number}" if asked else ""
        names = {"mask_file": f"{name}-mask{ending}.png"} if "png" in self.masks else {}
        if self.probability:
            suffix = "tif" if self.probability == "geotiff" else "png"
            names["probability_file"] = f"{name}-prob{ending}.{suffix}"
        return names

    def write(self, folder: Path, names: Mapping[str, str], found: Prediction, raster: GeoImage | None) -> list[Path]:
        """Write the files of one answer. Raises WriteError, and GeoError where the extra `geo` is missing."""
        files = []
        if "mask_file" in names:
            files.append(_save(folder / names["mask_file"], united_mask(found) * np.uint8(255)))
        if "probability_file" in names and found.probability is not None:
            target = folder / names["probability_file"]
            if self.probability == "geotiff":
                files.append(write_geotiff(target, found.probability.original(), raster))
            else:
                files.append(_save(target, found.probability.scaled(65535 if self.probability == "png16" else 255)))
        return files

    def records(self, found: Prediction, image_id: int) -> list[dict[str, Any]]:
        """`Prediction.to_coco` with `segmentation` in the form that is asked for.

        What polygons cannot say (an empty mask, or one of very many corners) stays as run lengths. A network that
        writes its answer token by token adds what it wrote, see `written`.
        """
        records = [{**record, **written(found)} for record in found.to_coco(image_id)]
        if not found.masks or "rle" in self.masks:
            return records
        for record, segmentation in zip(records, found.masks, strict=True):
            if "polygon" not in self.masks:
                del record["segmentation"]
                continue
            polygons = record.get("contour") or mask_polygons(decode_segmentation(segmentation, found.size))
            if polygons is not None:
                record["segmentation"] = polygons
            elif record["area"]:
                _LOG.warning("%s: the outline of a mask is too long for polygons; it is written as RLE", _named(found))
        return records

    def count(self, found: Prediction, image_id: int) -> dict[str, Any]:
        """What was found of one class in one image: its parts, the largest first, and their number.

        Without masks the number is null: a box alone does not say whether anything is there.
        """
        text = found.expression or ""
        entry: dict[str, Any] = {"image_id": image_id, "name": self.classes[text], "text": text, "count": None}
        if not found.masks and len(found):
            return entry
        mask = united_mask(found)
        parts = mask_parts(mask, self.min_area)
        entry |= {"count": len(parts), "area": int(mask.sum())}
        if found.mask_scores is not None:
            entry["mask_score"] = round(float(max(found.mask_scores, default=0.0)), 6)
        entry["parts"] = [{"bbox": _xywh(part.box_xyxy), "area": part.area} for part in parts[:_PARTS]]
        return entry


def written(found: Prediction) -> dict[str, Any]:
    """What a network wrote token by token: nothing for other networks.

    `contour`, the polygon before it became a mask, as COCO has polygons (empty below three vertices); of every part
    (box, contour) `token_probabilities` and, under `token_scores`, their product.
    """
    entry: dict[str, Any] = {}
    if "polygon" in found.extras:
        points = np.asarray(found.extras["polygon"], np.float64)
        entry["contour"] = [np.round(points, 2).reshape(-1).tolist()] if len(points) >= 3 else []
    parts = found.extras.get("token_probabilities")
    if parts:
        values = {name: np.asarray(part, np.float64) for name, part in parts.items()}
        entry["token_probabilities"] = {name: np.round(part, 6).tolist() for name, part in values.items()}
        entry["token_scores"] = {name: round(float(part.prod()), 6) for name, part in values.items()}
    return entry


def united_mask(found: Prediction) -> np.ndarray:
    """(H, W) uint8: where any mask of a prediction is 1."""
    united = np.zeros(found.size, np.uint8)
    for segmentation in found.masks:
        united |= decode_segmentation(segmentation, found.size)
    return united


def _xywh(box: np.ndarray) -> list[int]:
    left, top, right, bottom = (int(edge) for edge in box)
    return [left, top, right - left, bottom - top]


def _named(found: Prediction) -> str:
    return repr(printable(found.expression, 60)) if found.expression else "an image"


def _save(path: Path, pixels: np.ndarray) -> Path:
    """Grey PNG of 8 or 16 bits."""
    with atomic_file(path) as stream:
        Image.fromarray(pixels).save(stream, format="PNG")
    return path
