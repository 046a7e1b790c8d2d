"""One image, many prompts: the image is encoded once, then points, boxes and masks are asked about it.

    with predictor.open("scene.jpg") as session:
        session(points=[(420, 310)])                      -> Prediction of up to three masks
        session(box=(10, 20, 200, 180), multimask=False)  -> Prediction of one mask
        session.everything()

All coordinates are pixels of the original image, x first; (0, 0) is the corner of its first pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mindground.structures import Prediction

if TYPE_CHECKING:
    from mindground.models.base import Run
    from mindground.models.sam.network import Sam

__all__ = ["SamSession"]


class SamSession:
    """Questions about one image.

    Args:
        model: the network, in evaluation mode.
        run: calls its compiled pieces (`engine.forward.Runner`).
        transform: makes the network's input from an image.
        image: (H, W, 3) uint8 RGB.

    Attributes:
        image: as given.
        size: (height, width) of the image in pixels.
        low_size: (height, width) of the resized image on the canvas, before padding.
        embedding: (1, C, g, g) float32, what the image encoder gives.
    """

    image: np.ndarray
    size: tuple[int, int]
    low_size: tuple[int, int]
    embedding: np.ndarray

    def __init__(self, model: Sam, run: Run, transform: Any, image: np.ndarray) -> None:
        raise NotImplementedError

    def open(self, image: np.ndarray) -> SamSession:
        """A session about another image (H, W, 3) uint8 RGB (a crop, for instance) with the same network."""
        raise NotImplementedError

    def predict(
        self,
        points: np.ndarray | None = None,
        labels: np.ndarray | None = None,
        boxes: np.ndarray | None = None,
        mask_input: np.ndarray | None = None,
        multimask: bool = True,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Low-resolution logits of P prompts, which run in chunks of a fixed size.

        Args:
            points: (P, N, 2) xy in pixels of the original image, or None.
            labels: (P, N) with them: 1 belongs to the object, 0 does not, -1 is no point.
            boxes: (P, 4) xyxy in pixels of the original image, or None.
            mask_input: (P, 1, 4g, 4g) logits of an earlier answer, or None.
            multimask: three masks for each prompt instead of one.

        Returns:
            logits (P, C, 4g, 4g) and what the network expects their IoU to be (P, C), float32; C is 3 or 1.
        """
        raise NotImplementedError

    def upscale(self, logits: np.ndarray) -> np.ndarray:
        """(n, 4g, 4g) logits -> (n, height, width) float32 logits of the original pixels."""
        raise NotImplementedError

    def __call__(
        self,
        points: Sequence[Sequence[float]] | np.ndarray | None = None,
        labels: Sequence[int] | np.ndarray | None = None,
        *,
        box: Sequence[float] | np.ndarray | None = None,
        boxes: Sequence[Sequence[float]] | np.ndarray | None = None,
        mask: np.ndarray | None = None,
        multimask: bool = True,
        logits: bool = False,
    ) -> Prediction:
        """Masks of one prompt (points, a box, both, with the logits of an earlier answer) or of several boxes.

        Scores are the network's own estimates of the IoU; `extras["low_res"]` (n, 4g, 4g) can be the next `mask`.

        Args:
            points: (N, 2) xy.
            labels: (N,); all 1 where they are left out.
            box, boxes: (4,) or (P, 4) xyxy.
            mask: (4g, 4g) logits of an earlier answer.
            multimask: three masks a prompt, best first, instead of one.
            logits: keep the logits of the original pixels in `extras["logits"]` (n, height, width).
        """
        raise NotImplementedError

    def everything(self, **options: Any) -> Any:
        """Masks of all that is in the image; see `models.sam.everything.generate` for the options."""
        from mindground.models.sam.everything import generate

        return generate(self, self.image, options)

    def __enter__(self) -> SamSession:
        return self

    def __exit__(self, *reason: object) -> None:
        return None
