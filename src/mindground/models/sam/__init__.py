"""Segment Anything (Kirillov et al., ICCV 2023, arXiv 2304.02643)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mindground.models.interface import ModelInterface
from mindground.models.sam.config import LR_GROUPS, PRETRAINED_PARTS, PUBLISHED_DATASET
from mindground.models.sam.config import SamConfig as Config
from mindground.models.sam.flags import REFUSED_FLAGS
from mindground.models.sam.keys import sam_keys as source_keys

if TYPE_CHECKING:
    from mindground.files.weights import WeightFile
    from mindground.models.sam.network import Sam
    from mindground.weights.facts import SourceFacts

__all__ = [
    "LR_GROUPS",
    "PRETRAINED_PARTS",
    "PUBLISHED_DATASET",
    "REFUSED_FLAGS",
    "Config",
    "build",
    "describe_source",
    "interface",
    "source_keys",
]


def interface(config: Any) -> ModelInterface:
    """Masks of what points, boxes or earlier masks mean."""
    return ModelInterface("prompt", ("mask",), many=True)


def build(config: Any) -> Sam:
    """Network of a resolved configuration; MindSpore is imported only now."""
    from mindground.models.sam.builder import build as build_network

    return build_network(config)


def describe_source(file: WeightFile) -> SourceFacts | None:
    """What a file of weights says about the configuration that it needs; None for a file of another program."""
    from mindground.models.sam.source import describe

    return describe(file)
