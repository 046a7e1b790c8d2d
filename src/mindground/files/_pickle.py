"""The one reader of pickles: it cannot execute anything, and its cost is bounded by the bytes on disk.

Python's own unpickler imports what a file names and calls it. This one interprets the same instructions and never
imports: names stay names, and functions of `_allowed` do the few constructions that weight files need. A name that
`_allowed` does not list stops the reading before it is used.

Python's own unpickler behind a scan of the instructions would be faster, and it was considered. It hashes keys and
allocates its table of remembered values in C, while it runs. So the scan would have to know what every key is, for
which it has to follow the stack, the remembered values and the results of all calls: it would be this reader. The
unpickler would then also need real callables and classes with `__new__`, `__setstate__`, `append` and `extend`, each a
way to run something. One reader that keeps the values it has verified is less to trust.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mindground.errors import MindGroundError, UnsafeFileError, WeightsError, shown
from mindground.files import _opcodes as op
from mindground.files._allowed import ALLOWED
from mindground.files._budget import BROKEN, Budget, why
from mindground.files._globals import Buildable, Call, Global, Instance, canonical
from mindground.files._keys import Keys
from mindground.files._steps import NOTHING, STEPS

__all__ = ["Machine"]

_STOP = ord(".")
_REFUSED = frozenset(b"".join((pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER)))
"""Instructions that refer to what the reading program has registered."""
_LONGEST_NAME = 512
_CONTAINERS = frozenset({list, tuple, dict, set, frozenset, Instance})


class Machine:
    """Reads one pickle from bytes; `at` is then the place behind it.

    Args:
        data: the bytes, or a mapped file.
        path: the file, for messages.
        budget: what the file may still take in memory.
        start: where the pickle starts.
        most: bytes that its objects may take (default: what the budget says for the whole file).
        persistent: resolves an external reference (a torch storage); None refuses them.
        named: accept the names that `ALLOWED` lists; otherwise every class and function is refused.
        scripted: also accept the class names of a TorchScript archive (`__torch__...`) as inert objects.
        nested: reads a torch file that is stored as bytes inside the pickle; None refuses it.
        encoding: of byte strings that Python 2 wrote. Read as latin1, each character is one byte.

    Attributes:
        inert: names of objects that were kept as inert placeholders.
        shares: a container stands in several places, or in itself.
        stack, marks, memo: of the instructions: the values, the places of marks on the stack, remembered values.
    """

    def __init__(
        self,
        data: op.Source,
        path: Path,
        budget: Budget,
        *,
        start: int = 0,
        most: int = 0,
        persistent: Callable[[Any], Any] | None = None,
        named: bool = True,
        scripted: bool = False,
        nested: Callable[[bytes], Any] | None = None,
        encoding: str = "latin1",
    ) -> None:
        self.at = start
        self.inert: set[str] = set()
        self.shares = False
        self.data: op.Source = data
        self.start = start
        self._path = path
        self._budget = budget
        self._left = most or budget.objects
        self._persistent = persistent
        self._named_too = named
        self._scripted = scripted
        self._nested = nested
        self.encoding: str = encoding
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: list[Any] = []
        self._names: dict[tuple[str, str], Global] = {}
        self._keys = Keys(path)

    def load(self) -> Any:
        """The value that the pickle describes.

        Raises:
            UnsafeFileError: it names something that is not allowed.
            WeightsError: it is damaged, cut off, or asks for far more memory than the file's size explains.
            NotUtf8Error: a byte string of Python 2 is not in `encoding`.
        """
        try:
            return self._run()
        except MindGroundError:
            raise
        except BROKEN as error:
            raise WeightsError(
                f"{self._path}: the pickle inside is damaged or cut off ({why(error)}); download it again"
            ) from error

    def _run(self) -> Any:
        data, costs, steps, at = self.data, op.COSTS, _STEPS, self.at
        while True:
            code = data[at]
            self._left -= costs[code]
            if self._left < 0:
                raise WeightsError(
                    f"{self._path}: its pickle makes more objects than a file of {self._budget.size} bytes explains; "
                    "it is damaged or hostile, do not use it"
                )
            step = steps[code]
            if step is None:
                if code == _STOP:
                    self.at = at + 1
                    return self.stack.pop()
                if code not in _REFUSED:
                    raise ValueError(f"{bytes([code])!r} is no instruction")
                raise UnsafeFileError(
                    f"{self._path}: refused, because it uses the pickle instruction {bytes([code])!r}, which files of "
                    "weights and lists do not need; nothing was run"
                )
            at = step(self, at + 1)

    def charge(self, size: int) -> None:
        """Count memory that an instruction takes beyond its fixed cost; `_run` compares the rest."""
        self._left -= size

    def pop_to_mark(self) -> list[Any]:
        """The values above the last mark, which is removed with them."""
        place = self.marks.pop()
        if place > len(self.stack):
            raise ValueError("values below a mark were taken")
        items = self.stack[place:]
        del self.stack[place:]
        return items

    # -- remembered values ---------------------------------------------------------------------------------------

    def remember(self, index: int, at: int) -> None:
        """Keep the top of the stack under a number.

        Every number stands for an instruction before it, so it is never above the bytes read.
        """
        memo = self.memo
        if index == len(memo):
            memo.append(self.stack[-1])
            return
        if not 0 <= index <= at - self.start:
            raise ValueError(f"value {shown(index)} is remembered after {at - self.start} bytes")
        if index > len(memo):
            memo.extend([NOTHING] * (index + 1 - len(memo)))
        memo[index] = self.stack[-1]

    def recall(self, index: int) -> None:
        """Put the value of a number on the stack."""
        if index < 0 or (value := self.memo[index]) is NOTHING:
            raise KeyError(f"value {shown(index)} is used and was not remembered")
        self.shared(value)

    def shared(self, value: Any) -> None:
        """Put a value that is used already on the stack."""
        if type(value) in _CONTAINERS:
            self.shares = True
        self.stack.append(value)

    # -- containers ----------------------------------------------------------------------------------------------

    def extend(self, items: list[Any]) -> None:
        """Add to the list on top of the stack."""
        target = self.stack[-1]
        if type(target) is list:
            target.extend(items)
        elif isinstance(target, Instance):
            target.items.extend(items)
        else:
            raise ValueError(f"items added to a {type(target).__name__}")

    def update(self, items: list[Any]) -> None:
        """Add keys and values, one after the other, to the dictionary on top of the stack."""
        target = self.stack[-1]
        mapping = target.mapping if isinstance(target, Instance) else target
        if type(mapping) is not dict or len(items) % 2:
            raise ValueError(f"entries added to a {type(target).__name__}")
        keys = items[::2]
        self._keys.check(keys)
        self.charge(64 * len(keys) + (0 if mapping else 128))
        mapping.update(zip(keys, items[1::2], strict=True))

    def members(self, items: list[Any]) -> list[Any]:
        """Items that may become members of a set."""
        self._keys.check(items)
        self.charge(64 * len(items))
        return items

    # -- names and calls -----------------------------------------------------------------------------------------

    def name(self, module: Any, name: Any) -> Global:
        """A name that may stand in the file. Raises UnsafeFileError."""
        if type(module) is not str or type(name) is not str or max(len(module), len(name)) > _LONGEST_NAME:
            raise ValueError("a class name that is not a short text")
        known = self._names.get((module, name))
        if known is not None:
            return known
        found = Global(*canonical(module, name))
        asked = shown(f"{module}.{name}", 160)[1:-1]
        if not self._named_too:
            raise UnsafeFileError(
                f"{self._path}: refused, because reading it would use {asked}, and this file may hold only numbers, "
                "text, lists and dicts; get it again from a source you trust"
            )
        if found.full not in ALLOWED and not (self._scripted and found.module.split(".")[0] == "__torch__"):
            raise UnsafeFileError(
                f"{self._path}: refused, because reading it would run or import {asked}, which weight files do not "
                "need; nothing was run. Get the file from a source you trust, or re-save its tensors as safetensors"
            )
        self._names[module, name] = found
        return found

    def call(self, target: Any, arguments: Any) -> Any:
        """What a pickle's call of a name gives. Raises UnsafeFileError for anything that is not an allowed name."""
        if type(target) is not Global or type(arguments) is not tuple:
            raise UnsafeFileError(f"{self._path}: refused, because it calls something that is not a name")
        if target.full not in ALLOWED:
            self.inert.add(target.full)
            return Instance(target.full, arguments)
        value = ALLOWED[target.full](
            Call(target, arguments, self._path, self.call, self._nested, self._budget, self._keys)
        )
        if isinstance(value, Instance):
            self.inert.add(value.name)
        return value

    def build(self, state: Any) -> None:
        """Set the state of the object on top of the stack."""
        target = self.stack[-1]
        if isinstance(target, Buildable):
            target.build(state, self._budget)
        elif type(target) is not dict:  # an OrderedDict has `_metadata` of modules, which is not used
            raise UnsafeFileError(f"{self._path}: refused, because it sets attributes of a {type(target).__name__}")

    def external(self, reference: Any) -> None:
        """Put what an external reference means on the stack."""
        if self._persistent is None:
            raise UnsafeFileError(
                f"{self._path}: refused, because it refers to data outside the file: {shown(reference)}"
            )
        self.stack.append(self._persistent(reference))


_STEPS: list[Callable[[Machine, int], int] | None] = [STEPS.get(bytes([code])) for code in range(256)]
"""The function of every instruction, by its code; None for STOP and for what is refused."""
