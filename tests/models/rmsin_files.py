"""Files of RMSIN, LAVT, Swin and BERT as their programs write them, of a few thousand numbers."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mindground.config import load_config
from mindground.models import build_model
from mindground.models.rmsin.weights import UPSTREAM_MAP
from mindground.weights.load import parameter_shapes

__all__ = ["HEADS", "SIZES", "SMALL", "computed", "network", "save"]

WINDOW = 4
_SHARED = (
    "--family=rmsin",
    "--data.dataset=refcoco",
    "--model.swin_type=",
    "--model.swin.embed_dim=8",
    "--model.swin.depths=[1,2,1,1]",
    "--model.swin.num_heads=[1,2,4,8]",
    f"--model.swin.window_size={WINDOW}",
    "--model.text.vocab_size=40",
    "--model.text.hidden_size=16",
    "--model.text.num_hidden_layers=2",
    "--model.text.intermediate_size=24",
    "--model.text.max_position_embeddings=20",
)
# What no shape shows: the tiny network's own heads.
HEADS = ("--model.cim.heads=2", "--model.cim.key_dim=4", "--model.text.num_attention_heads=2")
SIZES = (*_SHARED, "--model.text.num_attention_heads=2")
# All of it; `--data.img_size` decides the grid of the cross-scale interaction.
SMALL = (*_SHARED, *HEADS, "--data.img_size=96")


def network(*overrides: str) -> dict[str, np.ndarray]:
    """Random tensors of the tiny network under upstream's names, BERT inside."""
    model = build_model(load_config(overrides=[*SMALL, *overrides]))
    rng = np.random.default_rng(3)
    ours = {
        name: rng.standard_normal(shape).astype(np.float32) for name, shape in sorted(parameter_shapes(model).items())
    }
    return UPSTREAM_MAP.to_theirs(ours)


def computed(window: int = WINDOW) -> dict[str, np.ndarray]:
    """Tensors of such files that nothing here reads."""
    tokens = window * window
    block = "backbone.layers.1.blocks.1."
    return {
        f"{block}attn.relative_position_index": np.zeros((tokens, tokens), np.int64),
        f"{block}attn_mask": np.zeros((4, tokens, tokens), np.float32),
        "classifier.bn1_4.num_batches_tracked": np.asarray(7, np.int64),
        "text_encoder.embeddings.position_ids": np.arange(20)[None],
        "text_encoder.pooler.dense.weight": np.zeros((16, 16), np.float32),
    }


def save(
    path: Path,
    tensors: Mapping[str, np.ndarray],
    *,
    two_parts: bool = False,
    main: str = "",
    text: str = "",
    args: Namespace | None = None,
) -> Path:
    """`torch.save` as upstream's training does it.

    Args:
        two_parts: BERT in `bert_model`.
        main, text: prefix of the names in either part, such as `module.`.
        args: kept in the file.
    """
    state = {name: torch.from_numpy(np.array(array)) for name, array in tensors.items()}
    top: dict[str, Any] = {"optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}, "epoch": 39, "lr_scheduler": {}}
    if two_parts:
        bert = {name.removeprefix("text_encoder."): state.pop(name) for name in list(state) if "text_encoder." in name}
        top["bert_model"] = {text + name: value for name, value in bert.items()}
    top["model"] = {main + name: value for name, value in state.items()}
    if args is not None:
        top["args"] = args
    torch.save(top, path)
    return path
