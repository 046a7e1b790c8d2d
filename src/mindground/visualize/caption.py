"""What a figure says in words: the sentence below the image, the legend, and the text beside every box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mindground.structures import Prediction

__all__ = ["Caption", "plain_caption"]


@dataclass(frozen=True)
class Caption:
    """The words of one figure, and which predictions it shows.

    Attributes:
        sentence: below the image, in bold.
        note: the numbers at the right end of the legend, where the prediction is drawn.
        legend: what the legend calls the prediction.
        truth_texts: a text beside each true box, or an empty tuple.
        prediction_texts: a text beside each box that is shown, in the order of `shown`, or an empty tuple.
        shown: indexes of the predictions to draw; None draws all.
    """

    sentence: str = ""
    note: str = ""
    legend: str = "prediction"
    truth_texts: tuple[str, ...] = ()
    prediction_texts: tuple[str, ...] = ()
    shown: tuple[int, ...] | None = None


def plain_caption(prediction: Prediction | None, min_score: float | None = None) -> Caption:
    """The words that need no truth and no class names: the sentence that was asked, the scores, how many were found.

    Args:
        prediction: None says nothing.
        min_score: predictions below it are not shown; None shows all.
    """
    if prediction is None:
        return Caption()
    shown = np.arange(len(prediction)) if min_score is None else np.flatnonzero(prediction.scores >= min_score)
    scores = prediction.scores[shown]
    note = "" if len(shown) == 1 else f"{len(shown)} found" if len(shown) else "nothing found"
    # A network without a confidence gives exactly 1 (structures.Prediction), which is not shown.
    measured = len(scores) == 1 and scores[0] < 1
    return Caption(
        sentence=prediction.expression or "",
        note=note,
        legend=f"prediction {scores[0]:.2f}" if measured else "prediction",
        prediction_texts=tuple(f"{score:.2f}" for score in scores) if len(scores) > 1 else (),
        shown=tuple(int(index) for index in shown),
    )
