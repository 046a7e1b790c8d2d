"""Writing a contour token by token: with kept keys and values, and with the decoder over the whole prefix."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["DecodingSide", "measure_decoding"]

_VERTICES = 18


def measure_decoding(family: str, folder: Path, repeats: int, warm_up: int = 1) -> dict[str, Any]:
    """Both ways in turns, the decoder alone.

    Returns:
        `steps`, `cached_seconds` and `prefix_seconds` (medians), `faster`, and `same`: whether all tokens are equal.
    """
    from statistics import median

    from mindground.cli.bench.children import Child

    child = Child("ours", "decoding", family, folder)
    try:
        child.ready()
        turns = [child.run()["numbers"] for _ in range(warm_up + repeats)]
        child.end()
    finally:
        child.stop()
    cached, prefix = (median(turn[name] for turn in turns[warm_up:]) for name in ("cached_seconds", "prefix_seconds"))
    return {
        "steps": turns[0]["steps"],
        "cached_seconds": cached,
        "prefix_seconds": prefix,
        "faster": prefix / cached,
        "same": all(turn["same"] for turn in turns),
    }


class DecodingSide:
    """The sequence head of a configuration with random weights, as one that writes contours.

    The encoder runs once, beforehand. Decoding with a cache projects keys and values of the memory once; without one
    every step runs the decoder over all tokens so far, as upstream does.
    """

    def __init__(self, config: Any) -> None:
        import mindspore as ms

        from mindground.models.seqtr.sequence_head import SequenceHead
        from mindground.models.seqtr.sequences import Layout

        head, side = config.model.head, config.data.img_size // 32
        self.batch, self.layout = config.train.batch_size, Layout("contour", head.num_bin, _VERTICES)
        self.head = SequenceHead(
            32 * 8, self.layout, head.width, head.heads, head.hidden, head.encoder_layers, head.decoder_layers, 0.0
        )
        self.head.set_train(False)
        self._prepare, self._prefix, self._advance = _cells(self.head)
        rng = np.random.default_rng(0)
        fused = ms.Tensor(rng.standard_normal((self.batch, 32 * 8, side, side)).astype(np.float32))
        padding = ms.Tensor(np.zeros((self.batch, 32 * side, 32 * side), np.uint8))
        self.memory = self.head.memory(fused, padding)
        shape = (self.batch * head.heads, self.layout.length, head.width // head.heads)
        self.empty = (ms.Tensor(np.zeros(shape, np.float32)),) * (2 * head.decoder_layers)

    def _cached(self) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        import mindspore as ms

        shared, caches = self._prepare(*self.memory), self.empty

        def advance(token: np.ndarray, place: np.ndarray) -> np.ndarray:
            nonlocal caches
            logits, *filled = self._advance(ms.Tensor(token), ms.Tensor(place), *shared, *caches)
            caches = tuple(filled)
            return np.asarray(logits.asnumpy())

        return advance

    def _again(self) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        import mindspore as ms

        tokens: list[np.ndarray] = []

        def advance(token: np.ndarray, place: np.ndarray) -> np.ndarray:
            tokens.append(token)
            return np.asarray(self._prefix(*self.memory, ms.Tensor(np.stack(tokens, 1))).asnumpy())

        return advance

    def decoding(self) -> dict[str, Any]:
        """Seconds of both ways, and whether they write the same tokens."""
        from mindground.models.seqtr.generate import generate

        found, seconds = [], []
        for start in (self._cached, self._again):
            begin = time.perf_counter()
            found.append(generate(self.layout, self.batch, start())["mask_tokens"])
            seconds.append(time.perf_counter() - begin)
        same = bool(np.array_equal(found[0], found[1]))
        return {
            "cached_seconds": seconds[0], "prefix_seconds": seconds[1], "same": same, "steps": self.layout.length
        }  # fmt: skip


def _cells(head: Any) -> tuple[Any, Any, Any]:
    """Compiled: what all steps share; logits behind a prefix; one step with a cache."""
    import mindspore as ms
    from mindspore import ops

    def prepare(memory: ms.Tensor, placed: ms.Tensor, bias: ms.Tensor) -> Any:
        return head.shared(memory, placed, bias)

    def prefix(memory: ms.Tensor, placed: ms.Tensor, bias: ms.Tensor, previous: ms.Tensor) -> ms.Tensor:
        count = previous.shape[1]
        x = ops.gather(head.table(), previous, 0)
        places = ops.broadcast_to(head.places[:count].expand_dims(0), x.shape)
        hidden = head.decoder(x, places, memory, placed, head.later[:, :, :count, :count], bias)
        return head.logits(hidden[:, count - 1])

    return ms.jit(prepare), ms.jit(prefix), ms.jit(head.advance)
