"""Writing files whole or not at all (a temporary file is renamed) and never outside a folder; hashes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from nngpt_ext.errors import UserError, parsing, reason, shown


def inside(folder: str | Path, *names: str | Path) -> Path:
    """A path below a folder, checked before something is written to it.

    The folder itself may be a link, and links may lead from one place in it to another. A file that is replaced by
    renaming needs no check, because a link in its place is replaced too: check the folder it is in.

    Raises:
        UserError: if a link leads out of the folder.
    """
    path = Path(folder, *names)
    try:
        place, top = path.resolve(), Path(folder).resolve()
    except (OSError, RuntimeError):
        raise UserError(f"'{path}' is a link that leads to itself; remove it") from None
    if not place.is_relative_to(top):
        raise UserError(f"'{path}' leads to '{place}', outside '{folder}'; remove the link, or give another folder")
    return path


def remove(path: Path) -> None:
    """Remove a file or a folder if it is there; of a link, only the link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


_NEW = 1.0  # seconds: a temporary may be younger than the lock of the process that made it
_LONGEST = 1 << 25  # bytes of a text that is read
_TEMPORARY = ".tmp"  # the end of a temporary's name; a folder that stepped aside for it has one more


def remove_leftovers(target: Path) -> None:
    """Remove what processes that were killed while they replaced `target` left beside it.

    A folder that had stepped aside comes back if nothing took its place. A process that still runs holds a lock.
    """
    ours = re.compile(re.escape(f".{target.name}.") + rf"\w{{8}}{re.escape(_TEMPORARY)}(\.former)?")
    found = [place for place in target.parent.iterdir() if ours.fullmatch(place.name)]
    for left in sorted(found, reverse=True):  # a former folder before the one that was to replace it
        temporary = left.with_name(left.name.removesuffix(".former"))
        with suppress(OSError), _locked(temporary if temporary.exists() else left, unless_held=True):
            if time.time() - left.lstat().st_mtime < _NEW:
                continue
            if left != temporary and not target.exists():
                left.rename(target)
            else:
                remove(left)


def remove_at_once(path: Path) -> None:
    """Remove a file or a folder; what a kill leaves of it no longer has its name, and is one of its leftovers."""
    remove(path.rename(path.with_name(f".{path.name}.{os.urandom(4).hex()}{_TEMPORARY}")))


@contextmanager
def _locked(path: Path, *, unless_held: bool = False) -> Iterator[None]:
    """Hold a lock that ends with the process; with `unless_held`, an OSError if another process holds it."""
    if os.name == "nt":  # without such locks, nothing is known to be left over
        if unless_held:
            raise OSError(errno.ENOTSUP, "no locks")
        yield
        return
    import fcntl

    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        with nullcontext() if unless_held else suppress(OSError):  # some file systems have no locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB if unless_held else fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


@contextmanager
def replacing(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`, and rename it to `target` if the block ends without an error.

    Raises:
        UserError: if the disk is full or the folder cannot be written to; `target` stays as it was.
    """
    target = Path(target)
    try:
        remove_leftovers(target)
        handle, name = tempfile.mkstemp(_TEMPORARY, f".{target.name}.", target.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            with _locked(temporary):
                yield temporary
                temporary.chmod(0o644)
                _to_disk(temporary)
                temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(target, error) from None


def _to_disk(file: Path) -> None:
    """Write a file's content to the disk, which its name must not reach first."""
    with file.open("rb") as written:
        os.fsync(written.fileno())


def is_free(folder: Path, first: str) -> bool:
    """Whether a folder is empty, apart from what a process left that was killed while it wrote the file `first`."""
    return all(place.name.startswith(f".{first}.") for place in folder.iterdir())


def write_text(target: str | Path, text: str) -> None:
    """Write `text` to `target`, whole or not at all."""
    with replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_text(file: str | Path, what: str = "") -> str:
    """The text of a file in UTF-8, without a byte order mark; `what` says in an error what the file is.

    Raises:
        UserError: if it cannot be read, has more than 32 MB, or is not UTF-8.
    """
    name = f"{what} {shown(str(file), 300)}".lstrip()
    try:
        with Path(file).open("rb") as stream:
            content = stream.read(_LONGEST + 1)
        if len(content) > _LONGEST:  # such as /dev/zero, which has no end
            raise UserError(f"{name} has more than {_LONGEST:,} bytes")
        return as_text(content, name)
    except UserError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise UserError(f"cannot read {name}: {reason(error)}") from None


def as_text(content: str | bytes, name: str) -> str:
    """Text, or bytes in UTF-8, without a byte order mark.

    Raises:
        UserError: for bytes that are not UTF-8; `name` says what they are.
    """
    try:
        return (content.decode() if isinstance(content, bytes) else content).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8 (byte {error.start}); save it as UTF-8") from None


def parse_json(text: str | bytes, name: str, advice: str = "", *, last_wins: bool = False) -> Any:
    """Parse JSON.

    Args:
        text: what to parse.
        name, advice: for an error, what it is and what to do.
        last_wins: of a key that stands twice in an object, take the last value, as Python does.

    Raises:
        UserError: if it is not JSON, or an object has a key twice.
    """
    with parsing(f"{name} is not JSON", advice):
        return json.loads(as_text(text, name), object_pairs_hook=None if last_wins else _object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):  # counting the keys of every object would take most of the time
        refuse_twice(key for key, _ in pairs)
    return found


def refuse_twice(keys: Iterable[str]) -> None:
    """Refuse keys of which parsers would silently take the last.

    Raises:
        ValueError: for a key that stands twice.
    """
    for key, number in Counter(keys).items():
        if number > 1:
            raise ValueError(f"the key {shown(key)} stands there {number} times")


def parse_mapping(text: str | bytes, name: str, example: str = '{"lr": 0.01, "batch": 64}') -> dict[str, Any]:
    """Parse a JSON object, for example a recipe.

    Raises:
        UserError: if the text is not a JSON object; `name` says what it is, and `example` how it looks.
    """
    try:
        found = parse_json(text, name, f"for example {example}")
    except UserError:
        if not is_file(os.fsdecode(text)):
            raise
        raise UserError(f"{name} is a file's name, {shown(text)}; give what is in it, for example {example}") from None
    if not isinstance(found, dict):
        raise UserError(f"{name} must be a JSON object, for example {example}, not {shown(found)}")
    return found


def is_file(name: str | Path) -> bool:
    """Whether there is such a file; also for a name that no file can have, and in a folder that is closed to us."""
    return os.path.isfile(name)  # noqa: PTH113


def check_folder(folder: str | Path, advice: str) -> None:
    """Check that a folder exists; the error ends with `advice`."""
    if not os.path.isdir(folder):  # noqa: PTH112 (for any name)
        what = "is a file, not a folder" if is_file(folder) else "does not exist"
        raise UserError(f"{shown(str(folder), 300)} {what}; {advice}")


def text_digest(text: str) -> str:
    """sha256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def digest(content: Any) -> str:
    """sha256 of a value as JSON with sorted keys, in hexadecimal."""
    return text_digest(json.dumps(content, sort_keys=True, ensure_ascii=False))


def file_digest(file: Path) -> str:
    """sha256 of a file, in hexadecimal."""
    total = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def cannot_write(target: Path, error: OSError) -> UserError:
    """The error for a file that could not be written, with the fix where it is known."""
    if error.errno == errno.ENOSPC:
        return UserError(f"no space left on the disk for '{target}'; free some and run the command again")
    return UserError(f"cannot write '{target}': {error.strerror or error}")


@contextmanager
def replacing_folder(target: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside `target`, and put it in `target`'s place if the block ends without an error.

    If `target` is a link, the link is replaced and what it leads to stays.

    Raises:
        UserError: if the disk is full or the folder cannot be written to; `target` stays as it was.
    """
    target = Path(target)
    try:
        remove_leftovers(target)
        temporary = Path(tempfile.mkdtemp(_TEMPORARY, f".{target.name}.", target.parent))
        former = temporary.with_name(f"{temporary.name}.former")
        try:
            with _locked(temporary):
                yield temporary
                temporary.chmod(0o755)
                for file in temporary.rglob("*"):
                    if file.is_file():
                        _to_disk(file)
                if target.is_dir():
                    target.rename(former)
                temporary.rename(target)
        finally:
            if former.is_dir() and not target.exists():
                former.rename(target)
            for left in (temporary, former):
                with suppress(OSError):
                    remove(left)
    except OSError as error:
        raise cannot_write(target, error) from None
