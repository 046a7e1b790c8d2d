"""RMSIN (Liu et al., CVPR 2024, arXiv 2312.12470) and LAVT (Yang et al., CVPR 2022, arXiv 2112.02244)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mindground.models.interface import ModelInterface
from mindground.models.rmsin.config import LR_GROUPS, PRETRAINED_PARTS, PUBLISHED_DATASET, TEXT_LAYERS
from mindground.models.rmsin.config import RmsinConfig as Config

if TYPE_CHECKING:
    from mindground.models.rmsin.network import Rmsin

__all__ = ["LR_GROUPS", "PRETRAINED_PARTS", "PUBLISHED_DATASET", "TEXT_LAYERS", "Config", "build", "interface"]


def interface(config: Any) -> ModelInterface:
    """One referent per expression: its mask. The box of an answer is that of the mask."""
    return ModelInterface("expression", ("mask",))


def build(config: Any) -> Rmsin:
    """Network of a resolved configuration; MindSpore is imported only now."""
    from mindground.models.rmsin.builder import build as build_network

    return build_network(config)
