"""What the cases of parts have in common: outputs, the sum of outputs times given weights, its gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn

from golden.case import Case
from golden.claim import LOSS_TOLERANCE, Checks
from golden.compute import loss_and_gradients, weighted_sum
from mindground.weights.maps import WeightMap

__all__ = ["check_norms", "check_probe", "tensors", "tolerance"]

# Sums of 16 or 32 bit noise differ in order; eight times the reference's own rounding is still rounding.
_ROUNDINGS = 8.0
# Where the reference's own norms move with its rounding, so large a share must meet the strict rule all the same.
_STRICT_SHARE = 0.98


def tensors(*arrays: np.ndarray) -> list[ms.Tensor]:
    return [ms.Tensor(np.ascontiguousarray(array)) for array in arrays]


def tolerance(case: Case, name: str, kind: str = "outputs") -> float:
    """1e-4, or eight times the rounding that the case states for an entry, where that is larger."""
    stated = case.meta.get("rounding", {}).get(kind, {}).get(name, 0.0)
    return max(LOSS_TOLERANCE, _ROUNDINGS * float(stated)) if isinstance(stated, (int, float)) else LOSS_TOLERANCE


def check_norms(case: Case, checks: Checks, ours: Mapping[str, np.ndarray]) -> None:
    """Compare `grad_norm/*` by the case's rule.

    Rounding moves single norms of some references by more than that rule allows (`rounding.grad_norms`, the largest of
    them all): there nearly all norms must meet the rule, and every one that figure.
    """
    rounding = float(case.meta["rounding"].get("grad_norms", 0.0))
    if rounding <= checks.rule.relative:
        checks.grad_norms(ours, case.grad_norms)
        return
    norms = {name: float(value) for name, value in case.grad_norms.items()}
    largest = max(norms.values())
    counted = {name: norm for name, norm in norms.items() if not checks.rule.is_zero(name, norm, largest)}
    off = {name: abs(float(np.linalg.norm(ours[name].astype(np.float64))) - norm) for name, norm in counted.items()}
    allowed = {name: checks.rule.relative * norm + checks.rule.absolute * largest for name, norm in counted.items()}
    outside = [name for name in off if not off[name] <= allowed[name]]
    share = 1 - len(outside) / len(counted)
    checks.true("norms within the strict rule", share >= _STRICT_SHARE, f"{share:.3f}; outside: {outside[:5]}")
    checks.grad_norms(ours, case.grad_norms, rounding)


def check_probe(
    case: Case,
    checks: Checks,
    cell: nn.Cell,
    model: nn.Cell,
    weight_map: WeightMap | None,
    inputs: Sequence[str],
    outputs: Sequence[str],
    given: Sequence[Any] | None = None,
    read: dict[str, Any] | None = None,
) -> None:
    """Compare outputs, `loss/probe`, `grad_norm/*` and `output/grad/*` of a part.

    Args:
        cell: takes `inputs`, gives `outputs`.
        model: holds the parameters that `weight_map` names; None of the latter where there are no gradients of them.
        given: the inputs as tensors, where they are not those of the case in their own form.
        read: name of an input -> function that brings its gradient into the case's form.
    """
    cell.set_train(False)
    arrays = tensors(*(case.inputs[name] for name in inputs)) if given is None else list(given)
    found = cell(*arrays)
    found = found if isinstance(found, tuple) else (found,)
    for name, value in zip(outputs, found, strict=True):
        checks.output(name, value.asnumpy(), case.outputs[name], tolerance(case, name))
    scalar = weighted_sum(cell, [case.inputs[f"cot/{name}"] for name in outputs])
    scalar.set_train(False)
    if weight_map is not None:
        value, gradients = loss_and_gradients(scalar, model, arrays)
        checks.loss("probe", value, case.losses["probe"])
        check_norms(case, checks, weight_map.to_theirs(gradients))
    wanted = [index for index, name in enumerate(inputs) if f"grad/{name}" in case.outputs]
    if wanted or weight_map is None:
        value, found = ms.value_and_grad(scalar, tuple(wanted), None)(*arrays)
        checks.loss("probe", value.asnumpy(), case.losses["probe"])
        found = found if isinstance(found, tuple) else (found,)
        for index, gradient in zip(wanted, found, strict=True):
            name = f"grad/{inputs[index]}"
            ours = gradient.asnumpy()
            ours = read[inputs[index]](ours) if read and inputs[index] in read else ours
            checks.output(name, ours, case.outputs[name], tolerance(case, name))
