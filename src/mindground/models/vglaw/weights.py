"""Names of the files that VG-LAW starts from, and of the ones it is exported to."""

from __future__ import annotations

from mindground.backbones.bert import HUGGINGFACE_MAP
from mindground.backbones.vitdet import DETECTRON2_MAP, MAE_MAP, VITDET_MAP
from mindground.weights.maps import WeightMap

__all__ = ["UPSTREAM_MAP", "WEIGHT_MAPS"]

# The published MindSpore code names everything as we do, but for the norm between its two up-samplings.
_NORM = (("up_sample.1.weight", "up_sample.1.gamma"), ("up_sample.1.bias", "up_sample.1.beta"))
UPSTREAM_MAP = WeightMap(
    "VG-LAW checkpoint",
    rules=(*_NORM, ("{path}", "{path}")),
    adapters=VITDET_MAP.with_prefix(ours="visual_encoder.").adapters,
    ignored=((r"(global_step|learning_rate|epoch_num|step_num|moment[12]\..*|adam_.*)", "state of the optimiser"),),
)

# The same tensors without the prefix: the ViTDet file that the published code converted for itself.
_CONVERTED = WeightMap(
    "ViTDet converted for MindSpore",
    rules=(
        ("pos_embed", "visual_encoder.pos_embed"),
        ("patch_embed.{path}", "visual_encoder.patch_embed.{path}"),
        ("blocks.{n}.{path}", "visual_encoder.blocks.{n}.{path}"),
    ),
    adapters=UPSTREAM_MAP.adapters,
)

WEIGHT_MAPS: dict[str, WeightMap] = {
    "vglaw": UPSTREAM_MAP,
    "vitdet": DETECTRON2_MAP.with_prefix(ours="visual_encoder."),
    "vitdet-mae": MAE_MAP.with_prefix(ours="visual_encoder."),
    "vitdet-mindspore": _CONVERTED,
    "bert": HUGGINGFACE_MAP.with_prefix(ours="text_encoder."),
}
