"""CLIP-VG: visual grounding with CLIP (Xiao et al., IEEE TMM 2023, arXiv 2305.08685), also for remote sensing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mindground.backbones.source_keys import clip_keys
from mindground.config.registry import SourceKeys
from mindground.errors import ConfigError
from mindground.models.clipvg.config import (
    FLAGS,
    IGNORED_FLAGS,
    LR_GROUPS,
    OLD_PATHS,
    OLD_RATES,
    PRETRAINED_PARTS,
    REFUSED_FLAGS,
)
from mindground.models.clipvg.config import ClipVGConfig as Config
from mindground.models.interface import ModelInterface

if TYPE_CHECKING:
    from mindground.files.weights import WeightFile
    from mindground.models.clipvg.network import ClipVG
    from mindground.weights.facts import SourceFacts

__all__ = [
    "FLAGS",
    "IGNORED_FLAGS",
    "LR_GROUPS",
    "OLD_PATHS",
    "OLD_RATES",
    "PRETRAINED_PARTS",
    "REFUSED_FLAGS",
    "Config",
    "build",
    "describe_source",
    "interface",
    "source_keys",
]


def interface(config: Any) -> ModelInterface:
    """One referent per expression: its box."""
    return ModelInterface("expression", ("box",))


def build(config: Any) -> ClipVG:
    """CLIP-VG of a resolved configuration; MindSpore is imported only now.

    Raises:
        ConfigError: an image size that patches do not divide, or sentences longer than the position table.
    """
    patch, size = config.model.towers().patch_size, config.data.img_size
    if size % patch:
        near = max(1, round(size / patch)) * patch
        raise ConfigError(f"data.img_size={size} is no multiple of the {patch} pixels of a patch; use {near}")
    if config.data.max_len > config.model.max_query_len:
        raise ConfigError(
            f"data.max_len={config.data.max_len} exceeds the {config.model.max_query_len} words that the joint "
            "position table holds (model.max_query_len); CLIP's text tower reads 77 at most"
        )
    from mindground.models.clipvg.builder import build as build_network

    return build_network(config)


def source_keys(config: Mapping[str, Any]) -> SourceKeys:
    """What the configuration beside a CLIP file says of keys here."""
    return clip_keys(config, "model.clip")


def describe_source(file: WeightFile) -> SourceFacts | None:
    """What a file of weights says about the configuration that it needs; None for a file of another program."""
    from mindground.models.clipvg.source import describe

    return describe(file)
