"""The base tests of every family; `base.CASES` says which."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

from mindground import build_model
from mindground.errors import ConfigError
from mindground.files.weights import read_weights
from mindground.models import families
from mindground.weights.export import export
from mindground.weights.load import load_into, parameter_arrays, parameter_shapes
from models.base import CASES, FamilyCase, FamilyRun, forward, train_case

_MODES = ("graph", "pynative")
_FEW = 2  # steps in PyNative, which has no compiled step and takes seconds for each


@pytest.fixture(scope="module", params=CASES, ids=str)
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, FamilyRun]]:
    """One training in each mode for all tests of a case."""
    case = request.param
    if case.slow and not request.config.getoption("--all"):
        pytest.skip("its graphs take minutes to compile; --all trains it, tests/overfit proves that it learns")
    before = ms.get_context("mode")
    steps = {"graph": case.steps, "pynative": _FEW}
    yield {mode: train_case(case, tmp_path_factory.mktemp(f"{case}-{mode}"), mode, steps[mode]) for mode in _MODES}
    ms.set_context(mode=before)


@pytest.fixture(params=_MODES)
def run(runs: dict[str, FamilyRun], request: pytest.FixtureRequest) -> FamilyRun:
    """The training in one mode, and that mode set."""
    ms.set_context(mode=ms.GRAPH_MODE if request.param == "graph" else ms.PYNATIVE_MODE)
    return runs[request.param]


def test_every_family_has_a_case() -> None:
    assert set(families()) == {case.family for case in CASES}


def test_loss_falls(runs: dict[str, FamilyRun]) -> None:
    losses = runs["graph"].trained.losses
    assert len(losses) == runs["graph"].case.steps and np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < runs["graph"].case.falls_to * losses[0], losses


def test_both_modes_train_alike(runs: dict[str, FamilyRun]) -> None:
    """The loss of the first step, and of the second after one update."""
    graph, pynative = (runs[mode].trained.losses[:_FEW] for mode in _MODES)
    assert np.allclose(graph, pynative, rtol=1e-4) and graph[0] != graph[1]


def test_outputs_have_one_entry_a_sample_and_differ(run: FamilyRun) -> None:
    assert set(run.outputs) == set(run.model.output_names)
    for name, value in run.outputs.items():
        assert len(value) == len(run.batch.samples) and np.isfinite(value).all(), name
        assert np.ptp(value, axis=0).max() > 1e-6, f"{name} is the same for every sample"


def test_predictions_lie_in_the_image(run: FamilyRun) -> None:
    assert len(run.predictions) == run.batch.count
    for prediction, geometry in zip(run.predictions, run.batch.geometries, strict=False):
        height, width = geometry.original_size
        boxes = prediction.boxes_xyxy
        assert (boxes >= 0).all() and (boxes <= [width, height, width, height]).all()
        assert (boxes[:, :2] <= boxes[:, 2:]).all()


def test_the_other_mode_gives_the_same(run: FamilyRun) -> None:
    before = ms.get_context("mode")
    ms.set_context(mode=ms.PYNATIVE_MODE if before == ms.GRAPH_MODE else ms.GRAPH_MODE)
    try:
        other = forward(run.model, run.batch)
    finally:
        ms.set_context(mode=before)
    for name, value in run.outputs.items():
        assert np.allclose(other[name], value, rtol=1e-4, atol=1e-5), name


def test_training_is_repeatable_and_starts_from_the_seed(run: FamilyRun) -> None:
    first, second = (parameter_arrays(_fresh(run)) for _ in range(2))
    assert first.keys() == parameter_arrays(run.model).keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    trained = parameter_arrays(run.model)
    assert any(not np.array_equal(first[name], trained[name]) for name in first)


def test_a_checkpoint_brings_every_parameter_back(run: FamilyRun) -> None:
    fresh = _fresh(run)
    load_into(fresh, parameter_arrays(run.model))
    again = forward(fresh, run.batch)
    assert all(np.array_equal(again[name], value) for name, value in run.outputs.items())


def test_exports_are_read_back(run: FamilyRun, tmp_path: Path) -> None:
    for name in run.case.exports:
        weight_map = type(run.model).weight_maps()[name]
        path = export(run.model, weight_map, tmp_path / f"{name}.safetensors").path
        fresh = _fresh(run)
        report = load_into(fresh, weight_map.to_ours(read_weights(path).tensors, parameter_shapes(fresh)))
        assert not report.unexpected and not report.missing, name
        ours, theirs = parameter_arrays(run.model), parameter_arrays(fresh)
        assert all(np.array_equal(ours[key], theirs[key]) for key in ours), name


def _fresh(run: FamilyRun) -> ms.nn.Cell:
    from mindground.runtime import device

    device.seed_everything(run.config.train.seed)
    return build_model(run.config)


def test_a_case_can_fail() -> None:
    with pytest.raises(ConfigError, match="unknown family 'no-such-family'"):
        train_case(FamilyCase("no-such-family", ()), Path(), "graph", 1)
