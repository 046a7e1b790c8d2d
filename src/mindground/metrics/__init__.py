"""Metrics: the definition of every score; each name is one formula. A task says which of them a model gets."""

from __future__ import annotations

from mindground.metrics.referring import ReferringMetrics, is_better

__all__ = ["ReferringMetrics", "is_better"]
