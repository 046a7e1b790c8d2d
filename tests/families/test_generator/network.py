"""The network: image and words to a memory, and a decoder of one attention layer with a cache of fixed shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindground.models.base import GroundingModel, ParameterGroup
from mindground.nn.batch_norm import BatchNorm2d
from mindground.structures import Batch, Example, Prediction
from test_generator.targets import LENGTH, encode_sequence, tokens_to_boxes

__all__ = ["Generator"]


class Generator(GroundingModel):
    """Teacher forcing in `construct`, greedy decoding in `infer`.

    Args:
        width: D.
        bins: values of a coordinate; token `bins` starts a sequence.
        vocab_size: of the tokeniser.
    """

    input_names = ("image", "token_ids", "token_mask", "previous")
    target_names = ("sequence",)
    output_names = ("logits",)
    term_names = ("cross_entropy",)

    def __init__(self, *, width: int, bins: int, vocab_size: int) -> None:
        super().__init__()
        self.width, self.bins = width, bins
        self.conv1 = nn.Conv2d(3, width, 8, 8, pad_mode="valid")
        self.norm = BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 4, 4, pad_mode="valid")
        self.words = nn.Embedding(vocab_size, width)
        self.tokens = nn.Embedding(bins + 1, width)
        self.places = ms.Parameter(ms.Tensor(np.random.default_rng(0).normal(0, 0.1, (LENGTH, width)), ms.float32))
        self.query, self.key, self.value = (nn.Dense(width, width) for _ in range(3))
        self.look = nn.Dense(width, width)
        self.out = nn.Dense(width, bins)

    # ---- pieces --------------------------------------------------------------------------------------------------

    def memory(self, image: ms.Tensor, token_ids: ms.Tensor, token_mask: ms.Tensor) -> ms.Tensor:
        """image (B, 3, S, S), words (B, L) -> what the decoder looks at (B, N, D)."""
        x = self.conv2(ops.relu(self.norm(self.conv1(image))))
        batch, width = x.shape[0], x.shape[1]
        x = x.reshape(batch, width, -1).transpose(0, 2, 1)
        real = token_mask.astype(ms.float32).expand_dims(-1)
        words = self.words(token_ids)
        sentence = (words * ops.broadcast_to(real, words.shape)).sum(1) / real.sum(1)
        return x * ops.broadcast_to(ops.tanh(sentence).expand_dims(1), x.shape)

    def decode_step(
        self, memory: ms.Tensor, token: ms.Tensor, here: ms.Tensor, seen: ms.Tensor, keys: ms.Tensor, values: ms.Tensor
    ) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor]:
        """One token of every sequence.

        Args:
            token: (B,) the one before.
            here: (T,) 1 at its place; seen: (T,) 1 up to its place.
            keys, values: (B, T, D) of the places before.

        Returns:
            Logits (B, bins), and the caches with this place filled in.
        """
        x = self.tokens(token) + ops.matmul(here.reshape(1, -1), self.places)
        place = ops.broadcast_to(here.reshape(1, -1, 1), keys.shape)
        keys = keys + place * ops.broadcast_to(self.key(x).expand_dims(1), keys.shape)
        values = values + place * ops.broadcast_to(self.value(x).expand_dims(1), values.shape)
        hidden = self._attend(x.expand_dims(1), keys, values, seen.reshape(1, 1, -1))
        return self._logits(hidden, memory)[:, 0], keys, values

    def _attend(self, x: ms.Tensor, keys: ms.Tensor, values: ms.Tensor, seen: ms.Tensor) -> ms.Tensor:
        """Queries x (B, Q, D) over T places, of which `seen` (1, Q, T) may be looked at -> (B, Q, D)."""
        scores = ops.bmm(self.query(x), keys.transpose(0, 2, 1)) * self.width**-0.5
        scores = scores + ops.broadcast_to((seen - 1.0) * 1e9, scores.shape)
        return x + ops.bmm(ops.softmax(scores, -1), values)

    def _logits(self, hidden: ms.Tensor, memory: ms.Tensor) -> ms.Tensor:
        """hidden (B, Q, D) looks at the memory -> (B, Q, bins)."""
        scores = ops.bmm(self.look(hidden), memory.transpose(0, 2, 1)) * self.width**-0.5
        return self.out(hidden + ops.bmm(ops.softmax(scores, -1), memory))

    # ---- the contract --------------------------------------------------------------------------------------------

    def construct(
        self, image: ms.Tensor, token_ids: ms.Tensor, token_mask: ms.Tensor, previous: ms.Tensor
    ) -> tuple[ms.Tensor, ...]:
        """All places at once from the true tokens before them (B, T) -> logits (B, T, bins)."""
        memory = self.memory(image, token_ids, token_mask)
        x = self.tokens(previous)
        x = x + ops.broadcast_to(self.places.expand_dims(0), x.shape)
        seen = ops.tril(ops.ones((LENGTH, LENGTH), ms.float32)).expand_dims(0)
        return (self._logits(self._attend(x, self.key(x), self.value(x), seen), memory),)

    def loss(self, outputs: tuple[ms.Tensor, ...], *targets: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """Cross-entropy of the tokens -> (total, cross-entropy)."""
        right = ops.one_hot(targets[0], self.bins, ms.Tensor(1.0), ms.Tensor(0.0))
        term = -(ops.log_softmax(outputs[0], -1) * right).sum(-1).mean()
        return term, term

    def encode_targets(self, example: Example, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """See `targets.encode_sequence`."""
        return encode_sequence(example, self.bins)

    def infer(self, run: Any, arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Greedy decoding -> `tokens` (B, T) and their `probabilities` (B, T)."""
        (memory,) = run("memory", *(arrays[name] for name in ("image", "token_ids", "token_mask")))
        batch = memory.shape[0]
        keys = values = np.zeros((batch, LENGTH, self.width), np.float32)
        token, tokens, probabilities = np.full(batch, self.bins, np.int32), [], []
        for place in range(LENGTH):
            here, seen = np.eye(LENGTH, dtype=np.float32)[place], np.tri(LENGTH, dtype=np.float32)[place]
            logits, keys, values = run("decode_step", memory, token, here, seen, keys, values)
            shifted = np.exp(logits.asnumpy() - logits.asnumpy().max(-1, keepdims=True))
            token = shifted.argmax(-1).astype(np.int32)
            tokens.append(token)
            probabilities.append((shifted / shifted.sum(-1, keepdims=True)).max(-1))
        return {"tokens": np.stack(tokens, 1), "probabilities": np.stack(probabilities, 1)}

    def decode(self, outputs: Mapping[str, np.ndarray], batch: Batch) -> list[Prediction]:
        """One box for each real sample; its score is the product of its tokens' probabilities."""
        boxes, scores = tokens_to_boxes(outputs["tokens"], self.bins), outputs["probabilities"].prod(1)
        found = []
        for index in range(batch.count):
            geometry, sample = batch.geometries[index], batch.samples[index]
            box = geometry.boxes_to_original(boxes[index] * np.float32(geometry.canvas_size[0]))
            found.append(
                Prediction(geometry.original_size, box, scores[index : index + 1], expression=sample.expression)
            )
        return found

    def parameter_groups(self) -> list[ParameterGroup]:
        """The image's layers (`visual`) and the rest (`base`)."""
        visual = tuple(p for cell in (self.conv1, self.norm, self.conv2) for p in cell.trainable_params())
        ours = {id(parameter) for parameter in visual}
        rest = tuple(parameter for parameter in self.trainable_params() if id(parameter) not in ours)
        return [ParameterGroup("visual", visual), ParameterGroup("base", rest)]
