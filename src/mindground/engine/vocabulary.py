"""Which vocabulary a training reads its sentences with: a checkpoint's, a file's, or one built from its sentences.

Ids are rows of the word table, so weights and vocabulary belong together: whoever brings the rows brings the entries.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mindground.engine.description import Description, is_checkpoint, read_description
from mindground.errors import CheckpointError, ConfigError
from mindground.text import Tokenizer, build_tokenizer, tokenizer_from_payload
from mindground.weights.report import first_few
from mindground.weights.words import word_tables

if TYPE_CHECKING:
    from mindground.config import Config

__all__ = ["Vocabulary", "check_same_sentences", "choose_vocabulary", "digest_of_sentences", "vocabulary_of"]

_LOG = logging.getLogger("mindground")


@dataclass(frozen=True)
class Vocabulary:
    """A vocabulary and where it comes from.

    Attributes:
        tokenizer: reads sentences with it.
        source: checkpoint that it was taken from; empty for a file and for one built from the sentences.
        appended: entries that the checkpoint's did not have; their rows are new.
        built: from the training sentences alone, so that no weights of others belong to it.
    """

    tokenizer: Tokenizer
    source: str = ""
    appended: tuple[str, ...] = ()
    built: bool = False


def choose_vocabulary(config: Config, sentences: Sequence[str], resumed: Description | None) -> Vocabulary:
    """The vocabulary of a training.

    A continued run takes that of its checkpoint as it is. A run that starts from a checkpoint of ours takes that of
    the checkpoint; if it was built from sentences, entries for the words of the new ones are appended. Otherwise
    `data.vocab` names a file, or the vocabulary is built from the sentences, as where `train.fresh` leaves the word
    table of the checkpoint out.

    Args:
        config: resolved.
        sentences: of the training split, or of all splits (`data.vocab_from`).
        resumed: what the checkpoint says that is continued, or None.

    Raises:
        ConfigError: `data.vocab` or `data.tokenizer` contradicts the checkpoint, or two checkpoints each other.
    """
    taken = [(resumed, str(resumed.path))] if resumed is not None else _starts(config)
    found = [(tokenizer, source) for said, source in taken if (tokenizer := vocabulary_of(said)) is not None]
    if not found:
        built = not config.data.vocab
        return Vocabulary(build_tokenizer(config.data.tokenizer, config.data.vocab, sentences), built=built)
    tokenizer, source = found[0]
    for other, path in found[1:]:
        if _entries(other) != _entries(tokenizer):
            raise ConfigError(
                f"{source} and {path} have different vocabularies ({tokenizer.vocab_size} and {other.vocab_size} "
                "entries), and a training has one: take the text part of one of them"
            )
    _check_keys(config, tokenizer, source, absent=resumed is not None)
    new = tokenizer.new_entries(sentences)
    if resumed is not None:
        if new:
            _LOG.warning("the vocabulary of %s lacks %d entries of the training sentences", source, len(new))
        return Vocabulary(tokenizer, source)
    kept = tokenizer.vocab_size
    told = f", {len(new)} appended as new rows of the word table ({first_few(new[::-1], 5)})" if new else ""
    _LOG.info("vocabulary of %s: %d entries kept%s", source, kept, told or ", none appended")
    return Vocabulary(tokenizer.extended(new) if new else tokenizer, source, tuple(new))


def _starts(config: Config) -> list[tuple[Description, str]]:
    """Checkpoints of ours among `train.pretrained` that fill the word table."""
    from mindground.models import family_module

    family = family_module(config.family)
    parts, fresh = getattr(family, "PRETRAINED_PARTS", {}), getattr(family, "FRESH_PARTS", {})
    if any(fresh[name].vocabulary for name in config.train.fresh if name in fresh):
        return []
    found = []
    for part, path in config.train.pretrained.items():
        if not path or not is_checkpoint(path):
            continue
        said = read_description(path)
        prefix = parts[part].prefix if part in parts else ""
        if any(name.startswith(prefix) for name in word_tables(said.part_shapes("model"))):
            found.append((said, path))
    return found


def vocabulary_of(said: Description) -> Tokenizer | None:
    """The vocabulary of a checkpoint; None where it has none."""
    if said.tokenizer is None:
        return None
    payload: dict[str, Any] = dict(said.tokenizer)
    if payload.get("kind") == "wordpiece":
        # Older checkpoints do not say whether theirs was built from sentences; without a file it was.
        data = said.config.get("data")
        payload.setdefault("grows", isinstance(data, Mapping) and not data.get("vocab"))
    return tokenizer_from_payload(payload)


def _check_keys(config: Config, tokenizer: Tokenizer, source: str, *, absent: bool) -> None:
    """Raises ConfigError where the configuration names another vocabulary; `absent`: its file may be gone."""
    data = config.data
    if data.tokenizer != tokenizer.kind:
        raise ConfigError(
            f"{source} has a vocabulary of kind {tokenizer.kind}, and data.tokenizer={data.tokenizer} is set; set "
            f"--data.tokenizer={tokenizer.kind}"
        )
    if not data.vocab or (absent and not Path(data.vocab).expanduser().is_file()):
        return
    named = build_tokenizer(data.tokenizer, data.vocab)
    if _entries(named) != _entries(tokenizer):
        raise ConfigError(
            f"data.vocab={data.vocab} has {named.vocab_size} entries, and the vocabulary of {source} has other "
            f"{tokenizer.vocab_size}: the word table of the checkpoint belongs to its own; leave data.vocab out"
        )


def _entries(tokenizer: Tokenizer) -> list[Any]:
    entries: Sequence[Any] = getattr(tokenizer, "tokens", None) or getattr(tokenizer, "merges", None) or ()
    return list(entries)


def digest_of_sentences(sentences: Sequence[str]) -> str:
    """Hexadecimal digits that change with any sentence and with their order."""
    digest = hashlib.sha256()
    for sentence in sentences:
        data = sentence.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def check_same_sentences(state: Mapping[str, Any], digest: str, path: Path) -> None:
    """Raises CheckpointError where a continued run would read other training sentences than before.

    Args:
        state: of the checkpoint; older ones say nothing of their sentences, which fits everything.
        digest: `digest_of_sentences` of the training data at hand.
        path: of the checkpoint.
    """
    before = str(state.get("sentences") or "")
    if before and digest and before != digest:
        raise CheckpointError(
            f"cannot continue {path}: the training sentences are not those of before, in words, number or order "
            f"(digest {before[:12]}, now {digest[:12]}). Restore the data, or start a run from the checkpoint: "
            f"mindground train --from {path}"
        )
