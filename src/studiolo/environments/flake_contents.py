"""What is in a flake's environment: the question put to Nix, and its answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from studiolo.environments.kind import Package

QUESTION = Path(__file__).with_suffix(".nix").read_text(encoding="utf-8")
"""A function of Nix's language; `parse` reads what it returns."""

_PYTHON = re.compile(r"python3\.\d+-(?=.)")


@dataclass(frozen=True)
class Contents:
    """`derivation` and `output` are names in the Nix store; each package has a name, a version, and a licence, empty
    where unknown."""

    derivation: str
    output: str
    packages: tuple[Mapping[str, str], ...]


def parse(output: str, shell: bool) -> Contents | None:
    """The answer in what Nix printed, or None where the question was put to something else than a derivation."""
    answer = json.loads(next(line for line in reversed(output.splitlines()) if line.startswith(("{", "null"))))
    if answer is None:
        return None
    found = {
        (
            _PYTHON.sub("", str(each["name"])),
            str(each["version"]),
            " AND ".join(str(licence) for licence in each["licences"] if licence),
        )
        for each in answer["given" if shell else "itself"]
    }
    rows = tuple({"name": name, "version": version, "licence": licence} for name, version, licence in sorted(found))
    return Contents(answer["derivation"].rpartition("/")[2], answer["output"].rpartition("/")[2], rows)


def packages(rows: Iterable[Mapping[str, str]]) -> tuple[Package, ...]:
    return tuple(
        Package(
            row["name"],
            row["version"],
            row["licence"],
            f"pkg:nix/{quote(row['name'], safe='')}" + (f"@{quote(row['version'], safe='')}" if row["version"] else ""),
        )
        for row in rows
    )
