"""Files and links of a folder, written all or none, and never outside it."""

from __future__ import annotations

import difflib
import errno
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from nngpt_ext.errors import UserError
from nngpt_ext.io import cannot_write, inside, write_text


class Change(NamedTuple):
    """What is written or removed: its path in the folder, its text before and after (None: not there).

    The text of a link is where it leads.
    """

    path: str
    before: str | None
    after: str | None
    link: bool = False

    def diff(self) -> str:
        """The change as a unified diff."""
        kind = "link to " if self.link else ""
        return "".join(
            difflib.unified_diff(
                _lines(self.before, kind),
                _lines(self.after, kind),
                self.path if self.before is not None else "/dev/null",
                self.path if self.after is not None else "/dev/null",
            )
        )


def _lines(text: str | None, kind: str) -> list[str]:
    return [f"{kind}{line}" + ("" if line.endswith("\n") else "\n") for line in (text or "").splitlines(keepends=True)]


def check_inside(root: Path, path: str) -> None:
    """See that a path of a folder is in it, and not through a link in an installed package or anywhere else.

    Raises:
        UserError: when it is not.
    """
    if {"site-packages", "dist-packages"} & set((root / path).parent.resolve().parts):
        raise UserError(f"'{root / path}' is inside an installed package; give a folder of your project with --folder")
    inside(root, Path(path).parent)


def read(file: Path) -> str | None:
    """The text of a file, None where there is none.

    Raises:
        UserError: when it cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read '{file}': {getattr(error, 'strerror', None) or error}") from None


def link_change(root: Path, path: str, target: Path) -> Change | None:
    """The change that puts a link there; None where it is there.

    Raises:
        UserError: when something else is.
    """
    place = root / path
    if place.is_symlink() and place.readlink() == target:
        return None
    if place.exists() or place.is_symlink():
        raise UserError(f"'{place}' is there and not a link to '{target}'; move it away")
    return Change(path, None, str(target), link=True)


def apply(root: Path, changes: Sequence[Change]) -> None:
    """Make the changes in their order; where one fails, those before it are undone.

    Raises:
        UserError: when the folder may not be written.
    """
    there = {p for change in changes for p in (root / change.path).parents if p.exists()}
    done: list[Change] = []
    try:
        for change in changes:
            done.append(change)
            _make(root / change.path, change.after, change.link)
    except (OSError, UserError) as error:
        for change in reversed(done):
            with suppress(OSError, UserError):
                _make(root / change.path, change.before, change.link)
            _remove_empty((root / change.path).parents, there)
        raise error if isinstance(error, UserError) else cannot_write(root, error) from None


def _make(place: Path, text: str | None, link: bool) -> None:
    if text is None:
        place.unlink(missing_ok=True)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    if link:
        place.symlink_to(text)
    else:
        write_text(place, text)


def _remove_empty(parents: Iterable[Path], keep: set[Path]) -> None:
    with suppress(OSError):
        for parent in parents:
            if parent in keep or any(parent.iterdir()):
                return
            parent.rmdir()


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Give a temporary folder beside `target`; it becomes `target` when the block ends without error.

    Raises:
        UserError: when something is in `target` by then, which stays, and when it may not be written.
    """
    there = {p for p in target.parents if p.exists()}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise cannot_write(target, error) from None
    try:
        yield temporary
        temporary.chmod(0o755)
        temporary.rename(target)  # in the place of an empty folder, never of a full one
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise UserError(f"'{target}' has been written to in the meantime; give another with --out") from None
        raise cannot_write(target, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if not target.exists():
            _remove_empty(target.parents, there)
