"""The verbs of the command `mindground`, and how one of them is found and started.

A verb is a module with `main(argv, prog)`: its arguments, and the name that its help and its mistakes show (None: the
name of the running program). Its module is imported only when the verb is asked for, so that `mindground --help` is
quick.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mindground.cli.exit_codes import EXIT_USER_ERROR, run_command
from mindground.errors import ConfigError

__all__ = ["VERBS", "Verb", "main", "paths"]

PROGRAM = "mindground"


@dataclass(frozen=True)
class Verb:
    """One verb, or a group of them.

    Attributes:
        summary: what it does, for the list of verbs.
        module: below `mindground.cli`; empty for a group.
        verbs: of a group.
    """

    summary: str
    module: str = ""
    verbs: Mapping[str, Verb] = field(default_factory=dict)


VERBS: dict[str, Verb] = {
    "train": Verb("train what a configuration describes; without one, a small model in minutes", "train"),
    "eval": Verb("metrics of a checkpoint on a split", "eval"),
    "show": Verb("draw samples of a data set with truth and prediction", "show"),
    "predict": Verb("find what sentences point at in images of one's own", "predict"),
    "data": Verb(
        "check, make and convert data sets",
        verbs={
            "check": Verb("images, boxes, masks, ids, and what the splits share", "data.check"),
            "make-referring": Verb("referring expressions from COCO instances", "data.make_referring"),
            "make-template-source": Verb("pseudo labels from detections and templates", "data.make_template_source"),
            "make-dior-rsvg": Verb("a set in the layout of DIOR-RSVG", "data.make_dior_rsvg"),
            "convert-whu": Verb("the WHU building set as COCO instances", "data.convert_whu"),
            "export-jsonl": Verb("any data set as JSON lines", "data.export_jsonl"),
            "convert": Verb("annotations of one tool or format as those of another", "data.convert"),
            "preprocess": Verb("a RefCOCO-family set as one cache file", "data.preprocess"),
            "plant-wrong-boxes": Verb("a set with a known share of wrong boxes", "data.plant_wrong_boxes"),
        },
    ),
    "weights": Verb(
        "read and write weights of other frameworks",
        verbs={
            "import": Verb("a foreign file as one of ours, with an account of every tensor", "weights.import_file"),
            "export": Verb("a checkpoint under the names of another framework", "weights.export_file"),
        },
    ),
    "curriculum": Verb("self-paced training on pseudo labels", "curriculum"),
    "models": Verb("the model families: what each asks, answers and reads", "models"),
    "bench": Verb("speed and memory beside PyTorch", "bench.command"),
    "doctor": Verb("report on this machine: packages, device, MPI, fonts", "doctor"),
}


def paths(verbs: Mapping[str, Verb] = VERBS) -> list[tuple[str, ...]]:
    """Every verb that runs, as the words that call it: ("train",), ("data", "check"), ..."""
    found: list[tuple[str, ...]] = []
    for name, verb in verbs.items():
        found += [(name, *rest) for rest in paths(verb.verbs)] if verb.verbs else [(name,)]
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """The command `mindground`; returns its exit code (see `exit_codes`)."""
    return run_command(_start, argv)


def _start(words: Sequence[str]) -> int | None:
    called = PROGRAM
    verbs: Mapping[str, Verb] = VERBS
    summary = "MindGround: find what a sentence points at in an image, on MindSpore"
    for place, word in enumerate(words):
        if word in ("-h", "--help"):
            print(_overview(called, summary, verbs))
            return 0
        if word == "--version" and called == PROGRAM:
            from mindground import __version__

            print(f"{PROGRAM} {__version__}")
            return 0
        if word not in verbs:
            raise ConfigError(f"{called}: {_unknown(word, called, verbs)}")
        called, verb = f"{called} {word}", verbs[word]
        if verb.module:
            module = importlib.import_module(f"mindground.cli.{verb.module}")
            code: int | None = module.main(words[place + 1 :], called)
            return code
        verbs, summary = verb.verbs, verb.summary
    print(_overview(called, summary, verbs))
    return EXIT_USER_ERROR


def _unknown(word: str, called: str, verbs: Mapping[str, Verb]) -> str:
    kind = "option" if word.startswith("-") else "verb"
    known = ["--help", *(["--version"] if called == PROGRAM else [])] if kind == "option" else list(verbs)
    near = difflib.get_close_matches(word, known, 1, 0.5)
    hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(known)}"
    return f"there is no {kind} {word!r}; {hint}"


def _overview(called: str, summary: str, verbs: Mapping[str, Verb]) -> str:
    width = max(map(len, verbs))
    lines = [f"usage: {called} VERB ...", "", summary, "", "verbs:"]
    lines += [f"  {name:<{width}}  {verb.summary}" for name, verb in verbs.items()]
    lines += ["", f"{called} VERB --help shows the options of one; --debug, anywhere, shows the trace of a mistake."]
    if called == PROGRAM:
        lines.append(f"{called} --version tells the version.")
    return "\n".join(lines)
