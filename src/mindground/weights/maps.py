"""Maps between the tensor names of published files and ours.

A map is a list of pairs of templates. `{n}` stands for a number, `{name}` for one part of a dotted name,
`{path}` for anything, `{leaf:weight|bias}` for one of the listed words; what a placeholder matches on one side
is inserted on the other, so that every map works in both directions:

    ("blocks.{n}.norm1.weight", "blocks.{n}.norm1.gamma")

Reading tries the rules in order and takes the first that fits; writing does the same from the other end, so the
spelling to write comes before older spellings that are only read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np

from mindground.errors import WeightsError

__all__ = ["Adapted", "Adapter", "WeightMap", "best_map", "combine", "identity_map", "strip_wrapper_prefix"]

Adapter = Callable[[np.ndarray, tuple[int, ...]], "tuple[np.ndarray, str] | None"]

_PLACEHOLDER = re.compile(r"\{(\w+)(?::([^{}]+))?\}")
_KINDS = {"n": r"\d+", "m": r"\d+", "k": r"\d+", "path": r".+"}
_ONE_PART = r"[^.]+"


@cache
def _compile(source: str, target: str) -> tuple[re.Pattern[str], str]:
    """Template pair -> (pattern that recognises `source`, format string that writes `target`)."""
    kinds: dict[str, str] = {}
    for template in (source, target):
        for match in _PLACEHOLDER.finditer(template):
            if match.group(2):
                kinds[match.group(1)] = f"(?:{match.group(2)})"
    pattern, seen, position = "", set(), 0
    for match in _PLACEHOLDER.finditer(source):
        name = match.group(1)
        pattern += re.escape(source[position : match.start()])
        pattern += f"(?P={name})" if name in seen else f"(?P<{name}>{kinds.get(name, _KINDS.get(name, _ONE_PART))})"
        seen.add(name)
        position = match.end()
    pattern += re.escape(source[position:])
    wanted = {match.group(1) for match in _PLACEHOLDER.finditer(target)}
    if wanted != seen:
        raise ValueError(f"rule {source!r} -> {target!r} cannot be inverted: placeholders differ")
    return re.compile(pattern), _PLACEHOLDER.sub(lambda match: "{" + match.group(1) + "}", target)


def _translate(name: str, pairs: Iterable[tuple[str, str]]) -> str | None:
    for source, target in pairs:
        pattern, output = _compile(source, target)
        match = pattern.fullmatch(name)
        if match:
            return output.format(**match.groupdict())
    return None


def _prefixed(prefix: str, pattern: str) -> str:
    return f"{re.escape(prefix)}(?:{pattern})" if prefix else pattern


@dataclass
class Adapted:
    """Tensors under our names, and how they were made from those of the file.

    Attributes:
        tensors: our name -> array.
        renamed: their name -> our name, for every tensor in `tensors`.
        reshaped: our name -> one line on what an adapter did to it.
        ignored: their name -> why it is not used.
        unexpected: their names that no rule explains.
        missing: our name -> why this source may lack it (the model keeps its initial value).
        unfilled: those of `missing` whose initial values are random, so that they are of use only where they learn.
    """

    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    reshaped: dict[str, str] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    unfilled: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class WeightMap:
    """Their names <-> our names, with what to ignore and what to adapt.

    Attributes:
        name: name of this source, for reports.
        rules: (their template, our template) pairs, tried in order in both directions.
        ignored: (regex of their name, reason); consulted before the rules.
        adapters: (regex of our name, function); a function gets (array, wanted shape) when the shapes differ and
            returns (fitted array, one line for the report), or None when it cannot help.
        layered: our prefixes (`encoder.layer.`) followed by a layer number; layers beyond the model's depth are
            reported as unused instead of unexpected.
        may_miss: (regex of our name, reason); parameters that this source is known to lack.
        packed: (their templates, our template); their tensors, concatenated along the first axis, are one of ours.
        transposed: regexes of our names that they store transposed.
        aliases: (their template, their other template); a tensor that such files hold under two names. Only the second
            is read, after a check that the two are equal; only the second is written.
        backbone: name of the backbone that this source is for ("bert"), or empty for a whole network.
        prefix: prefix of that backbone in our network ("text_encoder.").
        remark: what such files leave open, said when one is loaded without a configuration beside it.
    """

    name: str
    rules: tuple[tuple[str, str], ...]
    ignored: tuple[tuple[str, str], ...] = ()
    adapters: tuple[tuple[str, Adapter], ...] = ()
    layered: tuple[str, ...] = ()
    may_miss: tuple[tuple[str, str], ...] = ()
    packed: tuple[tuple[tuple[str, ...], str], ...] = ()
    transposed: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    backbone: str = ""
    prefix: str = ""
    remark: str = ""

    def our_name(self, theirs: str) -> str | None:
        """Our name of one of their tensors, None when no rule fits. A part of a packed tensor has the whole's name."""
        return self._packed_position(theirs)[0] or _translate(theirs, self.rules)

    def their_names(self, ours: str) -> tuple[str, ...]:
        """Their names of one of our parameters: one, several where they keep it in parts, none when no rule fits."""
        for parts, whole in self.packed:
            if _translate(ours, [(whole, whole)]):
                return tuple(str(_translate(ours, [(whole, part)])) for part in parts)
        name = _translate(ours, ((b, a) for a, b in self.rules))
        return (name,) if name else ()

    def _packed_position(self, theirs: str) -> tuple[str | None, int, int]:
        """Our name of the packed tensor that one of theirs belongs to, its position there and the number of parts."""
        for parts, whole in self.packed:
            for position, part in enumerate(parts):
                ours = _translate(theirs, [(part, whole)])
                if ours:
                    return ours, position, len(parts)
        return None, 0, 1

    def to_ours(
        self, tensors: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]] | None = None
    ) -> Adapted:
        """Rename, ignore and fit the tensors of a file.

        Args:
            tensors: their name -> array.
            shapes: our parameter name -> shape the model wants; None when no model is at hand (names only).

        Raises:
            WeightsError: two of their tensors have the same name here.
        """
        result = Adapted()
        origin: dict[str, str] = {}
        gathered: dict[str, dict[int, tuple[str, np.ndarray]]] = {}
        for theirs, array in tensors.items():
            reason = _first_reason(theirs, self.ignored) or self._alias(theirs, array, tensors)
            ours = None if reason else self.our_name(theirs)
            if ours is not None and shapes is not None and ours not in shapes:
                reason, ours = self._surplus(ours, shapes), None
            if reason:
                result.ignored[theirs] = reason
                continue
            if ours is None:
                result.unexpected.append(theirs)
                continue
            _, position, count = self._packed_position(theirs)
            parts = gathered.setdefault(ours, {})
            if position in parts or (ours in origin and count == 1):
                raise WeightsError(
                    f"{self.name}: tensors {origin[ours]!r} and {theirs!r} are both meant for {ours!r}; "
                    "the file mixes two spellings, keep one of them"
                )
            origin[ours] = theirs
            parts[position] = (theirs, array)
            if len(parts) == count:
                whole = array if count == 1 else np.concatenate([parts[at][1] for at in range(count)])
                self._accept(result, ours, [parts[at][0] for at in range(count)], whole, shapes)
        incomplete = {ours: parts for ours, parts in gathered.items() if ours not in result.tensors}
        result.unexpected += [theirs for parts in incomplete.values() for theirs, _ in parts.values()]
        for ours in shapes or ():
            reason = None if ours in result.tensors else _first_reason(ours, self.may_miss)
            if reason:
                result.missing[ours] = reason
        return result

    def _accept(
        self,
        result: Adapted,
        ours: str,
        theirs: Iterable[str],
        array: np.ndarray,
        shapes: Mapping[str, tuple[int, ...]] | None,
    ) -> None:
        result.renamed.update(dict.fromkeys(theirs, ours))
        if self._is_transposed(ours):
            array = np.ascontiguousarray(array.T)
        result.tensors[ours], note = self._fit(ours, array, array.shape if shapes is None else tuple(shapes[ours]))
        if note:
            result.reshaped[ours] = note

    def _is_transposed(self, ours: str) -> bool:
        return any(re.fullmatch(pattern, ours) for pattern in self.transposed)

    def _alias(self, theirs: str, array: np.ndarray, tensors: Mapping[str, np.ndarray]) -> str | None:
        """Why a tensor is left out as a second name of another one.

        Raises:
            WeightsError: the two differ, so that neither can be chosen.
        """
        other = _translate(theirs, self.aliases)
        if other is None or other not in tensors:
            return None
        if not np.array_equal(array, tensors[other]):
            raise WeightsError(
                f"{self.name}: {theirs!r} and {other!r} should be one tensor under two names, but their values "
                "differ; the file was changed by hand or is damaged: take the original"
            )
        return "a second name of a tensor that is read under its first"

    def to_theirs(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Our tensors under their names.

        Raises:
            WeightsError: some parameter has no name there, or two have the same name there.
        """
        result: dict[str, np.ndarray] = {}
        unnamed = [ours for ours in tensors if not self.their_names(ours)]
        if unnamed:
            raise WeightsError(
                f"{len(unnamed)} parameters have no name in {self.name!r}: {', '.join(unnamed[:10])}"
                f"{', ...' if len(unnamed) > 10 else ''}; export them with another map or leave them out"
            )
        for ours, array in tensors.items():
            names = self.their_names(ours)
            array = np.ascontiguousarray(array.T) if self._is_transposed(ours) else array
            for theirs, part in zip(names, [array] if len(names) == 1 else np.split(array, len(names)), strict=True):
                if theirs in result:
                    raise WeightsError(f"{self.name}: two parameters would be written as {theirs!r}, one is {ours!r}")
                result[theirs] = part
        return result

    def with_prefix(self, ours: str = "", theirs: str = "") -> WeightMap:
        """The same map for a network whose names have a prefix on either side."""
        return replace(
            self,
            rules=tuple((theirs + a, ours + b) for a, b in self.rules),
            ignored=tuple((_prefixed(theirs, pattern), reason) for pattern, reason in self.ignored),
            adapters=tuple((_prefixed(ours, pattern), adapter) for pattern, adapter in self.adapters),
            layered=tuple(ours + prefix for prefix in self.layered),
            may_miss=tuple((_prefixed(ours, pattern), reason) for pattern, reason in self.may_miss),
            packed=tuple((tuple(theirs + part for part in parts), ours + whole) for parts, whole in self.packed),
            transposed=tuple(_prefixed(ours, pattern) for pattern in self.transposed),
            aliases=tuple((theirs + alias, theirs + other) for alias, other in self.aliases),
            prefix=ours + self.prefix,
        )

    def _fit(self, ours: str, array: np.ndarray, wanted: tuple[int, ...]) -> tuple[np.ndarray, str]:
        if tuple(array.shape) == tuple(wanted):
            return array, ""
        for pattern, adapter in self.adapters:
            if re.fullmatch(pattern, ours):
                fitted = adapter(array, tuple(wanted))
                if fitted is not None:
                    return fitted
        return array, ""

    def _surplus(self, ours: str, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
        """Why a tensor of a layer that the model does not have is left out; None when that is not the case."""
        for prefix in self.layered:
            number = re.match(re.escape(prefix) + r"(\d+)\.", ours)
            if not number:
                continue
            depth = _depth(prefix, shapes)
            if depth and int(number.group(1)) >= depth:
                return f"unused: the model has {depth} layers"
        return None


def _depth(prefix: str, shapes: Mapping[str, tuple[int, ...]]) -> int:
    found = (re.match(re.escape(prefix) + r"(\d+)\.", name) for name in shapes)
    return max((int(match.group(1)) + 1 for match in found if match), default=0)


def _first_reason(name: str, patterns: Iterable[tuple[str, str]]) -> str | None:
    for pattern, reason in patterns:
        if re.fullmatch(pattern, name):
            return reason
    return None


def combine(*maps: WeightMap, name: str = "") -> WeightMap:
    """One map with the rules of all `maps`; earlier maps come first in both directions."""
    return WeightMap(
        name=name or " + ".join(part.name for part in maps),
        rules=tuple(rule for part in maps for rule in part.rules),
        ignored=tuple(item for part in maps for item in part.ignored),
        adapters=tuple(item for part in maps for item in part.adapters),
        layered=tuple(item for part in maps for item in part.layered),
        may_miss=tuple(item for part in maps for item in part.may_miss),
        packed=tuple(item for part in maps for item in part.packed),
        transposed=tuple(item for part in maps for item in part.transposed),
        aliases=tuple(item for part in maps for item in part.aliases),
    )


def identity_map(name: str = "our own names") -> WeightMap:
    """The map for files that already use our names."""
    return WeightMap(name, rules=(("{path}", "{path}"),))


def best_map(
    maps: Iterable[WeightMap], tensors: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]] | None = None
) -> WeightMap:
    """The map that explains most of a file: the most tensors renamed, then the fewest left over; the first of equals.

    Raises:
        WeightsError: `maps` is empty.
    """
    ranked: list[tuple[int, int, int, WeightMap]] = []
    for index, candidate in enumerate(maps):
        adapted = candidate.to_ours(tensors, shapes)
        ranked.append((-len(adapted.tensors), len(adapted.unexpected), index, candidate))
    if not ranked:
        raise WeightsError("no weight map to choose from: name a family that reads files of this kind")
    return min(ranked, key=lambda item: item[:3])[3]


def strip_wrapper_prefix(
    tensors: Mapping[str, np.ndarray], maps: Iterable[WeightMap] = ()
) -> tuple[dict[str, np.ndarray], str]:
    """Remove `module.`, `_orig_mod.` or one `model.` where every name starts with it.

    Data-parallel, compiled and training wrappers write them. Names that one of `maps` translates as they are stay.

    Returns the tensors and the prefix that was removed ("" when there was none).
    """
    removed = ""
    result = dict(tensors)
    maps = tuple(maps)
    for prefix in ("module.", "_orig_mod.", "module.", "model.", "module.", "_orig_mod."):
        if not result or not all(name.startswith(prefix) for name in result):
            continue
        if prefix == "model." and any(known.our_name(name) not in (None, name) for known in maps for name in result):
            continue
        result = {name[len(prefix) :]: array for name, array in result.items()}
        removed += prefix
    return result, removed
