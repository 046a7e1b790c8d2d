"""The model families: what each asks, what it answers, and which weights it reads.

mindground models            # all of them
mindground models clipvg     # one: its configurations and its sources of weights
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindground
from mindground.files.text import read_lines
from mindground.runtime import device

__all__ = ["Family", "describe", "main"]

_QUESTIONS = {
    "expression": "an image and an expression",
    "prompt": "an image and a prompt",
    "nothing": "an image alone",
}


@dataclass(frozen=True)
class Family:
    """What a user can know about a family before building it.

    Attributes:
        name: as in `--family`.
        title: one line.
        asks: expression, nothing or prompt.
        answers: box, mask.
        many: several answers to one question.
        configurations: file -> how its comment begins.
        sources: name as in `mindground weights import --family` -> what such files are.
    """

    name: str
    title: str
    asks: str
    answers: tuple[str, ...]
    many: bool
    configurations: dict[str, str]
    sources: dict[str, str]

    def line(self) -> str:
        """Question and answer."""
        answer = f"{'every' if self.many else 'one'} {' and '.join(self.answers)}"
        return f"asks: {_QUESTIONS[self.asks]}; answers: {answer}"


def describe(name: str) -> Family:
    """Facts about one family. Raises ConfigError that names the nearest family."""
    from mindground.config import load_config
    from mindground.models import family_facts, family_module

    module = family_module(name)
    interface = module.interface(load_config(family_facts(name).published_file or [], [f"--family={name}"]))
    return Family(
        name,
        (module.__doc__ or name).strip().split("\n")[0],
        interface.asks,
        tuple(interface.answers),
        interface.many,
        {str(path): _comment(path) for path in _configurations(name, Path(module.__path__[0]))},
        {source: known.name for source, known in _maps(name).items()},
    )


def _maps(name: str) -> dict[str, Any]:
    from mindground.models import family_module, family_weight_maps

    try:
        return dict(family_weight_maps(name))
    except ModuleNotFoundError as error:
        if error.name != f"{family_module(name).__name__}.weights":
            raise
        return {}  # a family need not read foreign files


def _configurations(name: str, package: Path) -> list[Path]:
    """The family's own files, then those of the clone or of this folder, which an installed package does not have."""
    clone = Path(mindground.__file__).resolve().parents[2] / "configs" / name
    here = Path("configs") / name
    folder = here if here.is_dir() else clone
    return [*sorted(package.glob("*.yaml")), *sorted(folder.glob("*.yaml"))]


def _comment(path: Path) -> str:
    """The comment at the top of a file as far as the first line that ends a sentence."""
    told: list[str] = []
    for line in read_lines(path):
        if not line.startswith("#"):
            break
        told.append(line.lstrip("# ").strip())
        if line.endswith((".", ")")):
            break
    return " ".join(told)


def _page(family: Family) -> str:
    lines = [family.title, family.line(), "", "configurations (mindground train --config FILE):"]
    lines += [f"  {path}\n      {told}" for path, told in family.configurations.items()] or ["  none"]
    lines += ["", f"weights (mindground weights import FILE --family NAME --into {family.name} --out X.ckpt):"]
    width = max(map(len, family.sources), default=0)
    lines += [f"  {source:<{width}}  {told}" for source, told in family.sources.items()] or ["  none"]
    return "\n".join(lines)


def _list(found: Sequence[Family]) -> str:
    width = max((len(family.name) for family in found), default=0)
    lines: list[str] = []
    for family in found:
        lines += [f"{family.name:<{width}}  {family.title}", f"{'':<{width}}  {family.line()}"]
        lines.append(f"{'':<{width}}  reads: {', '.join(family.sources) or 'no foreign weights'}")
    return "\n".join(lines)


def main(argv: Sequence[str], prog: str | None = None) -> None:
    """Print one family, or all of them."""
    from mindground.cli.parser import VerbParser

    parser = VerbParser(prog, __doc__)
    parser.add_argument("family", nargs="?", help="show this one with its configurations and weights")
    parser.add_argument("--json", action="store_true", help="print the same as JSON")
    options = parser.parse_args(argv)
    device.prepare()  # the lists of weights stand beside the networks
    from mindground.models import families

    found = [describe(name) for name in ([options.family] if options.family else families())]
    if options.json:
        plain = [vars(family) for family in found]
        print(json.dumps(plain[0] if options.family else plain, ensure_ascii=False, indent=1))
    else:
        print(_page(found[0]) if options.family else _list(found))
