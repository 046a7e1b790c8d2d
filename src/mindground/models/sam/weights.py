"""Names of the files that Segment Anything starts from, and of the ones it is exported to."""

from __future__ import annotations

from mindground.backbones.sam_weights import HUGGINGFACE_ENCODER, MMPRETRAIN_ENCODER, ORIGINAL_ENCODER, SAM_ADAPTERS
from mindground.weights.maps import WeightMap

__all__ = ["DECODER_PARTS", "HUGGINGFACE_MAP", "ORIGINAL_MAP", "WEIGHT_MAPS"]

Rules = tuple[tuple[str, str], ...]


def _plain(theirs: str, ours: str) -> Rules:
    return ((theirs + ".{leaf:weight|bias}", ours + ".{leaf}"),)


def _norm(theirs: str, ours: str) -> Rules:
    return ((f"{theirs}.weight", f"{ours}.gamma"), (f"{theirs}.bias", f"{ours}.beta"))


def _under(rules: Rules, theirs: str, ours: str) -> Rules:
    return tuple((theirs + a, ours + b) for a, b in rules)


def _transformer(norm: str, final: str) -> Rules:
    layer = "layers.{n}."
    projections = "{part:q_proj|k_proj|v_proj|out_proj}"
    return (
        *_plain(f"{layer}self_attn.{projections}", f"{layer}self_attn.{{part}}"),
        *_plain(f"{layer}cross_attn_token_to_image.{projections}", f"{layer}to_image.{{part}}"),
        *_plain(f"{layer}cross_attn_image_to_token.{projections}", f"{layer}to_tokens.{{part}}"),
        *_plain(f"{layer}mlp.{{part:lin1|lin2}}", f"{layer}mlp.{{part}}"),
        *_norm(f"{layer}{norm}{{k}}", f"{layer}norm{{k}}"),
        *_plain(f"final_attn_token_to_image.{projections}", "final_attn.{part}"),
        *_norm(final, "norm_final"),
    )


_ORIGINAL_DECODER: Rules = (
    ("{part:iou_token|mask_tokens}.weight", "{part}"),
    *_under(_transformer("norm", "norm_final_attn"), "transformer.", "transformer."),
    *_plain("output_upscaling.0", "upscale1"),
    *_norm("output_upscaling.1", "upscale_norm"),
    *_plain("output_upscaling.3", "upscale2"),
    *_plain("output_hypernetworks_mlps.{n}.layers.{m}", "hyper.{n}.layers.{m}"),
    *_plain("iou_prediction_head.layers.{m}", "iou_head.layers.{m}"),
)


def _named_mlp(theirs: str, ours: str) -> Rules:
    """Three layers that Hugging Face calls proj_in, layers.0 and proj_out."""
    names = ("proj_in", "layers.0", "proj_out")
    return tuple(pair for number, name in enumerate(names) for pair in _plain(f"{theirs}.{name}", f"{ours}.{number}"))


_HUGGINGFACE_DECODER: Rules = (
    ("{part:iou_token|mask_tokens}.weight", "{part}"),
    *_under(_transformer("layer_norm", "layer_norm_final_attn"), "transformer.", "transformer."),
    *_plain("upscale_conv1", "upscale1"),
    *_norm("upscale_layer_norm", "upscale_norm"),
    *_plain("upscale_conv2", "upscale2"),
    *_named_mlp("output_hypernetworks_mlps.{n}", "hyper.{n}.layers"),
    *_named_mlp("iou_prediction_head", "iou_head.layers"),
)
# Rules of the mask decoder alone, for files that hold it under a prefix of theirs.
DECODER_PARTS: dict[str, Rules] = {"original": _ORIGINAL_DECODER, "huggingface": _HUGGINGFACE_DECODER}

_PROMPT, _MASK, _IMAGE = "prompt_encoder.", "mask_decoder.", "image_encoder."

ORIGINAL_MAP = WeightMap(
    "segment-anything",
    rules=(
        *_under(ORIGINAL_ENCODER.rules, _IMAGE, _IMAGE),
        (_PROMPT + "pe_layer.positional_encoding_gaussian_matrix", _PROMPT + "frequencies"),
        (_PROMPT + "not_a_point_embed.weight", _PROMPT + "not_a_point"),
        (_PROMPT + "no_mask_embed.weight", _PROMPT + "no_mask"),
        *_under(
            (
                *_plain("0", "mask_conv1"), *_plain("1", "mask_norm1"), *_plain("3", "mask_conv2"),
                *_plain("4", "mask_norm2"), *_plain("6", "mask_conv3"),
            ),
            _PROMPT + "mask_downscaling.", _PROMPT,
        ),
        *_under(_ORIGINAL_DECODER, _MASK, _MASK),
    ),
    packed=((tuple(f"{_PROMPT}point_embeddings.{index}.weight" for index in range(4)), _PROMPT + "point_embed"),),
    adapters=SAM_ADAPTERS,
    ignored=((r"pixel_(mean|std)", "input statistics, part of our configuration"),),
)  # fmt: skip

_SHARED = "shared_image_embedding.positional_embedding"
HUGGINGFACE_MAP = WeightMap(
    "Hugging Face SAM",
    rules=(
        *_under(HUGGINGFACE_ENCODER.rules, "vision_encoder.", _IMAGE),
        (_SHARED, _PROMPT + "frequencies"),
        (_PROMPT + "shared_embedding.positional_embedding", _PROMPT + "frequencies"),
        (_PROMPT + "not_a_point_embed.weight", _PROMPT + "not_a_point"),
        (_PROMPT + "no_mask_embed.weight", _PROMPT + "no_mask"),
        *_under(
            (*_plain("conv{k}", "mask_conv{k}"), *_plain("layer_norm{k}", "mask_norm{k}")),
            _PROMPT + "mask_embed.", _PROMPT,
        ),
        *_under(_HUGGINGFACE_DECODER, _MASK, _MASK),
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
