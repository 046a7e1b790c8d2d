"""Token by token: which token follows, from logits; NumPy only, between two calls of a compiled step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mindground.models.seqtr.sequences import Layout

__all__ = ["Chosen", "before_end", "choose", "generate", "plan"]

# Steps of a contour behind a box in which the end cannot be chosen, as published.
_NO_END = 4


class Chosen:
    """Tokens (B, n), the probability of each, and by how much the largest logit led."""

    def __init__(self) -> None:
        self._columns: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, tokens: np.ndarray, probabilities: np.ndarray, margins: np.ndarray) -> None:
        """One more column."""
        self._columns.append((tokens, probabilities, margins))

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """`<name>_tokens` int32, `<name>_probabilities` and `<name>_margins` float32, (B, n) each."""
        tokens, probabilities, margins = (np.stack(column, 1) for column in zip(*self._columns, strict=True))
        return {
            f"{name}_tokens": tokens.astype(np.int32),
            f"{name}_probabilities": probabilities.astype(np.float32),
            f"{name}_margins": margins.astype(np.float32),
        }


def choose(
    logits: np.ndarray, ends: bool, top_p: float = 0.0, rng: np.random.Generator | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The next token of every sequence.

    Args:
        logits: (B, C); the last class is the end.
        ends: whether the end may be chosen; otherwise it takes no part in the probabilities.
        top_p: above 0, a draw among the most probable tokens that together reach this probability; 0 = the most
            probable one.
        rng: for the draw.

    Returns:
        (B,) tokens, (B,) their probabilities, (B,) by how much the largest logit exceeds the next one.
    """
    logits = np.asarray(logits, np.float64)
    logits = logits if ends else logits[:, :-1]
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    probabilities = weights / weights.sum(-1, keepdims=True)
    order = np.argsort(-probabilities, -1, kind="stable")
    ranked = np.take_along_axis(probabilities, order, -1)
    place = np.zeros(len(logits), np.int64)
    if top_p > 0:
        assert rng is not None
        # A token takes part while those before it do not exceed top_p, so the first one always does.
        kept = np.where(np.cumsum(ranked, -1) - ranked <= top_p, ranked, 0.0)
        reached = np.cumsum(kept, -1) / kept.sum(-1, keepdims=True)
        place = (reached < rng.random((len(logits), 1))).sum(-1)
    rows = np.arange(len(logits))
    lead = logits[rows, order[:, 0]] - logits[rows, order[:, 1]]
    return order[rows, place], ranked[rows, place], lead


def plan(layout: Layout) -> list[tuple[str, int, bool]]:
    """(part, input that stands before it or -1 for the token before, whether the end may be chosen) of every step.

    A box has four steps and its end is given, so the step of a contour's name takes the place behind the fourth.
    """
    box = [("box", layout.start if step == 0 else -1, False) for step in range(4)]
    if layout.task == "box":
        return box
    start = layout.second_start if layout.task == "multi" else layout.start
    spared = _NO_END if layout.task == "multi" else 0
    contour = [("mask", start if step == 0 else -1, step >= spared) for step in range(2 * layout.rays + 1)]
    return [*box, *contour] if layout.task == "multi" else contour


def generate(
    layout: Layout,
    batch: int,
    advance: Callable[[np.ndarray, np.ndarray], np.ndarray],
    top_p: float = 0.0,
    rng: np.random.Generator | None = None,
) -> dict[str, np.ndarray]:
    """Decode every sequence of a batch.

    Args:
        layout: of the sequences.
        batch: B.
        advance: (tokens (B,) int32, place (1,) int32) -> logits (B, C); it keeps what it has seen.
        top_p, rng: see `choose`.

    Returns:
        `box_*` (B, 4) and `mask_*` (B, 2 R + 1), as `Chosen.arrays` names them.
    """
    parts: dict[str, Chosen] = {}
    token = np.zeros(batch, np.int32)
    place = 0
    for index, (part, given, ends) in enumerate(steps := plan(layout)):
        if given >= 0:
            if index > 0:
                # The last token of the box is an input, too; what would follow it is its end.
                advance(token, np.asarray([place], np.int32))
                place += 1
            token = np.full(batch, given, np.int32)
        chosen, probability, margin = choose(advance(token, np.asarray([place], np.int32)), ends, top_p, rng)
        parts.setdefault(part, Chosen()).add(chosen, probability, margin)
        token, place = chosen.astype(np.int32), place + 1
    assert place <= layout.length, len(steps)
    found: dict[str, np.ndarray] = {}
    for part, chosen_part in parts.items():
        found |= chosen_part.arrays(part)
    return found


def before_end(tokens: np.ndarray, end: int) -> Sequence[int]:
    """(B, n) tokens -> how many stand before the first end, for every sequence."""
    ends = tokens == end
    return np.where(ends.any(1), ends.argmax(1), tokens.shape[1]).tolist()
