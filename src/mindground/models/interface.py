"""What is known of a network before it is built: what it asks and answers (the task follows), its pretrained parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["FreshPart", "ModelInterface", "PretrainedPart"]


@dataclass(frozen=True)
class ModelInterface:
    """Known before the network is built (`models/<family>/__init__.py: interface(config)`).

    Attributes:
        asks: for an expression, for a prompt (points, boxes), or for nothing beside the image.
        answers: what a prediction holds, `box`, `mask` or both.
        many: several predictions an image instead of one.
    """

    asks: Literal["expression", "prompt", "nothing"]
    answers: tuple[Literal["box", "mask"], ...]
    many: bool = False

    @property
    def scored(self) -> bool:
        """Predictions carry a confidence: a mask's, or that of one detection among many. A box alone has none."""
        return self.many or "mask" in self.answers


@dataclass(frozen=True)
class PretrainedPart:
    """A part that `train.pretrained` can fill by name.

    Attributes:
        prefix: of its parameters.
        hint: how to give weights; shown when `required` ones are missing.
        required: random weights are refused unless `train.random_encoders` asks for them.
        word_vectors: its file holds a vector a word (`files.word_vectors`), and the part is a word table that takes the
            rows of its vocabulary; a word without a vector gets zeros.
    """

    prefix: str
    hint: str
    required: bool = True
    word_vectors: bool = False


@dataclass(frozen=True)
class FreshPart:
    """A part that `train.fresh` leaves out of the file for `train.pretrained.model`.

    Attributes:
        pattern: regular expression of its parameters' names.
        always: False = only what the file holds in another size; the file may lack it, too.
        vocabulary: it is the word table, so that the file's vocabulary is not taken either.
    """

    pattern: str
    always: bool = True
    vocabulary: bool = False
