"""Names of CLIP's tensors in the files of others, and position tables for images of another size."""

from __future__ import annotations

import math

import numpy as np

from mindground.nn.resize import bicubic_matrix
from mindground.weights.maps import Adapter, WeightMap

__all__ = ["HUGGINGFACE_MAP", "OPENAI_MAP", "position_adapter"]


def position_adapter(leading: int) -> Adapter:
    """Adapter that resizes a position table: `leading` rows stay, the rest is a square grid (bicubic, no antialiasing).

    Args:
        leading: rows in front of the grid (1 for the class token).
    """

    def fit(array: np.ndarray, wanted: tuple[int, ...]) -> tuple[np.ndarray, str] | None:
        if array.ndim != 2 or len(wanted) != 2 or array.shape[1] != wanted[1]:
            return None
        have, want = math.isqrt(max(array.shape[0] - leading, 0)), math.isqrt(max(wanted[0] - leading, 0))
        if have**2 + leading != array.shape[0] or want**2 + leading != wanted[0] or not have or not want:
            return None
        matrix = bicubic_matrix(have, want).astype(np.float64)
        grid = array[leading:].astype(np.float64).reshape(have, have, -1)
        resized = np.einsum("ph,qw,hwc->pqc", matrix, matrix, grid, optimize=True).reshape(want**2, -1)
        table = np.concatenate([array[:leading], resized]).astype(np.float32)
        return table, f"positions of {have} x {have} patches resized to {want} x {want} (bicubic)"

    return fit


_ADAPTERS = ((r"visual\.positional_embedding", position_adapter(1)),)
_TOWERS = (("visual.", "visual."), ("", "text."))
_NORMS = (("weight", "gamma"), ("bias", "beta"))


def _openai_rules() -> tuple[tuple[str, str], ...]:
    rules: list[tuple[str, str]] = []
    for theirs, ours in _TOWERS:
        block = "transformer.resblocks.{n}."
        rules += [
            (f"{theirs}{block}ln_{{k}}.{a}", f"{ours}{block}ln_{{k}}.{b}") for a, b in _NORMS
        ]  # fmt: skip
        rules.append((f"{theirs}{block}{{where:attn|mlp}}.{{path}}", f"{ours}{block}{{where}}.{{path}}"))
    for norm, ours in (("visual.ln_pre", "visual.ln_pre"), ("visual.ln_post", "visual.ln_post")):
        rules += [(f"{norm}.{a}", f"{ours}.{b}") for a, b in _NORMS]
    rules += [(f"ln_final.{a}", f"text.ln_final.{b}") for a, b in _NORMS]
    return (
        *rules,
        ("visual.{leaf:class_embedding|positional_embedding|proj|conv1.weight}", "visual.{leaf}"),
        ("token_embedding.weight", "text.token_embedding"),
        ("{leaf:positional_embedding|text_projection}", "text.{leaf}"),
        ("logit_scale", "logit_scale"),
    )


# The archives of the authors (ViT-B-16.pt and its sisters), and everything that uses their names.
OPENAI_MAP = WeightMap(
    "OpenAI CLIP",
    rules=_openai_rules(),
    ignored=((r"(input_resolution|context_length|vocab_size)", "sizes, part of our configuration"),),
    adapters=_ADAPTERS,
    layered=("visual.transformer.resblocks.", "text.transformer.resblocks."),
)


def _huggingface_rules() -> tuple[tuple[str, str], ...]:
    rules: list[tuple[str, str]] = []
    for theirs, ours in (("vision_model.", "visual."), ("text_model.", "text.")):
        layer, block = theirs + "encoder.layers.{n}.", ours + "transformer.resblocks.{n}."
        rules += [(f"{layer}layer_norm{{k}}.{a}", f"{block}ln_{{k}}.{b}") for a, b in _NORMS]
        rules += [
            (layer + "self_attn.out_proj.{leaf:weight|bias}", block + "attn.out_proj.{leaf}"),
            (layer + "mlp.fc1.{leaf:weight|bias}", block + "mlp.c_fc.{leaf}"),
            (layer + "mlp.fc2.{leaf:weight|bias}", block + "mlp.c_proj.{leaf}"),
        ]
    for theirs, ours in (
        ("vision_model.pre_layrnorm", "visual.ln_pre"),  # spelt like this in every published file
        ("vision_model.post_layernorm", "visual.ln_post"),
        ("text_model.final_layer_norm", "text.ln_final"),
    ):
        rules += [(f"{theirs}.{a}", f"{ours}.{b}") for a, b in _NORMS]
    return (
        *rules,
        ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
        ("vision_model.embeddings.patch_embedding.weight", "visual.conv1.weight"),
        ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
        ("text_model.embeddings.token_embedding.weight", "text.token_embedding"),
        ("text_model.embeddings.position_embedding.weight", "text.positional_embedding"),
        ("visual_projection.weight", "visual.proj"),
        ("text_projection.weight", "text.text_projection"),
        ("logit_scale", "logit_scale"),
    )


HUGGINGFACE_MAP = WeightMap(
    "Hugging Face CLIP",
    rules=_huggingface_rules(),
    ignored=((r"(text|vision)_model\.embeddings\.position_ids", "counts from 0, computed here"),),
    adapters=_ADAPTERS,
    layered=OPENAI_MAP.layered,
    packed=tuple(
        (
            tuple(f"{theirs}.encoder.layers.{{n}}.self_attn.{part}_proj.{leaf}" for part in ("q", "k", "v")),
            f"{ours}.transformer.resblocks.{{n}}.attn.in_proj_{leaf}",
        )
        for theirs, ours in (("vision_model", "visual"), ("text_model", "text"))
        for leaf in ("weight", "bias")
    ),
    transposed=(r"visual\.proj", r"text\.text_projection"),
)
