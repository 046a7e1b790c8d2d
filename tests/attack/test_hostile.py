"""No file made by hand crashes, hangs or fills the memory of its reader, runs code, or ends in a raw exception."""

from __future__ import annotations

import socket
from collections import Counter

import pytest

from attack.child import BAD, Input, Verdict
from attack.conftest import Run
from attack.hostile import CASES
from attack.hostile.images import vrt
from attack.readers import READERS
from attack.seeds import rasters

_TOGETHER = 40
GROUPS = [
    pytest.param(cases[start : start + _TOGETHER], id=f"{name}-{start // _TOGETHER}")
    for name in READERS
    for cases in [[case for case in CASES if case.reader == name]]
    for start in range(0, len(cases), _TOGETHER)
]
"""Cases of one reader, so many that a failure is found quickly and a process serves them all."""


@pytest.mark.parametrize("cases", GROUPS)
def test_hostile_files(run: Run, cases: list) -> None:
    outcomes = run(cases[0].reader, [case.given() for case in cases])
    failures = [case.failure(outcome) for case, outcome in zip(cases, outcomes, strict=True)]
    found = [failure for failure in failures if failure]
    assert not found, f"{len(found)} of {len(cases)}\n" + "\n".join(found)


def test_every_reader_has_hostile_files_of_unique_names() -> None:
    assert {case.reader for case in CASES} == set(READERS)
    assert not [key for key, count in Counter((case.reader, case.name) for case in CASES).items() if count > 1]


@pytest.mark.parametrize("name", sorted(name for name, reader in READERS.items() if reader.share))
def test_good_files_are_read(run: Run, name: str) -> None:
    seeds = READERS[name].seeds()
    outcomes = run(name, [Input(data) for data in seeds])
    assert [outcome.verdict for outcome in outcomes] == [Verdict.READ] * len(seeds), outcomes


@pytest.mark.parametrize("suffix", [".msk", ".ovr"])
def test_a_file_beside_a_raster_reaches_no_network(run: Run, suffix: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        port = server.getsockname()[1]
        side = vrt(f"/vsicurl/http://127.0.0.1:{port}/secret.tif")
        (outcome,) = run("raster", [Input(rasters()[0], {f"x.tif{suffix}": side, "x.tif.aux.xml": side})])
        with pytest.raises(BlockingIOError):
            server.accept()
    assert outcome.verdict not in BAD, outcome
