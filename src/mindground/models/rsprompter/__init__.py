"""RSPrompter and its relatives: every instance of an image (Chen et al., IEEE TGRS 2024, arXiv 2306.16269)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mindground.models.interface import ModelInterface
from mindground.models.rsprompter.config import LR_GROUPS, PRETRAINED_PARTS, PUBLISHED_DATASET
from mindground.models.rsprompter.config import RsPrompterConfig as Config

if TYPE_CHECKING:
    from mindground.models.rsprompter.two_stage import TwoStage

__all__ = ["LR_GROUPS", "PRETRAINED_PARTS", "PUBLISHED_DATASET", "Config", "build", "interface"]


def interface(config: Any) -> ModelInterface:
    """No question beside the image; boxes and masks, many of them."""
    return ModelInterface("nothing", ("box", "mask"), many=True)


def build(config: Any) -> TwoStage:
    """Network of a resolved configuration; MindSpore is imported only now."""
    from mindground.models.rsprompter.builder import build as build_network

    return build_network(config)
