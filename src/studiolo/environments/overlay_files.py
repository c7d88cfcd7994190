"""Files in a folder that its person may have changed in any way: nothing is written through a link, nothing half.

Each of these reads or changes the disk; what is there already is left as it is, to the nanosecond.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path


def make_folder(path: Path) -> None:
    """Raises `NotADirectoryError` for anything else that is there, a link to a folder too."""
    with contextlib.suppress(FileExistsError):
        path.mkdir()
    if not is_folder(path):
        raise NotADirectoryError(str(path))


def is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def read(path: Path, limit: int = 1 << 16) -> str:
    """The beginning of a file; empty where there is none."""
    try:
        # Without waiting for a named pipe's other end, and following no link.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            return file.read(limit).decode(errors="replace")
    except OSError:
        return ""


def link(target: Path, path: Path) -> None:
    """Make `path` a link, whatever file was there; never half."""
    if path.is_symlink() and path.readlink() == target:
        return
    with _beside(path) as fresh:
        fresh.symlink_to(target)
        fresh.replace(path)


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Make `path` a file, whatever file or link was there; never half, never through a link."""
    if read(path) == text:
        return
    with _beside(path) as fresh:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "w") as file:
            file.write(text)
        fresh.replace(path)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        yield fresh
    finally:
        fresh.unlink(missing_ok=True)


def set_aside(path: Path) -> None:
    """Give it a name that says it is broken, so that nothing of the person's is lost."""
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}.broken-{number}")):
        number += 1
    path.rename(aside)
