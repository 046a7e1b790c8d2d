"""One sentence about an image against many, through the predictor that users call."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["COUNT_FILE", "SentenceSide"]

# Side of the image in pixels; DIOR's have this one.
_SIDE = 800
# In the shared folder: how many sentences.
COUNT_FILE = "sentences.txt"


class SentenceSide:
    """A predictor with the start weights, an image of noise and sentences about it.

    Args:
        family: module with `weight_map` and `expressions`.
        config: resolved configuration.
        folder: with weights.safetensors and COUNT_FILE.
    """

    def __init__(self, family: Any, config: Any, folder: Path) -> None:
        from mindground.cli.bench.ours import load_start
        from mindground.data.transforms import build_transform
        from mindground.inference.predictor import Predictor
        from mindground.models import model_interface
        from mindground.tasks import task_of
        from mindground.text import build_wordpiece

        count = int((folder / COUNT_FILE).read_text())
        self.texts = family.expressions(count)
        self.image = np.random.default_rng(0).integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8)
        # What a token is called changes no time, so a vocabulary of these sentences serves.
        task = task_of(model_interface(config))
        transform = build_transform(config.data, task.kind, task.truth, tokenizer=build_wordpiece(self.texts))
        model = load_start(family, config, folder)
        graph = config.device.mode_name == "GRAPH"
        self.predictor = Predictor(model, transform, graph=graph)

    def sentences(self) -> dict[str, float]:
        """Seconds of one sentence and of all of them, and the largest difference of the first box, in pixels."""
        one, first = _timed(lambda: self.predictor(self.image, self.texts[0]))
        many, found = _timed(lambda: self.predictor(self.image, self.texts))
        difference = float(np.abs(first.boxes_xyxy - found[0].boxes_xyxy).max())
        return {"one_seconds": one, "many_seconds": many, "pixels": difference}


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result
