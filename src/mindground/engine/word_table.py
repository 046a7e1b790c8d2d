"""What a fine-tuning on other data starts anew: parts that a file does not fill, and a table of word vectors."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mindground.errors import ConfigError
from mindground.files.word_vectors import read_word_vectors
from mindground.weights.load import load_into, parameter_shapes
from mindground.weights.report import first_few

if TYPE_CHECKING:
    from mindground.models.base import GroundingModel
    from mindground.models.interface import FreshPart
    from mindground.text import Tokenizer
    from mindground.weights.maps import Adapted
    from mindground.weights.report import LoadReport

__all__ = ["leave_out", "load_word_vectors"]

_LOG = logging.getLogger("mindground")


def leave_out(model: GroundingModel, adapted: Adapted, parts: Sequence[FreshPart]) -> None:
    """Takes the tensors of `parts` out of what a file holds, in place; the report says which and why."""
    shapes = parameter_shapes(model)
    for part in parts:
        for name in [name for name in adapted.tensors if re.fullmatch(part.pattern, name)]:
            held = tuple(adapted.tensors[name].shape)
            if part.always or held != shapes.get(name):
                del adapted.tensors[name]
                why = "left out by train.fresh" if part.always else f"of {held}, left out by train.fresh"
                adapted.ignored[name] = why
                _LOG.info("%s: %s", name, why)


def load_word_vectors(model: GroundingModel, path: str, prefix: str, tokenizer: Tokenizer | None) -> LoadReport:
    """Fills the word table below `prefix` with the vectors of the vocabulary's entries, and says what has none.

    An entry without a vector gets zeros, as published: its row says nothing.

    Raises:
        ConfigError: the network has no such table, or the vocabulary is no list of words.
        WeightsError: a file that is none, is damaged or of another width, or has none of the words.
    """
    tables = {name: shape for name, shape in parameter_shapes(model).items() if name.startswith(prefix)}
    words = list(getattr(tokenizer, "tokens", ()))
    if len(tables) != 1 or not words or getattr(tokenizer, "kind", "") != "words":
        raise ConfigError(
            f"{path} holds vectors of words, and this network has no table of words (data.tokenizer=words, of SeqTR "
            "with model.text.type=gru); leave the file out"
        )
    ((name, (rows, width)),) = tables.items()
    found = read_word_vectors(path, words, width)
    if not found:
        raise ConfigError(
            f"{path} has no vector for any of the {len(words)} words of the vocabulary (first "
            f"{', '.join(words[:4])}); it is of another language or spelling"
        )
    table = np.zeros((rows, width), np.float32)
    for place, word in enumerate(words[:rows]):
        if word in found:
            table[place] = found[word]
    report = load_into(model, {name: table}, allow_missing=(".*",), source=path)
    absent = [word for word in words if word not in found]
    report.missing = []
    report.reshaped[name] = f"{len(found)} of {len(words)} words have a vector"
    told = f"; zeros for {first_few(absent, 5)}" if absent else ""
    _LOG.info("word vectors of %s: %d of %d words%s", path, len(found), len(words), told)
    return report
