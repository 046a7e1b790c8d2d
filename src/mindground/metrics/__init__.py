"""What a score means is written here once; every name is a formula."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mindground.metrics.referring import ReferringMetrics, is_better

if TYPE_CHECKING:
    from mindground.metrics.instances import InstanceMetrics
    from mindground.structures import Sample

__all__ = ["ReferringMetrics", "is_better", "metrics_for"]


def metrics_for(
    samples: Sequence[Sample],
    *,
    iou_threshold: float = 0.5,
    mask_threshold: float = 0.35,
    box_thresholds: Sequence[float] = (),
) -> ReferringMetrics | InstanceMetrics:
    """Fresh metrics for what the samples ask: one referent each, or every instance."""
    if samples and samples[0].expression is None:
        from mindground.metrics.instances import InstanceMetrics

        return InstanceMetrics()
    return ReferringMetrics(iou_threshold, mask_threshold, box_thresholds)
