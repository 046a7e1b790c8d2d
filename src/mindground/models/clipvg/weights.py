"""Names of the files that CLIP-VG starts from, and of the ones it is exported to."""

from __future__ import annotations

from mindground.backbones.clip_weights import HUGGINGFACE_MAP, OPENAI_MAP, position_adapter
from mindground.weights.maps import WeightMap, combine

__all__ = ["UPSTREAM_MAP", "WEIGHT_MAPS"]

_LAYER = "vl_transformer.encoder.layers.{n}."
_OURS = "vl_transformer.layers.{n}."

_NETWORK = WeightMap(
    "CLIP-VG checkpoint",
    rules=(
        ("{where:visu_proj|text_proj|ml_visu_proj}.{leaf:weight|bias}", "{where}.{leaf}"),
        ("reg_token.weight", "reg_token"),
        ("vl_pos_embed.weight", "vl_pos_embed"),
        (_LAYER + "norm{k}.weight", _OURS + "norm{k}.gamma"),
        (_LAYER + "norm{k}.bias", _OURS + "norm{k}.beta"),
        (_LAYER + "{where:self_attn|linear1|linear2}.{path}", _OURS + "{where}.{path}"),
        ("bbox_embed.layers.{n}.{leaf:weight|bias}", "bbox_embed.layers.{n}.{leaf}"),
    ),
    ignored=((r"language_prompt", "token ids, part of our configuration"),),
    # [REG], 77 words and the class token come before the patches.
    adapters=((r"vl_pos_embed", position_adapter(79)),),
    aliases=(
        ("image_encoder_clip_vg.{path}", "clip.visual.{path}"),
        ("text_encoder_clip_vg.{path}", "clip.{path}"),
    ),
)

UPSTREAM_MAP = combine(OPENAI_MAP.with_prefix(ours="clip.", theirs="clip."), _NETWORK, name="CLIP-VG checkpoint")

WEIGHT_MAPS: dict[str, WeightMap] = {
    "clipvg": UPSTREAM_MAP,
    "clip": OPENAI_MAP.with_prefix(ours="clip."),
    "clip-huggingface": HUGGINGFACE_MAP.with_prefix(ours="clip."),
}
