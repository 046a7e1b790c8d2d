"""Load tensors into a model: strict about names, shapes and kinds of number, all or nothing."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import mindspore as ms
import numpy as np
from mindspore import nn

from mindground.errors import WeightsError
from mindground.weights.maps import Adapted
from mindground.weights.report import LoadReport

__all__ = ["load_into", "parameter_shapes", "parameter_arrays"]

_LOG = logging.getLogger("mindground")


def _parameters(model: nn.Cell) -> dict[str, ms.Parameter]:
    # The path of the attributes, not `Parameter.name`: cells that are assembled by hand keep outdated names there.
    return dict(model.parameters_and_names())


def parameter_shapes(model: nn.Cell) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter of a model."""
    return {name: tuple(parameter.shape) for name, parameter in _parameters(model).items()}


def parameter_arrays(model: nn.Cell) -> dict[str, np.ndarray]:
    """Name -> value of every parameter of a model; bfloat16 comes as float32, which holds it exactly."""
    arrays = {}
    for name, parameter in _parameters(model).items():
        wide = parameter.astype(ms.float32) if parameter.dtype == ms.bfloat16 else parameter
        arrays[name] = wide.asnumpy()
    return arrays


def load_into(
    model: nn.Cell,
    tensors: Mapping[str, np.ndarray] | Adapted,
    *,
    allow_missing: Sequence[str] = (),
    allow_unexpected: Sequence[str] = (),
    source: str = "weights",
) -> LoadReport:
    """Assign tensors to the parameters of the same name.

    Nothing is assigned unless everything fits, so a refused load does not change the model; what did not fit is logged
    as a table.

    Args:
        model: the Cell; names are attribute paths (`visual_encoder.pos_embed`).
        tensors: our name -> array, or the result of `WeightMap.to_ours`, whose notes then enter the report.
        allow_missing: regular expressions of parameters that may keep their initial values.
        allow_unexpected: regular expressions of tensors that may be left out.
        source: what is being loaded, for messages (usually the file).

    Raises:
        WeightsError: a name, shape or kind of number does not match, or nothing of the file belongs to the model.
    """
    parameters = _parameters(model)
    adapted = tensors if isinstance(tensors, Adapted) else Adapted(tensors=dict(tensors))
    report = LoadReport(
        unexpected=list(adapted.unexpected),
        reshaped=dict(adapted.reshaped),
        ignored=dict(adapted.ignored),
        expected_missing=dict(adapted.missing),
        unfilled=list(adapted.unfilled),
        source=source,
    )
    ready: dict[str, np.ndarray] = {}
    for name, array in adapted.tensors.items():
        if name not in parameters:
            report.unexpected.append(name)
            continue
        fitted, problem, note = _fit(np.asarray(array), parameters[name])
        if fitted is None:
            report.mismatched[name] = problem
            continue
        ready[name] = fitted
        report.loaded.append(name)
        if note:
            report.converted[name] = note
    report.missing = [name for name in parameters if name not in adapted.tensors]
    try:
        report.check(allow_missing, allow_unexpected)
    except WeightsError:
        _LOG.warning("%s", report.problems(allow_missing, allow_unexpected))
        raise
    if parameters and not ready:
        raise WeightsError(f"{source} gives the model nothing: none of its tensors belongs to it; check the file")
    for name, array in ready.items():
        parameter = parameters[name]
        parameter.set_data(ms.Tensor(array, dtype=parameter.dtype))
    _LOG.debug("%s", report.table())
    return report


def _fit(array: np.ndarray, parameter: ms.Parameter) -> tuple[np.ndarray | None, str, str]:
    """(array in the parameter's format or None, why not, what was converted)."""
    wanted = tuple(parameter.shape)
    if tuple(array.shape) != wanted:
        return None, f"file {tuple(array.shape)}, model {wanted}", ""
    # "Float32", "Int32", "Bool": MindSpore's names are NumPy's. NumPy has no bfloat16: float32 values are loaded.
    target = np.dtype(np.float32 if parameter.dtype == ms.bfloat16 else str(parameter.dtype).lower())
    if array.dtype == target:
        # `view` drops an explicit native byte order from the type, which MindSpore refuses.
        return np.ascontiguousarray(array).view(target).reshape(wanted), "", ""
    if not _compatible(array.dtype, target):
        return None, f"file holds {array.dtype}, model {target}", ""
    with np.errstate(over="ignore", invalid="ignore"):  # reported below, by name
        converted = array.astype(target)
    if target.kind in "iu" and not np.array_equal(converted, array):
        return None, f"values of {array.dtype} do not fit into {target}", ""
    if target.kind == "f" and np.isfinite(array).all() and not np.isfinite(converted).all():
        return None, f"values of {array.dtype} overflow {target}", ""
    return np.ascontiguousarray(converted).reshape(wanted), "", f"{array.dtype} -> {target}"


def _compatible(source: np.dtype, target: np.dtype) -> bool:
    """Numbers convert within their kind only: float to float, integer to integer."""
    families = ("f", "iu", "b")
    return any(source.kind in family and target.kind in family for family in families)
