"""What a score means is written here once; every name is a formula. A task says which of them a model gets."""

from __future__ import annotations

from mindground.metrics.referring import ReferringMetrics, is_better

__all__ = ["ReferringMetrics", "is_better"]
