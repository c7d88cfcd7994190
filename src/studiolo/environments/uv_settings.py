"""`[tool.uv]` of a pyproject.toml or a script: where it says that packages come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from packaging.markers import InvalidMarker, Marker
from packaging.utils import canonicalize_name

from studiolo.environments import package_index
from studiolo.environments.kind import Index
from studiolo.environments.requirement import Wanted, wanted_all
from studiolo.problem import Problem, StudioloError, WrongInput


@dataclass(frozen=True)
class Origin:
    """A package that is taken from one index and no other, where `marker` (or nothing) applies."""

    package: str
    url: str
    marker: str = ""


@dataclass(frozen=True)
class Settings:
    """`indexes` serve every package; those that are only in `origins` serve what names them."""

    indexes: tuple[Index, ...] = ()
    origins: tuple[Origin, ...] = ()
    constraints: tuple[Wanted, ...] = ()


def read(document: Mapping[str, Any], shown: str, wanted: tuple[Wanted, ...]) -> Settings:
    """The settings of the file `shown` that asks for `wanted`. Raises `WrongInput` with all problems at once."""
    tool = _uv(document)
    problems: list[Problem] = []
    indexes: list[Index] = []
    addresses: dict[str, str] = {}
    entries = [*_tables(tool.get("index"))]
    for key, default in (("extra-index-url", False), ("index-url", True)):  # what the tables were called before
        value = tool.get(key)
        entries += [{"url": url, "default": default} for url in (value if isinstance(value, list) else [value]) if url]
    used = {name for _, source in _sources(tool) if isinstance(name := source.get("index"), str)}
    for number, entry in enumerate(entries):
        url, name = entry.get("url"), entry.get("name")
        if not isinstance(url, str) or (entry.get("explicit") is True and name not in used):
            continue
        try:
            index = package_index.declared(url, entry.get("default") is True, f"{shown}: tool.uv.index[{number}]")
        except StudioloError as error:
            problems.extend(error.problems)
            continue
        if isinstance(name, str):
            addresses[name] = url
        if index is not None and entry.get("explicit") is not True:
            indexes.append(index)
    asked = {each.name: each for each in wanted}
    origins: list[Origin] = []
    for package, source in _sources(tool):
        if package not in asked or "extra" in source:
            continue
        try:
            origins.append(_origin(asked[package], source, addresses, shown))
        except StudioloError as error:
            problems.extend(error.problems)
    limits = tool.get("constraint-dependencies")
    lines = [each for each in limits if isinstance(each, str)] if isinstance(limits, list) else []
    constraints, wrong = wanted_all(lines, f"{shown}: tool.uv.constraint-dependencies")
    if problems or wrong:
        raise WrongInput(*problems, *wrong)
    return Settings(tuple(indexes), tuple(origins), constraints)


def places(document: Mapping[str, Any]) -> Settings:
    """Where files may lie whose hashes are locked already. What cannot be used is left out, the default too: the
    machine's own index will do as well."""
    tool = _uv(document)
    usable = [
        (url, entry)
        for entry in _tables(tool.get("index"))
        if isinstance(url := entry.get("url"), str) and package_index.is_address(url)
    ]
    addresses = {str(entry.get("name")): url for url, entry in usable}
    origins = [
        Origin(package, addresses[str(source.get("index"))], str(source.get("marker", "")))
        for package, source in _sources(tool)
        if str(source.get("index")) in addresses and "extra" not in source
    ]
    beside = [Index(url) for url, entry in usable if entry.get("explicit") is not True]
    return Settings(tuple(beside), tuple(origins))


def _origin(wanted: Wanted, source: Mapping[str, Any], addresses: Mapping[str, str], shown: str) -> Origin:
    for kind in ("git", "path", "workspace", "url"):
        if kind in source:
            raise WrongInput(
                Problem(
                    "requirement-unsupported",
                    f"{wanted.name} comes from {kind}, so it cannot be locked",
                    "run `uv lock` in the repository, or ask for a released version",
                    wanted.where,
                )
            )
    place = f"{shown}: tool.uv.sources.{wanted.name}"
    name, marker = source.get("index"), source.get("marker", "")
    if not isinstance(name, str) or name not in addresses:
        raise WrongInput(
            Problem("index-in-file", f"{name!r} is the name of no index", "give it a [[tool.uv.index]] table", place)
        )
    try:
        if marker:
            Marker(marker)
    except (InvalidMarker, TypeError) as error:
        raise WrongInput(Problem("requirement-syntax", f"{marker!r} is not a marker", "", place)) from error
    return Origin(wanted.name, addresses[name], marker)


def _uv(document: Mapping[str, Any]) -> Mapping[str, Any]:
    tool = document.get("tool")
    found = tool.get("uv") if isinstance(tool, dict) else None
    return found if isinstance(found, dict) else {}


def _tables(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _sources(tool: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Package and source, once for each source: a package may have several, by marker."""
    sources = tool.get("sources")
    return [
        (canonicalize_name(package), each)
        for package, value in (sources.items() if isinstance(sources, dict) else ())
        for each in (value if isinstance(value, list) else [value])
        if isinstance(each, dict)
    ]
