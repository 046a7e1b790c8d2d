"""The everything mode: masks of all objects of an image, found by points on a grid."""

from __future__ import annotations

from mindground.models.sam.everything.candidates import Candidates
from mindground.models.sam.everything.generator import MaskGenerator, everything, generate
from mindground.models.sam.everything.options import OUTPUT_MODES, EverythingOptions

__all__ = ["OUTPUT_MODES", "Candidates", "EverythingOptions", "MaskGenerator", "everything", "generate"]
