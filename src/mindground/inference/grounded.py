"""Language meets clicks: a grounding network finds what a sentence names, and a promptable network outlines it.

p = GroundedPredictor(Predictor.load("vglaw.ckpt"), Predictor.load("sam.ckpt"))
p("scene.jpg", "the ship left of the pier")           -> Prediction, its mask from the second network
with p.open("scene.jpg") as session:                  # the second network encodes the image once
    session("the ship left of the pier"); session(points=[(420, 310)]); session.everything()
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mindground.errors import DataError, ImageError
from mindground.inference.images import as_rgb
from mindground.structures import (
    Geometry,
    Prediction,
    ProbabilityMap,
    clip_boxes,
    encode_mask,
    mask_box,
)

if TYPE_CHECKING:
    from mindground.config import Config
    from mindground.visualize.caption import Caption

__all__ = ["GroundedPredictor", "GroundedSession", "surest_point"]


class _Grounder(Protocol):
    """What finds the referent: a `Predictor` of any family that reads sentences."""

    asks_expression: bool
    gives_probability: bool
    gives_scores: bool

    def __call__(self, image: Any, text: Any = None, min_score: float = 0.0, **options: Any) -> Any: ...

    def unknown_words(self, sentence: str) -> list[str]: ...


class GroundedPredictor:
    """Answers sentences with masks of a promptable network. It is used like a `Predictor`.

    The box of the grounding network, and the point inside it that it holds for the surest where it gives a probability
    of pixels, are the prompt. The mask is the promptable network's, the box is that of the mask, and the score is the
    grounding network's. What was asked stands in `extras`: `prompt_boxes` (N, 4), `prompt_points` (N, 2), nan where
    there was none, and `predicted_iou` (N,), how the promptable network rates its masks.

    Args:
        grounder: reads sentences.
        segmenter: answers prompts.
        point: prompt with the surest point as well, where there is one.

    Raises:
        DataError: one of them is of the other kind.
    """

    asks_expression = True
    asks_prompt = True
    gives_masks = True
    gives_probability = False

    def __init__(self, grounder: Any, segmenter: Any, *, point: bool = True) -> None:
        if not grounder.asks_expression:
            raise DataError(
                f"{grounder.name or 'the grounding network'} reads no sentence; take a checkpoint that does as the "
                "grounding network"
            )
        if not getattr(segmenter, "asks_prompt", False):
            raise DataError(
                f"{segmenter.name or 'the second network'} answers no prompts; take a SAM checkpoint beside the "
                "grounding network"
            )
        self.grounder, self.segmenter, self.point = grounder, segmenter, point

    @property
    def name(self) -> str:
        """Names of both, for results."""
        return f"{self.grounder.name} + {self.segmenter.name}"

    @property
    def config(self) -> Config | None:
        """The grounding network's."""
        config: Config | None = self.grounder.config
        return config

    @property
    def categories(self) -> Mapping[int, str]:
        """The grounding network's."""
        categories: Mapping[int, str] = self.grounder.categories
        return categories

    @property
    def gives_scores(self) -> bool:
        """Whether predictions carry a confidence."""
        return bool(self.grounder.gives_scores)

    def unknown_words(self, sentence: str) -> list[str]:
        """As `Predictor.unknown_words`."""
        return list(self.grounder.unknown_words(sentence))

    def caption(self, prediction: Prediction, min_score: float | None = None) -> Caption:
        """As `Predictor.caption`."""
        caption: Caption = self.grounder.caption(prediction, min_score)
        return caption

    def __call__(
        self,
        image: Any,
        text: str | Sequence[str] | None = None,
        min_score: float = 0.0,
        *,
        bgr: bool = False,
        bands: Sequence[int] | None = None,
    ) -> Any:
        """One sentence gives one prediction, a list a list in its order; see `Predictor.__call__`."""
        with self.open(image, bgr=bgr, bands=bands) as session:
            return session.ask(text, min_score)

    def open(self, image: Any, *, bgr: bool = False, bands: Sequence[int] | None = None) -> GroundedSession:
        """A session about one image, as `Predictor.__call__` takes it. Raises ImageError."""
        pixels = as_rgb(image, bgr=bgr, bands=bands)
        return GroundedSession(self, pixels)


class GroundedSession:
    """Sentences and prompts about one image; everything that the promptable network's session offers.

    Args:
        owner: both networks.
        image: (H, W, 3) uint8 RGB.

    Attributes:
        prompts: the promptable network's session, opened when it is first asked.
    """

    def __init__(self, owner: GroundedPredictor, image: np.ndarray) -> None:
        self._owner, self._image = owner, image
        self._prompts: Any = None

    @property
    def segmenter_name(self) -> str:
        """Of the promptable network, for messages."""
        return str(self._owner.segmenter.name) or "the promptable network"

    @property
    def prompts(self) -> Any:
        """The promptable network's session."""
        if self._prompts is None:
            self._prompts = self._owner.segmenter.open(self._image)
        return self._prompts

    def __call__(self, text: Any = None, labels: Any = None, *, min_score: float = 0.0, **prompt: Any) -> Any:
        """A sentence, several of them, or a prompt (`points`, `labels`, `box` and so on, as the session takes them).

        Raises:
            DataError: both, or neither.
        """
        sentence = isinstance(text, str)
        several = isinstance(text, (list, tuple)) and len(text) > 0 and all(isinstance(one, str) for one in text)
        if not (sentence or several):
            if text is not None and prompt.get("points") is not None:
                raise DataError("points are given twice; give them once")
            return self.prompts(**({"points": text} if text is not None else {}), **_given(labels=labels), **prompt)
        if prompt or labels is not None:
            raise DataError("a sentence and a prompt in one question; ask one of them")
        return self.ask(text, min_score)

    def ask(self, text: str | Sequence[str] | None, min_score: float = 0.0) -> Any:
        """What one sentence, or each of several, refers to."""
        grounder = self._owner.grounder
        one = text is None or isinstance(text, str)
        wanted = {"probability": True} if self._owner.point and grounder.gives_probability else {}
        found = grounder(self._image, text, min_score, **wanted)
        predictions = [found] if one else list(found)
        answers = [_outlined(self, prediction, self._owner.point) for prediction in predictions]
        return answers[0] if one else answers

    def everything(self, **options: Any) -> Any:
        """Masks of all that is in the image, as the promptable network's session gives them."""
        return self.prompts.everything(**options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self.prompts, name)

    def __enter__(self) -> GroundedSession:
        return self

    def __exit__(self, *reason: object) -> None:
        if self._prompts is not None:
            self._prompts.__exit__(*reason)


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def surest_point(probability: ProbabilityMap, box_xyxy: Iterable[float]) -> tuple[float, float] | None:
    """Pixel (x, y) inside a box (xyxy, original pixels) that most probably belongs to the mask.

    None where no pixel in the box belongs to it with a probability above 0.5, or the box covers no pixel. Of equally
    sure pixels it is the first in reading order.
    """
    geometry: Geometry = probability.geometry
    logits = geometry.map_to_original(probability.logits)
    left, top, right, bottom = clip_boxes(np.asarray(list(box_xyxy)), geometry.original_size)
    rows = slice(int(np.floor(top)), int(np.ceil(bottom)))
    columns = slice(int(np.floor(left)), int(np.ceil(right)))
    part = logits[rows, columns]
    if part.size == 0 or not part.max() > 0:
        return None
    y, x = np.unravel_index(int(part.argmax()), part.shape)
    return float(x + columns.start), float(y + rows.start)


def _outlined(session: GroundedSession, found: Prediction, point: bool) -> Prediction:
    """A prediction whose masks are the promptable network's."""
    boxes = clip_boxes(found.boxes_xyxy, found.size)
    made, masks = np.array(boxes), []
    points = np.full((len(found), 2), np.nan, np.float32)
    ratings, sure = np.zeros(len(found), np.float32), np.zeros(len(found), np.float32)
    for index, box in enumerate(boxes):
        if not (box[2] > box[0] and box[3] > box[1]):
            masks.append(encode_mask(np.zeros(found.size, np.uint8)))  # a network of masks alone has found nothing
            continue
        at = surest_point(found.probability, box) if point and found.probability is not None else None
        asked: dict[str, Any] = {"boxes": box[None]}
        if at is not None:
            points[index] = at
            asked |= {"points": np.asarray([[at]], np.float32), "labels": np.ones((1, 1), np.int32)}
        logits, rated = session.prompts.predict(**asked, multimask=False)
        if not (np.isfinite(logits).all() and np.isfinite(rated).all()):
            raise ImageError(
                f"the answer of {session.segmenter_name} holds numbers that are not finite; take another checkpoint, "
                "or float32"
            )
        whole = session.prompts.upscale(logits[0, :1])[0]
        mask = whole > 0
        ratings[index] = rated[0, 0]
        masks.append(encode_mask(mask))
        if mask.any():
            made[index] = mask_box(mask)
            sure[index] = float((1 / (1 + np.exp(-np.clip(whole[mask], -60, 60)))).mean())
    extras = {**found.extras, "prompt_boxes": boxes, "prompt_points": points, "predicted_iou": ratings}
    return Prediction(found.size, made, found.scores, found.labels, tuple(masks), found.expression, extras, sure)
