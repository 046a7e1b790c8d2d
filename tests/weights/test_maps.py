"""Names from file to model and back."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from mindground.errors import WeightsError
from mindground.weights.maps import WeightMap, best_map, combine, identity_map, strip_wrapper_prefix

DETECTOR = WeightMap(
    "detector",
    rules=(
        ("net.pos", "pos"),
        ("net.blocks.{n}.norm{k}.weight", "blocks.{n}.norm{k}.gamma"),
        ("net.blocks.{n}.attn.{part:qkv|proj}.{leaf:weight|bias}", "blocks.{n}.attn.{part}.{leaf}"),
        ("net.old.{n}.gain", "blocks.{n}.norm1.gamma"),
    ),
    ignored=((r"head\..*", "head of the detector"),),
    adapters=((r"pos", lambda array, wanted: (array[: wanted[0]], "cropped") if len(wanted) == 1 else None),),
    layered=("blocks.",),
    may_miss=((r"blocks\.\d+\.rel", "starts at 0"),),
)
ONE = np.ones(1, np.float32)


def test_names_shapes_and_the_account() -> None:
    tensors = {
        "net.pos": np.arange(5.0),
        "net.blocks.0.norm1.weight": ONE,
        "net.blocks.3.norm1.weight": ONE,
        "head.weight": ONE,
        "unknown": ONE,
        "net.blocks.0.attn.q.weight": ONE,
    }
    shapes = {"pos": (3,), "blocks.0.norm1.gamma": (1,), "blocks.0.rel": (2,), "other": (1,)}
    adapted = DETECTOR.to_ours(tensors, shapes)
    assert adapted.tensors["pos"].tolist() == [0, 1, 2] and adapted.reshaped == {"pos": "cropped"}
    assert set(adapted.tensors) == {"pos", "blocks.0.norm1.gamma"}
    assert adapted.ignored == {
        "net.blocks.3.norm1.weight": "unused: the model has 1 layers",
        "head.weight": "head of the detector",
    }
    assert adapted.unexpected == ["unknown", "net.blocks.0.attn.q.weight"]
    assert adapted.missing == {"blocks.0.rel": "starts at 0"}


def test_there_and_back_with_prefixes() -> None:
    theirs = {
        f"x.net.blocks.{n}.attn.{p}.{leaf}": ONE * n
        for n in (0, 11)
        for p in ("qkv", "proj")
        for leaf in ("weight", "bias")
    }
    placed = DETECTOR.with_prefix(ours="visual.", theirs="x.")
    adapted = placed.to_ours({**theirs, "x.head.a": ONE})
    assert all(name.startswith("visual.blocks.") for name in adapted.tensors) and not adapted.unexpected
    back = placed.to_theirs(adapted.tensors)
    assert back.keys() == theirs.keys() and all(np.array_equal(back[name], theirs[name]) for name in theirs)
    assert "head.a" in placed.to_ours({"head.a": ONE}).unexpected  # ignored only under the prefix


def test_older_spellings_are_read_and_not_written() -> None:
    adapted = DETECTOR.to_ours({"net.old.2.gain": ONE})
    assert list(DETECTOR.to_theirs(adapted.tensors)) == ["net.blocks.2.norm1.weight"]
    with pytest.raises(WeightsError, match="two spellings"):
        DETECTOR.to_ours({"net.old.2.gain": ONE, "net.blocks.2.norm1.weight": ONE})


def test_nothing_is_exported_without_a_name() -> None:
    with pytest.raises(WeightsError, match="a.b"):
        DETECTOR.to_theirs({"a.b": ONE})


def test_rules_must_be_invertible() -> None:
    with pytest.raises(ValueError, match="inverted"):
        WeightMap("bad", rules=(("a.{n}", "b"),)).to_ours({"a.1": ONE})


def test_dots_are_dots() -> None:
    assert identity_map().our_name("a.b") == "a.b"
    assert DETECTOR.our_name("netXpos") is None


def test_combine_and_choose() -> None:
    other = WeightMap("other", rules=(("t.{path}", "text.{path}"),), ignored=((r"cls\..*", "heads"),))
    both = combine(DETECTOR, other)
    assert both.our_name("t.a.b") == "text.a.b" and both.our_name("net.pos") == "pos"
    assert best_map([DETECTOR, other], {"t.a": ONE, "cls.x": ONE}) is other
    with pytest.raises(WeightsError):
        best_map([], {})


def test_wrapper_prefixes() -> None:
    assert strip_wrapper_prefix({"module.a": ONE, "module.b.c": ONE})[0].keys() == {"a", "b.c"}
    kept, prefix = strip_wrapper_prefix({"module.a": ONE, "b": ONE})
    assert kept.keys() == {"module.a", "b"} and prefix == ""
    assert strip_wrapper_prefix({"model.a": ONE, "model.b": ONE}) == ({"a": ONE, "b": ONE}, "model.")
    assert strip_wrapper_prefix({"model._orig_mod.a": ONE})[1] == "model._orig_mod."
    assert strip_wrapper_prefix({"model.model.a": ONE})[1] == "model."
    assert strip_wrapper_prefix({"model.a": ONE, "head.a": ONE})[1] == ""


def test_names_that_a_map_knows_keep_their_prefix() -> None:
    theirs = WeightMap("theirs", rules=(("model.{path}", "net.{path}"),))
    assert strip_wrapper_prefix({"model.a": ONE}, [theirs])[1] == ""
    assert strip_wrapper_prefix({"model.a": ONE}, [identity_map()])[1] == "model."


@pytest.mark.parametrize("case", ["vitdet-tiny", "vitdet-b-448", "bert-hf-tiny"])
def test_round_trip_of_real_names(case: str) -> None:
    golden = Path(__file__).parents[2].parent / "shared" / "golden"
    if not (golden / case).is_dir():
        pytest.skip("the golden cases are not here")
    sys.path.insert(0, str(golden))
    try:
        import golden as cases
    finally:
        sys.path.remove(str(golden))
    if not hasattr(cases, "load"):
        pytest.skip("another module is called golden")
    from mindground.backbones.bert import HUGGINGFACE_MAP
    from mindground.backbones.vitdet import DETECTRON2_MAP

    state = cases.load(case).state_dict()
    known = HUGGINGFACE_MAP if case.startswith("bert") else DETECTRON2_MAP
    adapted = known.to_ours(state)
    assert not adapted.unexpected
    back = known.to_theirs(adapted.tensors)
    assert back.keys() == state.keys() - adapted.ignored.keys()
    assert all(np.array_equal(back[name], state[name]) for name in back)
