"""MindGround beside PyTorch, in one run: forward pass, training step, peak memory.

    mindground bench vglaw
    mindground bench vglaw --batch 4 --repeats 9 --json benchmark.json
    mindground bench clipvg --sentences 16
    mindground bench msam
    mindground bench sam --size 512

Both sides get the same weights and the same batch, and nothing is reported unless their results agree. Every side and
every task has a process of its own; the two sides run in turns. PyTorch and transformers come with
requirements-test.txt. With --sentences nothing is compared with PyTorch, which is then not needed: one sentence about
an image stands beside many, as the predictor answers them. With --kernels, and for msam and rmsin without it, the
products, convolutions and softmaxes that the network is made of are timed alone as well: what no network can be
faster than.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mindground.cli.bench import compared_families, recipe_modules
from mindground.cli.bench.children import BenchmarkError, prepare, run_pair, run_sentences
from mindground.cli.bench.decoding import measure_decoding
from mindground.cli.bench.kernels import bare_kernels
from mindground.cli.bench.report import machine, sentence_table, table
from mindground.cli.parser import VerbParser, add_overwrite, at_least
from mindground.config import load_config, to_dict
from mindground.files.atomic import write_json
from mindground.files.outputs import check_outputs

__all__ = ["main", "measure", "measure_sentences"]

TOLERANCE = 1e-3
# Of an image with 800 pixels a side.
SAME_PIXELS = 0.1
NEEDED = ("torch", "transformers")


def _options(argv: Sequence[str], prog: str | None) -> argparse.Namespace:
    parser = VerbParser(prog, __doc__)
    parser.add_argument("family", choices=compared_families(), help="what to compare")
    parser.add_argument("--batch", type=at_least(1), default=2, help="samples of the batch (default 2)")
    parser.add_argument("--repeats", type=at_least(1), default=7, help="timed turns of each side (default 7)")
    parser.add_argument(
        "--warm-up", type=at_least(1), default=2, help="turns before them; the first one compiles (default 2)"
    )
    parser.add_argument(
        "--size", type=at_least(0), default=0, help="side of the image in pixels (default: as published)"
    )
    parser.add_argument("--task", choices=("forward", "step", "both"), default="both", help="what to measure")
    parser.add_argument("--sentences", type=int, default=0, metavar="N", help="one sentence against N about one image")
    parser.add_argument(
        "--kernels", action="store_true", help="also time the kernels that the network is made of, by themselves"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a configuration key; repeatable"
    )
    parser.add_argument("--json", default="", metavar="FILE", help="write everything that was measured there")
    add_overwrite(parser)
    options: argparse.Namespace = parser.parse_args(list(argv))
    if options.sentences == 1 or options.sentences < 0:
        parser.error(f"--sentences {options.sentences}: name the number, 2 or more, that is set against one")
    return options


def _configured(options: argparse.Namespace) -> Any:
    """The family's module and its resolved configuration."""
    modules = recipe_modules(options.family)
    if modules is None:
        raise BenchmarkError(f"family {options.family} has nothing to be compared with; see mindground bench --help")
    family = importlib.import_module(modules[0])
    recipe = (f"family={getattr(family, 'FAMILY', options.family)}", f"data.dataset={family.DATASET}")
    overrides = [*recipe, *family.OVERRIDES, f"train.batch_size={options.batch}", f"train.batch_sum={options.batch}"]
    if options.size:
        overrides.append(f"data.img_size={options.size}")
    return family, load_config(None, [*overrides, *options.set])


def _circumstances(options: argparse.Namespace, config: Any) -> dict[str, Any]:
    return {
        "family": options.family,
        "batch": options.batch,
        "size": config.data.img_size,
        "mode": config.device.mode_name,
        "machine": machine(),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that was measured, as plain values.

    Raises:
        BenchmarkError: PyTorch or transformers is missing, a side fails, or the sides disagree.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise BenchmarkError(f"{' and '.join(missing)} not installed: pip install -r requirements-test.txt")
    family, config = _configured(options)
    circumstances = _circumstances(options, config)
    own: dict[str, str] = getattr(family, "TASKS", {})
    if own and options.task != "both":
        raise BenchmarkError(f"--task {options.task}: {options.family} is measured in its own parts; leave it out")
    tasks = tuple(own) or (("forward", "step") if options.task == "both" else (options.task,))
    with tempfile.TemporaryDirectory(prefix="benchmark") as place:
        folder = Path(place)
        write_json(folder / "config.json", to_dict(config))
        idle = prepare(options.family, folder)
        results = {task: run_pair(task, options.family, folder, options.repeats, options.warm_up) for task in tasks}
        if options.kernels or getattr(family, "BARE_KERNELS", False):
            circumstances["kernels"] = bare_kernels(options.family, folder, options.repeats, options.warm_up)
        if getattr(family, "DECODES", False):
            circumstances["decoding"] = measure_decoding(options.family, folder, options.repeats, options.warm_up)
    if not circumstances.get("decoding", {}).get("same", True):
        raise BenchmarkError("decoding with kept keys and values writes other tokens than without; no times")
    worst = max(value for result in results.values() for value in result["agreement"].values())
    if not worst <= TOLERANCE:
        details = {task: result["agreement"] for task, result in results.items()}
        raise BenchmarkError(f"the two sides differ by {worst:.1e}, more than {TOLERANCE}; no times: {details}")
    return {**circumstances, "idle_mib": idle, "largest_difference": worst, "tasks": own, **results}


def measure_sentences(options: argparse.Namespace) -> dict[str, Any]:
    """One sentence about an image against `options.sentences` of them.

    Raises:
        BenchmarkError: the family reads image and sentence together, or the first box depends on its company.
    """
    family, config = _configured(options)
    if not hasattr(family, "expressions"):
        raise BenchmarkError(f"{options.family} reads image and sentence together: --sentences has nothing to compare")
    circumstances = _circumstances(options, config)
    with tempfile.TemporaryDirectory(prefix="benchmark") as place:
        folder = Path(place)
        write_json(folder / "config.json", to_dict(config))
        prepare(options.family, folder, sides=())
        result = run_sentences(options.family, folder, options.sentences, options.repeats, options.warm_up)
    if not result["pixels"] <= SAME_PIXELS:
        raise BenchmarkError(
            f"the first box differs by {result['pixels']:.1e} pixels between one sentence and {options.sentences}; "
            "no times"
        )
    return {**circumstances, "sentences": result}


def main(argv: Sequence[str], prog: str | None = None) -> None:
    """Measure, print, and write the JSON file that was asked for.

    MindSpore's start-up settings are made in the children of our side alone: they would slow PyTorch down.
    """
    options = _options(argv, prog)
    check_outputs(filter(None, [options.json]), overwrite=options.overwrite)
    measured = measure_sentences(options) if options.sentences else measure(options)
    if options.json:
        write_json(options.json, measured, indent=1)
    print(sentence_table(measured) if options.sentences else table(measured))
