"""What is declared once: labels, splits, baselines, metrics, prompt fields and sources of records.

A declaration is a frozen object with a name, a description and whatever its kind needs. Configuration, help texts,
reports and exports iterate over the declarations, so a new one is written in one place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pydantic import Field

from nngpt_ext.errors import unknown


class Declaration(Protocol):
    """Anything with a name and a one-line description."""

    @property
    def name(self) -> str: ...

    @property
    def description(self) -> str: ...


@dataclass(frozen=True)
class Named:
    """A declaration that is nothing but a name and what it means."""

    name: str
    description: str


D = TypeVar("D", bound=Declaration)


class Declarations(Mapping[str, D]):
    """The declarations of one kind by name, in the order in which they were declared."""

    def __init__(self, kind: str, items: Iterable[D]) -> None:
        self.kind = kind
        self._items = {item.name: item for item in items}

    def __getitem__(self, name: str) -> D:
        """The declaration of that name.

        Raises:
            UserError: for an unknown name; the message lists the known ones.
        """
        if name not in self._items:
            raise unknown(self.kind, str(name), self._items)
        return self._items[name]

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def check(self, name: str) -> str:
        """Return `name` if it is declared.

        Raises:
            UserError: for an unknown name; the message lists the known ones.
        """
        return self[name].name

    def help(self, subject: str = "") -> str:
        """All names with their descriptions, for help texts: `by_network: …; by_cluster: …`."""
        text = "; ".join(f"{item.name}: {item.description}" for item in self._items.values())
        return f"{subject}: {text}" if subject else text


def choice(default: str, description: str, declared: Declarations[Any]) -> Any:
    """A configuration field for a declared name.

    Its annotation is `Annotated[str, AfterValidator(declared.check)]`; this adds default, description and the list of
    names (`choices`) that the reference page shows.
    """
    return Field(default, description=description, json_schema_extra={"choices": list(declared)})
