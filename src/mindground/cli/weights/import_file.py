"""Turn a weight file of another framework into one of ours, with an account of every tensor.

    mindground weights import model_final_61ccd1.pkl --family vitdet --out checkpoint/vitdet_b.ckpt
    mindground weights import model.safetensors --family bert --depth 6 --out checkpoint/bert_6.ckpt
    mindground weights import law.ckpt --family vglaw --config configs/vglaw/refcoco.yaml --data.vocab vocab.txt \\
        --out checkpoint/vglaw.ckpt
    mindground weights import best_checkpoint.pth --family clipvg --data.vocab bpe_simple_vocab_16e6.txt.gz \\
        --out checkpoint/clipvg.ckpt

The target is the published model, with what the file itself says (sizes, saved arguments) where its family can tell,
unless --config, --image-size, --depth or keys such as --model.vit.depth=24 say otherwise. A file for a part of the
model (a backbone, a text encoder) becomes a file for --train.pretrained.model, under the names of the backbone, so that
every family that has it reads it; a file for all of it becomes a checkpoint. A rest that nothing explains is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mindground.errors import WeightsError
from mindground.runtime import device

if TYPE_CHECKING:
    import argparse

    import numpy as np

    from mindground.cli.parser import VerbParser
    from mindground.config import CommandLine, Config
    from mindground.files.weights import WeightFile
    from mindground.models.base import GroundingModel
    from mindground.text import Tokenizer
    from mindground.weights.facts import SourceFacts
    from mindground.weights.maps import Adapted, WeightMap
    from mindground.weights.report import LoadReport

__all__ = ["import_file", "main"]


def _parser(prog: str | None) -> VerbParser:
    from mindground.cli.parser import VerbParser, add_overwrite, at_least

    parser = VerbParser(prog, __doc__)
    parser.add_argument("source", metavar="SRC", help="file of weights, or a folder of config.json, weights")
    parser.add_argument("--family", required=True, help="whose names the file uses: vitdet, bert, vglaw, ...")
    parser.add_argument("--into", default="", help="family whose model receives it (default: found from --family)")
    parser.add_argument("--image-size", type=at_least(1), default=0, help="side of the model's input in pixels")
    parser.add_argument("--depth", type=at_least(1), default=0, help="layers of the text encoder")
    parser.add_argument("--averages", action="store_true", help="the averaged weights (EMA) of a file that holds both")
    parser.add_argument(
        "--partial", action="store_true", help="take what fits by name and shape, and list the rest, which stays random"
    )
    parser.add_argument("--out", required=True, metavar="X.ckpt", help="file to write")
    add_overwrite(parser)
    return parser


def target_family(source: str, into: str, config_file: str | None) -> str:
    """The family whose model is built: the named one, the source itself, the file's, the usual, or the first."""
    from mindground.config import DEFAULT_FAMILY, family_of_file
    from mindground.models import families, family_weight_maps

    if into or source in families():
        return into or source
    named = family_of_file(config_file) if config_file else None
    reading = [family for family in families() if known_maps(family_weight_maps(family), source)]
    if not reading:
        sources = sorted({name for family in families() for name in family_weight_maps(family)})
        raise WeightsError(f"--family {source} is unknown; there are maps for {', '.join(sources)}")
    return next((family for family in (named, DEFAULT_FAMILY) if family in reading), reading[0])


def target_config(line: CommandLine, family: str, facts: SourceFacts) -> Config:
    """The model that receives the weights: the published one unless the file or the command line says otherwise."""
    from mindground.models import family_facts

    options, known = line.options, family_facts(family)
    first = [("family", (family,))]
    if line.config_file is None:
        # The published model instead of the small embedded one.
        if known.published_file is not None:
            line = replace(line, config_file=str(known.published_file))
        if known.published_dataset:
            first.append(("dataset", (known.published_dataset,)))
    first += [(key, (str(value),)) for key, value in facts.keys.items()]
    if options.image_size:
        first.append(("data.img_size", (str(options.image_size),)))
    if options.depth:
        if not known.text_layers:
            raise WeightsError(f"--depth: family {family} has no text encoder with a choice of layers; leave it out")
        first.append((known.text_layers, (str(options.depth),)))
    return replace(line, overrides=(*first, *line.overrides)).config()


def file_facts(file: WeightFile, family: str) -> SourceFacts:
    """What the file says about its configuration, as far as the family can tell; printed line by line."""
    from mindground.models import family_module
    from mindground.weights.facts import SourceFacts

    describe = getattr(family_module(family), "describe_source", None)
    facts = (describe(file) if describe else None) or SourceFacts()
    for note in facts.notes:
        print(f"  {note}")
    return facts


def print_contradictions(facts: SourceFacts, config: Config) -> None:
    """Where the command line overruled the file in something that no shape verifies."""
    from mindground.config import value_of

    for key in facts.unseen:
        asked = value_of(config, key)
        if asked != facts.keys[key]:
            print(f"  {key}={asked} was asked for, and the file says {facts.keys[key]}: no shape can tell who is right")


def word_rows(tensors: Mapping[str, np.ndarray]) -> int:
    """Rows of the word table in a file, 0 when it has none."""
    from mindground.weights.words import table_rows

    return table_rows({name: array.shape for name, array in tensors.items()})


def known_maps(maps: Mapping[str, WeightMap], source: str) -> list[WeightMap]:
    """Maps of one source: `vitdet` also finds `vitdet-mae` and the like."""
    return [known for name, known in maps.items() if name == source or name.startswith(source + "-")]


def source_maps(family: str, source: str) -> list[WeightMap]:
    """The same for the maps of a family, of which there must be one."""
    from mindground.models import family_weight_maps

    maps = family_weight_maps(family)
    found = known_maps(maps, source)
    if not found:
        raise WeightsError(f"--family {source} is unknown to {family}; it reads {', '.join(maps)}")
    return found


def refuse_foreign(options: argparse.Namespace, maps: Sequence[WeightMap], tensors: Mapping[str, np.ndarray]) -> None:
    """Raises WeightsError where no name of a file is known, before a network is built for it."""
    from mindground.weights.maps import best_map

    if not best_map(maps, tensors).to_ours(tensors).tensors:
        raise WeightsError(
            f"{options.source}: none of its {len(tensors)} tensors (first {next(iter(tensors), '')[:80]!r}) has a name "
            f"that --family {options.family} knows; check the file, or name the family that it is of"
        )


@dataclass(frozen=True)
class Imported:
    """A model that holds a file's weights, and the account of them."""

    model: GroundingModel
    config: Config
    report: LoadReport
    source: WeightMap
    beside: Mapping[str, Any]


def import_file(line: CommandLine) -> Imported:
    """Read, rename and load; the report tells what became of every tensor.

    Raises:
        WeightsError: unreadable, a checkpoint of ours already, or with a rest that nothing explains.
    """
    from mindground.config import value_of
    from mindground.config.beside import check_keys, said_by
    from mindground.engine.assemble import fill_vocabulary
    from mindground.files.model_folder import find_model
    from mindground.files.weights import read_weights
    from mindground.models import build_model
    from mindground.weights.facts import refuse_contradiction
    from mindground.weights.load import parameter_shapes
    from mindground.weights.maps import best_map, strip_wrapper_prefix

    options = line.options
    model_folder = find_model(options.source)
    found = read_weights(model_folder.weights, averages=options.averages)
    if "mindground" in found.metadata:
        raise WeightsError(
            f"{options.source} is a MindGround checkpoint already, and nothing has to be imported: name it as --ckpt "
            "to eval, show and predict, or as --train.pretrained.model to start a training from its weights"
        )
    family = target_family(options.family, options.into, line.config_file)
    maps = source_maps(family, options.family)
    tensors, prefix = strip_wrapper_prefix(found.tensors, maps)
    print(
        f"{options.source}: {found.format}, {len(tensors)} tensors"
        + (f", prefix {prefix!r} taken off" if prefix else "")
    )
    for key, means in (("unwrapped", "found under"), ("inert", "kept as data, not made"), ("left_out", "not read")):
        if key in found.metadata:
            print(f"  {means}: {found.metadata[key]}")
    refuse_foreign(options, maps, tensors)
    facts = file_facts(replace(found, tensors=tensors), family)
    said = said_by(family, model_folder.config)
    facts = replace(facts, keys={**facts.keys, **said.keys})
    config = target_config(line, family, facts)
    check_keys(config, said, str(model_folder.source))
    refuse_contradiction(facts, partial(value_of, config), Path(options.source).name)
    print_contradictions(facts, config)
    # Where the configuration leaves the size to a tokenizer, the word table of the file has it.
    fill_vocabulary(config.model, word_rows(tensors) or 1)
    model = build_model(config)
    shapes = parameter_shapes(model)
    chosen = best_map(maps, tensors, shapes)
    adapted = chosen.to_ours(tensors, shapes)
    whole = options.family == config.family
    report = load_adapted(model, adapted, f"{Path(options.source).name} as {chosen.name}", whole, options.partial)
    if chosen.remark and not said.keys and found.format != "torchscript":
        print(f"  {chosen.remark}")
    return Imported(model, config, report, chosen, model_folder.config or {})


def load_adapted(model: GroundingModel, adapted: Adapted, source: str, whole: bool, partial: bool) -> LoadReport:
    """Loads what a file holds.

    Args:
        source: the file, for messages.
        whole: the file is for all of the network, and not for some of its parts.
        partial: what does not fit is left out, and the rest stays as it is.
    """
    from mindground.weights.load import load_into, parameter_shapes

    parts = sorted({name.split(".", 1)[0] for name in adapted.tensors})
    outside: tuple[str, ...] = () if whole or not parts else (rf"(?!(?:{'|'.join(map(re.escape, parts))})(?:\.|$)).*",)
    anything = (".*",) if partial else ()
    if partial:
        leave_unfitting(adapted, parameter_shapes(model))
    report = load_into(model, adapted, allow_missing=anything or outside, allow_unexpected=anything, source=source)
    if outside:
        report.missing = [name for name in report.missing if not re.fullmatch(outside[0], name)]
    return report


def leave_unfitting(adapted: Adapted, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Takes out of a file, in place, what has another shape than the model's; the report says so."""
    for name in [name for name, array in adapted.tensors.items() if name in shapes and array.shape != shapes[name]]:
        adapted.ignored[name] = f"file {tuple(adapted.tensors[name].shape)}, model {tuple(shapes[name])}"
        del adapted.tensors[name]


def check_vocabulary(tokenizer: Tokenizer | None, model: GroundingModel, vocab: str) -> None:
    """Raises WeightsError when the vocabulary has entries that the word table has no rows for."""
    from mindground.weights.load import parameter_arrays

    rows = word_rows(parameter_arrays(model))
    if tokenizer is not None and rows and tokenizer.vocab_size > rows:
        raise WeightsError(
            f"data.vocab={vocab} has {tokenizer.vocab_size} entries, the word table of the file {rows}: it belongs to "
            "another model; name the vocabulary that the model was trained with, or leave data.vocab out"
        )


def write(imported: Imported, options: argparse.Namespace) -> str:
    """Write the result; returns what it is good for."""
    from mindground.files.safetensors import write_safetensors_atomic
    from mindground.weights.load import parameter_arrays

    model, config = imported.model, imported.config
    if options.family == config.family:
        from mindground.engine.checkpoint import save_checkpoint
        from mindground.text import build_tokenizer

        tokenizer = build_tokenizer(config.data.tokenizer, config.data.vocab) if config.data.vocab else None
        check_vocabulary(tokenizer, model, config.data.vocab)
        save_checkpoint(options.out, model, config, tokenizer, {})
        lacking = "" if tokenizer else "; without --data.vocab it has no vocabulary, so prediction needs one first"
        random = len(imported.report.missing)
        lacking += f"; {random} of its tensors are random: train it before it answers anything" if random else ""
        return f"a checkpoint{lacking}"
    report, chosen = imported.report, imported.source
    loaded = set(report.loaded)
    arrays = {name: array for name, array in parameter_arrays(model).items() if name in loaded}
    origin: dict[str, Any] = {"source": Path(options.source).name, "family": options.family, "report": report.summary()}
    if imported.beside:
        origin["config"] = imported.beside
    if chosen.backbone:
        # Under the backbone's own names: every family that has it places it where it stands there.
        arrays = {name.removeprefix(chosen.prefix): array for name, array in arrays.items()}
        origin["backbone"] = chosen.backbone
    write_safetensors_atomic(options.out, arrays, {"imported": json.dumps(origin, ensure_ascii=False)})
    what = f"the backbone {chosen.backbone}" if chosen.backbone else f"a part of {config.family}"
    return f"{what}; name it as --train.pretrained.model, or as the part that it is for"


def main(argv: Sequence[str], prog: str | None = None) -> None:
    """Parse, then import one file."""
    device.prepare()
    from mindground.config import parse_command_line
    from mindground.files.outputs import check_outputs

    line = parse_command_line(argv, _parser(prog))
    options = line.options
    check_outputs([options.out], [options.source], overwrite=options.overwrite)
    imported = import_file(line)
    print(imported.report.table())
    print(f"{options.out}: {write(imported, options)}")
