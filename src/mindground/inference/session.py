"""The names of segment-anything's predictor, for programs that were written for it.

    predictor = SamPredictor(Predictor.load("sam_vit_b.ckpt"))
    predictor.set_image(image)
    masks, scores, logits = predictor.predict(point_coords=np.array([[420, 310]]), point_labels=np.array([1]))

`Predictor.open` gives the same answers with less ceremony.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mindground.errors import DataError, ImageError

if TYPE_CHECKING:
    from mindground.inference.predictor import Predictor

__all__ = ["NoImageError", "SamPredictor"]

_FORMATS = ("RGB", "BGR")
# Names of segment-anything's predictor -> what to use here.
_RENAMED = {
    "predict_torch": "call predict_batch, whose coordinates are pixels of the image and whose arrays are NumPy's",
    "set_torch_image": "call set_image with the image itself; it is resized and normalised here",
    "transform": "coordinates are pixels of the image and need no transform; input_size says the resized size",
    "device": "the device is chosen in Predictor.load(path, device=...)",
    "features": "call get_image_embedding()",
    "model": "the network is predictor.model of the Predictor that was given",
}


class NoImageError(DataError, RuntimeError):
    """A prompt before an image; a RuntimeError as well, which programs for segment-anything catch."""


class SamPredictor:
    """One image at a time, and prompts about it.

    Coordinates are pixels of the original image everywhere; `predict_batch`, too, takes them as they are.

    Args:
        predictor: with a network that answers prompts.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self._session: Any = None

    @property
    def is_image_set(self) -> bool:
        """Whether prompts can be asked."""
        return self._session is not None

    @property
    def original_size(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return self._opened().size

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the resized image in the network's input."""
        return self._opened().low_size

    def set_image(self, image: Any, image_format: str = "RGB") -> None:
        """Encode an image (H, W, 3) uint8, or anything else that `Predictor.open` takes.

        Args:
            image_format: RGB, or BGR for arrays of OpenCV.

        Raises:
            ImageError: not an image, or an unknown format.
        """
        if image_format not in _FORMATS:
            raise ImageError(f"image_format={image_format!r}; choose RGB or BGR")
        self.reset_image()
        self._session = self.predictor.open(image, bgr=image_format == "BGR")

    def reset_image(self) -> None:
        """Forget the image."""
        self._session = None

    def get_image_embedding(self) -> np.ndarray:
        """(1, C, g, g) float32. Raises NoImageError."""
        return self._opened().embedding

    def predict(
        self,
        point_coords: np.ndarray | None = None,
        point_labels: np.ndarray | None = None,
        box: np.ndarray | None = None,
        mask_input: np.ndarray | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Masks of one prompt.

        Args:
            point_coords: (N, 2) xy.
            point_labels: (N,), 1 belongs to the object, 0 does not; needed with points.
            box: (4,) xyxy.
            mask_input: (1, 4g, 4g), the third result of an earlier call (one of its masks).
            multimask_output: three masks instead of one.
            return_logits: numbers instead of True and False.

        Returns:
            masks (C, H, W), expected IoU (C,), and low-resolution logits (C, 4g, 4g).

        Raises:
            NoImageError: there is no image.
            DataError: see `SamSession.predict`.
        """
        _need_labels(point_coords, point_labels)
        points = None if point_coords is None else np.asarray(point_coords)[None]
        labels = None if point_labels is None else np.asarray(point_labels)[None]
        boxes = None if box is None else np.asarray(box).reshape(1, -1)
        mask = None if mask_input is None else np.asarray(mask_input)[None]
        masks, expected, low = self.predict_batch(points, labels, boxes, mask, multimask_output, return_logits)
        return masks[0], expected[0], low[0]

    def predict_batch(
        self,
        point_coords: np.ndarray | None,
        point_labels: np.ndarray | None,
        boxes: np.ndarray | None = None,
        mask_input: np.ndarray | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Masks of P prompts about the image: segment-anything's `predict_torch`.

        Its coordinates must be brought to the network's input first; these are pixels of the image.

        Args:
            point_coords: (P, N, 2), point_labels: (P, N), boxes: (P, 4), mask_input: (P, 1, 4g, 4g); any may be None.
            multimask_output, return_logits: see `predict`.

        Returns:
            masks (P, C, H, W), expected IoU (P, C), low-resolution logits (P, C, 4g, 4g).

        Raises:
            NoImageError: there is no image.
            DataError: see `SamSession.predict`.
        """
        session = self._opened()
        _need_labels(point_coords, point_labels)
        low, expected = session.predict(point_coords, point_labels, boxes, mask_input, multimask_output)
        shape = (*low.shape[:2], *session.size)
        masks = np.empty(shape, np.float32 if return_logits else bool)
        for index, own in enumerate(low):
            native = session.upscale(own)
            masks[index] = native if return_logits else native > 0
        return masks, expected, low

    def forward(
        self, batched_input: Sequence[Mapping[str, Any]], multimask_output: bool
    ) -> list[dict[str, np.ndarray]]:
        """Images with their prompts, one dictionary each; images may differ in size.

        Args:
            batched_input: `image` (anything that `set_image` takes) and any of `point_coords` with `point_labels`,
                `boxes`, `mask_inputs`, as `predict_batch` takes them.

        Returns:
            for every image `masks` (P, C, H, W) of True and False, `iou_predictions` (P, C) and `low_res_logits`.

        Raises:
            DataError: an entry without an image, or a key that means nothing.
        """
        known = {"image", "original_size", "point_coords", "point_labels", "boxes", "mask_inputs"}
        results = []
        for number, entry in enumerate(batched_input):
            unknown = sorted(set(entry) - known)
            if unknown or "image" not in entry:
                said = f"has the key {unknown[0]!r}" if unknown else "has no image"
                raise DataError(f"entry {number} of the batch {said}; its keys may be {', '.join(sorted(known))}")
            self.set_image(entry["image"])
            points, labels = entry.get("point_coords"), entry.get("point_labels")
            found = self.predict_batch(points, labels, entry.get("boxes"), entry.get("mask_inputs"), multimask_output)
            results.append(dict(zip(("masks", "iou_predictions", "low_res_logits"), found, strict=True)))
        self.reset_image()
        return results

    def __getattr__(self, name: str) -> Any:
        if name in _RENAMED:
            raise AttributeError(f"SamPredictor has no {name}: {_RENAMED[name]}")
        raise AttributeError(f"SamPredictor has no {name}")

    def _opened(self) -> Any:
        if self._session is None:
            raise NoImageError("there is no image yet: call set_image(image) before asking for masks or the embedding")
        return self._session


def _need_labels(points: Any, labels: Any) -> None:
    """As segment-anything: points come with labels."""
    if points is not None and labels is None:
        raise DataError("point_labels must come with point_coords: 1 belongs to the object, 0 does not")
