"""Names of the files that RMSIN and LAVT start from, and of the ones they are exported to."""

from __future__ import annotations

from dataclasses import replace

from mindground.backbones.bert import HUGGINGFACE_MAP
from mindground.backbones.swin_weights import MICROSOFT_MAP, SWIN_ADAPTERS, SWIN_COMPUTED, SWIN_RULES
from mindground.weights.maps import WeightMap

__all__ = ["PART_RULES", "TWO_PART_MAP", "UPSTREAM_MAP", "WEIGHT_MAPS", "part_map"]

Rules = tuple[tuple[str, str], ...]

_COUNTER = (r"(.*\.)?num_batches_tracked", "a counter that nothing reads")


def _plain(theirs: str, ours: str) -> Rules:
    return ((theirs + ".{leaf:weight|bias}", ours + ".{leaf}"),)


def _batch_norm(theirs: str, ours: str) -> Rules:
    pairs = (("weight", "gamma"), ("bias", "beta"), ("running_mean", "moving_mean"), ("running_var", "moving_variance"))
    return tuple((f"{theirs}.{a}", f"{ours}.{b}") for a, b in pairs)


def _under(rules: Rules, theirs: str = "", ours: str = "") -> Rules:
    return tuple((theirs + a, ours + b) for a, b in rules)


_PWAM: Rules = (
    *_plain("vis_project.0", "vis_project"),
    *_plain("project_mm.0", "project_mm"),
    *_plain("image_lang_att.f_key.0", "key"),
    *_plain("image_lang_att.f_query.0", "query"),
    *_plain("image_lang_att.f_value.0", "value"),
    *_plain("image_lang_att.W.0", "out"),
)


def _branches(suffix: str, ours: str) -> Rules:
    wide, point = f"repblock.brb_3x3{suffix}", f"repblock.brb_1x1{suffix}"
    return (
        *_plain(wide + ".conv1", ours + ".wide_conv1"),
        *_batch_norm(wide + ".bn1", ours + ".wide_bn1"),
        *_plain(wide + ".conv2", ours + ".wide_conv2"),
        *_batch_norm(wide + ".bn2", ours + ".wide_bn2"),
        *_plain(point + ".conv", ours + ".point_conv"),
        *_batch_norm(point + ".bn", ours + ".point_bn"),
        *_batch_norm(f"repblock.brb_identity{suffix}", ours + ".same_bn"),
    )


_RECEPTIVE: Rules = (*_branches("", "first"), *_branches("_2", "second"))
_GATES: Rules = tuple(
    (f"{gate}_gate.{number}.weight", f"{gate}_gate.fc{layer}.weight")
    for gate in ("res", "visual")
    for number, layer in ((0, 1), (2, 2))
)
_HOOK: Rules = (
    *_under(_PWAM, "fusion.", "fusion."),
    *_GATES,
    *_under(_RECEPTIVE, "visual_residual.", "visual_residual."),
)
_FEED_FORWARD: Rules = (
    *_batch_norm("bn{k}", "bn{k}"),
    *_plain("conv{k}", "conv{k}"),
)
_TOKENS: Rules = (
    ("qkv.c.weight", "qkv.weight"),
    *_batch_norm("qkv.bn", "qkv_bn"),
    *_plain("parallel_conv.1", "parallel_conv"),
    *_plain("to_out", "to_out"),
    *_plain("proj", "proj"),
)
_CSA: Rules = (
    *_batch_norm("bn{k}", "bn{k}"),
    *_plain("DWConv1.0", "half_conv"),
    *_batch_norm("DWConv1.1", "half_bn"),
    *_plain("DWConv2.0", "third_conv"),
    *_batch_norm("DWConv2.1", "third_bn"),
    *_under(_TOKENS, "attention.", "attention."),
    *_plain("conv", "conv"),
)
_INTRA: Rules = tuple(pair for k in (1, 2, 3, 4) for pair in _under(_FEED_FORWARD, f"ff{k}.m.", f"layers.{k - 1}."))
_GATE: Rules = (
    *_plain("{part:local_embedding|global_embedding|global_act}", "{part}"),
    *_batch_norm("bn{k}", "bn{k}"),
)
_BLOCK = ("block.{n}.", "blocks.{n}.")
_CIM: Rules = (
    *_plain("{part:down_channel|up_channel}", "{part}"),
    *_batch_norm("bn", "bn"),
    *(pair for k in (1, 2) for pair in _under(_CSA, f"{_BLOCK[0]}csa{k}.m.", f"{_BLOCK[1]}csa{k}.")),
    *_under(_INTRA, _BLOCK[0] + "intra_ff.m.", _BLOCK[1] + "intra."),
    *_under(_FEED_FORWARD, _BLOCK[0] + "ff.m.", _BLOCK[1] + "ff."),
    *_under(_GATE, "fusion.{n}.", "gates.{n}."),
)
_ARC: Rules = (
    ("weight", "weight"),
    ("rounting_func.dwc.weight", "routing.dwc.weight"),
    ("rounting_func.norm.norm.weight", "routing.norm.gamma"),
    ("rounting_func.norm.norm.bias", "routing.norm.beta"),
    *_plain("rounting_func.fc_alpha", "routing.fc_alpha"),
    ("rounting_func.fc_theta.weight", "routing.fc_theta.weight"),
)
_DECODER: Rules = (
    *(
        pair
        for level in (4, 3, 2)
        for pair in (
            (f"conv1_{level}.weight", f"levels.{4 - level}.conv1.weight"),
            *_under(_ARC, f"conv2_{level}.", f"levels.{4 - level}.conv2."),
            *_batch_norm(f"bn1_{level}", f"levels.{4 - level}.bn1"),
            *_batch_norm(f"bn2_{level}", f"levels.{4 - level}.bn2"),
        )
    ),
    *_plain("conv1_1", "classify"),
)
_STAGE: Rules = (
    *_under(_HOOK, "", "hook."),
    *((a.removeprefix("layers.{n}."), b.removeprefix("layers.{n}.")) for a, b in SWIN_RULES if a.startswith("layers.")),
)

# Rules of the parts, which reference cases hold alone.
PART_RULES: dict[str, Rules] = {
    "pwam": _PWAM,
    "receptive": _RECEPTIVE,
    "stage": _STAGE,
    "tokens": _TOKENS,
    "csa": _CSA,
    "intra": _INTRA,
    "gate": _GATE,
    "cim": _CIM,
    "arc": _ARC,
    "decoder": _DECODER,
}


def part_map(part: str, theirs: str = "") -> WeightMap:
    """The map of one part, for files that hold it alone (under a prefix of theirs)."""
    whole = WeightMap(part, rules=PART_RULES[part], ignored=(_COUNTER, *SWIN_COMPUTED), adapters=SWIN_ADAPTERS)
    return whole.with_prefix(theirs=theirs)


_TEXT, _BESIDE = "text_encoder.", "bert_model."


def _checkpoint(name: str, first: str, second: str) -> WeightMap:
    """Names of a whole network; BERT is written under `first` and read under both."""
    return WeightMap(
        name,
        rules=(
            *_under(SWIN_RULES, "backbone.", "backbone."),
            *_under(_HOOK, "backbone.layers.{n}.", "backbone.layers.{n}.hook."),
            *_under(_CIM, "backbone.cim.", "cim."),
            *_under(_DECODER, "classifier.", "decoder."),
            *_under(HUGGINGFACE_MAP.rules, first, _TEXT),
            *_under(HUGGINGFACE_MAP.rules, second, _TEXT),
        ),
        ignored=(
            _COUNTER,
            *SWIN_COMPUTED,
            (r"(text_encoder|bert_model)\.embeddings\.position_ids", "counts from 0, computed here"),
            (r"(text_encoder|bert_model)\.pooler\..*", "the pooler takes no part"),
        ),
        adapters=SWIN_ADAPTERS,
    )


# RMSIN, LAVT and RemoteSAM: BERT inside (upstream's lavt_one), or in a state dict of its own, `bert_model` (lavt).
UPSTREAM_MAP = _checkpoint("RMSIN / LAVT checkpoint", _TEXT, _BESIDE)
TWO_PART_MAP = _checkpoint("RMSIN / LAVT checkpoint of two parts", _BESIDE, _TEXT)

_NO_POOLER = (r"(bert\.)?pooler\..*", "the pooler takes no part")
_BERT = HUGGINGFACE_MAP.with_prefix(ours="text_encoder.")

WEIGHT_MAPS: dict[str, WeightMap] = {
    "rmsin": UPSTREAM_MAP,
    "rmsin-two-part": TWO_PART_MAP,
    "swin": MICROSOFT_MAP.with_prefix(ours="backbone."),
    "bert": replace(_BERT, ignored=(_NO_POOLER, *_BERT.ignored)),
}
