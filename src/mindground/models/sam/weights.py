"""Names of the files that Segment Anything starts from, and of the ones it is exported to."""

from __future__ import annotations

from mindground.backbones.sam_decoder_weights import DECODER_PARTS, named, under
from mindground.backbones.sam_weights import HUGGINGFACE_ENCODER, MMPRETRAIN_ENCODER, ORIGINAL_ENCODER, SAM_ADAPTERS
from mindground.weights.maps import WeightMap

__all__ = ["HUGGINGFACE_MAP", "ORIGINAL_MAP", "WEIGHT_MAPS"]

_PROMPT, _MASK, _IMAGE = "prompt_encoder.", "mask_decoder.", "image_encoder."

ORIGINAL_MAP = WeightMap(
    "segment-anything",
    rules=(
        *under(ORIGINAL_ENCODER.rules, _IMAGE, _IMAGE),
        (_PROMPT + "pe_layer.positional_encoding_gaussian_matrix", _PROMPT + "frequencies"),
        (_PROMPT + "not_a_point_embed.weight", _PROMPT + "not_a_point"),
        (_PROMPT + "no_mask_embed.weight", _PROMPT + "no_mask"),
        *under(
            (
                *named("0", "mask_conv1"), *named("1", "mask_norm1"), *named("3", "mask_conv2"),
                *named("4", "mask_norm2"), *named("6", "mask_conv3"),
            ),
            _PROMPT + "mask_downscaling.", _PROMPT,
        ),
        *under(DECODER_PARTS["original"], _MASK, _MASK),
    ),
    packed=((tuple(f"{_PROMPT}point_embeddings.{index}.weight" for index in range(4)), _PROMPT + "point_embed"),),
    adapters=SAM_ADAPTERS,
    ignored=((r"pixel_(mean|std)", "input statistics, part of our configuration"),),
)  # fmt: skip

_SHARED = "shared_image_embedding.positional_embedding"
HUGGINGFACE_MAP = WeightMap(
    "Hugging Face SAM",
    rules=(
        *under(HUGGINGFACE_ENCODER.rules, "vision_encoder.", _IMAGE),
        (_SHARED, _PROMPT + "frequencies"),
        (_PROMPT + "shared_embedding.positional_embedding", _PROMPT + "frequencies"),
        (_PROMPT + "not_a_point_embed.weight", _PROMPT + "not_a_point"),
        (_PROMPT + "no_mask_embed.weight", _PROMPT + "no_mask"),
        *under(
            (*named("conv{k}", "mask_conv{k}"), *named("layer_norm{k}", "mask_norm{k}")),
            _PROMPT + "mask_embed.", _PROMPT,
        ),
        *under(DECODER_PARTS["huggingface"], _MASK, _MASK),
    ),
    packed=((tuple(f"{_PROMPT}point_embed.{index}.weight" for index in range(4)), _PROMPT + "point_embed"),),
    aliases=((_PROMPT + "shared_embedding.positional_embedding", _SHARED),),
    adapters=SAM_ADAPTERS,
)  # fmt: skip

WEIGHT_MAPS: dict[str, WeightMap] = {
    "sam": ORIGINAL_MAP,
    "sam-hf": HUGGINGFACE_MAP,
    "samencoder": ORIGINAL_ENCODER.with_prefix(ours=_IMAGE, theirs=_IMAGE),
    "samencoder-hf": HUGGINGFACE_ENCODER.with_prefix(ours=_IMAGE, theirs="vision_encoder."),
    "samencoder-mmpretrain": MMPRETRAIN_ENCODER.with_prefix(ours=_IMAGE),
}
