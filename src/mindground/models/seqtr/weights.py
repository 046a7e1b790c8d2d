"""Names of the files that SeqTR and MSAM start from, and of the ones they are exported to."""

from __future__ import annotations

from mindground.backbones.bert import HUGGINGFACE_MAP
from mindground.backbones.darknet_weights import DARKNET_MAP, conv_unit_rules
from mindground.backbones.swin_weights import MICROSOFT_MAP, SWIN_ADAPTERS, SWIN_COMPUTED, SWIN_RULES
from mindground.weights.maps import WeightMap

__all__ = ["PART_RULES", "UPSTREAM_MAP", "WEIGHT_MAPS", "part_map"]

Rules = tuple[tuple[str, str], ...]

_COUNTER = (r"(.*\.)?num_batches_tracked", "a counter that nothing reads")
_NO_POOLER = (r"(.*\.)?bert\.pooler\..*", "the pooler takes no part")
_POSITION_IDS = (r"(.*\.)?bert\.embeddings\.position_ids", "counts from 0, computed here")


def _plain(theirs: str, ours: str) -> Rules:
    return ((theirs + ".{leaf:weight|bias}", ours + ".{leaf}"),)


def _norm(theirs: str, ours: str) -> Rules:
    return ((theirs + ".weight", ours + ".gamma"), (theirs + ".bias", ours + ".beta"))


def _under(rules: Rules, theirs: str = "", ours: str = "") -> Rules:
    return tuple((theirs + a, ours + b) for a, b in rules)


_DARKNET: Rules = (
    *conv_unit_rules("darknet.{n}", "layers.{n}"),
    *conv_unit_rules("darknet.{n}.module_list.{m}.{k}", "layers.{n}.blocks.{m}.{k}"),
)
_GRU: Rules = (
    ("embedding.weight", "words.embedding_table"),
    ("lstm.{leaf}", "gru.{leaf}"),
    *_plain("global_token.embedding_local.0", "attention.local"),
    *_plain("global_token.embedding_global.0", "attention.overall"),
    *_plain("global_token.embedding_common.0", "attention.common"),
)
_BERT: Rules = (*_under(HUGGINGFACE_MAP.rules, "bert.", "bert."), *_plain("mapping.0", "mapping"))
_SIMPLE: Rules = (
    *conv_unit_rules("down_bot2mid.1", "bottom"),
    *conv_unit_rules("down_mid2top.1", "middle"),
    *conv_unit_rules("up_top2mid.0", "top"),
    *conv_unit_rules("top_project.{n}", "project.{n}"),
)
_BLOCK = "layers.{n}.blocks.{m}."
_SWIN_BLOCK: Rules = tuple(
    (a.removeprefix(_BLOCK), b.removeprefix(_BLOCK)) for a, b in SWIN_RULES if a.startswith(_BLOCK)
)
_MERGING: Rules = (("reduction.weight", "reduction.weight"), *_norm("norm", "norm"))
_KERNELS: Rules = (
    *_plain("qcb.proj", "qcb.proj"),
    *_plain("ca.{part:q|k|v|proj}", "ca.{part}"),
    *_plain("sk.fc", "sk.fc"),
    *_plain("sk.fcs.{n}", "sk.fcs.{n}"),
    *_under(_MERGING, "kc.pm.", "kc.pm."),
    *conv_unit_rules("kc.conv.{n}", "kc.conv.{n}"),
)
_STAGES: Rules = (
    *_under(tuple((a.replace("{n}", "{k}"), b.replace("{n}", "{k}")) for a, b in _KERNELS), *("stages.{n}.",) * 2),
    *_under(_SWIN_BLOCK, "stages.{n}.swin.blocks.{m}.", "stages.{n}.swin.blocks.{m}."),
)
_ATTENTION: Rules = (
    ("in_proj_{leaf:weight|bias}", "in_proj_{leaf}"),
    *_plain("out_proj", "out_proj"),
)
_LAYER: Rules = (
    *_under(_ATTENTION, "{where:self_attn|multihead_attn}.", "{where}."),
    ("linear{k}.{leaf:weight|bias}", "feed.linear{k}.{leaf}"),
    *_norm("norm{k}", "norm{k}"),
)
_HEAD: Rules = (
    *_plain("transformer.input_proj.conv", "project.conv"),
    *_norm("transformer.input_proj.gn", "project.gn"),
    *_under(_LAYER, "transformer.encoder.layers.{n}.", "encoder.{n}."),
    *_under(_LAYER, "transformer.decoder.layers.{n}.", "decoder.layers.{n}."),
    *_norm("transformer.decoder.norm", "decoder.norm"),
    ("transformer.query_embedding.weight", "tokens"),
    ("transformer.seq_positional_encoding.embedding.weight", "places"),
    ("task_embedding.weight", "tasks"),
    *_plain("predictor.{n}.fc", "predictor.{n}"),
)

# Rules of the parts, which reference cases hold alone.
PART_RULES: dict[str, Rules] = {
    "darknet": _DARKNET,
    "gru": _GRU,
    "bert": _BERT,
    "simple": _SIMPLE,
    "kernels": _KERNELS,
    "stages": _STAGES,
    "swin_block": _SWIN_BLOCK,
    "merging": _MERGING,
    "head": _HEAD,
}


def part_map(part: str, theirs: str = "") -> WeightMap:
    """The map of one part, for files that hold it alone (under a prefix of theirs)."""
    ignored = (_COUNTER, _NO_POOLER, _POSITION_IDS, *SWIN_COMPUTED)
    whole = WeightMap(part, rules=PART_RULES[part], ignored=ignored, adapters=SWIN_ADAPTERS)
    return whole.with_prefix(theirs=theirs)


# Checkpoints of both repositories. Names of MSAM's fusion were never published; these are ours.
UPSTREAM_MAP = WeightMap(
    "SeqTR / MSAM checkpoint",
    rules=(
        *_under(_DARKNET, "vis_enc.", "visual_encoder."),
        *_under(SWIN_RULES, "vis_enc.", "visual_encoder.backbone."),
        *_under(_GRU, "lan_enc.", "text_encoder."),
        *_under(_BERT, "lan_enc.", "text_encoder."),
        *_under(_SIMPLE, "fusion.", "fusion."),
        *_under(_STAGES, "fusion.", "fusion."),
        *_under(_HEAD, "head.", "sequence_head."),
    ),
    ignored=(_COUNTER, _NO_POOLER, _POSITION_IDS, *SWIN_COMPUTED),
    adapters=SWIN_ADAPTERS,
)

_TEXT = HUGGINGFACE_MAP.with_prefix(ours="text_encoder.bert.")

WEIGHT_MAPS: dict[str, WeightMap] = {
    "seqtr": UPSTREAM_MAP,
    "darknet": DARKNET_MAP.with_prefix(ours="visual_encoder."),
    "swin": MICROSOFT_MAP.with_prefix(ours="visual_encoder.backbone."),
    "bert": WeightMap(
        _TEXT.name, rules=_TEXT.rules, ignored=((r"(bert\.)?pooler\..*", "the pooler takes no part"), *_TEXT.ignored),
        layered=_TEXT.layered,
        may_miss=((r"text_encoder\.mapping\.(weight|bias)", "the map to the fusion's width is new"),),
        backbone=_TEXT.backbone, prefix=_TEXT.prefix,
    ),
}  # fmt: skip
