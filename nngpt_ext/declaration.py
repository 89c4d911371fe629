"""What is declared once: labels, splits, baselines, metrics, prompt fields and sources of records.

A declaration is a frozen object with a name, a description and whatever its kind needs. Configuration, help texts,
reports and exports iterate over the declarations, so a new one is written in one place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, TypeVar

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
    """A declaration with only a name and a description."""

    name: str
    description: str


D = TypeVar("D", bound=Declaration)


class Declarations(dict[str, D]):
    """The declarations of one kind by name, in the order of declaration; an unknown name raises `UserError`."""

    def __init__(self, kind: str, items: Iterable[D]) -> None:
        super().__init__({item.name: item for item in items})
        self.kind = kind

    def __missing__(self, name: str) -> NoReturn:
        raise unknown(self.kind, str(name), self)

    def check(self, name: str) -> str:
        """Return `name` if it is declared.

        Raises:
            UserError: for an unknown name; the message lists the known ones.
        """
        return self[name].name

    def help(self, subject: str) -> str:
        """A help text with all names and descriptions: `Which split: by_network: …; by_cluster: …`."""
        return f"{subject}: " + "; ".join(f"{item.name}: {item.description}" for item in self.values())


def choice(default: str, description: str, declared: Declarations[Any]) -> Any:
    """A configuration field for a declared name; its annotation is `Annotated[str, AfterValidator(declared.check)]`.

    The list of names (`choices`) is for the reference page.
    """
    return Field(default, description=description, json_schema_extra={"choices": list(declared)})
