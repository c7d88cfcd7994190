"""What a pyproject.toml or a script's metadata asks for: both are TOML, with the same words for the same things."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studiolo.environments import uv_settings
from studiolo.environments.requirement import Wanted, wanted_all
from studiolo.environments.uv_settings import Settings
from studiolo.problem import Problem, WrongInput


def declares_dependencies(path: Path) -> bool:
    """Whether there is such a file, and it says so or cannot be read: what is wrong with it is said later."""
    try:
        with path.open("rb") as file:
            project = tomllib.load(file).get("project")
    except FileNotFoundError:
        return False
    except (OSError, ValueError, RecursionError):
        return path.is_file()
    return isinstance(project, dict) and "dependencies" in project


def of_project(document: Mapping[str, Any], shown: str) -> tuple[tuple[Wanted, ...], Settings]:
    """Dependencies and the development group of the pyproject.toml `shown`, and its `[tool.uv]`."""
    project = document.get("project")
    lists = [
        _strings(project.get("dependencies") if isinstance(project, dict) else None, f"{shown}: project.dependencies")
    ]
    groups = document.get("dependency-groups")
    if isinstance(groups, dict):
        lists += _group(groups, "dev", shown, frozenset())
    return _asked(lists, document, shown)


def of_script(document: Mapping[str, Any], shown: str) -> tuple[tuple[Wanted, ...], Settings]:
    """Dependencies of the script `shown`, and its `[tool.uv]`."""
    return _asked([_strings(document.get("dependencies"), f"{shown}: dependencies")], document, shown)


def requires_python(document: Mapping[str, Any]) -> str | None:
    """The `requires-python` of a script's metadata, or of a pyproject.toml's `[project]`."""
    found = document.get("requires-python")
    return found if isinstance(found, str) and found.strip() else None


def _asked(
    lists: list[tuple[list[str], str]], document: Mapping[str, Any], shown: str
) -> tuple[tuple[Wanted, ...], Settings]:
    found: list[Wanted] = []
    problems: list[Problem] = []
    for lines, where in lists:
        good, wrong = wanted_all(lines, where)
        found += good
        problems += wrong
    try:
        settings = uv_settings.read(document, shown, tuple(found))
    except WrongInput as error:
        raise WrongInput(*problems, *error.problems) from error
    if problems:
        raise WrongInput(*problems)
    return tuple(found), settings


def _strings(value: Any, where: str) -> tuple[list[str], str]:
    if value is None:
        return [], where
    if not isinstance(value, list):
        raise WrongInput(Problem("requirement-syntax", "it is not a list", "write it such as ['pandas>=2']", where))
    for index, each in enumerate(value):
        if not isinstance(each, str):
            raise WrongInput(Problem("requirement-syntax", f"{each!r} is not text", "", f"{where}[{index}]"))
    return value, where


def _group(groups: Mapping[str, Any], name: str, shown: str, within: frozenset[str]) -> list[tuple[list[str], str]]:
    """A dependency group (PEP 735) with the groups it includes."""
    if name in within:
        return []
    entries = groups.get(name, [])
    plain = [each for each in entries if not isinstance(each, dict)] if isinstance(entries, list) else entries
    lists = [_strings(plain, f"{shown}: dependency-groups.{name}")]
    for each in entries:
        if isinstance(each, dict) and isinstance(each.get("include-group"), str):
            lists += _group(groups, each["include-group"], shown, within | {name})
    return lists
