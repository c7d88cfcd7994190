"""Where a folder says which Python packages it needs: the first of four files that does."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studiolo.environments.interpreter import Wish
from studiolo.environments.repository_file import read_text, read_toml
from studiolo.environments.requirement import Wanted
from studiolo.environments.requirements_file import RequirementsFile
from studiolo.problem import Problem, StudioloError, WrongInput

_PYTHON_VERSION = re.compile(r"^(?:cpython-|python-?)?(3(?:\.\d+){0,2})$")


@dataclass(frozen=True)
class Declared:
    """What a file asks for, before anything is resolved."""

    wanted: tuple[Wanted, ...]
    constraints: tuple[Wanted, ...] = ()
    locked: bool = False


def find(folder: Path) -> str | None:
    """The file to go by: uv.lock, requirements.lock, pyproject.toml with dependencies, requirements.txt."""
    if (folder / "uv.lock").is_file() and (folder / "pyproject.toml").is_file():
        return "uv.lock"
    if (folder / "requirements.lock").is_file():
        return "requirements.lock"
    if _declares_dependencies(folder / "pyproject.toml"):
        return "pyproject.toml"
    return "requirements.txt" if (folder / "requirements.txt").is_file() else None


def read(root: Path, folder: Path, name: str) -> Declared:
    """What `name` (not uv.lock) in `folder` asks for. Raises `WrongInput` with all its problems at once."""
    if name == "pyproject.toml":
        return Declared(_of_project(root, folder / name))
    file = RequirementsFile.read(root, folder / name)
    own: tuple[Wanted, ...] = ()
    if file.itself and not file.locked and _declares_dependencies(folder / "pyproject.toml"):
        own = _of_project(root, folder / "pyproject.toml")
    return Declared((*file.wanted, *own), file.constraints, file.locked)


def python_wish(root: Path, folder: Path) -> Wish | None:
    """The repository's own word on Python: `.python-version`, else `requires-python`."""
    for place in dict.fromkeys((folder, root)):
        path = place / ".python-version"
        if path.is_file():
            for line in read_text(root, path).splitlines():
                if match := _PYTHON_VERSION.match(line.strip()):
                    return Wish(match[1], os.path.relpath(path, root))
    path = folder / "pyproject.toml"
    if path.is_file():
        project = read_toml(root, path).get("project", {})
        requires = project.get("requires-python") if isinstance(project, dict) else None
        if isinstance(requires, str) and requires.strip():
            return Wish(requires, f"{os.path.relpath(path, root)}: project.requires-python")
    return None


def _declares_dependencies(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            project = tomllib.load(file).get("project")
    except FileNotFoundError:
        return False
    except (OSError, ValueError, RecursionError):
        return path.is_file()  # what is wrong with it is said when it is read
    return isinstance(project, dict) and "dependencies" in project


def _of_project(root: Path, path: Path) -> tuple[Wanted, ...]:
    document = read_toml(root, path)
    shown = os.path.relpath(path, root)
    project = document.get("project", {})
    lines = _strings(project.get("dependencies"), f"{shown}: project.dependencies")
    groups = document.get("dependency-groups", {})
    if isinstance(groups, dict):
        lines += _group(groups, "dev", shown, frozenset())
    found: list[Wanted] = []
    problems: list[Problem] = []
    for text, where in lines:
        try:
            found.append(Wanted.parse(text, where))
        except StudioloError as error:
            problems.extend(error.problems)
    problems += _elsewhere(document, found)
    if problems:
        raise WrongInput(*problems)
    return tuple(found)


def _strings(value: Any, where: str) -> list[tuple[str, str]]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise WrongInput(Problem("requirement-syntax", "it is not a list", "write it such as ['pandas>=2']", where))
    found = []
    for index, each in enumerate(value):
        if not isinstance(each, str):
            raise WrongInput(Problem("requirement-syntax", f"{each!r} is not text", "", f"{where}[{index}]"))
        found.append((each, f"{where}[{index}]"))
    return found


def _group(groups: dict[str, Any], name: str, shown: str, within: frozenset[str]) -> list[tuple[str, str]]:
    """A dependency group (PEP 735) with the groups it includes."""
    if name in within:
        return []
    lines: list[tuple[str, str]] = []
    entries = groups.get(name, [])
    plain = [each for each in entries if not isinstance(each, dict)] if isinstance(entries, list) else entries
    lines += _strings(plain, f"{shown}: dependency-groups.{name}")
    for each in entries:
        if isinstance(each, dict) and isinstance(each.get("include-group"), str):
            lines += _group(groups, each["include-group"], shown, within | {name})
    return lines


def _elsewhere(document: dict[str, Any], wanted: list[Wanted]) -> list[Problem]:
    """Packages that pyproject.toml takes from a folder or a version control system rather than an index."""
    tool = document.get("tool", {})
    sources = tool.get("uv", {}).get("sources", {}) if isinstance(tool, dict) else {}
    places = {each.name: each.where for each in wanted}
    return [
        Problem(
            "requirement-unsupported",
            f"{name} comes from {kind}, so it cannot be locked",
            "run `uv lock` in the repository, or ask for a released version",
            places[name],
        )
        for name, source in (sources.items() if isinstance(sources, dict) else ())
        if isinstance(source, dict) and name in places
        for kind in ("git", "path", "workspace", "url")
        if kind in source
    ]
