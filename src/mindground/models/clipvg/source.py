"""What CLIP's and CLIP-VG's files say about the configuration they need: shapes, and upstream's saved arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mindground.backbones.clip_weights import published_name, tower_dimensions
from mindground.files.weights import WeightFile
from mindground.models.clipvg.config import CLIP_PRESETS, published_blocks
from mindground.models.clipvg.weights import WEIGHT_MAPS
from mindground.weights.facts import SourceFacts
from mindground.weights.maps import best_map

__all__ = ["describe"]

_TOWERS = "clip."
# The remote-sensing fork's name of DIOR-RSVG; its loader took corners for sizes.
_FORK = "dior_rs"
_DATASETS = {_FORK: "dior_rsvg", **{name: name for name in ("unc", "unc+", "gref", "gref_umd", "referit", "flickr")}}
# Upstream's default, and what its published figures used.
_USUAL_HEADS = 8


def describe(file: WeightFile) -> SourceFacts | None:
    """Facts of a file of CLIP or CLIP-VG; None where a table that both have is missing."""
    chosen = best_map(WEIGHT_MAPS.values(), file.tensors)
    shapes = {name: array.shape for name, array in chosen.to_ours(file.tensors).tensors.items()}
    try:
        return _facts(file, shapes)
    except (KeyError, ValueError, IndexError):
        return None  # loading will name what is missing


def _facts(file: WeightFile, shapes: Mapping[str, tuple[int, ...]]) -> SourceFacts:
    towers = tower_dimensions({n.removeprefix(_TOWERS): s for n, s in shapes.items() if n.startswith(_TOWERS)})
    facts = SourceFacts()
    _towers(facts, towers)
    if "reg_token" in shapes:
        _network(facts, file, shapes, towers)
    else:
        facts.keys |= {"model.max_query_len": towers["context_length"], "data.max_len": towers["context_length"]}
        if file.format == "torchscript":
            digest, name = published_name(file.path)
            facts.notes.append(
                f"sha256 {digest}: {f'this is the {name} of OpenAI' if name else 'none of the files of OpenAI'}"
            )
    return facts


def _towers(facts: SourceFacts, towers: dict[str, int]) -> None:
    """Dimensions of the towers, by the name of a preset where there is one, and the image size."""
    grid, patch = towers.pop("grid"), towers["patch_size"]
    named = next((name for name, sizes in CLIP_PRESETS.items() if all(towers[k] == v for k, v in sizes.items())), "")
    facts.keys["model.clip_model"] = named
    facts.keys |= {f"model.clip.{key}": value for key, value in towers.items()}
    facts.keys["data.img_size"] = grid * patch
    facts.notes.append(
        f"towers: {named or 'none of the published'}, image {towers['vision_width']} x {towers['vision_layers']}, text "
        f"{towers['text_width']} x {towers['text_layers']}, patches of {patch} pixels, images of {grid * patch}"
    )


def _network(
    facts: SourceFacts, file: WeightFile, shapes: Mapping[str, tuple[int, ...]], towers: Mapping[str, int]
) -> None:
    """The joint encoder from its shapes, and what only the saved arguments can say."""
    width, inner = shapes["reg_token"][1], shapes.get("vl_transformer.layers.0.linear1.weight", (0,))[0]
    patches = shapes["clip.visual.positional_embedding"][0] - 1
    words = shapes["vl_pos_embed"][0] - 2 - patches
    layers = {name.split(".")[2] for name in shapes if name.startswith("vl_transformer.layers.")}
    facts.keys |= {
        "model.variant": "multi_level" if "ml_visu_proj.weight" in shapes else "last_layer",
        "model.vl_hidden_dim": width,
        "model.vl_dim_feedforward": inner,
        "model.vl_enc_layers": len(layers),
        "model.max_query_len": words,
        "data.max_len": min(words, towers["context_length"]),
    }
    _levels(facts, shapes, towers)
    if "language_prompt" in file.tensors:
        facts.keys["model.variant"] = "prompt"
        facts.keys["model.prompt_ids"] = [int(value) for value in file.tensors["language_prompt"].ravel()]
    args = file.metadata.get("args")
    _arguments(facts, args if isinstance(args, Mapping) else {})


def _levels(facts: SourceFacts, shapes: Mapping[str, tuple[int, ...]], towers: Mapping[str, int]) -> None:
    """Which blocks are joined stands in no file, only how many."""
    joined = shapes.get("ml_visu_proj.weight", (0, 0))[1] // towers["vision_width"]
    usual = published_blocks(towers["vision_layers"])
    if joined and joined != len(usual):
        facts.notes.append(
            f"the joint encoder sees {joined} blocks of the image tower, and the published ones are {usual}: say which "
            "with --model.extract_layers"
        )


def _arguments(facts: SourceFacts, args: Mapping[str, Any]) -> None:
    """Upstream's command line, which stands in its checkpoints."""
    heads = args.get("vl_nheads")
    if isinstance(heads, int) and not isinstance(heads, bool) and heads > 0:
        facts.keys["model.vl_nheads"], facts.unseen = heads, ("model.vl_nheads",)
        facts.notes.append(f"model.vl_nheads={heads}, says the file; no shape can verify it")
    else:
        facts.keys["model.vl_nheads"] = _USUAL_HEADS
        facts.notes.append(
            f"model.vl_nheads={_USUAL_HEADS} is assumed: the file does not say how many heads the joint encoder has, "
            "and no shape can; with a wrong number boxes are wrong (the fork's command trains 16)"
        )
    dropout = args.get("vl_dropout")
    if isinstance(dropout, float) and 0 <= dropout < 1:
        facts.keys["model.vl_dropout"] = dropout
    dataset = str(args.get("dataset") or "unc")
    facts.keys["data.dataset"] = _DATASETS.get(dataset, "unc")
    facts.keys["model.box_code"] = "dior_legacy" if dataset == _FORK else "cxcywh"
    if dataset == _FORK:
        facts.notes.append(
            "model.box_code=dior_legacy: trained by the DIOR-RSVG fork, whose loader took xmax and ymax for width and "
            "height; boxes are decoded as it learnt them, left and top approximate where its centre left the image"
        )
    # Anybody may have written the file: what it says is shown as data, and not at length.
    known = [key for key in ("model", "imsize", "dataset", "lr", "batch_size", "epochs") if key in args]
    if known:
        facts.notes.append("trained with: " + ", ".join(f"{key} {str(args[key])[:40]!r}" for key in known))
