"""Names of Segment Anything's image encoder in the files of its three publishers."""

from __future__ import annotations

import numpy as np

from mindground.nn.resize import bicubic_matrix, linear_matrix
from mindground.weights.maps import WeightMap

__all__ = [
    "HUGGINGFACE_ENCODER",
    "MMPRETRAIN_ENCODER",
    "MMPRETRAIN_LORA_ENCODER",
    "ORIGINAL_ENCODER",
    "SAM_ADAPTERS",
    "fit_positions",
    "fit_relative",
]

Rules = tuple[tuple[str, str], ...]


def fit_positions(array: np.ndarray, wanted: tuple[int, ...]) -> tuple[np.ndarray, str] | None:
    """Adapter for position tables (1, h, w, C) of another grid: bicubic, as PyTorch without antialiasing."""
    if array.ndim != 4 or len(wanted) != 4 or array.shape[0] != 1 or array.shape[3] != wanted[3]:
        return None
    across, down = bicubic_matrix(array.shape[2], wanted[2]), bicubic_matrix(array.shape[1], wanted[1])
    fitted = np.einsum("ia,abh,jb->ijh", down, array[0].astype(np.float32), across, optimize=True)
    note = f"bicubic {array.shape[1]}x{array.shape[2]} -> {wanted[1]}x{wanted[2]}"
    return np.ascontiguousarray(fitted[None], np.float32), note


def fit_relative(array: np.ndarray, wanted: tuple[int, ...]) -> tuple[np.ndarray, str] | None:
    """Adapter for tables of relative positions (2 G - 1, d) of another grid: linear."""
    if array.ndim != 2 or len(wanted) != 2 or array.shape[1] != wanted[1]:
        return None
    have, want = array.shape[0], wanted[0]
    return linear_matrix(have, want) @ array.astype(np.float32), f"linear {have} -> {want}"


SAM_ADAPTERS = ((r"(.*\.)?pos_embed", fit_positions), (r"(.*\.)?attn\.rel_pos_[hw]", fit_relative))


def _norm(theirs: str, ours: str) -> Rules:
    return ((f"{theirs}.weight", f"{ours}.gamma"), (f"{theirs}.bias", f"{ours}.beta"))


def _rules(blocks: str, patch: str, norm: str, feed_forward: tuple[str, str], neck: tuple[str, str, str, str]) -> Rules:
    """What the three spell differently, filled into what they share."""
    theirs = blocks + ".{n}"
    pairs: Rules = (
        ("pos_embed", "pos_embed"),
        (patch + ".{leaf:weight|bias}", "patch_embed.proj.{leaf}"),
        *_norm(f"{theirs}.{norm}{{k}}", "blocks.{n}.norm{k}"),
        (theirs + ".attn.{part:qkv|proj}.{leaf:weight|bias}", "blocks.{n}.attn.{part}.{leaf}"),
        (theirs + ".attn.rel_pos_{axis:h|w}", "blocks.{n}.attn.rel_pos_{axis}"),
    )
    for number, name in enumerate(feed_forward, 1):
        pairs += ((f"{theirs}.{name}.{{leaf:weight|bias}}", f"blocks.{{n}}.mlp.fc{number}.{{leaf}}"),)
    return (
        *pairs,
        (f"{neck[0]}.weight", "neck.conv1.weight"),
        *_norm(neck[1], "neck.norm1"),
        (f"{neck[2]}.weight", "neck.conv2.weight"),
        (f"{neck[3]}.{{leaf:weight|bias}}", "neck.norm2.{leaf}"),
    )


_NUMBERED = ("neck.0", "neck.1", "neck.2", "neck.3")
_ORIGINAL = _rules("blocks", "patch_embed.proj", "norm", ("mlp.lin1", "mlp.lin2"), _NUMBERED)
_HUGGINGFACE = _rules(
    "layers",
    "patch_embed.projection",
    "layer_norm",
    ("mlp.lin1", "mlp.lin2"),
    ("neck.conv1", "neck.layer_norm1", "neck.conv2", "neck.layer_norm2"),
)
_MMPRETRAIN = _rules(
    "layers",
    "patch_embed.projection",
    "ln",
    ("ffn.layers.0.0", "ffn.layers.1"),
    ("channel_reduction.0", "channel_reduction.1", "channel_reduction.2", "channel_reduction.3"),
)

# Each without a prefix on either side.
ORIGINAL_ENCODER = WeightMap("SAM image encoder", backbone="sam", rules=_ORIGINAL, adapters=SAM_ADAPTERS)
HUGGINGFACE_ENCODER = WeightMap(
    "SAM image encoder of Hugging Face", backbone="sam", rules=_HUGGINGFACE, adapters=SAM_ADAPTERS
)
MMPRETRAIN_ENCODER = WeightMap(
    "SAM image encoder of mmpretrain", backbone="sam", rules=_MMPRETRAIN, adapters=SAM_ADAPTERS
)
# The same encoder with adapters on its query-key-value layers, as the library peft names them.
_LORA: Rules = (
    ("layers.{n}.attn.qkv.base_layer.{leaf:weight|bias}", "blocks.{n}.attn.qkv.{leaf}"),
    ("layers.{n}.attn.qkv.lora_A.default.weight", "blocks.{n}.attn.qkv.lora_a"),
    ("layers.{n}.attn.qkv.lora_B.default.weight", "blocks.{n}.attn.qkv.lora_b"),
    *_MMPRETRAIN,
)
MMPRETRAIN_LORA_ENCODER = WeightMap(
    "SAM image encoder with adapters",
    backbone="sam",
    rules=tuple(("base_model.model." + theirs, ours) for theirs, ours in _LORA),
    adapters=SAM_ADAPTERS,
)
