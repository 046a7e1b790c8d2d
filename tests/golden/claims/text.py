"""Tokenisers: WordPiece as VG-LAW and RMSIN use it, CLIP's byte-level BPE."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from golden.case import Case
from golden.claim import Checks, claim
from mindground.text import ClipTokenizer, WordPieceTokenizer

_BPE = "bpe_simple_vocab_16e6.txt.gz"


@claim(model="BERT WordPiece tokenizer", modes=("host",))
def check_wordpiece(case: Case, mode: str, checks: Checks) -> None:
    """Pieces, ids and masks of transformers' fast tokeniser."""
    tokenizer = WordPieceTokenizer.from_tokens(case.meta["config"]["vocab"])
    sentences = case.meta["sentences"]
    for sentence, tokens in zip(sentences, case.meta["tokens"], strict=True):
        checks.exact(f"pieces of {sentence!r}", " ".join(tokenizer.pieces(sentence)), " ".join(tokens))
    for name, theirs in case.outputs.items():
        ids, mask = tokenizer(sentences, int(name[1:]))
        checks.exact(f"{name} ids", ids, theirs[0])
        checks.exact(f"{name} types", np.zeros_like(ids), theirs[1])
        checks.exact(f"{name} mask", mask, theirs[2])


@claim(model="rmsin", kind="tokenise", modes=("host",))
def check_rmsin(case: Case, mode: str, checks: Checks) -> None:
    """RMSIN cuts after adding [SEP], so long sentences lose it."""
    config = case.meta["config"]
    tokenizer = WordPieceTokenizer.from_tokens(config["vocab"], keep_end=False, clean=False)
    ids, mask = tokenizer(config["sentences"], config["max_tokens"])
    checks.exact("ids", ids, case.outputs["ids"])
    checks.exact("mask", mask, case.outputs["mask"])
    checks.exact("length", [len(tokenizer.ids(s)) for s in config["sentences"]], case.outputs["length"])


@claim(model="clip-bpe", modes=("host",))
def check_clip(case: Case, mode: str, checks: Checks) -> None:
    """Ids of the original tokeniser; the mask follows the length, where upstream's follows `id > 0`."""
    tokenizer = _clip(_vocabulary(case))
    texts, length = case.meta["texts"], case.meta["config"]["context_length"]
    ids, mask = tokenizer(texts, length)
    checks.exact("ids", ids, case.outputs["ids"])
    checks.exact("ids_len20", tokenizer(texts, 20)[0], case.outputs["ids_len20"])
    checks.exact("raw_length", [len(tokenizer.ids(text)) for text in texts], case.outputs["raw_length"])
    checks.exact("mask", mask.sum(1), np.minimum(case.outputs["raw_length"], length))
    checks.exact("mask where upstream's is right", mask * (ids != 0), case.outputs["upstream_mask"])


@functools.cache
def _clip(path: Path) -> ClipTokenizer:
    return ClipTokenizer.from_file(path)


def _vocabulary(case: Case) -> Path:
    """The merges file in `vocab` beside the folder of the cases, else the shortened copy beside our own cases.

    The copy holds only the merges that CLIP uses, one fifth of the published file (MIT licence, OpenAI).
    """
    beside = case.folder.parent.parent / "vocab" / _BPE
    return beside if beside.is_file() else Path(__file__).parents[1] / "vocab" / _BPE
