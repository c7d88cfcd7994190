"""Reading a file of a repository that may come from anywhere: never outside the repository, never without bound."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path
from typing import Any

from studiolo.problem import Problem, WrongInput

LIMIT = 64 << 20
"""Bytes. Lock files of large projects reach a few MiB."""


def read_text(root: Path, path: Path, where: str = "") -> str:
    """The text of a regular file inside `root`; symbolic links are followed only as far as they stay inside.

    UTF-8 with or without a mark, or UTF-16 with one (what `pip freeze > file` writes in PowerShell). Raises
    `WrongInput` saying `where` the file is asked for.
    """
    shown = os.path.relpath(path, root)
    place = where or shown
    if not path.resolve().is_relative_to(root.resolve()):
        raise WrongInput(
            Problem(
                "file-outside-repository",
                f"{shown} lies outside the repository, so it is not read",
                "keep the file inside the repository",
                place,
            )
        )
    try:
        # O_NONBLOCK: opening a named pipe would otherwise wait for its other end
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise WrongInput(Problem("file-unreadable", f"{shown} cannot be read: {error.strerror}", "", place)) from error
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise WrongInput(Problem("file-unreadable", f"{shown} is not a regular file", "", place))
        if status.st_size > LIMIT:
            raise WrongInput(Problem("file-too-large", f"{shown} holds more than {LIMIT >> 20} MiB", "", place))
        data = file.read(LIMIT)
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise WrongInput(Problem("file-unreadable", f"{shown} is not UTF-8 text", "save it as UTF-8", place)) from error


def read_toml(root: Path, path: Path) -> dict[str, Any]:
    """A TOML file inside `root`. Raises `WrongInput` with its line."""
    text = read_text(root, path)
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        shown = os.path.relpath(path, root)
        raise WrongInput(Problem("toml-syntax", f"it is not TOML: {error}", "", shown)) from error
