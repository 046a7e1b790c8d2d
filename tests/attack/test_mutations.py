"""A short run of mutated files over every reader; scripts/fuzz.sh is the long one."""

from __future__ import annotations

import pytest

from attack import fuzz
from attack.child import BAD, Input
from attack.conftest import Run
from attack.mutate import SHAPES, mutations
from attack.readers import READERS

_COUNT = 40
NAMES = sorted(name for name, reader in READERS.items() if reader.share)


@pytest.mark.parametrize("name", NAMES)
def test_mutated_files(run: Run, name: str) -> None:
    reader = READERS[name]
    count = max(3, round(_COUNT * min(1.0, reader.share)))
    inputs = [Input(data) for data in mutations(reader.shape, 12, reader.seeds(), count)]
    bad = [outcome for outcome in run(name, inputs) if outcome.verdict in BAD]
    lines = [f"{outcome.kind}: {outcome.message[:200]!r}" for outcome in bad]
    assert not bad, f"{len(bad)} of {len(inputs)}\n" + "\n".join(lines)


def test_every_shape_is_used_and_known() -> None:
    used = {reader.shape for reader in READERS.values()}
    assert used <= set(SHAPES)
    assert set(SHAPES) - used == set()


@pytest.mark.parametrize("name", NAMES)
def test_mutations_depend_on_the_seed_alone_and_change_files(name: str) -> None:
    reader = READERS[name]
    seeds = reader.seeds()
    first = mutations(reader.shape, 1, seeds, 10)
    assert first == mutations(reader.shape, 1, list(seeds), 10)
    assert first != mutations(reader.shape, 2, seeds, 10)
    assert any(data not in seeds for data in first)


def test_long_run_shares_its_inputs() -> None:
    wanted = fuzz.shares(list(READERS.values()), 200_000)
    assert set(wanted) == set(NAMES)
    assert abs(sum(wanted.values()) - 200_000) < len(wanted)
    assert wanted["torch_zip"] > 10 * wanted["merges"] > 0
