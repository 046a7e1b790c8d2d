"""Names of Swin files: Microsoft's classifiers, the backbones of segmentation and of self-supervised training."""

from __future__ import annotations

from math import isqrt

import numpy as np

from mindground.nn.resize import bicubic_matrix
from mindground.weights.maps import WeightMap

__all__ = ["CLASSIFIER_MAP", "MICROSOFT_MAP", "SWIN_ADAPTERS", "SWIN_COMPUTED", "SWIN_RULES", "fit_bias_table"]


def fit_bias_table(array: np.ndarray, wanted: tuple[int, ...]) -> tuple[np.ndarray, str] | None:
    """Adapter for tables of relative positions: ((2 w - 1)^2, heads) of another window, bicubic as in PyTorch."""
    if array.ndim != 2 or len(wanted) != 2 or array.shape[1] != wanted[1]:
        return None
    have, want = isqrt(array.shape[0]), isqrt(wanted[0])
    if have * have != array.shape[0] or want * want != wanted[0]:
        return None
    matrix = bicubic_matrix(have, want)
    square = array.astype(np.float32).reshape(have, have, -1)
    fitted = np.einsum("ia,abh,jb->ijh", matrix, square, matrix, optimize=True)
    note = f"bicubic from window {(have + 1) // 2} to window {(want + 1) // 2}"
    return np.ascontiguousarray(fitted.reshape(wanted), np.float32), note


def _norm(theirs: str, ours: str) -> tuple[tuple[str, str], ...]:
    return ((f"{theirs}.weight", f"{ours}.gamma"), (f"{theirs}.bias", f"{ours}.beta"))


_BLOCK = "layers.{n}.blocks.{m}"
SWIN_RULES: tuple[tuple[str, str], ...] = (
    ("patch_embed.proj.{leaf:weight|bias}", "patch_embed.proj.{leaf}"),
    *_norm("patch_embed.norm", "patch_embed.norm"),
    *_norm(_BLOCK + ".norm{k}", _BLOCK + ".norm{k}"),
    (_BLOCK + ".attn.relative_position_bias_table", _BLOCK + ".attn.relative_position_bias_table"),
    (_BLOCK + ".attn.{part:qkv|proj}.{leaf:weight|bias}", _BLOCK + ".attn.{part}.{leaf}"),
    (_BLOCK + ".mlp.fc{k}.{leaf:weight|bias}", _BLOCK + ".mlp.fc{k}.{leaf}"),
    ("layers.{n}.downsample.reduction.weight", "layers.{n}.downsample.reduction.weight"),
    *_norm("layers.{n}.downsample.norm", "layers.{n}.downsample.norm"),
    *_norm("norm{n}", "norm{n}"),
)
# Counts that follow from window and map; files may hold them for other sizes, so they are never read.
SWIN_COMPUTED = (
    (r"(.*\.)?relative_position_index", "counted here"),
    (r"(.*\.)?attn_mask", "counted here for the size of the map"),
)
SWIN_ADAPTERS = ((r"(.*\.)?relative_position_bias_table", fit_bias_table),)
_WRAPPERS = ("backbone.", "encoder.")

# A file of Microsoft's repository: a classifier, a segmentation network (`backbone.`) or a self-supervised one
# (`encoder.`).
MICROSOFT_MAP = WeightMap(
    "Microsoft Swin",
    backbone="swin",
    rules=SWIN_RULES + tuple((wrapper + theirs, ours) for wrapper in _WRAPPERS for theirs, ours in SWIN_RULES),
    adapters=SWIN_ADAPTERS,
    ignored=(
        *SWIN_COMPUTED,
        (r"(backbone\.|encoder\.)?norm\.(weight|bias)", "norm of the classifier"),
        (r"(backbone\.|encoder\.)?head\..*", "classes of the pre-training"),
        (r"(backbone\.|encoder\.)?absolute_pos_embed", "the network has no absolute positions"),
        (r"(decode_head|auxiliary_head)\..*", "heads of the segmentation network"),
        (r"(encoder_k|projector|projector_k|predictor)\..*|queue.*", "other parts of the self-supervised training"),
    ),
    may_miss=(
        (r"norm\d+\.(gamma|beta)", "norms of the exported maps; a classifier has none, they start at 1 and 0"),
        (r"layers\.\d+\.hook\..*", "no part of the backbone"),
    ),
)

# The classifier whole.
CLASSIFIER_MAP = WeightMap(
    "Microsoft Swin classifier",
    rules=(
        *_norm("norm", "norm"),
        ("head.{leaf:weight|bias}", "head.{leaf}"),
        *((theirs, "backbone." + ours) for theirs, ours in SWIN_RULES),
    ),
    adapters=SWIN_ADAPTERS,
    ignored=SWIN_COMPUTED,
)
