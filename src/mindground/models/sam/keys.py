"""What Hugging Face's config.json of SAM says of keys here; importing it imports no MindSpore."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mindground.config.registry import SourceKeys
from mindground.errors import WeightsError, shown
from mindground.models.sam.config import VIT_PRESETS

__all__ = ["sam_keys"]

_PARTS = ("vision_config", "mask_decoder_config", "prompt_encoder_config")
# Entry -> key here, by part.
_SIZES: dict[str, dict[str, str]] = {
    "vision_config": {
        "hidden_size": "model.encoder.embed_dim",
        "num_hidden_layers": "model.encoder.depth",
        "num_attention_heads": "model.encoder.num_heads",
        "mlp_dim": "model.encoder.mlp_dim",
        "window_size": "model.encoder.window_size",
        "patch_size": "model.encoder.patch_size",
        "image_size": "model.encoder.img_size",
    },
    "mask_decoder_config": {
        "hidden_size": "model.decoder.width",
        "num_hidden_layers": "model.decoder.depth",
        "num_attention_heads": "model.decoder.num_heads",
        "mlp_dim": "model.decoder.mlp_dim",
        "iou_head_hidden_dim": "model.decoder.iou_hidden",
    },
    "prompt_encoder_config": {"mask_input_channels": "model.decoder.mask_channels"},
}
# Entries that have one value here.
_FIXED: dict[str, dict[str, Any]] = {
    "vision_config": {"hidden_act": "gelu", "use_rel_pos": True, "use_abs_pos": True, "qkv_bias": True},
    "mask_decoder_config": {"hidden_act": "relu", "num_multimask_outputs": 3, "attention_downsample_rate": 2},
    "prompt_encoder_config": {"hidden_act": "gelu", "num_point_embeddings": 4},
}
_EPS = 1e-6
_MOST = 1 << 20


def sam_keys(config: Mapping[str, Any]) -> SourceKeys:
    """Sizes that the configuration states; empty for a configuration of something else.

    Raises:
        WeightsError: a size that is none, or a variant that is not built here.
    """
    if config.get("model_type") != "sam":
        return SourceKeys()
    parts = {name: config.get(name) for name in _PARTS}
    keys: dict[str, Any] = {}
    for name, part in parts.items():
        if not isinstance(part, Mapping):
            continue
        for entry, only in _FIXED[name].items():
            if part.get(entry, only) != only:
                said = shown(part[entry])
                raise WeightsError(f"config.json says {name}.{entry}={said}, and only {only!r} is read here")
        for entry, key in _SIZES[name].items():
            if part.get(entry) is not None:
                keys[key] = _size(part[entry], f"{name}.{entry}")
    vision = parts["vision_config"]
    if isinstance(vision, Mapping) and vision.get("global_attn_indexes") is not None:
        keys["model.encoder.global_blocks"] = _blocks(vision["global_attn_indexes"])
    if isinstance(vision, Mapping):
        keys["model.sam_type"] = _named(keys)
    keys["model.decoder.norm_eps"] = _EPS
    return SourceKeys(keys)


def _named(keys: Mapping[str, Any]) -> str:
    """The preset of these sizes, or an empty text."""
    names = ("embed_dim", "depth", "num_heads", "global_blocks", "mlp_dim")
    said = [keys.get(f"model.encoder.{name}") for name in names]
    for name, (width, depth, heads, blocks) in VIT_PRESETS.items():
        if name != "default" and said in ([width, depth, heads, list(blocks), hidden] for hidden in (4 * width, None)):
            return name
    return ""


def _size(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST:
        raise WeightsError(f"config.json says {name}={shown(value)}, which is no size")
    return value


def _blocks(value: Any) -> list[int]:
    numbers = isinstance(value, list) and len(value) <= 256
    if not numbers or not all(type(entry) is int and 0 <= entry < 256 for entry in value):
        raise WeightsError(f"config.json says vision_config.global_attn_indexes={shown(value)}, which are no blocks")
    return list(value)
