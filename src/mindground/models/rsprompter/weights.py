"""Names of the files that the family starts from, and of the ones it is exported to."""

from __future__ import annotations

from mindground.backbones.sam_decoder_weights import DECODER_PARTS
from mindground.backbones.sam_weights import HUGGINGFACE_ENCODER, ORIGINAL_ENCODER, SAM_ADAPTERS
from mindground.detection.weights import (
    AGGREGATOR_RULES,
    BOX_HEAD_RULES,
    COUNTERS,
    MASK_HEAD_RULES,
    ROI_PROMPTER_RULES,
    RPN_RULES,
    SPLITTER_RULES,
    under,
)
from mindground.weights.maps import WeightMap

__all__ = ["UPSTREAM_MAP", "WEIGHT_MAPS"]

_IMAGE, _DECODER, _HEAD = "image_encoder.", "decoder.", "roi_head.mask_head."
_SHARED = "positional_embedding"

# Files of published trainings: an encoder as Hugging Face names it, everything else as mmdetection does.
UPSTREAM_MAP = WeightMap(
    "RSPrompter",
    rules=(
        *under(HUGGINGFACE_ENCODER.rules, "backbone.vision_encoder.", _IMAGE),
        ("shared_image_embedding.shared_image_embedding." + _SHARED, _DECODER + "frequencies"),
        *under(AGGREGATOR_RULES, "neck.feature_aggregator.", "aggregator."),
        *under(SPLITTER_RULES, "neck.feature_spliter.", "splitter."),
        *under(RPN_RULES, "rpn_head.", "rpn_head."),
        *under(BOX_HEAD_RULES, "roi_head.bbox_head.", "box_head."),
        *under(DECODER_PARTS["huggingface"], _HEAD + "mask_decoder.mask_decoder.", _DECODER + "mask_decoder."),
        (_HEAD + "no_mask_embed.weight", _DECODER + "no_mask"),
        *under(ROI_PROMPTER_RULES, _HEAD, "prompter."),
        *under(MASK_HEAD_RULES, _HEAD, "mask_head."),
    ),
    adapters=SAM_ADAPTERS,
    ignored=COUNTERS,
)

_UNUSED = "prompts of users, which this family does not ask for"
_ORIGINAL = WeightMap(
    "segment-anything",
    rules=(
        *under(ORIGINAL_ENCODER.rules, _IMAGE, _IMAGE),
        ("prompt_encoder.pe_layer.positional_encoding_gaussian_matrix", _DECODER + "frequencies"),
        ("prompt_encoder.no_mask_embed.weight", _DECODER + "no_mask"),
        *under(DECODER_PARTS["original"], "mask_decoder.", _DECODER + "mask_decoder."),
    ),
    adapters=SAM_ADAPTERS,
    ignored=(
        (r"pixel_(mean|std)", "input statistics, part of our configuration"),
        (r"prompt_encoder\.(point_embeddings|not_a_point_embed|mask_downscaling)\..*", _UNUSED),
    ),
)
_HUGGINGFACE = WeightMap(
    "Hugging Face SAM",
    rules=(
        *under(HUGGINGFACE_ENCODER.rules, "vision_encoder.", _IMAGE),
        ("shared_image_embedding." + _SHARED, _DECODER + "frequencies"),
        ("prompt_encoder.no_mask_embed.weight", _DECODER + "no_mask"),
        *under(DECODER_PARTS["huggingface"], "mask_decoder.", _DECODER + "mask_decoder."),
    ),
    adapters=SAM_ADAPTERS,
    ignored=(
        (r"prompt_encoder\.shared_embedding\." + _SHARED, "a second copy of shared_image_embedding"),
        (r"prompt_encoder\.(point_embed|not_a_point_embed|mask_embed)\..*", _UNUSED),
    ),
)

WEIGHT_MAPS: dict[str, WeightMap] = {"rsprompter": UPSTREAM_MAP, "sam": _ORIGINAL, "sam-hf": _HUGGINGFACE}
