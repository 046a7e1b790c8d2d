"""What a model can learn to answer from a training split: a head without truth would answer with noise."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mindground.models import model_interface

if TYPE_CHECKING:
    from mindground.config import Config
    from mindground.data import Dataset

__all__ = ["narrow_answers"]

_LOG = logging.getLogger("mindground")


def narrow_answers(config: Config, training: Dataset) -> None:
    """Leave out the mask head of a model that answers with boxes as well where no training sample has a mask.

    `data.use_mask` is set to false in place, before the model is built. The configuration stands in every checkpoint,
    so whatever is made of it later (predictions, scores, GeoJSON, drawings) has no masks either. What happens is said
    in one line; so is how many samples have masks where not all have one.

    Args:
        config: resolved.
        training: the split that is trained on.
    """
    if "mask" not in model_interface(config).answers:
        return
    masked = sum(sample.has_masks for sample in training)
    asked = sum(len(sample.boxes_xyxy) > 0 for sample in training)
    if masked:
        if masked < asked:
            _LOG.info("%d of %d training samples have masks; the mask head learns from these", masked, asked)
        return
    config.data.use_mask = False
    if "mask" in model_interface(config).answers:
        # A family whose only answer is the mask, or that has no use for the key: its task says what it misses.
        config.data.use_mask = True
        return
    _LOG.warning(
        "no sample of %s %s has a mask, so none is learnt: the model answers with boxes alone (data.use_mask=false)",
        training.name,
        training.split,
    )
