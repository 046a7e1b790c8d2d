"""A long run: so many mutated inputs over all readers, a table of what became of them, the bytes of every finding.

python -m attack.fuzz --inputs 200000 --seed 0 --out /tmp/fuzz [READER ...]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from attack.child import BAD, Input, Limits, Outcome, Readers, Verdict
from attack.hostile import CASES, Case
from attack.mutate import mutations
from attack.readers import READERS, Reader

_BATCH = 250
_KEPT = 300
_TOGETHER = 20
_VALUES = re.compile(r"/\S+|'[^']*'|[\d.]+")
"""What differs between messages of one place."""


@dataclass
class Tally:
    """What became of one reader's inputs.

    Attributes:
        counts: verdict -> inputs.
        findings: kind of a bad outcome -> (how many, first example, its file).
        seconds: wall time, mutations included.
        slowest: seconds of processor time of one input.
        grown: most bytes beyond the idle worker's.
    """

    counts: Counter[Verdict] = field(default_factory=Counter)
    findings: dict[str, tuple[int, Outcome, str]] = field(default_factory=dict)
    seconds: float = 0.0
    slowest: float = 0.0
    grown: int = 0

    @property
    def inputs(self) -> int:
        return sum(self.counts.values())

    def add(self, outcome: Outcome, data: bytes, reader: str, folder: Path) -> None:
        """Count one outcome; the first of a kind is kept with its bytes."""
        self.counts[outcome.verdict] += 1
        self.slowest = max(self.slowest, outcome.seconds)
        self.grown = max(self.grown, outcome.grown)
        if outcome.verdict not in BAD:
            return
        kind = outcome.kind
        if kind in self.findings:
            count, first, file = self.findings[kind]
            self.findings[kind] = count + 1, first, file
            return
        file = f"{reader}-{hashlib.sha256(kind.encode()).hexdigest()[:8]}.bin"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(data)
        self.findings[kind] = 1, outcome, file


def shares(readers: Sequence[Reader], inputs: int) -> dict[str, int]:
    """Inputs for every reader, in proportion to their shares; at least one each."""
    total = sum(reader.share for reader in readers)
    return {reader.name: max(1, round(inputs * reader.share / total)) for reader in readers if reader.share}


def attack(readers: Readers, name: str, count: int, seed: int, folder: Path, limits: Limits) -> Tally:
    """Run `count` mutated inputs of one reader.

    An input whose message is new is kept, and half of the later ones grow out of those: it got to a place that none
    before it had.
    """
    reader, tally = READERS[name], Tally()
    begin, seeds, known = time.monotonic(), READERS[name].seeds(), {""}
    kept: list[bytes] = []
    for start in range(0, count, _BATCH):
        size = min(_BATCH, count - start)
        inputs = mutations(reader.shape, seed * 1_000_003 + start, seeds, size, kept)
        outcomes = readers.run(name, [Input(data) for data in inputs], limits)
        for outcome, data in zip(outcomes, inputs, strict=True):
            tally.add(outcome, data, name, folder)
            said = _VALUES.sub("", outcome.message)[:80]
            if outcome.verdict not in BAD and said not in known and len(kept) < _KEPT and len(data) < 1 << 16:
                known.add(said)
                kept.append(data)
    tally.seconds = time.monotonic() - begin
    return tally


def show(tallies: dict[str, Tally]) -> str:
    """A table for people, and below it one line a kind of finding."""
    heads = ["reader", "inputs", *(verdict.value for verdict in Verdict), "inputs/s", "slowest s", "most MB"]
    rows = [heads]
    for name, tally in tallies.items():
        speed = tally.inputs / max(tally.seconds, 1e-9)
        counts = [str(tally.counts[verdict]) for verdict in Verdict]
        rows.append([name, str(tally.inputs), *counts, f"{speed:.0f}", f"{tally.slowest:.2f}", str(tally.grown >> 20)])
    total = sum((tally.counts for tally in tallies.values()), Counter[Verdict]())
    seconds = sum(tally.seconds for tally in tallies.values())
    counts = [str(total[verdict]) for verdict in Verdict]
    speed = f"{sum(total.values()) / max(seconds, 1e-9):.0f}"
    rows.append(["all", str(sum(total.values())), *counts, speed, "", ""])
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for name, tally in tallies.items():
        for kind, (count, outcome, file) in sorted(tally.findings.items()):
            message = " ".join(outcome.message.split())[:120]
            lines.append(f"{name}: {count} x {kind} | {ascii(message)} | {file}")
    return "\n".join(lines)


def _run_cases(readers: Readers, cases: Sequence[Case], tally: Tally, folder: Path, limits: Limits) -> list[str]:
    """Run files made by hand of one reader; what failed."""
    begin, inputs = time.monotonic(), [case.given() for case in cases]
    outcomes = readers.run(cases[0].reader, inputs, limits)
    failures = []
    for case, given, outcome in zip(cases, inputs, outcomes, strict=True):
        tally.add(outcome, given.data, case.reader, folder)
        if failure := case.failure(outcome):
            failures.append(failure)
            print(ascii(failure)[:300], flush=True)
    tally.seconds += time.monotonic() - begin
    return failures


def hostile(part: str, names: Sequence[str], folder: Path, limits: Limits) -> int:
    """Run the files made by hand; a table, the wrong outcomes, and status 1 when there are any."""
    tallies: dict[str, Tally] = {}
    failures = []
    cases = [case for case in CASES if part in case.name and (not names or case.reader in names)]
    for heavy in (False, True):
        group = [case for case in cases if READERS[case.reader].heavy is heavy]
        with Readers(names=sorted({case.reader for case in group}) or ["yaml"]) as readers:
            for name in sorted({case.reader for case in group}):
                own = [case for case in group if case.reader == name]
                tally = tallies[name] = Tally()
                for start in range(0, len(own), _TOGETHER):
                    failures += _run_cases(readers, own[start : start + _TOGETHER], tally, folder, limits)
    print(show(tallies))
    return int(bool(failures))


def main(arguments: Sequence[str]) -> int:
    """Status 1 when there was a finding, 0 when there was none."""
    able = [name for name, reader in READERS.items() if reader.share]
    parser = argparse.ArgumentParser(prog="fuzz.sh", description="Mutated files for the readers of MindGround")
    parser.add_argument("readers", nargs="*", help=f"any of {', '.join(able)}; all when left out")
    parser.add_argument("--inputs", type=int, default=200_000, help="over all readers")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other inputs")
    parser.add_argument("--hostile", metavar="TEXT", help="run the files made by hand whose name contains this")
    parser.add_argument("--cpu", type=float, default=Limits.cpu, help="seconds of processor time for one input")
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"), help="folder for findings and fuzz.json")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.readers) - set(able))
    if unknown:
        parser.error(f"unknown reader {unknown[0]!r}; choose among {', '.join(able)}")
    if options.hostile is not None:
        return hostile(options.hostile, options.readers, options.out, Limits(options.cpu))
    chosen = [READERS[name] for name in options.readers or able]
    wanted = shares(chosen, options.inputs)
    tallies: dict[str, Tally] = {}
    for heavy in (False, True):
        names = [reader.name for reader in chosen if reader.heavy is heavy]
        if not names:
            continue
        with Readers(names=names) as readers:
            for name in names:
                tallies[name] = attack(readers, name, wanted[name], options.seed, options.out, Limits(options.cpu))
                print(show({name: tallies[name]}), flush=True)
    print(f"\n{show(tallies)}")
    options.out.mkdir(parents=True, exist_ok=True)
    counts = {name: {verdict.value: n for verdict, n in tally.counts.items()} for name, tally in tallies.items()}
    (options.out / "fuzz.json").write_text(json.dumps({"seed": options.seed, "counts": counts}, indent=1) + "\n")
    return int(any(tally.findings for tally in tallies.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
