"""Reading a repository's environment.yml: conda's own words, and what of them is honoured here."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studiolo.environments import conda_channels, package_index
from studiolo.environments.kind import Index
from studiolo.environments.repository_file import read_text
from studiolo.environments.requirement import Wanted
from studiolo.environments.requirements_file import RequirementsFile
from studiolo.problem import Problem, StudioloError, WrongInput
from studiolo.spec.wording import FieldPath, did_you_mean, dotted, nearest, quoted
from studiolo.spec.yaml import Positions, read_yaml

NAMES = ("environment.yml", "environment.yaml")

_KEYS = ("name", "channels", "dependencies", "variables", "prefix")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
# Where a workspace's files and programs are is Studiolo's to say.
_RESERVED = {"PATH", "HOME", "USER", "LOGNAME", "SHELL"}
_INCLUDE = re.compile(r"(-r|--requirement|-c|--constraint)(?:\s*=\s*|\s+|(?<=-[rc]))(\S.*)")
_INDEX = re.compile(r"(-i|--index-url|--extra-index-url)(?:\s*=\s*|\s+)(\S.*)")
_ITSELF = re.compile(r"(?:(?:-e|--editable)(?:\s*=\s*|\s+))?(?:file:)?\./?(?:\[[\w,\s-]*\])?")


@dataclass(frozen=True)
class Spec:
    """One conda package that is asked for: a match spec, the channel it must come from (empty: any), and where that
    was written."""

    text: str
    where: str
    channel: str = ""


@dataclass(frozen=True)
class CondaFile:
    """All that an environment.yml asks for. `notes` say what is not honoured; `included` are the further files that it
    reads."""

    channels: tuple[str, ...]
    specs: tuple[Spec, ...]
    pip: tuple[Wanted, ...]
    constraints: tuple[Wanted, ...]
    variables: Mapping[str, str]
    indexes: tuple[Index, ...]
    notes: tuple[str, ...]
    included: tuple[Path, ...]


def find(folder: Path) -> str | None:
    """The file to go by, where the folder has one."""
    return next((name for name in NAMES if (folder / name).is_file()), None)


def read(root: Path, path: Path) -> CondaFile:
    """Raises `WrongInput` with all its problems at once, each with `file:line:column`."""
    shown = os.path.relpath(path, root)
    tree = read_yaml(read_text(root, path), shown)
    reading = _Reading(root, path, tree.positions)
    reading.take(tree.data)
    if reading.problems:
        raise WrongInput(*reading.problems[:50])
    return CondaFile(
        tuple(dict.fromkeys(reading.channels)) or (conda_channels.DEFAULT,),
        tuple(reading.specs),
        tuple(reading.pip),
        tuple(reading.constraints),
        reading.variables,
        tuple(reading.indexes),
        tuple(reading.notes),
        tuple(reading.included),
    )


@dataclass
class _Reading:
    root: Path
    path: Path
    positions: Positions
    channels: list[str] = field(default_factory=list)
    specs: list[Spec] = field(default_factory=list)
    pip: list[Wanted] = field(default_factory=list)
    constraints: list[Wanted] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    indexes: list[Index] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    included: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def take(self, data: Mapping[str, Any]) -> None:
        for key in data:
            if key not in _KEYS:
                self._unknown(key)
        if data.get("prefix") is not None:
            self._note(("prefix",), "a folder of another machine is not used")
        for index, channel in enumerate(self._list(data, "channels")):
            self._channel(channel, ("channels", index))
        for index, entry in enumerate(self._list(data, "dependencies")):
            if isinstance(entry, Mapping):
                self._group(entry, ("dependencies", index))
            else:
                self._spec(entry, ("dependencies", index))
        variables = data.get("variables")
        if variables is None:
            return
        if not isinstance(variables, Mapping):
            self._wrong(("variables",), "it is not a mapping", "write lines such as DATA: data/raw")
            return
        for name, value in variables.items():
            self._variable(name, value, ("variables", name))

    def _unknown(self, key: str) -> None:
        # A slip of the pen must not lose what was asked for; words of other tools must not keep a repository out.
        if nearest(key, _KEYS):
            self._wrong((key,), "conda knows no such key", did_you_mean(key, _KEYS), "unknown-key")
        else:
            self._note((key,), "conda knows no such key, so it is not used")

    def _list(self, data: Mapping[str, Any], key: str) -> list[Any]:
        value = data.get(key)
        if value is None or isinstance(value, list):
            return value or []
        self._wrong((key,), "it is not a list", "write one on each line, with a hyphen in front")
        return []

    def _channel(self, value: Any, at: FieldPath) -> None:
        if not isinstance(value, str):
            self._wrong(at, f"{quoted(value)} is not a channel", "write its name, such as conda-forge")
            return
        try:
            self.channels.extend(conda_channels.meant(value))
        except ValueError as error:
            message, _, hint = str(error).partition("; ")
            self._wrong(at, message, hint)

    def _spec(self, value: Any, at: FieldPath) -> None:
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            self._wrong(at, f"{quoted(value)} is not a package", "write its name, such as numpy or numpy>=2")
            return
        channel, separator, text = value.strip().rpartition("::")
        if not separator and "://" in text:
            self._wrong(
                at,
                "a package cannot be asked for by its address",
                "name it, and the channel it comes from: name::package",
            )
            return
        if not separator:
            self.specs.append(Spec(text, self._at(at)))
            return
        try:
            found = conda_channels.meant(channel)
        except ValueError as error:
            message, _, hint = str(error).partition("; ")
            self._wrong(at, message, hint)
            return
        if len(found) != 1:
            self._wrong(at, f"{quoted(channel)} stands for several channels", "name one of them")
            return
        self.specs.append(Spec(text.strip(), self._at(at), found[0]))

    def _group(self, entry: Mapping[str, Any], at: FieldPath) -> None:
        for key, values in entry.items():
            place = (*at, key)
            if key != "pip":
                self._wrong(place, "only a pip section may stand among the packages", "write `- pip:`")
            elif isinstance(values, list):
                for index, value in enumerate(values):
                    self._pip(value, (*place, index))
            elif values is not None:
                self._wrong(place, "it is not a list", "write one requirement on each line, with a hyphen in front")

    def _pip(self, value: Any, at: FieldPath) -> None:
        if not isinstance(value, str) or not value.strip():
            self._wrong(at, f"{quoted(value)} is not a requirement", "write it such as pandas>=2")
            return
        line, where = re.sub(r"\s#.*$", "", value).strip(), self._at(at)
        if _ITSELF.fullmatch(line):
            self._note(at, "the repository's own package is left out: its source is at hand")
            return
        try:
            if match := _INCLUDE.fullmatch(line):
                path = self.path.parent / match[2].strip()
                read_text(self.root, path, where)  # that it cannot be read is said of this line
                file = RequirementsFile.read(self.root, path)
                self.included.extend(file.files)
                constraining = match[1] in ("-c", "--constraint")
                (self.constraints if constraining else self.pip).extend(file.wanted)
                self.constraints.extend(file.constraints)
                self.indexes.extend(file.indexes)
            elif match := _INDEX.fullmatch(line):
                index = package_index.declared(match[2].strip(), match[1] != "--extra-index-url", where)
                self.indexes += [index] if index is not None else []
            elif line.startswith("-"):
                self._wrong(
                    at,
                    f"{line.split()[0][:40]} is not taken from a repository",
                    "keep requirements, and --extra-index-url where another index is needed",
                )
            else:
                self.pip.append(Wanted.parse(line, where))
        except StudioloError as error:
            self.problems.extend(error.problems)

    def _variable(self, name: str, value: Any, at: FieldPath) -> None:
        if not _VARIABLE.fullmatch(name):
            self._wrong(at, "it is not a variable's name", "use letters, digits and _, and begin with a letter or _")
        elif isinstance(value, Mapping | list) or not str(value or "").isprintable():
            self._wrong(at, f"{quoted(value)} is not a line of text", f"write {name}: value")
        elif name in _RESERVED:
            self._note(at, "where a workspace's files and programs are is not the repository's to say")
        else:
            self.variables[name] = "" if value is None else str(value)

    def _at(self, at: FieldPath) -> str:
        return self.positions.locate(at)

    def _note(self, at: FieldPath, text: str) -> None:
        self.notes.append(f"{self._at(at)}: {dotted(at)}: {text}")

    def _wrong(self, at: FieldPath, message: str, hint: str, code: str = "wrong-value") -> None:
        self.problems.append(Problem(code, f"{dotted(at)}: {message}", hint, self._at(at)))
