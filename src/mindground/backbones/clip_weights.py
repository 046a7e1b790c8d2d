"""Names of CLIP's tensors in published files, and position tables for images of another size."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mindground.nn.resize import bicubic_matrix
from mindground.weights.maps import Adapter, WeightMap

__all__ = [
    "HUGGINGFACE_MAP",
    "OPENAI_MAP",
    "PUBLISHED_FILES",
    "position_adapter",
    "published_name",
    "tower_dimensions",
]

# SHA-256 of the archives that OpenAI publishes (https://openaipublic.azureedge.net/clip/models/<sha256>/<file>).
PUBLISHED_FILES: dict[str, str] = {
    "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f": "ViT-B-16.pt",
    "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af": "ViT-B-32.pt",
    "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836": "ViT-L-14.pt",
    "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02": "ViT-L-14-336px.pt",
}


def published_name(path: str | Path) -> tuple[str, str]:
    """SHA-256 of a file, and OpenAI's name of it ("" for a file that OpenAI has not published)."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while part := stream.read(1 << 22):
            digest.update(part)
    return digest.hexdigest(), PUBLISHED_FILES.get(digest.hexdigest(), "")


def tower_dimensions(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Sizes of both towers from the shapes of our parameters (`visual.conv1.weight`, `text.text_projection`, ...).

    Heads change no shape: CLIP's are always 64 wide, and that is what is returned.

    Returns:
        patch_size, vision_width, vision_layers, vision_heads, vocab_size, context_length, text_width, text_layers,
        text_heads, embed_dim, and `grid`, the patches per side.

    Raises:
        KeyError: a table that every CLIP has is missing.
    """
    vision_width, _, patch, _ = shapes["visual.conv1.weight"]
    text_width, embed_dim = shapes["text.text_projection"]
    return {
        "patch_size": patch,
        "vision_width": vision_width,
        "vision_layers": _layers(shapes, "visual."),
        "vision_heads": max(1, vision_width // 64),
        "vocab_size": shapes["text.token_embedding"][0],
        "context_length": shapes["text.positional_embedding"][0],
        "text_width": text_width,
        "text_layers": _layers(shapes, "text."),
        "text_heads": max(1, text_width // 64),
        "embed_dim": embed_dim,
        "grid": math.isqrt(shapes["visual.positional_embedding"][0] - 1),
    }


def _layers(shapes: Mapping[str, tuple[int, ...]], tower: str) -> int:
    pattern = re.compile(re.escape(tower) + r"transformer\.resblocks\.(\d+)\.")
    return 1 + max((int(found[1]) for name in shapes if (found := pattern.match(name))), default=-1)


def position_adapter(leading: int) -> Adapter:
    """Adapter that resizes a position table (bicubic, no antialiasing); `leading` rows stay, the rest is a square grid.

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


# The archives of the authors (ViT-B-16.pt and the other sizes), and everything that uses their names.
OPENAI_MAP = WeightMap(
    "OpenAI CLIP",
    backbone="clip",
    rules=_openai_rules(),
    ignored=(
        (r"(input_resolution|context_length|vocab_size)", "sizes, part of our configuration"),
        (r"(text\.)?attn_mask", "the causal mask, computed here"),
        (r"logit_bias", "of another loss of the pre-training"),
    ),
    remark="no tensor tells the activation: OpenAI's weights have quick_gelu, LAION's and most of open_clip's gelu "
    "(model.clip.activation)",
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
        ("vision_model.pre_layrnorm", "visual.ln_pre"),  # this spelling is in every published file
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
    backbone="clip",
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
