"""Tokenisers and words of place."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from mindground.errors import CheckpointError, ConfigError, DataError
from mindground.text import (
    ClipTokenizer,
    Tokenizer,
    WordPieceTokenizer,
    build_tokenizer,
    build_wordpiece,
    directions,
    has_direction,
    tokenizer_from_payload,
)

BPE = Path(__file__).parent / "golden" / "vocab" / "bpe_simple_vocab_16e6.txt.gz"
SENTENCES = ["The ship left of the pier", "a Café on the right", "大桥 on the left"]
HARD = ["", "   ", "word " * 300, "x" * 500, "停泊在左侧的飞机", "🛩️ plane 👍🏽", "zyzzyva", "\x00\x07 tab\t", "ﬁsh İ ß"]


@pytest.fixture(scope="module")
def clip() -> ClipTokenizer:
    return ClipTokenizer.from_file(BPE)


@pytest.fixture(params=["wordpiece", "clip"])
def tokenizer(request: pytest.FixtureRequest, clip: ClipTokenizer) -> Tokenizer:
    return clip if request.param == "clip" else build_wordpiece(SENTENCES)


def test_hard_sentences_keep_the_form(tokenizer: Tokenizer) -> None:
    ids, mask = tokenizer(HARD, 12)
    assert ids.shape == mask.shape == (len(HARD), 12) and ids.dtype == mask.dtype == np.int32
    assert (ids >= 0).all() and (ids < tokenizer.vocab_size).all()
    lengths = mask.sum(1)
    assert lengths[0] == lengths[1] == 2 and lengths[2] == 12
    for index, length in zip(range(len(HARD)), lengths, strict=True):
        assert mask[index, :length].all() and not mask[index, length:].any()
        assert ids[index, length - 1] == tokenizer.ids("")[1], "a truncated sentence keeps its end token"
        assert (ids[index, length:] == tokenizer.pad_id).all()
    assert tokenizer.truncated >= 1


def test_empty_list_and_wrong_use(tokenizer: Tokenizer) -> None:
    assert tokenizer([], 7)[0].shape == (0, 7)
    with pytest.raises(ValueError, match="list"):
        tokenizer("the ship", 7)
    with pytest.raises(ValueError, match="max_len=1"):
        tokenizer(["the ship"], 1)


def test_payload_round_trip(tokenizer: Tokenizer) -> None:
    again = tokenizer_from_payload(json.loads(json.dumps(tokenizer.to_payload())))
    assert type(again) is type(tokenizer) and again.vocab_size == tokenizer.vocab_size
    for ours, theirs in zip(tokenizer([*HARD, *SENTENCES], 20), again([*HARD, *SENTENCES], 20), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_broken_payloads() -> None:
    with pytest.raises(CheckpointError, match="sentencepiece"):
        tokenizer_from_payload({"kind": "sentencepiece"})
    with pytest.raises(CheckpointError, match="tokens"):
        tokenizer_from_payload({"kind": "wordpiece", "lower": True, "keep_end": True, "clean": True})


def test_built_vocabulary_spells_new_words() -> None:
    tokenizer = build_wordpiece(SENTENCES)
    assert tokenizer.pieces("the SHIP left") == ["the", "ship", "left"]
    assert tokenizer.unknown("a completely new spaceship, 42% wider!") == []
    assert tokenizer.pieces("shipx") != tokenizer.pieces("shipy")
    assert tokenizer.unknown("a 🛩 above") == ["🛩"] and tokenizer.unknown("大") == []
    assert build_wordpiece(reversed(SENTENCES)).tokens == tokenizer.tokens
    assert len(build_wordpiece(SENTENCES, max_words=2).tokens) < len(tokenizer.tokens)
    assert "Ship" in build_wordpiece(["The Ship"], lower=False).tokens


def test_vocabulary_files(tmp_path: Path) -> None:
    tokens = build_wordpiece(SENTENCES).tokens
    (tmp_path / "vocab.txt").write_bytes("\r\n".join([*tokens, ""]).encode())
    assert WordPieceTokenizer.from_file(tmp_path / "vocab.txt").tokens == tokens
    twice = "\n".join([*tokens, "ship"]).encode()
    for content, message in ((b"a\nb\n", r"\[PAD\]"), (b"\xff\xfe\x00", "UTF-8"), (twice, "ship")):
        (tmp_path / "bad.txt").write_bytes(content)
        with pytest.raises(ConfigError, match=message):
            WordPieceTokenizer.from_file(tmp_path / "bad.txt")
    for content in (b"#version\na b\n", gzip.compress(b"#version\n")[:10], b"\x1f\x8bnonsense", b"\xff\xfe"):
        (tmp_path / "bad.gz").write_bytes(content)
        with pytest.raises(ConfigError, match="bad.gz"):
            ClipTokenizer.from_file(tmp_path / "bad.gz")


def test_a_vocabulary_is_split_at_line_feeds_only(tmp_path: Path) -> None:
    tokens = [*build_wordpiece(SENTENCES).tokens, "\u2028", "a\u2029b", "\x85", "\x0b", "\x1c"]
    (tmp_path / "vocab.txt").write_text("".join(token + "\n" for token in tokens), encoding="utf-8", newline="")
    assert WordPieceTokenizer.from_file(tmp_path / "vocab.txt").tokens == tokens


def test_clip_reads_the_unpacked_file_too(tmp_path: Path, clip: ClipTokenizer) -> None:
    (tmp_path / "merges.txt").write_bytes(gzip.decompress(BPE.read_bytes()))
    assert ClipTokenizer.from_file(tmp_path / "merges.txt").ids("a photo of a cat.") == clip.ids("a photo of a cat.")
    assert clip.ids("a photo of a cat.") == [49406, 320, 1125, 539, 320, 2368, 269, 49407]


def test_merges_that_are_no_vocabulary() -> None:
    pairs = [("a", "b"), ("ab", "c</w>")]
    assert ClipTokenizer(pairs).ids("abc")[1] == 513
    with pytest.raises(ConfigError, match="merge 2 of the BPE vocabulary, 'a b', stands there before"):
        ClipTokenizer([*pairs, ("a", "b")])
    with pytest.raises(ConfigError, match="merge 1 of the BPE vocabulary takes 'xyz'"):
        ClipTokenizer([("a", "b"), ("xyz", "c")])


def test_build_tokenizer(tmp_path: Path) -> None:
    assert build_tokenizer("wordpiece", sentences=SENTENCES).kind == "wordpiece"
    assert build_tokenizer("clip_bpe", str(BPE)).kind == "clip_bpe"
    for kind, vocab in (("wordpiece", ""), ("clip_bpe", ""), ("wordpiece", str(tmp_path / "absent"))):
        with pytest.raises(ConfigError, match="data.vocab"):
            build_tokenizer(kind, vocab)
    with pytest.raises(ConfigError, match="'sentencepiece' is unknown"):
        build_tokenizer("sentencepiece", sentences=SENTENCES)


def test_upstream_cut_loses_the_end_token() -> None:
    tokens = build_wordpiece(SENTENCES).tokens
    plain, kept = WordPieceTokenizer(tokens, keep_end=False), WordPieceTokenizer(tokens)
    assert plain.end_id not in plain(["ship " * 9], 5)[0]
    assert kept.end_id in kept(["ship " * 9], 5)[0]


@pytest.mark.parametrize(
    "text", ["the left man", "topmost", "second from RIGHT", "lower-left", "in the middle", "左侧", "bottom one"]
)
def test_names_a_place(text: str) -> None:
    assert has_direction(text)


@pytest.mark.parametrize("text", ["bright cake", "stopped car", "flower", "topology", "a white cake", "", "停车场"])
def test_names_no_place(text: str) -> None:
    assert not has_direction(text)


@pytest.mark.parametrize(
    "text", ["the north-eastern tank", "western edge", "in the corner", "southernmost", "the LOWEST one", "港口东部"]
)
def test_places_in_images_from_above(text: str) -> None:
    assert has_direction(text, compass=True) and not has_direction(text)


def test_no_places_in_images_from_above() -> None:
    assert not any(
        has_direction(text, compass=True) for text in ("least", "an easter egg", "feast", "knowledge", "东京")
    )


def test_words_of_place_inside_words() -> None:
    assert all(has_direction(text, substrings=True) for text in ("Bright", "stopped", "middleware"))
    assert not has_direction("the upper centre", substrings=True)


def test_which_directions() -> None:
    assert directions("the upperleft tank") == {"top", "left"} == directions("左上方")
    assert directions("bottommost bright one") == {"bottom"} and directions("the central one") == {"middle"}
    assert directions("a bright stopped car") == frozenset()


def test_bpe_files_that_are_none(tmp_path: Path) -> None:
    """Symbols that nothing makes, and a few kilobytes that unpack to a gigabyte."""
    whole = gzip.decompress(BPE.read_bytes()).decode().split("\n")
    whole[5] = "zzq qqz"
    (tmp_path / "strange.gz").write_bytes(gzip.compress("\n".join(whole).encode()))
    with pytest.raises(ConfigError, match="'zzq'"):
        ClipTokenizer.from_file(tmp_path / "strange.gz")
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(1 << 28)))
    with pytest.raises(ConfigError, match=r"bomb\.gz"):
        ClipTokenizer.from_file(tmp_path / "bomb.gz")


def test_words_that_a_vocabulary_does_not_know(clip: ClipTokenizer) -> None:
    built = build_wordpiece(SENTENCES)
    assert built.unread("The zeppelin, on the RIGHT of the Zeppelin & a café!") == ["zeppelin"]
    assert built.unread("the ship") == [] and clip.unread("a zeppelin") == []
    assert WordPieceTokenizer(built.tokens).unread("a zeppelin") == [], "pieces of a published vocabulary have meanings"
    assert WordPieceTokenizer(built.tokens).unread("a 🛩") == ["🛩"]
    payload = json.loads(json.dumps(built.to_payload()))
    assert tokenizer_from_payload(payload).unread("a zeppelin") == ["zeppelin"]


def test_half_a_character_is_a_data_error() -> None:
    with pytest.raises(DataError, match="half of a character"):
        build_wordpiece(["a \ud800"])
    with pytest.raises(DataError, match="half of a character"):
        build_wordpiece(SENTENCES)(["a \ud800"], 8)
