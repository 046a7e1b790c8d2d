"""Segment Anything's part of the comparison, without PyTorch: the image encoder, and the decoder with few and many
prompts about one embedding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mindground.weights.maps import WeightMap

__all__ = ["DATASET", "OVERRIDES", "TASKS", "OurPieces", "arrays", "side", "weight_map"]

DATASET = "coco"
# Hugging Face's class is the peer, which adds 1e-6 in the norms of the decoder.
OVERRIDES = ("model.decoder.norm_eps=1e-6", "train.random_encoders=true")
# Task -> what the report calls it.
TASKS = {
    "encoder": "image encoder",
    "decoder_1": "decoder, 1 prompt",
    "decoder_64": "decoder, 64 prompts",
}
_MANY = 64


def weight_map() -> WeightMap:
    """Our names to the ones in the shared file: transformers'."""
    from mindground.models.sam.weights import HUGGINGFACE_MAP

    return HUGGINGFACE_MAP


def arrays(config: Any, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One image of noise, an embedding for the decoder, one point for each of many prompts."""
    side, model = config.data.img_size, config.model
    grid = side // model.encoder.patch_size
    return {
        "image": rng.standard_normal((1, 3, side, side)).astype(np.float32),
        "embedding": rng.standard_normal((1, model.decoder.width, grid, grid)).astype(np.float32),
        "points": rng.uniform(0, side - 1, (_MANY, 1, 2)).astype(np.float32),
    }


class OurPieces:
    """The pieces as a session runs them; see `worker.Side`."""

    def __init__(self, config: Any, folder: Path, module: Any) -> None:
        from mindground.cli.bench.ours import load_start
        from mindground.engine.forward import Runner

        self.given = dict(np.load(folder / "arrays.npz"))
        model = load_start(module, config, folder)
        model.set_train(False)
        self.run = Runner(model, graph=config.device.mode_name == "GRAPH")

    def encoder(self) -> dict[str, np.ndarray]:
        """The embedding (1, C, g, g)."""
        return {"embedding": self.run("encode_image", self.given["image"])[0].asnumpy()}

    def _decoder(self, count: int) -> dict[str, np.ndarray]:
        from mindground.models.sam.ask import ask, prompt_tokens

        labels = np.ones((count, 1), np.int32)
        tokens = prompt_tokens(self.given["points"][:count], labels, None)
        logits, expected = ask(self.run, self.given["embedding"], *tokens)
        return {"logits": logits[:, 1:], "expected": expected[:, 1:]}

    def decoder_1(self) -> dict[str, np.ndarray]:
        """Three masks of one point."""
        return self._decoder(1)

    def decoder_64(self) -> dict[str, np.ndarray]:
        """Three masks of each of 64 points."""
        return self._decoder(_MANY)


def side(config: Any, folder: Path) -> OurPieces:
    """Our side of every task."""
    import sys

    return OurPieces(config, folder, sys.modules[__name__])
