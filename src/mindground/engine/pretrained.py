"""Weights of others into a fresh model: the fitting map is found by its names, and the report is shown."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mindground.config import value_of
from mindground.config.beside import check_keys, said_by
from mindground.engine.checkpoint import check_finite, read_checkpoint
from mindground.engine.word_table import leave_out, load_word_vectors
from mindground.errors import ConfigError, WeightsError, shown
from mindground.files.model_folder import beside, find_model, weights_file
from mindground.files.weights import read_weights
from mindground.models import family_module
from mindground.models.base import GroundingModel
from mindground.weights.facts import refuse_contradiction
from mindground.weights.load import load_into, parameter_shapes
from mindground.weights.maps import Adapted, identity_map, strip_wrapper_prefix
from mindground.weights.words import word_tables

if TYPE_CHECKING:
    from mindground.config import Config
    from mindground.files.weights import WeightFile
    from mindground.models.interface import FreshPart
    from mindground.text import Tokenizer
    from mindground.weights.maps import WeightMap
    from mindground.weights.report import LoadReport

__all__ = ["load_file", "load_pretrained"]

_LOG = logging.getLogger("mindground")
# Written into a file by tools/import_weights.py.
_IMPORTED = "imported"
_OWN = "our own names"


def load_pretrained(
    model: GroundingModel,
    pretrained: Mapping[str, str],
    *,
    partial: bool = False,
    random_parts: bool = False,
    fresh: Sequence[str] = (),
    config: Config | None = None,
    built_vocabulary: bool = False,
    tokenizer: Tokenizer | None = None,
) -> list[LoadReport]:
    """Load what `train.pretrained` names.

    Args:
        model: freshly initialised.
        pretrained: part -> file; a part is one of the family's `pretrained_parts`, or `model` for whatever the file
            holds.
        partial: a file may leave some of its part as it is; the report names what.
        random_parts: parts that the family wants pretrained may start from random weights.
        fresh: names of the family's `fresh_parts` that a file for `model` does not fill.
        config: the whole, where files shall be compared with it in what no shape verifies.
        built_vocabulary: the vocabulary was built from the training sentences, so no word table of others belongs to
            it.
        tokenizer: its entries are the rows of a table of word vectors.

    Raises:
        WeightsError: a file that no map of the family explains, that fits only in part, or that says about itself
            something else than the configuration.
        ConfigError: an unknown part, or one that the family wants pretrained, or freezes, and that got nothing.
    """
    parts = type(model).pretrained_parts
    files = {name: path for name, path in pretrained.items() if path}
    unknown = [name for name in files if name not in ("model", *parts)]
    if unknown:
        raise ConfigError(
            f"train.pretrained.{unknown[0]} is no part of {type(model).__name__}; its parts are "
            f"{', '.join(('model', *parts))}"
        )
    left_out = _fresh_parts(type(model), fresh)
    tables = {name: files.pop(name) for name in list(files) if name in parts and parts[name].word_vectors}
    reports = [
        load_file(
            model,
            path,
            config,
            prefix="" if name == "model" else parts[name].prefix,
            partial=partial,
            fresh=left_out if name == "model" else (),
            built_vocabulary=built_vocabulary,
        )
        for name, path in files.items()
    ]
    # Last, so that they replace the table of a file for the whole network.
    reports += [load_word_vectors(model, path, parts[name].prefix, tokenizer) for name, path in tables.items()]
    if not random_parts:
        _refuse_random(model, reports)
    return reports


def _fresh_parts(model: type[GroundingModel], names: Sequence[str]) -> tuple[FreshPart, ...]:
    """Raises ConfigError for a name that the family does not give."""
    for name in names:
        if name not in model.fresh_parts:
            known = ", ".join(model.fresh_parts) or "none"
            raise ConfigError(f"train.fresh names {shown(name)}; the parts of {model.__name__} are {known}")
    return tuple(model.fresh_parts[name] for name in names)


def _refuse_random(model: GroundingModel, reports: Sequence[LoadReport]) -> None:
    """Raises where a part that the family wants pretrained, or that does not learn, has random weights.

    Raises:
        ConfigError: a part got nothing.
        WeightsError: a file ends before a layer that the training does not change.
    """
    loaded = {name for report in reports for name in report.loaded}
    fixed = {name for name, parameter in model.parameters_and_names() if not parameter.requires_grad}
    for report in reports:
        stuck = [name for name in report.unfilled if name in fixed - loaded]
        if stuck:
            raise WeightsError(
                f"{report.source}: {report.expected_missing[stuck[0]]}, and {len(stuck)} of them do not learn "
                f"({stuck[0]}); take the whole file, let these layers learn, or keep them random with "
                "--train.random_encoders=true"
            )
    for part in type(model).pretrained_parts.values():
        names = [name for name in parameter_shapes(model) if name.startswith(part.prefix)]
        # What neither a file fills nor the training changes would stay random.
        wanted = part.required or not fixed.isdisjoint(names)
        if wanted and names and not loaded.intersection(names):
            raise ConfigError(
                f"{part.prefix.rstrip('.')} has no weights: give {part.hint}, or train it from random weights with "
                "--train.random_encoders=true"
            )


def load_file(
    model: GroundingModel,
    path: str,
    config: Config | None = None,
    *,
    prefix: str = "",
    partial: bool = False,
    fresh: Sequence[FreshPart] = (),
    built_vocabulary: bool = False,
) -> LoadReport:
    """Load one file into the part of the model that it is for; the report goes to the log.

    Args:
        prefix: of the parameters that it may fill; a file for something else is refused.
        partial: it may leave parameters of its part as they are.
        fresh: parts that it does not fill, whatever it holds of them.
        built_vocabulary: see `load_pretrained`.
    """
    path = weights_file(path)
    weights = read_weights(path)
    if config is not None and "mindground" not in weights.metadata:
        _check_unseen(weights, config, type(model).weight_maps())
    if "mindground" in weights.metadata:
        adapted, source = _of_checkpoint(model, path, config, prefix, fresh), str(path)
    else:
        maps = type(model).weight_maps()
        if _IMPORTED in weights.metadata:
            maps = _imported_maps(weights, maps)
        tensors, taken_off = strip_wrapper_prefix(weights.tensors, maps.values())
        name, adapted = _explained(model, maps, tensors, path)
        notes = [f"found under {weights.metadata['unwrapped']}"] if "unwrapped" in weights.metadata else []
        notes += [f"prefix {taken_off!r} taken off"] if taken_off else []
        source = f"{path} as {name}" + (f" ({', '.join(notes)})" if notes else "")
        _check_beside(weights, config, maps[name])
        leave_out(model, adapted, fresh)
        if built_vocabulary and word_tables(adapted.tensors):
            raise WeightsError(
                f"{path} holds a word table, and data.vocab is empty: its rows belong to the vocabulary that it was "
                "trained with, not to the words of these sentences; name that vocabulary as data.vocab"
            )
    elsewhere = [ours for ours in adapted.tensors if not ours.startswith(prefix)]
    if elsewhere or not adapted.tensors:
        raise WeightsError(
            f"{path} holds {elsewhere[0] if elsewhere else 'nothing'}, and it was named for {prefix.rstrip('.')}; name "
            "it as train.pretrained.model, or for the part that it is for"
        )
    tops = sorted({ours.split(".", 1)[0] for ours in adapted.tensors})
    allowed: tuple[str, ...] = (r".*",)
    if not partial:
        # A file for some parts of a network leaves the others alone; a checkpoint of ours is for all of it.
        allowed = (rf"(?!(?:{'|'.join(map(re.escape, tops))})(?:\.|$)).*",)
        if "mindground" in weights.metadata and not prefix:
            allowed = ()
        allowed = (*allowed, *(part.pattern for part in fresh))
    report = load_into(model, adapted, allow_missing=allowed, source=source)
    report.missing = [name for name in report.missing if name.split(".", 1)[0] in tops]
    _LOG.info("weights of %s\n%s", path, report.table())
    return report


def _of_checkpoint(
    model: GroundingModel, path: str, config: Config | None, prefix: str, fresh: Sequence[FreshPart]
) -> Adapted:
    """What one of our checkpoints holds below a prefix, without parts that the model lacks or starts anew."""
    contents = read_checkpoint(path)
    check_finite(contents)
    tensors = {name: array for name, array in contents.part("model").items() if name.startswith(prefix)}
    if not prefix and config is not None and not config.data.use_mask:
        tensors = _without_mask_head(model, tensors, path)
    adapted = Adapted(tensors=tensors)
    leave_out(model, adapted, fresh)
    return _with_new_rows(model, adapted)


def _without_mask_head(model: GroundingModel, tensors: Mapping[str, np.ndarray], path: str) -> dict[str, np.ndarray]:
    """Tensors of a checkpoint without parts that a model of boxes alone does not have."""
    tops = {name.split(".", 1)[0] for name in parameter_shapes(model)}
    kept = {name: array for name, array in tensors.items() if name.split(".", 1)[0] in tops}
    if len(kept) < len(tensors):
        parts = sorted({name.split(".", 1)[0] for name in tensors} - tops)
        _LOG.info("%s: %s is left out (data.use_mask=false)", path, ", ".join(parts))
    return kept


def _with_new_rows(model: GroundingModel, adapted: Adapted) -> Adapted:
    """A checkpoint's tensors; a word table gets the initial values of the model in the rows that it lacks."""
    parameters = dict(model.parameters_and_names())
    for name in word_tables(adapted.tensors):
        array = adapted.tensors[name]
        fresh = parameters[name].asnumpy() if name in parameters else array
        if array.ndim == fresh.ndim == 2 and array.shape[1] == fresh.shape[1] and len(array) < len(fresh):
            adapted.tensors[name] = np.concatenate([array, fresh[len(array) :].astype(array.dtype)])
            adapted.reshaped[name] = f"{len(array)} rows of the file, {len(fresh) - len(array)} new ones"
    return adapted


def _imported_maps(weights: WeightFile, maps: Mapping[str, WeightMap]) -> dict[str, WeightMap]:
    """Maps for a file that tools/import_weights.py wrote.

    A backbone's file names its own source and keeps the backbone's own names; the family's map of that source says
    where the backbone stands here. Earlier versions wrote the family's names.
    """
    backbone = _origin(weights).get("backbone", "")
    if not backbone:
        return {_OWN: _own_names(maps)}
    places = {name: weight_map for name, weight_map in maps.items() if weight_map.backbone == backbone}
    if not places:
        raise WeightsError(
            f"{weights.path} holds the backbone {shown(backbone)}, and this family has none; it reads "
            f"{', '.join(sorted({m.backbone for m in maps.values() if m.backbone})) or 'no backbone'}"
        )
    return {
        f"backbone {backbone}": replace(
            identity_map(f"backbone {backbone}").with_prefix(ours=weight_map.prefix),
            adapters=weight_map.adapters,
            may_miss=weight_map.may_miss,
        )
        for weight_map in list(places.values())[:1]
    }


def _check_beside(weights: WeightFile, config: Config | None, chosen: WeightMap) -> None:
    """Raises ConfigError where a file's own configuration says otherwise; without one, says what nothing tells."""
    content, source = None, beside(weights.path)
    if _IMPORTED in weights.metadata:
        content, source = _origin(weights).get("config"), weights.path
    elif source is not None:
        content = find_model(weights.path).config
    said = said_by(config.family, content if isinstance(content, dict) else None) if config is not None else None
    if config is not None and said is not None and (said.keys or said.most):
        check_keys(config, said, str(source))
    elif chosen.remark and weights.format != "torchscript":
        _LOG.info("%s: %s", weights.path, chosen.remark)


def _origin(weights: WeightFile) -> dict[str, Any]:
    """What tools/import_weights.py wrote of the source of a file."""
    try:
        found = json.loads(weights.metadata[_IMPORTED])
    except (ValueError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _check_unseen(weights: WeightFile, config: Config, maps: Mapping[str, WeightMap]) -> None:
    """Raises WeightsError where a file says something about its network, and it is set otherwise."""
    describe = getattr(family_module(config.family), "describe_source", None)
    tensors = strip_wrapper_prefix(weights.tensors, maps.values())[0]
    facts = describe(replace(weights, tensors=tensors)) if describe else None
    if facts is None:
        return
    refuse_contradiction(facts, partial(value_of, config), str(weights.path), "model.")
    for key in facts.unseen:
        asked = value_of(config, key)
        if asked != facts.keys[key]:
            raise WeightsError(
                f"{weights.path} was trained with {key}={facts.keys[key]}, and {asked} is set: shapes agree with both, "
                f"results would be wrong; set --{key}={facts.keys[key]}"
            )


def _own_names(maps: Mapping[str, WeightMap]) -> WeightMap:
    """For what tools/import_weights.py wrote: names are ours already, sizes may still have to be fitted."""
    adapters = tuple(adapter for weight_map in maps.values() for adapter in weight_map.adapters)
    return replace(identity_map(_OWN), adapters=adapters)


def _explained(model: GroundingModel, maps: Mapping[str, WeightMap], tensors: Any, path: str) -> tuple[str, Adapted]:
    """The map that leaves the least unexplained, and what it made of the file."""
    shapes = parameter_shapes(model)
    tried: list[tuple[int, str, Adapted]] = []
    for name, weight_map in maps.items():
        adapted = weight_map.to_ours(tensors, shapes)
        fitting = sum(ours in shapes for ours in adapted.tensors)
        tried.append((fitting - len(adapted.unexpected), name, adapted))
    if not tried or max(sum(o in shapes for o in a.tensors) for _, _, a in tried) == 0:
        raise WeightsError(
            f"{path}: none of its {len(tensors)} names (first {next(iter(tensors), '-')!r}) belongs to a source that "
            f"this family knows ({', '.join(name for _, name, _ in tried) or 'none'})"
        )
    _, name, adapted = max(tried, key=lambda entry: entry[0])
    return name, adapted
