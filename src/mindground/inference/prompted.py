"""The same points and boxes for every image: a promptable network that is used like one without sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mindground.errors import DataError
from mindground.structures import Prediction
from mindground.visualize.caption import plain_caption

if TYPE_CHECKING:
    from mindground.config import Config
    from mindground.inference.predictor import Predictor
    from mindground.visualize.caption import Caption

__all__ = ["FixedPrompts", "PromptedPredictor"]


@dataclass(frozen=True)
class FixedPrompts:
    """What is asked about an image.

    Attributes:
        points: (N, 2) xy in pixels of the image, all of one prompt, or None.
        labels: (N,) 1 or 0.
        boxes: (P, 4) xyxy in pixels of the image, or None; beside points there is one.
        multimask: three masks a prompt instead of one.
    """

    points: np.ndarray | None = None
    labels: np.ndarray | None = None
    boxes: np.ndarray | None = None
    multimask: bool = False


class PromptedPredictor:
    """Answers every image with the masks of the same prompts; takes the place of a `Predictor`.

    Args:
        predictor: with a network that answers prompts.
        prompts: what is asked.

    Raises:
        DataError: the network answers none.
    """

    asks_expression = False
    gives_masks = True
    gives_scores = True
    gives_probability = False
    categories: Mapping[int, str] = {}

    def __init__(self, predictor: Predictor, prompts: FixedPrompts) -> None:
        if not getattr(predictor, "asks_prompt", False):
            raise DataError(f"{predictor.name or 'the network'} answers no points or boxes; take a SAM checkpoint")
        self.predictor, self.prompts = predictor, prompts

    @property
    def name(self) -> str:
        """Of the model, for results."""
        return self.predictor.name

    @property
    def config(self) -> Config | None:
        """The network's."""
        return self.predictor.config

    def unknown_words(self, sentence: str) -> list[str]:
        """There are no sentences."""
        return []

    def caption(self, prediction: Prediction, min_score: float | None = None) -> Caption:
        """As `Predictor.caption`."""
        return plain_caption(prediction, min_score)

    def __call__(
        self,
        image: Any,
        text: Any = None,
        min_score: float = 0.0,
        *,
        bgr: bool = False,
        bands: Sequence[int] | None = None,
    ) -> Prediction:
        """Masks of the prompts, those of one prompt together, the best first.

        Raises:
            ImageError: not an image.
            DataError: a sentence, or a prompt outside the image.
        """
        if text is not None:
            raise DataError("points and boxes are the question; leave the sentence out")
        asked = self.prompts
        with self.predictor.open(image, bgr=bgr, bands=bands) as session:
            found: Prediction = session(asked.points, asked.labels, boxes=asked.boxes, multimask=asked.multimask)
        return found.at_least(min_score)
