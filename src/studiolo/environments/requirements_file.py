"""A repository's requirements file, read with care: what it may say and what it may not.

It says which packages, and may name indexes to take them from. It reads no file outside its repository: a repository
may come from anybody.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from studiolo.environments import package_index
from studiolo.environments.kind import Index
from studiolo.environments.repository_file import read_text
from studiolo.environments.requirement import Wanted, shown
from studiolo.problem import Problem, StudioloError, WrongInput

_COMMENT = re.compile(r"(^|\s)#.*$")
_OPTION = re.compile(r"^(--[a-z-]+|-[a-zA-Z])(?:\s*=\s*|\s+|(?<=^-[a-zA-Z])|$)(.*)$")
_INCLUDE = {"-r", "--requirement"}
_CONSTRAIN = {"-c", "--constraint"}
_EDITABLE = {"-e", "--editable"}
_INDEX = {"-i": True, "--index-url": True, "--pypi-url": True, "--extra-index-url": False}
_REFUSED = {"-f", "--find-links", "--no-index", "--trusted-host"}
# They choose between files of the same version, or speak to pip alone: the lock's hashes cover all files.
_IGNORED = {"--pre", "--prefer-binary", "--no-binary", "--only-binary", "--require-hashes", "--use-feature"}
_DEPTH = 10


@dataclass(frozen=True)
class RequirementsFile:
    """Everything a requirements file asks for, includes followed."""

    wanted: tuple[Wanted, ...]
    constraints: tuple[Wanted, ...]
    itself: bool
    """It asks for the repository's own package (`-e .`)."""
    indexes: tuple[Index, ...]
    files: tuple[Path, ...]
    """All that were read."""

    @property
    def locked(self) -> bool:
        """Every package is pinned and hashed, which pip too takes as: this is all of it."""
        return bool(self.wanted) and all(each.pin is not None for each in self.wanted)

    @classmethod
    def read(cls, root: Path, path: Path) -> RequirementsFile:
        """Raises `WrongInput` with all its problems at once, each with file and line."""
        reading = _Reading(root)
        reading.follow(path, constraining=False, depth=0, where="")
        if reading.problems:
            raise WrongInput(*reading.problems)
        return cls(
            tuple(reading.wanted),
            tuple(reading.constraints),
            reading.itself,
            tuple(reading.indexes),
            tuple(dict.fromkeys(reading.files)),
        )


class _Reading:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._seen: set[tuple[Path, bool]] = set()
        self.wanted: list[Wanted] = []
        self.constraints: list[Wanted] = []
        self.itself = False
        self.indexes: list[Index] = []
        self.files: list[Path] = []
        self.problems: list[Problem] = []

    def follow(self, path: Path, *, constraining: bool, depth: int, where: str) -> None:
        if (path.resolve(), constraining) in self._seen or depth > _DEPTH:
            return
        self._seen.add((path.resolve(), constraining))
        try:
            text = read_text(self._root, path, where)
        except StudioloError as error:
            self.problems.extend(error.problems)
            return
        self.files.append(path)
        name = os.path.relpath(path, self._root)
        for number, line in _logical_lines(text):
            self._line(line, f"{name}:{number}:1", path, constraining, depth)

    def _line(self, line: str, where: str, path: Path, constraining: bool, depth: int) -> None:
        if not line.startswith("-"):
            if line in (".", "./") or re.fullmatch(r"\./?\[[\w,\s-]*\]", line):
                self.itself = True
                return
            try:
                (self.constraints if constraining else self.wanted).append(Wanted.parse(line, where))
            except StudioloError as error:
                self.problems.extend(error.problems)
            return
        match = _OPTION.match(line)
        option, value = (match[1], match[2].strip()) if match else (line.split()[0], "")
        if option in _INCLUDE | _CONSTRAIN and value:
            included = path.parent / value
            self.follow(included, constraining=constraining or option in _CONSTRAIN, depth=depth + 1, where=where)
        elif option in _EDITABLE and re.fullmatch(r"(?:file:)?\./?(?:\[[\w,\s-]*\])?", value):
            self.itself = True
        elif option in _EDITABLE:
            self.problems.append(
                Problem(
                    "requirement-unsupported",
                    f"{shown(line)!r}: only the repository's own package can be asked for as editable",
                    "ask for a released version, or for a wheel by its https address",
                    where,
                )
            )
        elif option in _INDEX:
            try:
                index = package_index.declared(value, _INDEX[option], where)
            except StudioloError as error:
                self.problems.extend(error.problems)
            else:
                self.indexes += [index] if index is not None else []
        elif option in _REFUSED:
            self.problems.append(
                Problem(
                    "index-in-file",
                    f"{option} is not taken from a repository: such a place vouches for nothing",
                    "remove the line; name an index with --extra-index-url, or in environment.indexes",
                    where,
                )
            )
        elif option not in _IGNORED:
            self.problems.append(
                Problem("requirement-syntax", f"{option[:40]!r} is not an option that is known here", "", where)
            )


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """Lines with continuations joined and comments removed, each with the number it begins at."""
    found: list[tuple[int, str]] = []
    held, begun = "", 0
    for number, raw in enumerate(text.splitlines(), start=1):
        begun = begun or number
        bare = _COMMENT.sub("", raw).rstrip()
        if bare.endswith("\\"):
            held += bare[:-1] + " "
            continue
        whole = (held + bare).strip()
        if whole:
            found.append((begun, whole))
        held, begun = "", 0
    if held.strip():
        found.append((begun, held.strip()))
    return found
