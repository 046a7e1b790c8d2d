"""SeqTR (Zhu et al., ECCV 2022, arXiv 2203.16265) and MSAM (IEEE GRSL 2024): grounding as generated tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mindground.backbones.source_keys import bert_keys
from mindground.config.registry import SourceKeys
from mindground.models.interface import ModelInterface
from mindground.models.seqtr.config import FRESH_PARTS, LR_GROUPS, PRETRAINED_PARTS, PUBLISHED_DATASET, TEXT_LAYERS
from mindground.models.seqtr.config import SeqtrConfig as Config
from mindground.models.seqtr.flags import FLAGS, IGNORED_FLAGS, REFUSED_FLAGS

if TYPE_CHECKING:
    from mindground.files.weights import WeightFile
    from mindground.models.seqtr.network import Seqtr
    from mindground.weights.facts import SourceFacts

__all__ = [
    "FLAGS",
    "FRESH_PARTS",
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
    """One referent per expression: its box, its contour as a mask, or both."""
    if config.model.task == "box":
        return ModelInterface("expression", ("box",))
    return ModelInterface("expression", ("mask",) if config.model.task == "contour" else ("box", "mask"))


def build(config: Any) -> Seqtr:
    """Network of a resolved configuration; MindSpore is imported only now."""
    from mindground.models.seqtr.builder import build as build_seqtr

    return build_seqtr(config)


def source_keys(config: Mapping[str, Any]) -> SourceKeys:
    """What the configuration beside a BERT file says of keys here."""
    return bert_keys(config, "model.text.bert")


def describe_source(file: WeightFile) -> SourceFacts | None:
    """What a file of weights says about the configuration that it needs; None for a file of another program."""
    from mindground.models.seqtr.source import describe

    return describe(file)
