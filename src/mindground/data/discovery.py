"""Formats and recipes by name: one module each in a folder of ours, and modules of other installed packages."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from mindground.errors import ConfigError

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["Discovered"]


class _Named(Protocol):
    @property
    def name(self) -> str: ...


Item = TypeVar("Item", bound=_Named)


class Discovered(Mapping[str, Item], Generic[Item]):
    """Name -> item; the modules are imported at the first look-up, ours in the order of their names.

    A module offers a tuple of items under one attribute; a module of our folder that has none is a helper.

    Args:
        home: package whose modules are searched.
        group: entry points of other packages; the value is such a module.
        attribute: the name of the tuple.
        kind: class of its items.
        noun: what messages call an item.

    Raises:
        ConfigError: at a look-up: a package names a module that cannot be imported or offers no items, or a name is
            taken. The next look-up tells it again.
    """

    def __init__(self, home: str, group: str, attribute: str, kind: type[Item], noun: str) -> None:
        self._home, self._group, self._attribute, self._kind, self._noun = home, group, attribute, kind, noun
        self._known: dict[str, Item] = {}
        self._complete = False

    def __getitem__(self, name: str) -> Item:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def add(self, item: Item, where: str) -> None:
        """Add an item. Raises ConfigError when the name is taken."""
        if self._known.setdefault(item.name, item) is not item:
            raise ConfigError(f"{where} describes the {self._noun} {item.name!r}, which is known already; rename one")

    def _all(self) -> Mapping[str, Item]:
        if not self._complete:
            self._complete = True
            try:
                self._discover()
            except BaseException:
                self._complete = False
                self._known.clear()
                raise
        return self._known

    def _discover(self) -> None:
        home = importlib.import_module(self._home)
        for found in pkgutil.iter_modules(home.__path__, f"{self._home}."):
            items = getattr(importlib.import_module(found.name), self._attribute, None)
            if items is not None and not isinstance(items, Discovered):
                self._take(items, found.name)
        for point in entry_points(group=self._group):
            try:
                module: ModuleType = point.load()
            except (ImportError, AttributeError) as error:
                raise ConfigError(
                    f"the entry point {point.name!r} of {self._group} names {point.value}, which cannot be imported "
                    f"({error}); mend or remove the package that brings it"
                ) from error
            self._take(getattr(module, self._attribute, None), module.__name__)

    def _take(self, items: Any, where: str) -> None:
        if not isinstance(items, tuple) or not all(isinstance(item, self._kind) for item in items):
            raise ConfigError(
                f"{where} must offer {self._attribute}, a tuple of {self._kind.__name__}; it is {items!r:.80}"
            )
        for item in items:
            self.add(item, where)
