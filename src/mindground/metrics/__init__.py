"""Metrics: the definition of every score, each name stands for one formula."""

from __future__ import annotations

from mindground.metrics.referring import ReferringMetrics, is_better

__all__ = ["ReferringMetrics", "is_better"]
