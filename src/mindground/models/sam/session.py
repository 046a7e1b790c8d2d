"""One image, many prompts: the image is encoded once, then points, boxes and masks are asked about it.

    with predictor.open("scene.jpg") as session:
        session(points=[(420, 310)])                      -> Prediction of up to three masks
        session(box=(10, 20, 200, 180), multimask=False)  -> Prediction of one mask
        session.everything()

All coordinates are pixels of the original image, x first; (0, 0) is the corner of its first pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from mindground.errors import DataError
from mindground.models.sam.ask import MOST_PROMPTS, ask, prompt_tokens
from mindground.models.sam.checks import checked_boxes, checked_labels, checked_mask, checked_points
from mindground.models.sam.upscale import upscaled
from mindground.runtime.threads import one_at_a_time
from mindground.structures import Prediction, encode_mask
from mindground.structures.masks import mask_box

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
        image: (H, W, 3) uint8 RGB; None where only its embedding and its size are known.
        embedding: what the encoder gave for this image earlier; None = it is computed now.
        size: (height, width) of the image, where it is not given itself.

    Attributes:
        image: as given.
        size: (height, width) of the image in pixels.
        low_size: (height, width) of the resized image on the canvas, before padding.
        canvas: side of the canvas in pixels.
        embedding: (1, C, g, g) float32, what the image encoder gives.

    Raises:
        DataError: an embedding of another shape.
    """

    def __init__(
        self,
        model: Sam,
        run: Run,
        transform: Any,
        image: np.ndarray | None,
        embedding: np.ndarray | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        self.model, self.image = model, image
        self._run, self._transform = run, transform
        if image is None:
            if embedding is None or size is None:
                raise DataError("there is neither an image nor an embedding with the size of its image; give one")
            geometry = transform.geometry_of(size)
        elif embedding is None:
            example = transform.from_image(image)
            geometry = example.geometry
        else:
            geometry = transform.geometry_of(image.shape[:2])
        self.size, self.low_size = geometry.original_size, geometry.resized_size
        self.canvas = model.input_size
        self._scale = np.asarray(geometry.scale, np.float64)
        self._offset = np.asarray(geometry.offset, np.float64)
        if embedding is None:
            with one_at_a_time():
                (found,) = run.features("image", {"image": example.arrays["image"][None]})
                embedding = found.asnumpy()
        wanted = (1, model.mask_decoder.width, model.grid, model.grid)
        if np.shape(embedding) != wanted:
            raise DataError(
                f"an embedding of the shape {np.shape(embedding)} was given, and this network has {wanted}; it belongs "
                "to another network or input size, so encode the image again"
            )
        self.embedding = np.ascontiguousarray(embedding, np.float32)

    def open(self, image: np.ndarray) -> SamSession:
        """A session about another image (H, W, 3) uint8 RGB (a crop, for instance) with the same network."""
        return SamSession(self.model, self._run, self._transform, image)

    # ---- arrays --------------------------------------------------------------------------------------------------

    def predict(
        self,
        points: Any = None,
        labels: Any = None,
        boxes: Any = None,
        mask_input: Any = None,
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

        Raises:
            DataError: no prompt, prompts that do not fit together, or one outside the image.
        """
        places, kinds, mask = self._checked(points, labels, boxes, mask_input)
        with one_at_a_time():
            logits, expected = ask(self._run, self.embedding, places, kinds, mask)
        kept = slice(1, None) if multimask else slice(0, 1)
        return logits[:, kept], expected[:, kept]

    def upscale(self, logits: np.ndarray) -> np.ndarray:
        """(n, 4g, 4g) logits -> (n, height, width) float32 logits of the original pixels."""
        return upscaled(logits, self.canvas, self.low_size, self.size)

    def _checked(
        self, points: Any, labels: Any, boxes: Any, mask_input: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Tokens on the canvas and the mask prompt."""
        if points is None and labels is not None:
            raise DataError("labels were given without points; give a point for every label")
        if points is None and boxes is None and mask_input is None:
            raise DataError("there is no prompt: give points, a box or an earlier mask, or call everything()")
        counts: dict[str, int] = {}
        at = marks = corners = None
        if points is not None:
            own = checked_points(points, self.size)
            marks = checked_labels(labels, own)
            at = own * self._scale + self._offset
            counts["points"] = len(own)
        if boxes is not None:
            given = checked_boxes(boxes, self.size)
            corners = given * np.tile(self._scale, 2) + np.tile(self._offset, 2)
            counts["boxes"] = len(given)
        if len(set(counts.values())) > 1:
            raise DataError(
                f"points are of {counts['points']} prompts and boxes of {counts['boxes']}; give both for every prompt"
            )
        count = next(iter(counts.values()), 1 if np.ndim(mask_input) < 4 else len(mask_input))
        if not counts:
            at, marks = np.zeros((count, 0, 2)), np.zeros((count, 0), np.int32)
        mask = None if mask_input is None else checked_mask(mask_input, count, 4 * self.model.grid)
        places, kinds = prompt_tokens(at, marks, corners)
        return places, kinds, mask

    # ---- predictions ---------------------------------------------------------------------------------------------

    def __call__(
        self,
        points: Any = None,
        labels: Any = None,
        *,
        box: Any = None,
        boxes: Any = None,
        mask: Any = None,
        multimask: bool = True,
        logits: bool = False,
    ) -> Prediction:
        """Masks of one prompt (points, a box, both, with the logits of an earlier answer), or of several.

        Scores are the network's own estimates of the IoU, kept within 0 and 1, as are `extras["expected_iou"]` (n,) as
        they come. Masks of one prompt stand together, the best first; `extras["prompt"]` (n,) says whose a mask is.
        After a single prompt, and with `logits`, `extras["low_res"]` (n, 4g, 4g) can be the next `mask`.

        Args:
            points: (N, 2) xy of one prompt, or (P, N, 2).
            labels: (N,) or (P, N): 1 belongs to the object, 0 does not; all 1 where they are left out.
            box, boxes: (4,) or (P, 4) xyxy.
            mask: (4g, 4g) or (P, 1, 4g, 4g) logits of an earlier answer.
            multimask: three masks a prompt instead of one.
            logits: keep the logits of the original pixels in `extras["logits"]` (n, height, width).

        Raises:
            DataError: see `predict`.
        """
        if isinstance(points, str):
            raise DataError(
                "a sentence was asked of a network that reads none; mindground.inference.grounded.GroundedPredictor "
                "puts a network that reads sentences before it"
            )
        if box is not None and boxes is not None:
            raise DataError("box and boxes were both given; give all of them as boxes")
        boxes = box if boxes is None else boxes
        found = list(self._answers(points, labels, boxes, mask, multimask, logits))
        count = len({item["prompt"] for item in found})
        expected = np.asarray([item["score"] for item in found], np.float32)
        extras: dict[str, Any] = {
            "boxes_from_masks": True,
            "expected_iou": expected,
            "prompt": np.asarray([item["prompt"] for item in found]),
        }
        if count == 1 or logits:
            extras["low_res"] = np.stack([item["low"] for item in found])
        if logits:
            extras["logits"] = np.stack([item["logits"] for item in found])
        return Prediction(
            self.size,
            np.stack([item["box"] for item in found]),
            np.clip(expected, 0.0, 1.0),
            masks=tuple(item["mask"] for item in found),
            extras=extras,
        )

    def _answers(
        self, points: Any, labels: Any, boxes: Any, mask: Any, multimask: bool, logits: bool
    ) -> Iterator[dict[str, Any]]:
        """One mask after the other: only so many as run together exist at the image's size or as logits."""
        places, kinds, given = self._checked(points, labels, boxes, mask)
        for start in range(0, len(kinds), MOST_PROMPTS):
            part = slice(start, start + MOST_PROMPTS)
            with one_at_a_time():
                low, expected = ask(
                    self._run, self.embedding, places[part], kinds[part], None if given is None else given[part]
                )
            kept = slice(1, None) if multimask else slice(0, 1)
            low, expected = low[:, kept], expected[:, kept]
            for prompt in range(len(low)):
                for choice in np.argsort(-expected[prompt], kind="stable"):
                    own = low[prompt, choice]
                    native = self.upscale(own[None])[0]
                    inside = native > 0
                    yield {
                        "prompt": start + prompt,
                        "score": float(expected[prompt, choice]),
                        "low": own.copy() if logits or len(kinds) == 1 else None,
                        "logits": native if logits else None,
                        "mask": encode_mask(inside),
                        "box": mask_box(inside),
                    }

    def everything(self, **options: Any) -> Any:
        """Masks of all that is in the image; see `models.sam.everything.generate` for the options."""
        from mindground.models.sam.everything import generate

        return generate(self, self.image, options)

    def __enter__(self) -> SamSession:
        return self

    def __exit__(self, *reason: object) -> None:
        return None
