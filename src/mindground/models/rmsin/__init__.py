"""RMSIN (Liu et al., CVPR 2024, arXiv 2312.12470) and LAVT (Yang et al., CVPR 2022, arXiv 2112.02244)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mindground.backbones.source_keys import bert_keys
from mindground.config.registry import SourceKeys
from mindground.models.interface import ModelInterface
from mindground.models.rmsin.config import LR_GROUPS, PRETRAINED_PARTS, PUBLISHED_DATASET, TEXT_LAYERS
from mindground.models.rmsin.config import RmsinConfig as Config
from mindground.models.rmsin.flags import FLAGS, IGNORED_FLAGS, REFUSED_FLAGS

if TYPE_CHECKING:
    from mindground.files.weights import WeightFile
    from mindground.models.rmsin.network import Rmsin
    from mindground.weights.facts import SourceFacts

__all__ = [
    "FLAGS",
    "IGNORED_FLAGS",
    "LR_GROUPS",
    "PRETRAINED_PARTS",
    "PUBLISHED_DATASET",
    "REFUSED_FLAGS",
    "TEXT_LAYERS",
    "Config",
    "build",
    "describe_source",
    "interface",
    "source_keys",
]


def interface(config: Any) -> ModelInterface:
    """One referent per expression: its mask. The box of an answer is that of the mask."""
    return ModelInterface("expression", ("mask",))


def build(config: Any) -> Rmsin:
    """Network of a resolved configuration; MindSpore is imported only now."""
    from mindground.models.rmsin.builder import build as build_network

    return build_network(config)


def source_keys(config: Mapping[str, Any]) -> SourceKeys:
    """What the configuration beside a BERT file says of keys here."""
    return bert_keys(config, "model.text")


def describe_source(file: WeightFile) -> SourceFacts | None:
    """What a file of weights says about the configuration that it needs; None for a file of another program."""
    from mindground.models.rmsin.source import describe

    return describe(file)
