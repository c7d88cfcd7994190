"""What the packages of a Python environment say of themselves, read from their metadata on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path
from urllib.parse import quote

from packaging.utils import canonicalize_name

_LIMIT = 1 << 20
_SHORT = 80
"""Characters. What is longer is the licence itself rather than its name."""


@dataclass(frozen=True)
class Installed:
    """`licence` is an SPDX expression or the package's own words, empty where it says nothing."""

    name: str
    version: str
    licence: str


def installed(site_packages: Path) -> Mapping[str, Installed]:
    """Every package there, by its canonical name. What cannot be read is left out."""
    return {each.name: each for path in sorted(site_packages.glob("*.dist-info/METADATA")) for each in _read(path)}


def purl(name: str, version: str) -> str:
    """The package URL of a package of PyPI's kind."""
    return f"pkg:pypi/{canonicalize_name(name)}" + (f"@{quote(version, safe='')}" if version else "")


def licence(headers: Message) -> str:
    """The licence that a package's METADATA names: License-Expression, else License, else its classifiers."""
    if expression := str(headers.get("License-Expression") or "").strip():
        return expression
    said = str(headers.get("License") or "").strip()
    if said and said.upper() != "UNKNOWN" and "\n" not in said and len(said) <= _SHORT:
        return said
    classified = [str(each).split(" :: ") for each in headers.get_all("Classifier", [])]
    names = [parts[-1] for parts in classified if parts[0] == "License" and parts[-1] != "OSI Approved"]
    if names:
        return ", ".join(names)
    first = said.splitlines()[0].strip() if said else ""
    return first[:_SHORT] if first.upper() != "UNKNOWN" else ""


def _read(path: Path) -> Iterator[Installed]:
    try:
        with path.open("rb") as file:
            text = file.read(_LIMIT).decode("utf-8", "replace")
    except OSError:
        return
    headers = HeaderParser().parsestr(text.partition("\n\n")[0])  # the rest may be pages of description
    if headers.get("Name"):
        yield Installed(canonicalize_name(str(headers["Name"])), str(headers.get("Version") or ""), licence(headers))
