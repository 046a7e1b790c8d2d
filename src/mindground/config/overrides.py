"""Command line -> configuration: dotted keys, short flags of upstreams, and a command's own options.

Accepted forms: `--train.batch_size=4`, `--train.batch_size 4`, `--batch_size 4`, `--drop_epochs 10 15`,
`--eval_splits=[val,testA]`, `--train.lr_factors.visual=0.1`, `--train.lr_factors='{visual: 0.1}'`, `-b 4` for a
family's flag of one letter, bare `--use_mask` for a switch, and `--cfg-options key=value key=value` as some upstreams
write it. `--config FILE` names a YAML file.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import logging
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, get_args, get_origin

from mindground.config import registry
from mindground.config.layers import SECTIONS
from mindground.config.registry import Family
from mindground.config.resolve import coerce, field_types, keys_of, nearest
from mindground.config.upgrade import old_keys
from mindground.errors import ConfigError
from mindground.runtime.launcher import launched_rank

__all__ = ["FLAGS", "IGNORED_FLAGS", "Overrides", "known_names", "resolve_overrides", "split_arguments"]

logger = logging.getLogger("mindground")

# Short flags that every family understands -> dotted key(s). A family's own: models/<family>/config.py.
FLAGS: dict[str, str | tuple[str, ...]] = {
    **{
        name: f"data.{name}"
        for name in (
            "dataset splitBy img_size max_len translate multi_scale train_split eval_splits image_root mask_path "
            "use_mask num_workers vocab tokenizer flip_prob recipe aug_crop aug_scale aug_blur legacy_augmentation"
        ).split()
    },
    **{
        name: f"train.{name}"
        for name in (
            "batch_sum max_epochs max_steps optimizer lr lr_scheduler warmup_steps warmup_ratio drop_epochs drop_rate "
            "poly_power weight_decay clip_max_norm ema_decay seed log_freq eval_step save_steps resume output_dir "
            "experiment_name short_comment random_encoders"
        ).split()
    },
    **{name: f"device.{name}" for name in "device_target mode_name precision threads run_distribute".split()},
    "iou_threshold": "eval.iou_threshold",
    "mask_threshold": "eval.mask_threshold",
    "shuffle_expressions": "eval.shuffle_expressions",
    # One memory limit for training and evaluation, as upstream's flag has it; the dotted keys separate them.
    "batch_size": ("train.batch_size", "eval.batch_size"),
    "data_root": "data.root",
    "aug_translate": "data.translate",
    "save_ckpt_dir": "train.output_dir",
    "family": "family",
}

IGNORED_FLAGS: dict[str, str] = {
    "start_epoch": "a checkpoint knows its epoch; continue with --resume",
    "local_rank": "the launcher tells every rank its place",
    "noam_gamma": "there is no noam schedule",
    "work_dir": "runs are kept below train.output_dir",
    "config_root": "files are found below data.root",
}

# One override: the name as typed (dashes and aliases kept) and the texts that follow it.
Overrides = tuple[tuple[str, tuple[str, ...]], ...]

_NAME = re.compile(r"--([A-Za-z_][\w.+-]*)(?:=(.*))?", re.DOTALL)
# One letter, as `-b 8`: some upstreams have such flags.
_LETTER = re.compile(r"-([A-Za-z])")
# A list of whole numbers as some upstreams write it: `--mha 1-2-2-4`.
_DASHES = re.compile(r"\d+(-\d+)+")
# Options of upstreams after which `key=value` stands without dashes, once or several times.
_ASSIGNING = ("cfg-options", "cfg_options")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*(?:\.\w+)+|[A-Za-z_]\w*)=(.*)", re.DOTALL)


@dataclass(frozen=True)
class Words:
    """Arguments sorted: overrides of the configuration, and what a command's parser reads itself."""

    overrides: Overrides
    rest: tuple[str, ...]


def _option_names(parser: argparse.ArgumentParser | None) -> dict[str, argparse.Action]:
    return dict(parser._option_string_actions) if parser else {}


def split_arguments(argv: Sequence[str], parser: argparse.ArgumentParser | None = None) -> Words:
    """Sorts arguments without looking at values; options of `parser` stay with it."""
    options = _option_names(parser)
    overrides: list[tuple[str, list[str]]] = []
    rest: list[str] = []
    # Where a word without dashes goes: to the last override, or to the parser. An override given with
    # `=` is complete.
    to: list[str] | None = rest
    for position, word in enumerate(argv):
        match = _NAME.fullmatch(word)
        if match and match[1] in _ASSIGNING and word[2:] not in options:
            given = match[2] if match[2] is not None else next(iter(argv[position + 1 :]), "")
            assigned = _ASSIGNMENT.fullmatch(given)
            if not assigned:
                raise ConfigError(f"--{match[1]} is followed by key=value, not by {given[:80]!r}")
            if match[2] is not None:
                overrides.append((assigned[1], [assigned[2]]))
            to = None
        elif match and f"--{match[1]}" in options:
            rest.append(word)
            to = rest
        elif match:
            values = [] if match[2] is None else [match[2]]
            overrides.append((match[1], values))
            to = values if match[2] is None else None
        elif word.startswith("-") and word in options:
            rest.append(word)
            to = rest
        elif letter := _LETTER.fullmatch(word):
            to = []
            overrides.append((letter[1], to))
        elif (assigned := _ASSIGNMENT.fullmatch(word)) and (to is None or to) and to is not rest:
            overrides.append((assigned[1], [assigned[2]]))
            to = None
        elif parser is None and assigned and to is rest:
            overrides.append((assigned[1], [assigned[2]]))
            to = None
        elif to is None or (parser is None and to is rest):
            raise ConfigError(f"argument {word!r} belongs to no option; a list is written 10 15 or [10,15]")
        else:
            to.append(word)
    return Words(tuple((name, tuple(values)) for name, values in overrides), tuple(rest))


def known_names(family: str) -> dict[str, tuple[str, ...]]:
    """Every name that may stand behind `--` for a family -> the dotted keys it sets."""
    facts = registry.family(family)
    names: dict[str, tuple[str, ...]] = {key: (key,) for key in [*_keys(facts), *old_keys(facts)]}
    # The family's table comes last: two upstreams may mean different things by one name.
    for table in (FLAGS, facts.flags):
        for flag, keys in table.items():
            names[flag] = tuple(key.partition("=")[0] for key in ((keys,) if isinstance(keys, str) else keys))
    return names


def _constants(facts: Family) -> dict[str, dict[str, str]]:
    """Flag -> key -> the value that it stands for (`"window12": "model.swin.window_size=12"`)."""
    found: dict[str, dict[str, str]] = {}
    for flag, keys in facts.flags.items():
        pairs = [key.partition("=") for key in ((keys,) if isinstance(keys, str) else keys)]
        found[flag] = {key: value for key, sign, value in pairs if sign}
    return found


def _keys(facts: Family) -> dict[str, Any]:
    """Dotted key -> its type, or None where only all layers together tell it (a recipe's own keys)."""
    found: dict[str, Any] = {"family": str}
    for section, cls in [*SECTIONS.items(), ("model", facts.config)]:
        found |= {key: _kind(cls, key.split(".")[1:]) for key in keys_of(cls, f"{section}.")}
    for recipe in registry.recipe_names():
        for name in field_types(registry.transform_class(recipe)):
            found[f"data.transform.{name}"] = str if name == "name" else None
    found |= {f"train.lr_factors.{group}": float for group in facts.lr_groups}
    return found | {f"train.pretrained.{part}": str for part in facts.pretrained_parts}


def _kind(cls: Any, path: Sequence[str]) -> Any:
    for name in path:
        cls = field_types(cls)[name]
    return cls


def _open_names(name: str, facts: Family) -> dict[str, Any]:
    """The key that a name is where the network alone knows groups and parts -> its type."""
    section, _, entry = name.rpartition(".")
    kind = {
        "train.lr_factors": None if facts.lr_groups else float,
        "train.pretrained": None if facts.pretrained_parts else str,
    }
    return {name: kind[section]} if entry and kind.get(section) else {}


def _value(name: str, words: tuple[str, ...], kind: Any) -> Any:
    if not words and kind in (bool, None):
        return True
    if get_origin(kind) is dict or (get_origin(kind) is list and dataclasses.is_dataclass(get_args(kind)[0])):
        return coerce(" ".join(words), kind, name)
    if get_origin(kind) in (list, tuple):
        if len(words) > 1:
            return coerce([w.rstrip(",") for w in words], kind, name)
        word = words[0] if words else ""
        return coerce(word.replace("-", ",") if _DASHES.fullmatch(word) else word, kind, name)
    if not words:
        raise ConfigError(f"--{name} needs a value: --{name}=...")
    if len(words) > 1:
        raise ConfigError(f"--{name} takes one value, found {' '.join(words)}")
    return words[0] if kind is None else coerce(words[0], kind, name)


def _unknown(name: str, names: Iterable[str], family: str, options: Iterable[str]) -> NoReturn:
    typed = f"-{name}" if len(name) == 1 else f"--{name}"
    for other in registry.families():
        facts = registry.family(other)
        if other != family and name in {*facts.flags, *facts.refused_flags}:
            raise ConfigError(f"{typed} belongs to family {other}; this is {family} (--family {other} changes it)")
    hint = nearest(name, [*names, *options])
    raise ConfigError(f"unknown option {typed}{hint.replace(chr(39), '--', 1).replace(chr(39), '')}")


def _refuse_old_spelling(name: str, words: tuple[str, ...], family: str) -> None:
    """Raises ConfigError with the new spelling of a flag or value that upstream had and that is not read here."""
    table = registry.family(family).refused_flags
    if name not in table:
        return
    typed = " ".join(words)
    patterns = [text for pattern, text in table[name].items() if fnmatch.fnmatchcase(typed, pattern)]
    instead = table[name][typed] if typed in table[name] else next(iter(patterns), "")
    if instead:
        raise ConfigError(f"--{name}{f' {typed}' if typed else ''} is not read; {instead.replace('{value}', typed)}")


def resolve_overrides(overrides: Overrides, family: str, options: Iterable[str] = ()) -> dict[str, Any]:
    """Overrides as a nested mapping of typed values; later ones win.

    Flags that upstream accepted without effect are named in one warning.
    Raises ConfigError for an unknown name (with the nearest known one), for a wrong type, and for what the family's
    REFUSED_FLAGS list (flag -> value, or a pattern such as "*", -> what to write instead; "" lets a value pass).
    """
    facts = registry.family(family)
    names, kinds = known_names(family), {**old_keys(facts), **_keys(facts)}
    ignored, constants = IGNORED_FLAGS | dict(facts.ignored_flags), _constants(facts)
    tree: dict[str, Any] = {}
    without_effect: dict[str, str] = {}
    for name, words in overrides:
        typed = name if name in names or name in ignored else name.replace("-", "_")
        _refuse_old_spelling(typed, words, family)
        if typed not in names and typed in ignored:
            without_effect[typed] = ignored[typed]
            continue
        kinds |= (others := _open_names(typed, facts))
        if typed not in names and not others:
            _unknown(name, [key for key in names if key not in old_keys(facts)], family, options)
        for key in names.get(typed, (typed,)):
            constant = constants.get(typed, {}).get(key)
            if constant is None:
                _set(tree, key, _value(typed, words, kinds[key]))
            elif _value(typed, words, bool):
                _set(tree, key, _value(typed, (constant,), kinds[key]))
    if without_effect and launched_rank() == 0:
        told = "; ".join(f"--{name} ({why})" for name, why in without_effect.items())
        logger.warning("accepted without effect: %s", told)
    return tree


def _set(tree: dict[str, Any], key: str, value: Any) -> None:
    """Sets a dotted key; a mapping is set whole by an earlier word and in part by a later one."""
    *path, leaf = key.split(".")
    for part in path:
        tree = tree.setdefault(part, {})
    tree[leaf] = value


class CommandParser(argparse.ArgumentParser):
    """Parser whose mistakes are ConfigErrors and that never guesses abbreviated options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{Path(sys.argv[0]).name}: {message}")
