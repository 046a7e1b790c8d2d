"""VG-LAW: visual grounding with language-adaptive weights (Su et al., CVPR 2023, arXiv 2306.04652)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mindground.backbones.source_keys import bert_keys
from mindground.config.registry import SourceKeys
from mindground.models.interface import ModelInterface
from mindground.models.vglaw.config import (
    FLAGS,
    IGNORED_FLAGS,
    LR_GROUPS,
    OLD_PATHS,
    OLD_RATES,
    PRETRAINED_PARTS,
    PUBLISHED_DATASET,
    TEXT_LAYERS,
)
from mindground.models.vglaw.config import VGLawConfig as Config

if TYPE_CHECKING:
    from mindground.models.vglaw.network import VGLaw

__all__ = [
    "FLAGS",
    "IGNORED_FLAGS",
    "LR_GROUPS",
    "OLD_PATHS",
    "OLD_RATES",
    "PRETRAINED_PARTS",
    "PUBLISHED_DATASET",
    "TEXT_LAYERS",
    "Config",
    "build",
    "interface",
    "source_keys",
]


def interface(config: Any) -> ModelInterface:
    """One referent per expression: its box and, with `data.use_mask`, its mask."""
    return ModelInterface("expression", ("box", "mask") if config.data.use_mask else ("box",))


def source_keys(config: Mapping[str, Any]) -> SourceKeys:
    """What the configuration beside a BERT file says of keys here."""
    return bert_keys(config, "model.text")


def build(config: Any) -> VGLaw:
    """VG-LAW of a resolved configuration; MindSpore is imported only now."""
    from mindground.models.vglaw.builder import build as build_network

    return build_network(config)
