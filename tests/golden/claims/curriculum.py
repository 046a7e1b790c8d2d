"""Self-paced curriculum: reliability, the subsets it cuts, and both searches."""

from __future__ import annotations

from typing import Any

import numpy as np

from golden.case import Case
from golden.claim import Checks, claim
from mindground.curriculum.reliability import box_reliability
from mindground.curriculum.search import (
    THRESHOLDS,
    Part,
    bad,
    greedy_threshold,
    keep,
    search_sources,
    simple_to_complex,
)
from mindground.structures import cxcywh_to_xyxy


@claim(model="clipvg-curriculum", modes=("host",))
def check(case: Case, mode: str, checks: Checks) -> None:
    """Boxes in parts of the image's side, as the case has them, are an image of one pixel for us."""
    checks.exact("thresholds", THRESHOLDS, case.config["thresholds"])
    found = box_reliability(cxcywh_to_xyxy(case.inputs["pred"]), cxcywh_to_xyxy(case.inputs["pseudo_box"]), size=(1, 1))
    theirs = case.outputs["reliability"]
    checks.output("reliability", found, theirs)
    for name, values in (("of our reliability", found), ("of theirs", theirs)):
        checks.exact(f"keep {name}", [keep(values, threshold) for threshold in THRESHOLDS], case.outputs["keep"])
        checks.exact(f"bad_0_0 {name}", bad(values, 0.0), case.outputs["bad_0_0"])
        checks.exact(f"bad_0_4 {name}", bad(values, 0.4), case.outputs["bad_0_4"])
    _check_single(case.meta["ssa"], checks)
    _check_multiple(case.meta["msa"], checks)


def _check_single(table: dict[str, Any], checks: Checks) -> None:
    scores = {float(threshold): value for threshold, value in table["performance"].items()}
    for start, theirs in table["result"].items():
        found = greedy_threshold(scores.__getitem__, float(start))
        checks.exact(f"ssa {start} threshold", found.threshold, theirs["threshold"])
        checks.exact(f"ssa {start} performance", found.performance, theirs["performance"])
        checks.exact(f"ssa {start} evaluated", [pair[0] for pair in found.evaluated], theirs["evaluated"])
        # One source is the same search with a single measurer.
        alone = search_sources([0], lambda parts: scores[float(parts[-1].threshold or 0)], float(start))[0]
        checks.exact(f"ssa {start} as one of one", alone.threshold, theirs["threshold"])


def _check_multiple(table: dict[str, Any], checks: Checks) -> None:
    gain = np.asarray(table["gain"])

    def performance(parts: tuple[Part, ...]) -> float:
        return float(table["base"]) + sum(
            float(gain[part.source, part.measurer, round(10 * float(part.threshold or 0))]) for part in parts
        )

    order = simple_to_complex(table["entities"])
    checks.exact("msa order", order, table["order"])
    choices = search_sources(order, performance)
    checks.true("msa sources", len(choices) == len(table["selection"]), f"ours {len(choices)}")
    for ours, theirs in zip(choices, table["selection"], strict=False):
        name = f"msa source {theirs['source']}"
        checks.exact(name, ours.source, theirs["source"])
        checks.exact(f"{name} measurer", ours.measurer, theirs["measurer"])
        checks.exact(f"{name} threshold", ours.threshold, theirs["threshold"])
        checks.exact(f"{name} evaluated", [pair[0] for pair in ours.evaluated], theirs["evaluated"])
        checks.exact(f"{name} performance", round(ours.performance, 6), theirs["performance"])
