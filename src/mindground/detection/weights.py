"""Names of the parts of published detectors (mmdetection's layout) and ours, part by part and without a prefix."""

from __future__ import annotations

from mindground.weights.maps import WeightMap

__all__ = [
    "AGGREGATOR_RULES",
    "BOX_HEAD_RULES",
    "COUNTERS",
    "DECODER_LAYER_RULES",
    "DEFORMABLE_RULES",
    "FPN_RULES",
    "LEGACY_NECK_RULES",
    "MASK_HEAD_RULES",
    "PIXEL_DECODER_RULES",
    "PSEUDO_AGGREGATOR_RULES",
    "ROI_PROMPTER_RULES",
    "RPN_RULES",
    "SPLITTER_RULES",
    "part_map",
    "under",
]

Rules = tuple[tuple[str, str], ...]

COUNTERS = ((r"(.*\.)?num_batches_tracked", "a counter that nothing reads"),)


def under(rules: Rules, theirs: str, ours: str) -> Rules:
    """The same rules behind a prefix on either side."""
    return tuple((theirs + a, ours + b) for a, b in rules)


def part_map(name: str, rules: Rules) -> WeightMap:
    """A map of one part alone."""
    return WeightMap(name, rules=rules, ignored=COUNTERS)


def _plain(theirs: str, ours: str = "") -> Rules:
    return ((theirs + ".{leaf:weight|bias}", (ours or theirs) + ".{leaf}"),)


def _batch_norm(theirs: str, ours: str = "") -> Rules:
    pairs = (("weight", "gamma"), ("bias", "beta"), ("running_mean", "moving_mean"), ("running_var", "moving_variance"))
    return tuple((f"{theirs}.{a}", f"{ours or theirs}.{b}") for a, b in pairs)


def _layer_norm(theirs: str, ours: str = "") -> Rules:
    return ((theirs + ".weight", (ours or theirs) + ".gamma"), (theirs + ".bias", (ours or theirs) + ".beta"))


AGGREGATOR_RULES: Rules = (
    *_plain("downconvs.{n}.{m:0|3}"),
    *_batch_norm("downconvs.{n}.{m:1|4}"),
    *_plain("hidden_convs.{n}.0"),
    *_batch_norm("hidden_convs.{n}.1"),
    *_plain("fusion_conv.{m:0|3|6}"),
    *_batch_norm("fusion_conv.{m:1|4}"),
)
PSEUDO_AGGREGATOR_RULES: Rules = _plain("channel_fusion.{n}")
SPLITTER_RULES: Rules = (
    *_plain("{level:fpn1|fpn2}.{n}"),
    *_plain("{side:lateral_convs|fpn_convs}.{n}.{part:conv|norm_layer}"),
)
FPN_RULES: Rules = _plain("{side:lateral_convs|fpn_convs}.{n}.conv", "{side}.{n}")
RPN_RULES: Rules = _plain("{part:rpn_conv|rpn_cls|rpn_reg}")
BOX_HEAD_RULES: Rules = (*_plain("shared_fcs.{n}"), *_plain("{part:fc_cls|fc_reg}"))
MASK_HEAD_RULES: Rules = (*_plain("convs.{n}.conv", "convs.{n}"), *_plain("{part:upsample|conv_logits}"))


def _unit(theirs: str, ours: str = "") -> Rules:
    return (
        *_plain(theirs + ".conv", (ours or theirs) + ".conv"),
        *_batch_norm(theirs + ".bn", (ours or theirs) + ".bn"),
    )


LEGACY_NECK_RULES: Rules = (
    *_unit("down_sample_layers.{n}.{m:0|1}"),
    *_unit("fusion_layers.{n}"),
    *_unit("up_layers.0.{m:0|1}", "mixed.{m}"),
    *_unit("up_layers.1", "widened"),
    *_unit("up_sample_layers.0.1", "doubled.0.first"),
    *_unit("up_sample_layers.0.2", "doubled.0.second"),
    *_unit("up_sample_layers.2.1", "doubled.1.first"),
    *_unit("up_sample_layers.2.2", "doubled.1.second"),
)

ROI_PROMPTER_RULES: Rules = (*_plain("point_emb.{n:0|4|6|8}"), *_batch_norm("point_emb.1"))

DEFORMABLE_RULES: Rules = _plain("{part:sampling_offsets|attention_weights|value_proj|output_proj}")
_FEED_FORWARD: Rules = (*_plain("ffn.layers.0.0", "ffn.0"), *_plain("ffn.layers.1", "ffn.2"))
_ENCODER_LAYER: Rules = (
    *under(DEFORMABLE_RULES, "self_attn.", "self_attn."),
    *_FEED_FORWARD,
    *_layer_norm("norms.{m}"),
)
PIXEL_DECODER_RULES: Rules = (
    *_plain("{side:input_convs|lateral_convs|output_convs}.{n}.conv"),
    *_layer_norm("{side:input_convs|lateral_convs|output_convs}.{n}.gn"),
    *under(_ENCODER_LAYER, "encoder.layers.{n}.", "layers.{n}."),
    ("level_encoding.weight", "level_encoding"),
    *_plain("mask_feature"),
)
DECODER_LAYER_RULES: Rules = (
    ("{part:self_attn|cross_attn}.attn.in_proj_{leaf:weight|bias}", "{part}.in_proj_{leaf}"),
    *_plain("{part:self_attn|cross_attn}.attn.out_proj", "{part}.out_proj"),
    *_FEED_FORWARD,
    *_layer_norm("norms.{m}"),
)
