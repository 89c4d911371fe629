"""Files that are whole or not there, written under a temporary name and then renamed, and hashes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nngpt_ext.errors import UserError


@contextmanager
def replacing(target: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `target`; rename it to `target` when the block ends without error.

    Raises:
        UserError: when the disk is full or the folder may not be written; `target` is left as it was.
    """
    target = Path(target)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise cannot_write(target, error) from None
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(target)
    except OSError as error:
        raise cannot_write(target, error) from None
    finally:
        temporary.unlink(missing_ok=True)


def write_text(target: str | Path, text: str) -> None:
    """Write `text` to `target`, whole or not at all."""
    with replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


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
    """The line for a file that could not be written, with the cure where it is known."""
    if error.errno == errno.ENOSPC:
        return UserError(f"no space left on the disk for '{target}'; free some and run the command again")
    return UserError(f"cannot write '{target}': {error.strerror or error}")


@contextmanager
def replacing_folder(target: str | Path) -> Iterator[Path]:
    """Give a temporary folder beside `target`; put it in `target`'s place when the block ends without error.

    Raises:
        UserError: when the disk is full or the folder may not be written; `target` is left as it was.
    """
    target = Path(target)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise cannot_write(target, error) from None
    former = temporary.with_name(f"{temporary.name}.former")
    try:
        yield temporary
        temporary.chmod(0o755)
        if target.is_dir():
            target.rename(former)
        temporary.rename(target)
    except OSError as error:
        raise cannot_write(target, error) from None
    finally:
        if former.is_dir() and not target.exists():
            former.rename(target)
        for left in (temporary, former):
            shutil.rmtree(left, ignore_errors=True)
