"""One small registry for tasks, prompts and fine-tuners; plugins register through entry points."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from importlib import metadata
from types import ModuleType
from typing import Any, Generic, TypeVar

from nngpt_ext.errors import UserError, unknown

log = logging.getLogger(__name__)
T = TypeVar("T")


class Registry(Generic[T]):
    """Objects by name.

    An entry point of the group names a module, which registers by the decorator when it is imported, or an object,
    which is registered under the entry point's name. Entry points load when a name is first looked up; the built-in
    objects are registered in the same way.
    """

    def __init__(self, kind: str, group: str) -> None:
        self.kind = kind
        self.group = group
        self._items: dict[str, T] = {}
        self._broken: list[str] = []
        self._twice: dict[str, str] = {}  # names that two plugins claim: neither may silently win
        self._loaded = False
        self._loading = False
        self._lock = threading.RLock()  # importing a plugin may look up a name

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator: register an object under a name.

        Raises:
            UserError: if another object has the name.
        """

        def add(item: T) -> T:
            present = self._items.get(name)
            if present is not None and _identity(present) != _identity(item):
                fault = (
                    f"{self.kind} '{name}' is registered twice: by {_identity(present)} and by {_identity(item)}; "
                    "give one of them another name"
                )
                if self._loading:
                    self._twice[name] = fault
                raise UserError(fault)
            self._items[name] = item
            return item

        return add

    def get(self, name: str) -> T:
        """The object of that name.

        Raises:
            UserError: for an unknown name, listing the known ones and each plugin that failed to load, and
                for a name that two plugins claim.
        """
        self._load()
        if name in self._twice:
            raise UserError(self._twice[name])
        if name in self._items:
            return self._items[name]
        error = unknown(self.kind, name, self._items)
        raise UserError("; ".join([str(error), *self.broken()]))

    def names(self) -> list[str]:
        """All known names, sorted."""
        self._load()
        return sorted(self._items)

    def broken(self) -> list[str]:
        """A line for each plugin that failed to load, with its own error."""
        self._load()
        return list(self._broken)

    def _load(self) -> None:
        with self._lock:  # another thread must not look before all have loaded
            if self._loaded:
                return
            self._loaded = self._loading = True
            for point in sorted(metadata.entry_points(group=self.group), key=lambda p: (p.name, p.value)):
                try:
                    loaded = point.load()
                    if not isinstance(loaded, ModuleType):
                        self.register(point.name)(loaded)
                except Exception as error:  # a plugin may raise anything; the others still load
                    why = " ".join(f"{type(error).__name__}: {error}".split())
                    self._broken.append(f"plugin '{point.name}' ({self.group}) failed to load: {why}")
                    log.warning(self._broken[-1])
            self._loading = False


def _identity(item: Any) -> str:
    # By name, not by object: a notebook cell that is run again defines the same thing again.
    name = getattr(item, "__qualname__", None)
    return f"{item.__module__}.{name}" if name else repr(item)


tasks: Registry[Any] = Registry("task", "nngpt_ext.tasks")
prompts: Registry[Any] = Registry("prompt", "nngpt_ext.prompts")
finetuners: Registry[Any] = Registry("fine-tuner", "nngpt_ext.finetuners")

register_task = tasks.register
register_prompt = prompts.register
register_finetuner = finetuners.register
