"""Names of Segment Anything's mask decoder in the files of its two publishers, without a prefix on either side."""

from __future__ import annotations

__all__ = ["DECODER_PARTS", "named", "normed", "under"]

Rules = tuple[tuple[str, str], ...]


def named(theirs: str, ours: str) -> Rules:
    """Weight and bias of a layer."""
    return ((theirs + ".{leaf:weight|bias}", ours + ".{leaf}"),)


def normed(theirs: str, ours: str) -> Rules:
    """Weight and bias of a norm."""
    return ((f"{theirs}.weight", f"{ours}.gamma"), (f"{theirs}.bias", f"{ours}.beta"))


def under(rules: Rules, theirs: str, ours: str) -> Rules:
    """The same rules behind a prefix on either side."""
    return tuple((theirs + a, ours + b) for a, b in rules)


def _transformer(norm: str, final: str) -> Rules:
    layer = "layers.{n}."
    projections = "{part:q_proj|k_proj|v_proj|out_proj}"
    return (
        *named(f"{layer}self_attn.{projections}", f"{layer}self_attn.{{part}}"),
        *named(f"{layer}cross_attn_token_to_image.{projections}", f"{layer}to_image.{{part}}"),
        *named(f"{layer}cross_attn_image_to_token.{projections}", f"{layer}to_tokens.{{part}}"),
        *named(f"{layer}mlp.{{part:lin1|lin2}}", f"{layer}mlp.{{part}}"),
        *normed(f"{layer}{norm}{{k}}", f"{layer}norm{{k}}"),
        *named(f"final_attn_token_to_image.{projections}", "final_attn.{part}"),
        *normed(final, "norm_final"),
    )


_ORIGINAL_DECODER: Rules = (
    ("{part:iou_token|mask_tokens}.weight", "{part}"),
    *under(_transformer("norm", "norm_final_attn"), "transformer.", "transformer."),
    *named("output_upscaling.0", "upscale1"),
    *normed("output_upscaling.1", "upscale_norm"),
    *named("output_upscaling.3", "upscale2"),
    *named("output_hypernetworks_mlps.{n}.layers.{m}", "hyper.{n}.layers.{m}"),
    *named("iou_prediction_head.layers.{m}", "iou_head.layers.{m}"),
)


def _named_mlp(theirs: str, ours: str) -> Rules:
    """Three layers that Hugging Face calls proj_in, layers.0 and proj_out."""
    names = ("proj_in", "layers.0", "proj_out")
    return tuple(pair for number, name in enumerate(names) for pair in named(f"{theirs}.{name}", f"{ours}.{number}"))


_HUGGINGFACE_DECODER: Rules = (
    ("{part:iou_token|mask_tokens}.weight", "{part}"),
    *under(_transformer("layer_norm", "layer_norm_final_attn"), "transformer.", "transformer."),
    *named("upscale_conv1", "upscale1"),
    *normed("upscale_layer_norm", "upscale_norm"),
    *named("upscale_conv2", "upscale2"),
    *_named_mlp("output_hypernetworks_mlps.{n}", "hyper.{n}.layers"),
    *_named_mlp("iou_prediction_head", "iou_head.layers"),
)
# Rules of the mask decoder alone, for files that hold it under a prefix of theirs.
DECODER_PARTS: dict[str, Rules] = {"original": _ORIGINAL_DECODER, "huggingface": _HUGGINGFACE_DECODER}
