"""VG-LAW: visual grounding with language-adaptive weights (Su et al., CVPR 2023, arXiv 2306.04652)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mindground.models.interface import ModelInterface
from mindground.models.vglaw.config import FLAGS, IGNORED_FLAGS
from mindground.models.vglaw.config import VGLawConfig as Config

if TYPE_CHECKING:
    from mindground.models.vglaw.network import VGLaw

__all__ = ["FLAGS", "IGNORED_FLAGS", "Config", "build", "interface"]


def build(config: Any) -> VGLaw:
    """VG-LAW of a resolved configuration; MindSpore is imported only now."""
    from mindground.models.vglaw.network import build as build_network

    return build_network(config)


def interface(config: Any) -> ModelInterface:
    """A box and, where masks are used, a mask for an expression."""
    return ModelInterface("expression", ("box", "mask") if config.data.use_mask else ("box",))
