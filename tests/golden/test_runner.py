"""The runner of reference cases itself: what it claims, what it refuses, and that a wrong number fails."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from golden import claim as registry
from golden.case import Description, GradientRule, describe, draw, load_case
from golden.claim import Checks, claim, claim_for, load_claims, run_claim
from golden.worker import Job, Workers, group_of, run_here

_OWN = Path(__file__).resolve().parent / "cases"
_RUN = Path(__file__).resolve().parent / "run.py"
load_claims()


@pytest.fixture
def own_claims(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Claims that a test registers are gone after it."""
    monkeypatch.setattr(registry, "_CLAIMS", list(registry._CLAIMS))
    yield


def make_case(folder: Path, meta: dict[str, Any], **tensors: Any) -> Path:
    """Write a case; `output__x` is the entry `output/x`."""
    folder.mkdir(parents=True)
    (folder / "case.json").write_text(json.dumps(meta))
    if tensors:
        np.savez(folder / "tensors.npz", **{name.replace("__", "/"): value for name, value in tensors.items()})
    return folder


# ---- comparisons ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "failures"),
    [
        ([1.0, 2.0], [1.0, 2.0001], 0),
        ([1.0, 2.0], [1.0, 2.001], 1),
        ([1.0, float("nan")], [1.0, 2.0], 1),
        ([1.0], [1.0, 1.0], 1),
    ],
)
def test_comparison_can_fail(ours: list[float], theirs: list[float], failures: int) -> None:
    checks = Checks()
    checks.output("x", np.array(ours), np.array(theirs))
    assert len(checks.failures) == failures


def test_missing_gradient_fails() -> None:
    checks = Checks()
    checks.grad_norms({"a": 1.0}, {"a": np.array(1.0), "b": np.array(2.0), "k.key.bias": np.array(1e-8)})
    assert len(checks.failures) == 2


@pytest.mark.parametrize(
    ("meta", "ours", "theirs", "failures"),
    [
        # A key bias is compared like any other gradient.
        ({}, {"k.key.bias": 1.5, "w": 1.0}, {"k.key.bias": 1.0, "w": 1.0}, 1),
        # Without a list, what is next to nothing beside the largest norm must be so in ours.
        ({}, {"k.key.bias": 1e-7, "w": 1.0}, {"k.key.bias": 3e-9, "w": 1.0}, 0),
        ({}, {"k.key.bias": 1e-3, "w": 1.0}, {"k.key.bias": 3e-9, "w": 1.0}, 1),
        # A list says which are zero, and what it does not name is compared however small it is.
        ({"zero_gradient": ["b"]}, {"b": 1e-6, "w": 1.0}, {"b": 3e-9, "w": 1.0}, 0),
        ({"zero_grad": ["b"]}, {"b": 1e-3, "w": 1.0}, {"b": 0.0, "w": 1.0}, 1),
        ({"zero_grad": []}, {"b": 2e-8, "w": 1.0}, {"b": 1e-8, "w": 1.0}, 1),
        # A list that names what is not zero is wrong, and so is one that names what is not there.
        ({"zero_grad": ["w"]}, {"b": 1.0, "w": 1.0}, {"b": 1.0, "w": 1.0}, 1),
        ({"zero_grad": ["v"]}, {"w": 1.0}, {"w": 1.0}, 1),
        # The absolute part that a case states.
        (
            {"compare": "grad norms: |a-b| <= 2e-3*b + 2e-5*max(all)", "zero_gradient": []},
            {"b": 2e-5, "c": 4e-5, "w": 1.0},
            {"b": 1e-5, "c": 1e-5, "w": 1.0},
            1,
        ),
        # An array stands for its norm.
        ({}, {"w": np.array([3.0, 4.0])}, {"w": 5.0}, 0),
    ],
)
def test_zero_gradients_follow_the_case(meta: dict[str, Any], ours: Any, theirs: Any, failures: int) -> None:
    checks = Checks(GradientRule.of(meta))
    checks.grad_norms(ours, theirs)
    assert len(checks.failures) == failures, checks.failures


@pytest.mark.parametrize("meta", [{"compare": "grad norms: some other rule"}, {"zero_grad": [], "zero_gradient": []}])
def test_a_rule_that_nobody_reads_is_refused(meta: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="compare|zero"):
        GradientRule.of(meta)


# ---- claims --------------------------------------------------------------------------------------------------------


def _register(reads: tuple[str, ...], **options: Any) -> None:
    @claim(model="made", modes=("host",), **options)
    def check(case: Any, mode: str, checks: Checks) -> None:
        for name in reads:
            checks.output(name, 1.0, case.outputs[name])


def test_an_entry_that_nobody_reads_fails(tmp_path: Path, own_claims: None) -> None:
    folder = make_case(tmp_path / "x", {"model": "made"}, output__a=1.0, output__b=1.0, loss__c=1.0, grad_norm__d=1.0)
    _register(("a",))
    result = run_here(Job(str(folder), "host"))
    assert len(result.failures) == 1
    assert all(entry in result.failures[0] for entry in ("output/b", "loss/c", "grad_norm/d"))
    assert "output/a" not in result.failures[0]


def test_an_entry_is_spared_with_a_reason(tmp_path: Path, own_claims: None) -> None:
    folder = make_case(tmp_path / "x", {"model": "made"}, output__a=1.0, output__b=1.0, loss__c=1.0)
    _register(("a",), unread={"output/b": "a number of the reference's own loader", "loss/*": "made elsewhere"})
    assert run_here(Job(str(folder), "host")).failures == []
    with pytest.raises(ValueError, match="reason"):
        _register(("a",), unread={"output/b": " "})


def test_two_claims_of_one_case_are_refused(tmp_path: Path, own_claims: None) -> None:
    folder = make_case(tmp_path / "x", {"model": "made"}, output__a=1.0)
    _register(("a",))
    _register(("a",), holds=("output/a",))
    with pytest.raises(ValueError, match="narrow all but one"):
        claim_for(describe(folder))


@pytest.mark.parametrize(
    ("options", "fits"),
    [
        ({}, True),
        ({"kind": "train"}, False),
        ({"holds": ("config.vit.depth", "output/a", "grad_norm/*")}, True),
        ({"holds": ("config.vit.width",)}, False),
        ({"holds": ("config.vit.depth.more",)}, False),
        ({"holds": ("loss/*",)}, False),
        ({"lacks": ("optimizer",)}, True),
        ({"lacks": ("config.vit",)}, False),
        ({"where": lambda case: case.meta["config"]["vit"]["depth"] == 4}, False),
    ],
)
def test_a_claim_is_made_by_what_a_case_holds(options: dict[str, Any], fits: bool, own_claims: None) -> None:
    meta = {"model": "made", "config": {"vit": {"depth": 3}}}
    case = Description("any", Path(), meta, frozenset({"output/a", "grad_norm/w"}))
    _register((), **options)
    assert (claim_for(case) is not None) == fits


def test_components_run_in_pynative_only(own_claims: None) -> None:
    def case(*entries: str, state: list[Any] | None = None) -> Description:
        return Description("any", Path(), {"state_dict": state or []}, frozenset(entries))

    plain, gradients = case("output/y"), case("output/y", "grad_norm/w")
    large = case("output/y", state=[["w", [5000, 5000], "weight"]])

    def register(**options: Any) -> registry.Claim:
        claim(model="made", **options)(lambda case, mode, checks: None)
        return registry._CLAIMS[-1]

    part, model, steps, long = register(), register(whole=True), register(suite=("graph",)), register(suite=())
    assert long.modes_in_suite(gradients) == () and long.modes_in_suite(gradients, True) == long.modes
    assert steps.modes_in_suite(gradients) == ("graph",) and steps.modes_in_suite(gradients, True) == steps.modes
    with pytest.raises(ValueError, match="cannot run"):
        register(modes=("host",), suite=("graph",))
    assert part.modes_in_suite(plain) == ("pynative",)
    assert part.modes_in_suite(gradients) == ("pynative",) and model.modes_in_suite(plain) == ("graph", "pynative")
    assert part.modes_in_suite(large) == ("pynative",) and model.modes_in_suite(large) == ("graph",)
    assert part.modes_in_suite(large, everything=True) == part.modes_in_suite(plain, True) == ("graph", "pynative")


def test_a_copy_under_another_name_is_claimed(tmp_path: Path) -> None:
    for source in sorted(_OWN.glob("*/case.json")):
        shutil.copytree(source.parent, tmp_path / f"nothing {source.parent.name[::-1]}")
    copies = sorted(tmp_path.iterdir())
    assert len(copies) == len(list(_OWN.iterdir()))
    for folder in copies:
        original = _OWN / folder.name.removeprefix("nothing ")[::-1]
        assert claim_for(describe(folder)) is claim_for(describe(original)), folder.name
        assert claim_for(describe(folder)) is not None
    # And it runs.
    folder = next(path for path in copies if path.name.endswith("yaced-rl-tedtiv"))
    assert run_here(Job(str(folder), "host")).failures == []


def test_a_sibling_of_other_sizes_runs(tmp_path: Path) -> None:
    """The pooling of VG-LAW with other widths, its numbers computed here in double precision."""
    batch, tokens, config = 3, 11, {"query_dim": 10, "key_dim": 6, "attn_dim": 8, "heads": 1}
    state = [
        [f"{part}_proj.{kind}", [8, config[width]] if kind == "weight" else [8], kind]
        for part, width in (("q", "query_dim"), ("k", "key_dim"))
        for kind in ("weight", "bias")
    ]
    values = {name: draw(name, shape, kind).astype(np.float64) for name, shape, kind in state}
    rng = np.random.default_rng(0)
    query = rng.standard_normal((1, batch, 10)).astype(np.float32)
    key = rng.standard_normal((tokens, batch, 6)).astype(np.float32)
    q = query[0] @ values["q_proj.weight"].T + values["q_proj.bias"]
    k = key.transpose(1, 0, 2) @ values["k_proj.weight"].T + values["k_proj.bias"]
    scores = np.exp(np.einsum("bd,bnd->bn", q, k) / np.sqrt(8))
    attention = scores / scores.sum(1, keepdims=True)
    pooled = np.einsum("bn,nbc->bc", attention, key)
    folder = make_case(
        tmp_path / "some-pool-of-other-widths",
        {"model": "VG-LAW", "config": config, "state_dict": state},
        input__query=query,
        input__key=key,
        output__pooled=pooled[None],
        output__attention=attention[:, None, None],
    )
    item = claim_for(describe(folder))
    assert item is not None and item is claim_for(describe(_OWN / "vglaw-adaptive-pool"))
    import mindspore as ms

    before = ms.get_context("mode")
    try:
        checks = run_claim(item, load_case(folder), "pynative")
    finally:
        ms.set_context(mode=before)
    assert checks.failures == [] and checks.count == 2


# ---- processes and the command ---------------------------------------------------------------------------------------


def _altered(folder: Path, change: Callable[[dict[str, np.ndarray]], None]) -> Path:
    source = load_case(_OWN / "vitdet-lr-decay")
    tensors = dict(source.tensors)
    change(tensors)
    return make_case(folder, source.meta, **tensors)


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(_RUN), *arguments], capture_output=True, text=True, check=False)


def test_the_command_reports_a_wrong_number_and_an_unread_entry(tmp_path: Path) -> None:
    def shift(tensors: dict[str, np.ndarray]) -> None:
        tensors["output/r0"] = tensors["output/r0"] + 0.01

    def add(tensors: dict[str, np.ndarray]) -> None:
        tensors["output/surplus"] = np.zeros(3)

    _altered(tmp_path / "shifted", shift)
    _altered(tmp_path / "with-more", add)
    _altered(tmp_path / "as-it-is", lambda tensors: None)
    make_case(tmp_path / "nobody-knows-this", {})
    done = _run("--root", str(tmp_path))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAIL  shifted" in done.stdout and "relative error" in done.stdout
    assert "FAIL  with-more" in done.stdout and "not compared: output/surplus" in done.stdout
    assert "pass  as-it-is" in done.stdout
    assert "unclaimed: nobody-knows-this" in done.stdout
    assert "1 passed, 2 failed, 1 cases claimed by no family" in done.stdout


def test_the_command_names_what_it_cannot_run(tmp_path: Path) -> None:
    done = _run("--root", str(tmp_path), "--case", "absent-*")
    assert done.returncode == 2 and "absent-*" in done.stdout


def test_a_process_that_dies_takes_one_case_with_it(tmp_path: Path) -> None:
    good = _altered(tmp_path / "good", lambda tensors: None)
    bad = make_case(tmp_path / "bad", load_case(good).meta, output__r0=1.0)
    (bad / "tensors.npz").write_bytes(b"no archive")
    results = Workers().run([Job(str(bad), "host"), Job(str(good), "host")])
    assert [Path(result.folder).name for result in results] == ["bad", "good"]
    assert "the process ended with status 1" in results[0].failures[0] and not results[1].failures


def test_cases_of_one_module_share_a_process(tmp_path: Path) -> None:
    assert group_of(_OWN / "vglaw-tiny", "graph") == group_of(_OWN / "vglaw-heads", "pynative") == "vglaw"
    assert group_of(_OWN / "vglaw-metrics", "host") == group_of(_OWN / "vitdet-lr-decay", "host") == "host"
    source = load_case(_OWN / "bert-hf-tiny")
    meta = {**source.meta, "state_dict": [["w", [5000, 5000], "weight"]]}
    large = make_case(tmp_path / "large", meta, output__pooler=1.0)
    assert group_of(large, "graph") == "large graph" != group_of(large, "pynative")
    with pytest.raises(ValueError, match="nobody claims"):
        group_of(make_case(tmp_path / "unknown", {"model": "no such"}), "graph")
