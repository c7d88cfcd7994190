"""A Python script that says in a comment what it needs (inline script metadata, PEP 723)."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

from studiolo.environments.repository_file import read_text
from studiolo.problem import Problem, WrongInput

_OPENING, _CLOSING = "# /// script", "# ///"
_PLACE = re.compile(r"\(at line (\d+), column (\d+)\)")
_SCRIPTS_LOOKED_AT = 100
_BYTES_LOOKED_AT = 64 << 10


def find(folder: Path) -> str | None:
    """The one script at the top of a folder that has such metadata; None where there is none, or a choice.

    It is looked for near the beginning of the file. Raises nothing.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.name.endswith(".py") and entry.is_file())
    except OSError:
        return None
    found = [name for name in names[:_SCRIPTS_LOOKED_AT] if _has_metadata(folder / name)]
    return found[0] if len(found) == 1 else None


def metadata(root: Path, path: Path) -> dict[str, Any]:
    """The script's metadata as a document. Raises `WrongInput` where it has none, or several, or it is no TOML."""
    shown = os.path.relpath(path, root)
    blocks = _blocks(read_text(root, path))
    if len(blocks) != 1:
        raise WrongInput(
            Problem(
                "script-metadata",
                "it says more than once what it needs" if blocks else "it does not say what it needs",
                "write one block of comments that begins with `# /// script`; `uv add --script` does",
                f"{shown}:{blocks[1][0]}:1" if blocks else shown,
            )
        )
    line, text = blocks[0]
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        place = _PLACE.search(str(error))
        where = f"{line + int(place[1])}:{int(place[2]) + 2}" if place else f"{line}:1"
        reason = _PLACE.sub("", str(error)).strip()
        raise WrongInput(
            Problem("toml-syntax", f"the script's metadata is not TOML: {reason}", "", f"{shown}:{where}")
        ) from error


def _has_metadata(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return bool(_blocks(file.read(_BYTES_LOOKED_AT).decode("utf-8", "replace")))
    except OSError:
        return False


def _blocks(text: str) -> list[tuple[int, str]]:
    """Number of the opening line and content of each `script` block, by the rules of PEP 723: of several closing lines
    in one run of comments, the last counts, and a block that is not closed is none."""
    lines = text.splitlines()
    found: list[tuple[int, str]] = []
    at = 0
    while at < len(lines):
        opening, at = at, at + 1
        if lines[opening].rstrip() != _OPENING:
            continue
        closing = None
        while at < len(lines) and (lines[at] == "#" or lines[at].startswith("# ")):
            if lines[at].rstrip() == _CLOSING:
                closing = at
            at += 1
        if closing is not None:
            content = "".join(f"{line[2:]}\n" for line in lines[opening + 1 : closing])
            found.append((opening + 1, content))
            at = closing + 1
    return found
