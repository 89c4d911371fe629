"""Which libraries this package needs, and the command that installs one for the Python that runs."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.requirements import Requirement

NAME = "nngpt-ext"


def pip(arguments: str) -> str:
    """A pip command for the Python that runs; a `pip` on the path may be that of another one."""
    found, own = shutil.which("pip"), Path(sys.executable)
    if found and Path(found).parent == own.parent:
        return f"pip {arguments}"
    python = shlex.quote(str(own))
    if importlib.util.find_spec("pip") is not None:
        return f"{python} -m pip {arguments}"
    action, _, rest = arguments.partition(" ")  # environments without pip are made by uv
    return f"uv pip {action} --python {python} {rest}"


def requirements(extra: str = "") -> Iterator[Requirement]:
    """What an extra adds to the requirements of this package, or, for "", those of the package itself.

    Raises:
        PackageNotFoundError: if this package is not installed, only on the path.
    """
    needed = metadata.requires(NAME) or []
    from packaging.requirements import Requirement

    for requirement in map(Requirement, needed):
        marker, requirement.marker = requirement.marker, None
        here, always = (marker is None or marker.evaluate({"extra": one}) for one in (extra, ""))
        if not here or (extra and always):
            continue
        if requirement.name == NAME:  # an extra that consists of other extras
            for other in sorted(requirement.extras):
                yield from requirements(other)
        else:
            yield requirement


def install_extra(extra: str) -> str:
    """The command that installs what an extra needs, whether this package came from a clone or from a wheel."""
    try:
        needed = sorted({str(one) for one in requirements(extra)})
    except metadata.PackageNotFoundError:
        return pip(f"install -e {shlex.quote(f'{Path(__file__).parents[1]}[{extra}]')}")
    return pip(f"install {shlex.join(needed)}")


def install_library(library: str, *, again: bool = False) -> str:
    """The command that installs a library in a version that this package allows, or one that is broken `again`."""
    return install_libraries([library], "--force-reinstall --no-deps " if again else "")


def install_libraries(libraries: Iterable[str], options: str = "") -> str:
    """The command that installs libraries in versions that this package allows."""
    try:
        needed = {one.name: str(one) for one in requirements()}
    except metadata.PackageNotFoundError:
        needed = {}
    return pip(f"install {options}{shlex.join(needed.get(name, name) for name in libraries)}")
