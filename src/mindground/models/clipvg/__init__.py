"""CLIP-VG: visual grounding with CLIP (Xiao et al., IEEE TMM 2023, arXiv 2305.08685), also for remote sensing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mindground.models.clipvg.config import FLAGS, IGNORED_FLAGS
from mindground.models.clipvg.config import ClipVGConfig as Config

if TYPE_CHECKING:
    from mindground.models.clipvg.model import ClipVG

__all__ = ["FLAGS", "IGNORED_FLAGS", "Config", "build"]


def build(config: Any) -> ClipVG:
    """CLIP-VG of a resolved configuration; MindSpore is imported only now."""
    from mindground.models.clipvg.model import build as build_network

    return build_network(config)
