"""What a predictor answers: a `Prediction` that knows its image, and so draws, saves and converts itself."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from mindground.errors import DataError, GeoError, printable
from mindground.files.atomic import write_json
from mindground.structures import Prediction

__all__ = ["FoundPrediction", "found_in"]


class FoundPrediction(Prediction):
    """A prediction and where it was made.

    Attributes:
        source: the path of the image, its pixels (H, W, 3) uint8 RGB, or None.
        bands: as `Predictor.__call__`, of a path.
    """

    source: Any = None
    bands: Any = None

    def select(self, indexes: np.ndarray) -> FoundPrediction:
        """As `Prediction.select`; the image stays."""
        return found_in(super().select(indexes), self.source, self.bands)

    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB, read again where the image is a file. Raises ImageError, or DataError without one."""
        if self.source is None:
            raise DataError("this prediction does not know its image; draw it with mindground.visualize.drawing.draw")
        if isinstance(self.source, (str, Path)):
            from mindground.files.images import read_image

            return read_image(self.source, bands=self.bands)
        return np.asarray(self.source)

    def plot(self, *, style: str = "frame", width: int | None = None) -> np.ndarray:
        """A figure, (H', W', 3) uint8 RGB, with the sentence below; `style` is one of `visualize.drawing.STYLES`."""
        from mindground.visualize.drawing import STYLES, draw

        if style not in STYLES:
            raise DataError(f"style={style!r} is none of {', '.join(STYLES)}")
        return draw(self.pixels(), self, width=width, palette=STYLES[style])

    def save(self, path: str | Path, *, style: str = "frame") -> Path:
        """Write the prediction by the ending of the path: a figure (.png), COCO records (.json), or GeoJSON (.geojson).

        Raises:
            DataError: another ending. GeoError: GeoJSON of an image without georeference. WriteError.
        """
        end = os.path.splitext(path)[1].lower()
        if end == ".png":
            from mindground.visualize.drawing import save_png

            return save_png(Path(path), self.plot(style=style))
        if end == ".json":
            return write_json(path, self.to_coco())
        if end == ".geojson":
            from mindground.geo.geojson import write_geojson

            return write_geojson(path, self.to_geojson())
        raise DataError(f"{printable(path, 300)}: choose .png (figure), .json (COCO records) or .geojson")

    def to_geojson(self, *, geometry: str = "mask") -> dict[str, Any]:
        """A GeoJSON FeatureCollection in EPSG:4326; `geometry` as `geo.geojson.to_geojson`.

        Raises:
            GeoError: the image is no file with a georeference, or the extra `geo` is not installed.
        """
        from mindground.files.rasters import is_geotiff, read_geotiff
        from mindground.geo.geojson import to_geojson

        if not isinstance(self.source, (str, Path)) or not is_geotiff(self.source):
            raise GeoError("the image of this prediction is no GeoTIFF, so its pixels have no place on earth")
        raster = read_geotiff(self.source, self.bands)
        return to_geojson([self], raster, image=printable(Path(self.source).name), geometry=geometry)

    def to_supervision(self) -> Any:
        """As `supervision.Detections`, with the sentence in `data`. Raises DataError where it is not installed."""
        return to_supervision(self)

    def _repr_png_(self) -> bytes | None:
        """The figure that a notebook shows."""
        if self.source is None:
            return None
        from PIL import Image

        stream = io.BytesIO()
        Image.fromarray(self.plot()).save(stream, format="PNG")
        return stream.getvalue()


def found_in(prediction: Prediction, source: Any, bands: Any = None) -> FoundPrediction:
    """The same prediction with its image."""
    made = FoundPrediction(
        prediction.size,
        prediction.boxes_xyxy,
        prediction.scores,
        prediction.labels,
        prediction.masks,
        prediction.expression,
        prediction.extras,
        prediction.mask_scores,
        prediction.probability,
    )
    made.source, made.bands = source, bands
    return made


def to_supervision(prediction: Prediction) -> Any:
    """A prediction as `supervision.Detections`: boxes, masks, scores, labels, and the sentence under `data["text"]`.

    Raises:
        DataError: the package supervision is not installed.
    """
    try:
        import supervision
    except ImportError as error:
        raise DataError("to_supervision needs the package supervision: pip install supervision") from error
    count = len(prediction)
    return supervision.Detections(
        xyxy=prediction.boxes_xyxy.astype(np.float32).reshape(-1, 4),
        mask=prediction.mask_arrays().astype(bool) if prediction.masks else None,
        confidence=prediction.scores,
        class_id=prediction.labels if prediction.labels is not None else np.zeros(count, np.int64),
        data={"text": np.asarray([prediction.expression or ""] * count)},
    )
